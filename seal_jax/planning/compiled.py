"""Compiling a program for devices that may not be there, and keeping what the compiler said.

A plan's programs take minutes each, so the compiler's figures are kept between plans, by what was
compiled, for which devices and by which versions.
"""

import dataclasses
import gzip
import hashlib
import importlib.metadata
import json
import os
import pathlib
import re

from seal_jax.planning.machines import GIB

COMPILERS = ("jax", "jaxlib", "libtpu", "jax-cuda12-pjrt", "nvidia-cuda-nvcc-cu12")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compiled:
    """What the compiler says of a program, for one device.

    Attributes:
      memory: bytes that it takes while it runs.
      arguments, temporaries: bytes of these in it.
      text: the compiled program's; "" where the compiler refuses it for lack of memory.
    """

    memory: int
    arguments: int = 0
    temporaries: int = 0
    text: str = ""


def compile_program(lowered, where: str) -> Compiled:
    """Compiles a lowered program, or finds what the compiler said of it before.

    Args:
      lowered: a `jax.stages.Lowered`.
      where: names the devices.

    Raises:
      Exception: the compiler's, unless the program only takes too much memory.
    """
    packages = {of.name: of.version for of in importlib.metadata.distributions()}
    compilers = [f"{name} {packages.get(name)}" for name in COMPILERS]
    flags, form = os.environ.get("XLA_FLAGS", ""), ",".join(Compiled.__annotations__)
    content = "\n".join([where, *compilers, flags, form, lowered.as_text()])
    path = folder() / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.json.gz"
    if path.exists():
        return Compiled(**json.loads(gzip.decompress(path.read_bytes())))
    found = _compile(lowered)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")
    part.write_bytes(gzip.compress(json.dumps(dataclasses.asdict(found)).encode(), 3))
    part.replace(path)
    return found


def folder() -> pathlib.Path:
    """Where the figures are kept: $XDG_CACHE_HOME/seal_jax/plan, or in ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(root, "seal_jax", "plan")


def _compile(lowered) -> Compiled:
    try:
        compiled = _with_tiles(lowered)
    except Exception as error:
        needed = memory_in_error(str(error))
        if not needed:
            raise
        return Compiled(memory=needed)
    return figures(compiled)


def figures(compiled) -> Compiled:
    """What the compiler says of a program that it has compiled, a `jax.stages.Compiled`."""
    found = compiled.memory_analysis()
    arguments, temporaries = found.argument_size_in_bytes, found.temp_size_in_bytes
    # Aliased are outputs in arguments' place.
    outputs = found.output_size_in_bytes - found.alias_size_in_bytes
    return Compiled(
        memory=arguments + temporaries + outputs,
        arguments=arguments,
        temporaries=temporaries,
        text=re.sub(r", metadata=\{[^}]*\}", "", compiled.as_text()),
    )


def _with_tiles(lowered):
    """Compiles; once more without Triton's products where these find no tiles, as without a GPU
    to tune them on."""
    try:
        return lowered.compile()
    except Exception as error:
        if "Couldn't find output tile sizes" not in str(error):
            raise
        return lowered.compile(compiler_options={"xla_gpu_enable_triton_gemm": False})


def memory_in_error(message: str) -> int:
    """Bytes that the compiler says a program needs in an error about memory; 0 in others.

    >>> memory_in_error("Ran out of memory in memory space hbm. Used 17.50G of 15.75G hbm.") >> 20
    17920
    >>> memory_in_error("some other error")
    0
    """
    found = re.search(r"Used ([\d.]+)([MGT]) of [\d.]+[MGT] hbm", message)
    units = {"M": GIB / 1024, "G": GIB, "T": GIB * 1024}
    return int(float(found[1]) * units[found[2]]) if found else 0
