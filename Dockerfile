# syntax=docker/dockerfile:1
# seal_jax on a CPU, or on NVIDIA GPUs:
#
#   docker build --tag=seal_jax .
#   docker build --tag=seal_jax:cuda --build-arg=EXTRAS=[cuda13] .
#   docker run --rm --volume="$PWD/runs:/work/runs" seal_jax train knowledge:demo --workdir=runs/demo
#   docker run --rm --gpus=all --volume="$PWD/runs:/work/runs" seal_jax:cuda train knowledge:demo --workdir=runs/demo
#
# JAX's wheels for CUDA bring CUDA with them; the machine needs a driver (580 for cuda13, 525 for cuda12)
# and the NVIDIA Container Toolkit.
FROM python:3.12-slim AS wheel
WORKDIR /source
COPY . .
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir=/wheels .

FROM python:3.12-slim
ARG EXTRAS=""
COPY --from=wheel /wheels /wheels
RUN python -m pip install --no-cache-dir "$(echo /wheels/seal_jax-*.whl)${EXTRAS}" \
    && useradd --create-home --uid=1000 seal \
    && install --directory --owner=1000 /work
USER 1000
WORKDIR /work
ENTRYPOINT ["seal"]
CMD ["--help"]
