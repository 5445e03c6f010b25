"""The state of a training that is under way: kept, taken up, and never taken for another's."""

import contextlib
import dataclasses
import logging
import shutil
import types

import jax
import numpy as np
import pytest

from seal_jax.core import parallel, restem
from seal_jax.core.policy_gradient import PolicyGradient
from seal_jax.loop import m_step as m_step_lib
from seal_jax.loop import session, train
from seal_jax.loop.stage import Stage
from seal_jax.runs.step_checkpoints import StepCheckpoints
from seal_jax.runtime import interruption

_TOTAL = 9  # three epochs of three rows


@pytest.fixture(scope="module")
def opened(settings):
    return session.open_session(settings)


@pytest.fixture(scope="module")
def rows():
    return [
        restem.SftExample(tuple(range(3 + i, 40 + 9 * i)), prompt_length=5 + i) for i in range(3)
    ]


@pytest.fixture
def recipe(settings):
    """The run's, in rows as long as are needed: 448 tokens take three times as long."""
    return dataclasses.replace(settings.restem.sft, buckets=(64,))


@pytest.fixture
def learn(opened, rows, recipe, tmp_path, monkeypatch):
    """(stop_after=None, **changes) -> delta, metrics, what was said and how many steps were made.

    `stop_after` asks for the end of the run in that step.
    """
    made = []

    def m_step(devices, static):
        plain = plain_m_step(devices, static)

        def update(*arguments):
            made.append(len(made))
            if len(made) == m_step.stop_after:
                interruption._asked.append(interruption.signal.SIGTERM)
            return plain(*arguments)

        return update

    plain_m_step = parallel.m_step
    monkeypatch.setattr(parallel, "m_step", m_step)
    monkeypatch.setattr(interruption, "_asked", [])

    def run(stop_after=None, round=1, reported=None, gradient=None, **changes):
        made.clear()
        interruption._asked.clear()
        m_step.stop_after = stop_after
        said = []
        kept = StepCheckpoints(tmp_path / "steps", said.append)
        shown = [] if reported is None else reported
        progress = types.SimpleNamespace(
            update=lambda count, *, replayed=None, loss=None, **_: shown.append((count, loss))
        )
        of_run = types.SimpleNamespace(
            session=opened, steps=kept, stage=lambda *_: contextlib.nullcontext(progress)
        )
        try:
            delta, metrics = m_step_lib.train(
                of_run,
                opened.base,
                rows if gradient is None else _signed(rows),
                dataclasses.replace(recipe, **changes),
                stage=Stage(kind="round", round=round),
                name="M-step",
                gradient=gradient,
            )
        finally:
            kept.close()
        return jax.tree.map(np.asarray, delta.tree), metrics, said, len(made)

    return run


def _signed(rows):
    """Advantages in the place of weights, which cancel."""
    weights = (1.5, -1.0, -0.5)
    return [
        dataclasses.replace(row, weight=weight) for row, weight in zip(rows, weights, strict=True)
    ]


def _assert_equal(found, wanted):
    assert found[1] == wanted[1]
    jax.tree.map(np.testing.assert_array_equal, found[0], wanted[0])


def _steps(tmp_path):
    return sorted(int(path.name) for path in (tmp_path / "steps").glob("[0-9]"))


def test_a_training_that_was_stopped_ends_bit_for_bit_as_one_that_was_not(learn, tmp_path):
    undisturbed = learn(checkpoint_steps=0)
    assert undisturbed[3] == _TOTAL and not (tmp_path / "steps").exists()
    for stop_after in (3, 4):  # and so after the steps 3 and 7
        with pytest.raises(interruption.Interrupted):
            learn(stop_after)
    assert _steps(tmp_path) == [6, 7]
    reported = []
    resumed = learn(reported=reported)
    _assert_equal(resumed, undisturbed)
    assert resumed[2] == ["round 1: goes on after step 7 of 9"]
    assert resumed[3] == 2
    shown = [(1, step["loss"]) for step in undisturbed[1]]
    assert reported == shown, "each step is shown, once"
    assert _steps(tmp_path) == [8, 9], "the newest two are kept, the last among them"
    again = learn()
    _assert_equal(again, undisturbed)
    assert again[3] == 0


