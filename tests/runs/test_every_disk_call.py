"""One small run, of which each call to the disk fails in turn, or is the last one before a kill.

Calls are counted at Python's doors to the disk (open, write, fsync, link, rename, mkdir, unlink),
below the run's directory and in any thread; what TensorStore writes by itself is not among them.
"""

import builtins
import contextlib
import dataclasses
import errno
import io
import json
import os
import re

import numpy as np
import pytest
from tiny_run import two_devices

from seal_jax import cli
from seal_jax.runs import run_dir

FAULTS = ("ENOSPC", "EIO", "kill")
_NAMED = ("mkdir", "unlink", "remove", "rmdir", "rename", "replace", "link", "open")
_FREES = ("unlink", "remove", "rmdir", "rename", "replace")  # what a full disk still does


class Killed(BaseException):
    """The process is gone: nothing that it still does reaches the disk."""


class _File:
    """A file whose writes are counted."""

    def __init__(self, file, disk, path):
        self._file, self._disk, self._path = file, disk, path

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._file.close()

    def __iter__(self):
        return iter(self._file)

    def write(self, content):
        if self._disk.allows("write", self._path):
            self._file.write(content)
        return len(content)


class Disk:
    """Counts calls to the disk below a folder, and lets one go wrong.

    Attributes:
      calls: (what, path) of those that were made.
    """

    def __init__(self, folder, at=None, fault=""):
        self._folder, self._at, self._fault = os.path.realpath(folder), at, fault
        self.calls = []

    def allows(self, what, path):
        """Whether the call is to be made; counts it."""
        if not os.path.abspath(os.fspath(path)).startswith(self._folder):
            return True
        self.calls.append((what, os.fspath(path)))
        place = len(self.calls) - 1
        if self._at is None or place < self._at:
            return True
        if self._fault == "kill":
            if place == self._at:
                raise Killed
            return False
        number = getattr(errno, self._fault)
        if place == self._at or (self._fault == "ENOSPC" and what not in _FREES):
            raise OSError(number, os.strerror(number), os.fspath(path))
        return True

    @contextlib.contextmanager
    def watched(self):
        """Within this, calls pass through here."""
        with pytest.MonkeyPatch.context() as patch:
            for name in _NAMED:
                patch.setattr(os, name, self._named(name, getattr(os, name)))
            patch.setattr(os, "fsync", self._fsync(os.fsync))
            opened = self._opened(builtins.open)
            patch.setattr(builtins, "open", opened)
            patch.setattr(io, "open", opened)
            yield self

    def _named(self, name, plain):
        def call(path, *others, **named):
            flags = others[0] if name == "open" and others else os.O_RDWR
            reads = name == "open" and not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if isinstance(path, int) or reads or named.get("dir_fd") is not None:
                return plain(path, *others, **named)
            if self.allows(name, path):
                return plain(path, *others, **named)
            return plain(os.devnull, os.O_RDWR) if name == "open" else None

        return call

    def _fsync(self, plain):
        def fsync(descriptor):
            if self.allows("fsync", os.readlink(f"/proc/self/fd/{descriptor}")):
                plain(descriptor)

        return fsync

    def _opened(self, plain):
        def opened(path, mode="r", *others, **named):
            if isinstance(path, int) or not set(mode) & set("wxa+"):
                return plain(path, mode, *others, **named)
            if not self.allows("open", path):
                return plain(os.devnull, mode.replace("x", "w"), *others, **named)
            file = plain(path, mode, *others, **named)
            return _File(file, self, path) if "b" in mode else file

        return opened


@pytest.fixture(scope="module")
def start(tiny_settings, change, tmp_path_factory):
    """(directory, disk) -> the exit code of a run there; a round, a half-way step, two arms."""
    settings = change(
        tiny_settings,
        {
            "restem.rounds": 1,
            "restem.sft.batch_size": 1,
            "restem.sft.checkpoint_steps": 1,
            "evaluation.arms": ("base", "edit_after"),
        },
    )
    config = tmp_path_factory.mktemp("config") / "tiny.py"
    values = json.dumps(dataclasses.asdict(settings))
    config.write_text(
        "import json, ml_collections\n"
        f"def get_config():\n    return ml_collections.ConfigDict(json.loads({values!r}))\n"
    )

    def run(workdir, disk=None):
        with two_devices(), disk.watched() if disk else contextlib.nullcontext():
            return cli.main(["train", f"--config={config}", f"--workdir={workdir}", "--quiet"])

    return run


def _outcome(workdir):
    files = [workdir / "results.json", *(workdir / "ledger").glob("[0-9]*.json")]
    return {path.name: path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory):
    """What a run that was left alone came to, and its calls to the disk."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    disk = Disk(workdir)
    assert start(workdir, disk) == 0
    return _outcome(workdir), disk.calls


def _check(place, fault, start, undisturbed, workdir, capsys):
    """A run with one fault says a sentence or nothing, and the same command ends as if none was."""
    disk = Disk(workdir, place, fault)
    try:
        code = start(workdir, disk)
    except Killed:
        code = None
    said = capsys.readouterr().err
    case = f"{fault} at call {place}, {disk.calls[place] if place < len(disk.calls) else 'none'}"
    assert "Traceback" not in said, f"{case}: {said}"
    assert code in (None, 0) or len(re.findall("^error: ", said, re.M)) == 1, f"{case}: {said}"
    # Once there are results the run is finished; what follows is their way to the disk, a report.
    again = 0 if run_dir.is_finished(workdir) else start(workdir)
    assert again == 0, f"{case}: {said}\n{capsys.readouterr().err}"
    assert _outcome(workdir) == undisturbed[0], case


def test_calls_are_counted_wherever_a_run_writes(undisturbed):
    _, calls = undisturbed
    text = " ".join(path for _, path in calls)
    assert len(calls) > 100
    files = ("config.json", "results.json", "timing.json", "report.html")
    for part in (*files, "ledger", "checkpoints", "steps"):
        assert part in text or ".tmp-" in text, part
    assert {"open", "write", "fsync", "mkdir", "link", "replace", "unlink"} <= {c for c, _ in calls}


@pytest.mark.parametrize("part", range(2))
@pytest.mark.parametrize("fault", FAULTS)
def test_some_calls_that_fail(fault, part, start, undisturbed, tmp_path, capsys):
    count = len(undisturbed[1])
    rng = np.random.default_rng([FAULTS.index(fault), part])
    place = int(rng.integers(count * part // 2, count * (part + 1) // 2))
    _check(place, fault, start, undisturbed, tmp_path / "run", capsys)


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
def test_every_call_that_fails(fault, start, undisturbed, tmp_path, capsys):
    for place in range(len(undisturbed[1])):
        _check(place, fault, start, undisturbed, tmp_path / f"run{place}", capsys)
