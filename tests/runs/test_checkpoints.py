"""Checkpoints: exact round trips, and what is left by kills, bad disks and wrong settings."""

import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from seal_jax.runs import json_file
from seal_jax.runs.checkpoints import CheckpointError, Checkpoints
from seal_jax.runs.directory_lock import DirectoryInUseError


class State(NamedTuple):
    params: dict
    opt: optax.OptState
    count: jax.Array


def _state(seed=0):
    # 65 x 257 values are random, so that their chunk is stored apart and compression keeps no slack
    key = jax.random.key(seed)
    params = {
        "w": jax.random.normal(key, (65, 257)),
        "v": jnp.full((3,), seed + 0.1, jnp.bfloat16),
        "host": np.arange(3) + seed,
    }
    opt = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)).init(params["w"])
    return State(params, opt, jnp.int32(seed))


def _assert_equal(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert one.dtype == other.dtype and type(one) is type(other)
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def _largest_file(folder: Path) -> Path:
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def test_trees_come_back_bit_for_bit(tmp_path):
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        assert checkpoints.restore_latest(_state()) is None
        checkpoints.save(0, _state(0))
        checkpoints.save(1, _state(1))
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        _assert_equal(checkpoints.restore(0, _state(7)), _state(0))
        step, tree = checkpoints.restore_latest(_state(7))
        assert step == 1
        _assert_equal(tree, _state(1))


def test_shapes_are_enough_to_restore(tmp_path):
    tree = {"w": jnp.arange(6.0).reshape(2, 3), "t": (jnp.ones(2), jnp.zeros(()))}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, tree)
        _assert_equal(checkpoints.restore(0, jax.eval_shape(lambda: tree)), tree)


def test_the_newest_are_kept(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in range(4):
            checkpoints.save(step, {"x": jnp.full(2, step)})
        checkpoints.wait()
        assert checkpoints.steps() == [2, 3]


def test_donating_and_changing_the_arrays_after_save_does_not_change_what_is_saved(tmp_path):
    overwrite = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0 + 7, tree), donate_argnums=0)
    host = np.ones((1500, 1000))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, {"device": (device := jnp.ones((1500, 1000))), "host": host})
        jax.block_until_ready(overwrite({"device": device}))
        host[:] = 7
        like = {"device": jnp.zeros((1500, 1000)), "host": np.zeros((1500, 1000))}
        restored = checkpoints.restore(0, like)
    assert np.asarray(restored["device"]).min() == np.asarray(restored["device"]).max() == 1
    assert restored["host"].min() == restored["host"].max() == 1


@pytest.mark.parametrize("step", [1, 2])
def test_saving_a_step_again_replaces_it(tmp_path, step):
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        for number in range(3):
            checkpoints.save(number, {"x": jnp.full(2, number)})
        checkpoints.save(step, {"x": jnp.full(2, 9)})
        checkpoints.wait()
        assert checkpoints.steps() == [0, 1, 2]
        assert checkpoints.restore(step, {"x": jnp.zeros(2, jnp.int32)})["x"].tolist() == [9, 9]


def test_what_is_saved_is_sealed_without_being_waited_for(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, {"x": jnp.ones(2)})
        end = time.monotonic() + 60
        while checkpoints.steps() != [0] and time.monotonic() < end:
            time.sleep(0.01)
        assert checkpoints.steps() == [0]


def test_what_a_save_in_the_background_meets_is_raised_by_the_next_call(tmp_path, monkeypatch):
    def full(path, value):
        raise OSError(errno.ENOSPC, "No space left on device")

    with Checkpoints(tmp_path) as checkpoints:
        with monkeypatch.context() as patch:
            patch.setattr(json_file, "write_json", full)
            checkpoints.save(0, {"x": jnp.ones(2)})
            with pytest.raises(OSError, match="No space left"):
                checkpoints.save(1, {"x": jnp.ones(2)})
        assert checkpoints.steps() == []
        checkpoints.save(0, {"x": jnp.ones(2)})
        checkpoints.wait()
        assert checkpoints.steps() == [0]


def _flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(bytes(content))


def _truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [_flip_a_bit, _truncate, Path.unlink])
def test_damage_is_noticed_and_the_step_before_is_taken(tmp_path, caplog, damage):
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        for number in range(3):
            checkpoints.save(number, _state(number))
    for number in (1, 2):
        damage(_largest_file(tmp_path / str(number)))
    with Checkpoints(tmp_path, keep=3) as checkpoints, caplog.at_level(logging.WARNING):
        with pytest.raises(
            CheckpointError, match=r"2 is damaged \(.*(changed|missing)\).*\[0, 1, 2\]"
        ):
            checkpoints.restore(2, _state())
        step, tree = checkpoints.restore_latest(_state())
        assert step == 0
        _assert_equal(tree, _state(0))
        assert caplog.text.count("is damaged") == 2
        assert checkpoints.steps() == [0]
        checkpoints.save(1, _state(5))  # what came after is done again
    assert {"0", "1", "1.damaged", "2.damaged"} <= set(os.listdir(tmp_path))
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        step, tree = checkpoints.restore_latest(_state())
        assert step == 1
        _assert_equal(tree, _state(5))


