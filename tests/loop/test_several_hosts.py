"""Runs on several hosts: processes on loopback, each with two forced devices of its own.

What they record is compared with what one process records on as many devices as one of them has.
"""

import dataclasses
import functools
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time

import jax
import pytest

from seal_jax.core import parallel
from seal_jax.loop import train
from seal_jax.runs import ledger

_CONFIG = """
import json
from seal_jax.settings import config_dict

def get_config(arg=None):
    settings = config_dict.from_config(json.loads({text!r}))
    return config_dict.to_config(settings).lock()
"""
_ABSENT_SECONDS = 15


@pytest.fixture(scope="module")
def settings(tiny_settings, change):
    """A round with two or four units of work in each of its stages."""
    return change(
        tiny_settings,
        {
            "edits.contexts_per_batch": 1,
            "inner.candidates": 4,
            "restem.rounds": 1,
            "restem.contexts_per_round": 4,
            "evaluation.arms": ("base", "edit_before", "edit_after"),
        },
    )


@pytest.fixture(scope="module")
def alone(settings, tmp_path_factory):
    """The directory of the run of one process on two devices."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    devices = tuple(jax.devices()[:2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "all_devices", functools.partial(parallel.DeviceMesh, devices))
        train.train(settings, str(workdir), quiet=True)
    return workdir


class _Hosts:
    """The processes of one start of a run."""

    def __init__(self, folder, settings, count):
        self.workdir = folder / "run"
        config = folder / "config.py"
        config.write_text(_CONFIG.format(text=json.dumps(dataclasses.asdict(settings))))
        self.logs = [folder / f"{rank}.log" for rank in range(count)]
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        command = [sys.executable, "-m", "seal_jax", "train", f"--config={config}"]
        self.processes = []
        for rank, log in enumerate(self.logs):
            variables = {
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": str(count),
                "JAX_PROCESS_ID": str(rank),
                "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("count=8", "count=2"),
                "SEAL_JAX_ABSENT_SECONDS": str(_ABSENT_SECONDS),
            }
            # Only host 0 is told of the directory that exists: the others write nothing.
            workdir = self.workdir if rank == 0 else folder / f"nowhere-{rank}"
            with log.open("wb") as file:
                self.processes.append(
                    subprocess.Popen(
                        [*command, f"--workdir={workdir}"],
                        stdout=file,
                        stderr=subprocess.STDOUT,
                        env=os.environ | variables,
                    )
                )

    def wait_for_segments(self, count):
        """Until so many units of work are recorded."""
        for _ in range(9000):
            if len(list(self.workdir.glob("ledger/[0-9]*.json"))) >= count:
                return
            assert all(process.poll() is None for process in self.processes), self.text()
            time.sleep(0.1)
        pytest.fail(self.text())

    def kill(self, rank):
        self.processes[rank].send_signal(signal.SIGKILL)
        self.processes[rank].wait()

    def wait(self, seconds):
        """The exit codes."""
        end = time.monotonic() + seconds
        for process in self.processes:
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                pytest.fail(self.text())
        return [process.returncode for process in self.processes]

    def text(self, rank=None):
        """What was printed."""
        logs = self.logs if rank is None else [self.logs[rank]]
        return "\n".join(log.read_text(errors="replace")[-6000:] for log in logs)

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def start(settings, tmp_path):
    """(count) -> that many processes, at work in one run directory."""
    started = []

    def start(count):
        started.append(_Hosts(tmp_path, settings, count))
        return started[-1]

    yield start
    for hosts in started:
        hosts.close()


def _segments(workdir):
    with ledger.Ledger(workdir / "ledger", read_only=True) as records:
        return records.segments()


def _sampled(segments):
    return [e["tokens"] for s in segments if s.kind == "edits" for e in s.record["edits"]]


def _assert_same(workdir, alone, record_property):
    # Several hosts mark what was tried after a stage, and one process at once: of each kind the
    # order is the same.
    found, wanted = (
        sorted(_segments(folder), key=lambda segment: segment.kind) for folder in (workdir, alone)
    )
    assert [(s.kind, s.key) for s in found] == [(s.kind, s.key) for s in wanted]
    pairs = [
        pair
        for of, other in zip(_sampled(found), _sampled(wanted), strict=True)
        for pair in itertools.zip_longest(of, other)
    ]
    differ = sum(a != b for a, b in pairs)
    record_property("sampled tokens that differ", f"{differ} of {len(pairs)}")
    print(f"sampled tokens that differ: {differ} of {len(pairs)}")
    assert [s.record for s in found] == [s.record for s in wanted]
    results = [json.loads((folder / "results.json").read_text()) for folder in (workdir, alone)]
    assert results[0] == results[1]


def test_two_hosts_one_of_which_is_killed_leave_the_records_of_one_process(
    start, alone, tmp_path, record_property
):
    hosts = start(2)
    hosts.wait_for_segments(6)
    killed = time.monotonic()
    hosts.kill(1)
    assert hosts.wait(60)[0] == 75, hosts.text()
    print(f"host 0 ended {time.monotonic() - killed:.0f} s after host 1")
    assert "host 1 of 2 is absent" in hosts.text(0)
    done = len(_segments(hosts.workdir))
    assert 6 <= done < len(_segments(alone))

    hosts = start(2)
    assert hosts.wait(900) == [0, 0], hosts.text()
    assert f"continuing the run in {hosts.workdir}: {done} units" in hosts.text(0)
    assert not list(tmp_path.glob("nowhere*"))
    _assert_same(hosts.workdir, alone, record_property)


@pytest.mark.long
def test_four_hosts_that_lose_host_0_leave_the_records_of_one_process(
    start, alone, record_property
):
    hosts = start(4)
    hosts.wait_for_segments(6)
    hosts.kill(0)
    assert hosts.wait(60)[1:] == [75] * 3, hosts.text()
    for rank in (1, 2, 3):
        assert "host 0 of 4 is absent" in hosts.text(rank)
    hosts = start(4)
    assert hosts.wait(900) == [0] * 4, hosts.text()
    _assert_same(hosts.workdir, alone, record_property)
