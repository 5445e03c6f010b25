"""Disks that are full, and directories that may not be written to."""

import contextlib
import errno
import logging
import os
import pathlib
import shutil
import socket
import sys
import tempfile
import types

import numpy as np
import pytest

from seal_jax import cli
from seal_jax.loop import failures
from seal_jax.runs.checkpoints import Checkpoints
from seal_jax.runs.directory_lock import DirectoryLock, in_use

_NOBODY = 65534


@pytest.mark.parametrize(
    ("number", "room"),
    [(errno.ENOSPC, 8), (errno.EDQUOT, 9)],  # in a segment, or just after it got its name
)
def test_a_full_disk_says_which_and_loses_nothing(
    number, room, undisturbed, command, outcome, tmp_path, monkeypatch, capsys
):
    workdir, plain_fsync, calls = tmp_path / "run", os.fsync, iter(range(1000))

    def fsync(descriptor):
        if next(calls) >= room:
            raise OSError(number, os.strerror(number))
        plain_fsync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        assert cli.main(command(workdir)) == 2
    error = capsys.readouterr().err
    mount = failures._mount_point(tmp_path)
    assert error.startswith(f"error: no space is left for --workdir={workdir}: the file system at ")
    assert f" {mount} is full, or your quota" in error and "MiB are free" in error
    assert "the same command continues the run when there is room." in error
    recorded = sorted(path.name for path in (workdir / "ledger").glob("[!.]*"))
    assert len(recorded) == room - 5, "each file takes two calls; the first was config.json"
    assert cli.main(command(workdir)) == 0
    assert outcome(workdir) == outcome(undisturbed)


def test_what_libraries_say_of_a_full_disk_is_understood(tmp_path):
    full = "RESOURCE_EXHAUSTED: Error writing file: [OS error 28: ENOSPC No space left on device]"
    with pytest.raises(OSError, match="the file system at"), failures.explained(str(tmp_path)):
        raise ValueError(full)


def test_a_failed_checkpoint_is_told_once(monkeypatch):
    """Not by Orbax's threads with a traceback each, before it is raised."""
    logger = logging.getLogger("absl")
    monkeypatch.setattr(logger, "filters", [])
    assert cli.main(["no-such-command"]) == 2
    for path, told in (("/site-packages/orbax/checkpoint/a.py", False), ("/seal_jax/b.py", True)):
        record = logging.LogRecord("absl", logging.ERROR, path, 1, "No space", None, None)
        assert bool(logger.filter(record)) == told


@pytest.mark.parametrize(
    "error",
    [
        ValueError("another"),
        FileNotFoundError(errno.ENOENT, "No such file", "model"),
        PermissionError(errno.EACCES, "Permission denied", "/somewhere/else"),
        PermissionError(errno.EACCES, "Permission denied"),
        in_use("/runs/ENOSPC", "process 1"),  # the words are a name's
    ],
)
def test_other_errors_stay_as_they_are(error, tmp_path):
    with pytest.raises(type(error)) as raised, failures.explained(str(tmp_path)):
        raise error
    assert raised.value is error


@contextlib.contextmanager
def _as_somebody():
    """Not as root, for whom permissions do not count."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_to_all():
    """A folder that everybody can reach, unlike those that pytest makes."""
    folder = tempfile.mkdtemp()
    os.chmod(folder, 0o755)
    yield pathlib.Path(folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize("exists", [True, False])
def test_a_read_only_directory_says_so(exists, open_to_all, command, capsys):
    workdir, (name, config, *rest) = open_to_all / "run", command(open_to_all / "run")
    copy = open_to_all / "tiny.py"
    copy.write_text(pathlib.Path(config.removeprefix("--config=")).read_text())
    if exists:
        workdir.mkdir()
    (workdir if exists else open_to_all).chmod(0o555)
    with _as_somebody():
        assert cli.main([name, f"--config={copy}", *rest]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --workdir={workdir} cannot be written to (")
    assert "Permission denied" in error and "make it writable or give another" in error


@pytest.mark.fault("S9")
@pytest.mark.parametrize("place", ["/dev/shm/scratch/1", pathlib.Path("/proc/1/a"), "/dev/x"])
def test_a_full_disk_elsewhere_is_the_one_that_is_named(tmp_path, place):
    error = OSError(errno.ENOSPC, "No space left on device", place)
    mount = failures._mount_point(pathlib.Path(place))
    with (
        pytest.raises(OSError, match=f"is left for {place}: the file system at {mount} is full"),
        failures.explained(str(tmp_path)),
    ):
        raise error


@pytest.mark.fault("S9")
def test_a_lock_that_cannot_be_written_is_not_held(tmp_path, monkeypatch):
    """By a program that goes on, such as a notebook."""
    with monkeypatch.context() as patched:
        patched.setattr(socket, "gethostname", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError) as kept:  # and with it the frame of the lock
            DirectoryLock(tmp_path)
    DirectoryLock(tmp_path).close()
    assert kept


@pytest.mark.fault("S9")
def test_a_full_standard_output_is_not_taken_for_the_disk(tmp_path, monkeypatch):
    with (
        monkeypatch.context() as patched,
        open("/dev/full", "w") as full,
        pytest.raises(OSError, match=r"^\[Errno 28\]"),
        failures.explained(str(tmp_path)),
    ):
        patched.setattr("sys.stdout", full)
        print("round 1", flush=True)


@pytest.mark.fault("S9")
def test_a_checkpoint_that_the_disk_has_no_room_for_is_not_begun(tmp_path, monkeypatch):
    """Orbax would begin with all arrays at once, and each that fails would say so."""
    free = iter([3 << 20, 0])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=next(free)))
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(0, {"x": np.ones(100_000)})
        checkpoints.save(1, {"x": np.ones(100_000)})
        with pytest.raises(OSError, match="No space left") as error:
            checkpoints.wait()
        assert error.value.errno == errno.ENOSPC
        assert failures._is_within(error.value.filename, str(tmp_path))
    assert os.listdir(tmp_path / "checkpoints") == ["0"]


@pytest.mark.fault("S9")
def test_a_failed_checkpoint_is_told_once_by_the_threads_of_its_library(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", None)
    monkeypatch.setattr(sys, "__unraisablehook__", told.append)
    monkeypatch.setattr(logging.getLogger("absl"), "filters", [])
    assert cli.main(["no-such-command"]) == 2
    closed, another = (
        types.SimpleNamespace(exc_value=RuntimeError(text))
        for text in ("Event loop is closed", "another")
    )
    sys.unraisablehook(closed)
    sys.unraisablehook(another)
    assert told == [another]


def test_checkpoints_that_will_not_fit_are_refused_before_the_work(
    command, tmp_path, capsys, monkeypatch
):
    workdir, free = tmp_path / "run", 10_000
    monkeypatch.setattr(
        failures.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=free)
    )
    assert cli.main(command(workdir)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --workdir={workdir}: ") and "checkpoints of policies" in error
    assert "lower restem.sft.lora.rank or restem.sft.keep_checkpoints." in error
    assert not list((workdir / "ledger").glob("[!.]*"))


def test_room_is_what_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        failures.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=2**30)
    )
    failures.check_room(tmp_path, 2**30, "two checkpoints", "the rank")
    message = r"two checkpoints take about 1\.5 GiB, and 1\.0 GiB are free at .*, or lower the rank"
    with pytest.raises(OSError, match=message):
        failures.check_room(tmp_path, 3 * 2**29, "two checkpoints", "the rank")
