#!/usr/bin/env bash
# The tests: installs the package with its test extra into .venv, then runs pytest on the CPU.
# Two processes share the files with tests. Arguments are passed on, e.g. -m 'not slow',
# tests/core/test_delta.py, or -n 0 for one process.
set -euo pipefail
# shellcheck source=launch/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

enter_environment
install_package test
# Compiled programs are kept between runs of the tests, those that compile quickly too.
export JAX_PLATFORMS=cpu
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$root/.pytest_cache/jax}"
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="${JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS:-0.1}"
export TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
cd "$root"
# In the order of their names, so that files of a few long tests do not come last.
exec python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