def test_damaged_checksums_count_as_damage_and_no_whole_step_is_none(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, {"x": jnp.ones(2)})
    _truncate(tmp_path / "0" / "checksums.json")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_latest({"x": jnp.ones(2)}) is None
        assert checkpoints.steps() == []


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"w": jnp.ones((2, 4)), "b": jnp.ones(3)}, r"\['w'\]: stored float32\[2, 3\], asked for "),
        ({"w": jnp.ones((2, 3), jnp.bfloat16), "b": jnp.ones(3)}, r"asked for bfloat16\[2, 3\]"),
        ({"w": jnp.ones((2, 3))}, r"\['b'\]: stored float32\[3\], asked for nothing"),
        ({"w": jnp.ones((2, 3)), "b": jnp.ones(3), "c": 1}, r"\['c'\]: stored nothing"),
    ],
)
def test_another_tree_is_an_error_and_not_taken_for_damage(tmp_path, like, message):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, {"w": jnp.ones((2, 3)), "b": jnp.ones(3)})
        for restore in (
            lambda: checkpoints.restore(0, like),
            lambda: checkpoints.restore_latest(like),
        ):
            with pytest.raises(CheckpointError, match=message):
                restore()
        assert checkpoints.steps() == [0]


def test_an_absent_step_is_an_error_that_lists_the_others(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, {"x": jnp.ones(2)})
        with pytest.raises(CheckpointError, match=r"no step 4; there are \[3\]"):
            checkpoints.restore(4, {"x": jnp.ones(2)})


def test_a_reader_changes_nothing(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, {"x": jnp.zeros(2)})
        checkpoints.save(1, {"x": jnp.ones(2)})
    _truncate(_largest_file(tmp_path / "1"))
    (tmp_path / "2").mkdir()  # a save in progress
    with Checkpoints(tmp_path, read_only=True) as reader:
        step, tree = reader.restore_latest({"x": jnp.zeros(2)})
        assert (step, tree["x"].tolist()) == (0, [0, 0])
        with pytest.raises(CheckpointError, match="read only"):
            reader.save(3, {"x": jnp.zeros(2)})
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2"]
    with pytest.raises(CheckpointError, match="no checkpoints here"):
        Checkpoints(tmp_path / "absent", read_only=True)
    assert not (tmp_path / "absent").exists()


WRITER = """
    import os, sys
    import jax.numpy as jnp
    from seal_jax.runs import json_file
    from seal_jax.runs.checkpoints import Checkpoints

    def stop(*_):  # Orbax has committed, the checksums are not written
        print("saving", flush=True)
        sys.stdin.read()

    checkpoints = Checkpoints(sys.argv[1])
    checkpoints.save(0, {"x": jnp.zeros(1000)})
    checkpoints.wait()
    if sys.argv[2] == "between":
        json_file.write_json = stop
    checkpoints.save(1, {"x": jnp.ones(1000)})
    if sys.argv[2] == "during":
        stop()
    checkpoints.wait()
"""


@pytest.mark.parametrize("moment", ["during", "between"])
def test_a_save_that_was_killed_leaves_the_step_before(tmp_path, moment):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path), moment],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert process.stdout.readline() == "saving\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if moment == "between":
        assert (tmp_path / "1").is_dir()
    with Checkpoints(tmp_path) as checkpoints:
        assert os.listdir(tmp_path) == ["0"]
        step, tree = checkpoints.restore_latest({"x": jnp.full(1000, 5.0)})
        assert step == 0 and float(tree["x"].max()) == 0.0
        checkpoints.save(1, {"x": jnp.full(1000, 2.0)})
        assert float(checkpoints.restore(1, {"x": jnp.zeros(1000)})["x"].min()) == 2.0


_WRONG = pytest.mark.fault("21")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("lr[1e-3]", marks=_WRONG),
        pytest.param("[!a]/[b]", marks=_WRONG),
        pytest.param("a\\b", marks=_WRONG),
        pytest.param("a**b", marks=_WRONG),
        "lr=*",
        "what?",
        "100% of #1",
    ],
)
def test_a_path_that_reads_as_a_pattern_is_a_path(tmp_path, name):
    with Checkpoints(tmp_path / name / "checkpoints", keep=2) as checkpoints:
        for step in range(3):
            checkpoints.save(step, _state(step))
    with Checkpoints(tmp_path / name / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.steps() == [1, 2]
        _assert_equal(checkpoints.restore(1, _state(7)), _state(1))
    assert os.listdir(tmp_path / name / "checkpoints" / "2")


@pytest.mark.fault("21")
@pytest.mark.parametrize("damage", ["another value", "another type", "nothing"])
def test_what_reads_back_otherwise_than_it_was_written_is_an_error(tmp_path, monkeypatch, damage):
    save = ocp.Checkpointer.save

    def bad(self, path, args):
        tree = {
            "another value": {"x": args.item["x"] + 1},
            "another type": {"x": args.item["x"].astype(np.float16)},
            "nothing": {"x": args.item["x"]},
        }[damage]
        save(self, path, args=ocp.args.StandardSave(tree))
        if damage == "nothing":
            shutil.rmtree(path)

    monkeypatch.setattr(ocp.Checkpointer, "save", bad)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, {"x": jnp.arange(3000.0)})
        with pytest.raises(CheckpointError, match=r"/0 does not read back as it was written \(\w"):
            checkpoints.wait()
        assert checkpoints.steps() == []


@pytest.mark.fault("S1")
def test_nothing_is_written_once_the_directory_is_anothers(tmp_path):
    def check():
        if taken:
            raise DirectoryInUseError("taken")

    taken = []
    with Checkpoints(tmp_path, check=check) as checkpoints:
        checkpoints.save(0, {"x": jnp.ones(2)})
        checkpoints.wait()
        taken.append("by another")
        checkpoints.save(0, {"x": jnp.zeros(2)})
        with pytest.raises(DirectoryInUseError):
            checkpoints.wait()
        taken.clear()
        assert checkpoints.restore(0, {"x": jnp.zeros(2)})["x"].tolist() == [1, 1]
