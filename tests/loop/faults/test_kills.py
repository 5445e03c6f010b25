"""Runs that are ended from outside, and what the same command makes of them."""

import signal
import time

import numpy as np
import pytest

from seal_jax import cli


def _count(workdir):
    return len(list((workdir / "ledger").glob("[0-9]*.json")))


def _wait_for(process, workdir, segments):
    """Until the ledger holds so many, or the process has ended."""
    while process.poll() is None and _count(workdir) < segments:
        time.sleep(0.02)


def _kill(start, workdir, moments, total):
    """Starts the run and kills it, once for each (segments that it gets to record, delay)."""
    killed = 0
    for segments, delay in moments:
        process = start(workdir)
        _wait_for(process, workdir, min(_count(workdir) + segments, total - 2))
        time.sleep(delay)
        if process.poll() is None:
            killed += 1
            process.send_signal(signal.SIGKILL)
        assert process.wait() in (0, -signal.SIGKILL), process.stderr.read()
        if process.returncode == 0:
            break
    return killed


def test_kills_and_a_sigterm_change_nothing(
    undisturbed, settings, start, command, outcome, tmp_path, capsys
):
    workdir, total = tmp_path / "run", _count(undisturbed)
    rng = np.random.default_rng(0)
    moments = [(int(rng.integers(1, 5)), float(rng.uniform(0, 0.2))) for _ in range(2)]
    assert _kill(start, workdir, moments, total) == 2
    assert not (workdir / "results.json").exists()
    process = start(workdir)
    _wait_for(process, workdir, _count(workdir) + 1)
    assert cli.main(command(workdir)) == 2
    assert f"in use by process {process.pid} on" in capsys.readouterr().err
    process.terminate()
    assert process.wait() == 75
    assert "interrupted by SIGTERM; the same command continues the run" in process.stderr.read()
    assert not (workdir / "results.json").exists()
    assert cli.main(command(workdir)) == 0
    assert outcome(workdir) == outcome(undisturbed)
    assert not (workdir / "steps").exists()


@pytest.mark.long
def test_twenty_kills_change_nothing(undisturbed, start, command, outcome, tmp_path):
    """Killed before the first new segment (while it starts, too), or soon after one to three."""
    workdir, total = tmp_path / "run", _count(undisturbed)
    rng = np.random.default_rng(1)
    moments = []
    for segments in rng.permutation([0] * 6 + [1] * 10 + [2] * 4):
        longest = 0.3 if segments else 5.0
        moments.append((int(segments), float(rng.uniform(0, longest))))
    assert _kill(start, workdir, moments, total) >= 18
    if not (workdir / "results.json").exists():
        assert cli.main(command(workdir)) == 0
    assert outcome(workdir) == outcome(undisturbed)