def test_a_policy_gradient_that_was_stopped_ends_bit_for_bit_as_one_that_was_not(learn, tmp_path):
    """The likelihoods at the start are computed anew, in three of twelve calls of the program.

    The first step's ratio is 1 to the last bit, and those of the others are not.
    """
    gradient = PolicyGradient("rloo", clip_low=0.001, clip_high=0.001, kl=0.1)
    undisturbed = learn(checkpoint_steps=0, gradient=gradient)
    first, *others = undisturbed[1]
    assert undisturbed[3] == 3 + _TOTAL and len(others) == _TOTAL - 1
    assert first["ratio"] == 1 and first["kl"] == 0 and first["clip_fraction"] == 0
    assert all(step["kl"] > 0 and step["ratio"] != 1 for step in others)
    assert any(step["clip_fraction"] > 0 for step in others)
    with pytest.raises(interruption.Interrupted):
        learn(2, gradient=gradient)  # in the likelihoods at the start
    assert not (tmp_path / "steps").exists()
    with pytest.raises(interruption.Interrupted):
        learn(3 + 5, gradient=gradient)
    assert _steps(tmp_path) == [4, 5]
    resumed = learn(gradient=gradient)
    _assert_equal(resumed, undisturbed)
    assert resumed[2] == ["round 1: goes on after step 5 of 9"]
    assert resumed[3] == 3 + 4


def test_a_damaged_state_gives_way_to_the_one_before(learn, tmp_path, caplog):
    undisturbed = learn(checkpoint_steps=0)
    with pytest.raises(interruption.Interrupted):
        learn(5)
    assert _steps(tmp_path) == [4, 5]
    files = [path for path in (tmp_path / "steps" / "5").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-9])
    with caplog.at_level(logging.WARNING):
        resumed = learn()
    assert "5 is damaged" in caplog.text
    assert resumed[2] == ["round 1: goes on after step 4 of 9"]
    _assert_equal(resumed, undisturbed)


@pytest.mark.parametrize(
    "changes",
    [{"round": 2}, {"learning_rate": 2e-3}, {"epochs": 2}, {"keep_checkpoints": 1}],
)
def test_the_state_of_another_training_is_deleted(learn, changes, tmp_path):
    with pytest.raises(interruption.Interrupted):
        learn(3)
    other = learn(**changes)
    assert other[3] == len(other[1]) and not other[2], "it began anew"
    assert min(_steps(tmp_path)) > 3
    wanted = learn(checkpoint_steps=0, **changes)
    _assert_equal(other, wanted)


def test_without_checkpoints_a_training_ends_at_once_and_keeps_nothing(learn, tmp_path):
    with pytest.raises(interruption.Interrupted):
        learn(3, checkpoint_steps=0)
    assert not (tmp_path / "steps").exists()
    assert learn(checkpoint_steps=_TOTAL + 1)[3] == _TOTAL
    assert not (tmp_path / "steps").exists(), "a short training is not worth it"


def test_a_run_goes_on_in_the_midst_of_its_m_step(
    undisturbed, settings, outcome, tmp_path, monkeypatch, capsys
):
    """From the last round's start on: what is before is taken from the undisturbed run."""
    shutil.copytree(undisturbed, tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "2")
    files = sorted((tmp_path / "run" / "ledger").glob("[0-9]*.json"))
    for path in files[next(i for i, p in enumerate(files) if '"round 2",' in p.read_text()
                           and "policy" in p.name) :]:  # fmt: skip
        path.unlink()
    plain, made = parallel.m_step, []

    def m_step(devices, static):
        def update(*arguments):
            made.append(len(made))
            if len(made) == 5:
                interruption._asked.append(interruption.signal.SIGTERM)
            return plain(devices, static)(*arguments)

        return update

    monkeypatch.setattr(parallel, "m_step", m_step)
    monkeypatch.setattr(interruption, "_asked", [])
    with pytest.raises(interruption.Interrupted):
        train.train(settings, str(tmp_path / "run"), quiet=True)
    assert _steps(tmp_path / "run") == [4, 5]
    interruption._asked.clear()
    made.clear()
    train.train(settings, str(tmp_path / "run"))
    assert "round 2: goes on after step 5 of 6" in capsys.readouterr().out
    assert len(made) == 1
    assert outcome(tmp_path / "run") == outcome(undisturbed)
    assert not (tmp_path / "run" / "steps").exists()
