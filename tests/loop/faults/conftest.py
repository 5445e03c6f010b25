"""A run whose M-steps take several steps and are kept half-way, alone and as a command."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
from tiny_run import two_devices

from seal_jax.loop import train


@pytest.fixture(scope="session")
def settings(tiny_settings, change):
    """Two rounds with six steps each in the M-step, and two arms."""
    return change(
        tiny_settings,
        {
            "restem.sft.epochs": 3,
            "restem.sft.batch_size": 1,
            "restem.sft.checkpoint_steps": 2,
            "evaluation.arms": ("base", "edit_after"),
        },
    )


# As many as runs of this process use: the results are compared bit for bit.
_DEVICES = {"XLA_FLAGS": os.environ["XLA_FLAGS"].replace("count=8", "count=2")}


@pytest.fixture(scope="session")
def undisturbed(settings, tmp_path_factory):
    """The directory of a run that was left alone."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    with two_devices():  # a fixture of the session is made before those of its first module
        train.train(settings, str(workdir), quiet=True)
    return workdir


@pytest.fixture(scope="session")
def outcome():
    """A run's directory -> its results and every record, as bytes."""

    def read(workdir):
        files = [workdir / "results.json", *(workdir / "ledger").glob("[0-9]*.json")]
        return {path.name: path.read_bytes() for path in files}

    return read


@pytest.fixture(scope="session")
def command(settings, tmp_path_factory):
    """(workdir) -> the command line of that run, for `cli.main` or after `python -m seal_jax`."""
    config = tmp_path_factory.mktemp("config") / "tiny.py"
    values = json.dumps(dataclasses.asdict(settings))
    config.write_text(
        "import json, ml_collections\n"
        f"def get_config():\n    return ml_collections.ConfigDict(json.loads({values!r}))\n"
    )
    return lambda workdir: ["train", f"--config={config}", f"--workdir={workdir}", "--quiet"]


@pytest.fixture
def start(command):
    """(workdir, **environment) -> a process of that run."""
    started = []

    def run(workdir, **environment):
        process = subprocess.Popen(
            [sys.executable, "-m", "seal_jax", *command(workdir)],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | _DEVICES | environment,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
