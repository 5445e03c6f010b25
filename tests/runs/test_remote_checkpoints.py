"""Checkpoints in an object store: round trips, and what kills and bad copies leave."""

import logging

import jax.numpy as jnp
import numpy as np
import pytest

from seal_jax.runs.checkpoints import CheckpointError, Checkpoints

PATH = "gs://bucket/run/checkpoints"


def _tree(seed):
    return {"w": jnp.arange(6.0).reshape(2, 3) + seed, "n": {"b": jnp.full(3, seed, jnp.bfloat16)}}


def _assert_equal(found, wanted):
    np.testing.assert_array_equal(np.asarray(found["w"]), np.asarray(wanted["w"]))
    np.testing.assert_array_equal(np.asarray(found["n"]["b"]), np.asarray(wanted["n"]["b"]))


@pytest.fixture
def saved(object_store):
    """Steps 0 to 2 of which two are kept; returns the store's objects."""
    with Checkpoints(PATH, keep=2) as checkpoints:
        assert checkpoints.restore_latest(_tree(0)) is None
        for step in range(3):
            checkpoints.save(step, _tree(step))
    return object_store.objects


def _names(objects):
    return sorted({key.removeprefix("bucket/run/checkpoints/").split("/")[0] for key in objects})


def test_steps_come_back_and_the_newest_are_kept(saved):
    assert _names(saved) == ["1", "2"]
    with Checkpoints(PATH, read_only=True) as checkpoints:
        assert checkpoints.steps() == [1, 2]
        _assert_equal(checkpoints.restore(1, _tree(9)), _tree(1))
        step, tree = checkpoints.restore_latest(_tree(9))
        assert step == 2
        _assert_equal(tree, _tree(2))
        with pytest.raises(CheckpointError, match=rf"{PATH}: there is no step 0; there are \[1, 2"):
            checkpoints.restore(0, _tree(9))
        with pytest.raises(CheckpointError, match=rf"{PATH} was opened to be read only"):
            checkpoints.save(3, _tree(3))
        with pytest.raises(CheckpointError, match=rf"{PATH}/2 holds another tree"):
            checkpoints.restore(2, {"w": _tree(0)["w"]})


def test_a_step_is_replaced_and_counts_when_its_checksums_are_there(saved):
    with Checkpoints(PATH, keep=2) as checkpoints:
        checkpoints.save(2, _tree(7))
        checkpoints.wait()
        _assert_equal(checkpoints.restore(2, _tree(9)), _tree(7))
    written = [key.partition("/2/")[2] for key in saved if "/2/" in key]  # in their order
    assert len(written) > 2 and written.index("checksums.json") == len(written) - 1


def test_an_unfinished_step_is_removed_by_the_next_writer_only(saved):
    del saved["bucket/run/checkpoints/2/checksums.json"]
    with Checkpoints(PATH, read_only=True) as checkpoints:
        assert checkpoints.steps() == [1]
    assert _names(saved) == ["1", "2"]
    Checkpoints(PATH).close()
    assert _names(saved) == ["1"]


def test_a_damaged_newest_step_gives_way_to_the_one_before(saved, caplog):
    key = max(
        (k for k in saved if "/2/" in k and "checksums" not in k), key=lambda k: len(saved[k])
    )
    saved[key] = saved[key][:-1] + bytes([saved[key][-1] ^ 1])
    with Checkpoints(PATH, read_only=True) as checkpoints:
        with pytest.raises(CheckpointError, match=rf"{PATH}/2 is damaged .*has changed"):
            checkpoints.restore(2, _tree(9))
        assert checkpoints.restore_latest(_tree(9))[0] == 1
        assert checkpoints.steps() == [1, 2]
    with caplog.at_level(logging.WARNING), Checkpoints(PATH) as checkpoints:
        step, tree = checkpoints.restore_latest(_tree(9))
        assert step == 1
        _assert_equal(tree, _tree(1))
        assert checkpoints.steps() == [1]
    assert f"checkpoint {PATH}/2 is damaged" in caplog.text
    Checkpoints(PATH).close()
    assert _names(saved) == ["1", "2"]  # what was damaged is kept


def test_what_is_not_there_is_said(object_store):
    with pytest.raises(CheckpointError, match=f"{PATH}: there are no checkpoints here"):
        Checkpoints(PATH, read_only=True)
