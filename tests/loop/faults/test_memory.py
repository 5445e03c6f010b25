"""A device with too little memory: fewer candidates at once, or settings to lower."""

import shutil
import types

import jax
import pytest

from seal_jax.core import batching, parallel
from seal_jax.loop import answering, attempt, inner_loop, sample, train
from seal_jax.loop.run import Run
from seal_jax.loop.session import EncodedLesson
from seal_jax.loop.stage import Stage
from seal_jax.runs.ledger import Ledger
from seal_jax.settings import SettingsError

_EXHAUSTED = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")


class _Device:
    """Stands in for `inner_loop.train`, for at most `limit` candidates; counts attempts."""

    def __init__(self, limit, error=_EXHAUSTED):
        self.limit, self.error, self.sizes = limit, error, []

    def __call__(self, session, params, lessons, inits, *, count, **_):
        self.sizes.append(count)
        assert 0 < len(lessons) <= count
        if count > self.limit:
            raise self.error
        return types.SimpleNamespace(tokens=batching.TokenCounts(real=1, computed=2))


def _examine(session, params, piece, *_):
    """Adapted models that answer nothing."""
    nothing = {"texts": {}, "gold_log_likelihoods": {}, "reason": None}
    return [{**one.describe(), **nothing} for one in piece]


@pytest.fixture
def tried(without_model, tiny_settings, change, tmp_path, monkeypatch):
    """(device, name, stop=False) -> what came of two stages of 20 and 7 candidates with K = 8.

    `stop` interrupts the run when K is halved.
    """
    session = without_model(change(tiny_settings, {"inner.candidates": 8}))
    policy = types.SimpleNamespace(digest=(), params=None)
    context = session.task.contexts("eval")[0]
    monkeypatch.setattr(attempt, "_examine", _examine)

    def candidates(count):
        lesson = EncodedLesson(sequences=((1, 2),), loss_masks=(None,), learning_rate=1, epochs=1)
        return [
            attempt.Candidate(context=context, index=i, replicate=0, lesson=lesson)
            for i in range(count)
        ]

    def run_stages(device, name, stop=False):
        monkeypatch.setattr(inner_loop, "train", device)
        with (
            Ledger(tmp_path / name) as records,
            Run(session, records, tmp_path / "checkpoints", quiet=stop) as run,
        ):
            if stop:
                run.say = _interrupt
            found = [
                attempt.attempt(
                    run, policy, candidates(count), stage=Stage(kind="arm", what=what), width=8
                )
                for what, count in (("one", 20), ("two", 7))
            ]
            return found, records.segments()

    return run_stages


def _interrupt(line):
    if "too little memory" in line:
        raise KeyboardInterrupt


def test_k_is_halved_until_there_is_room_and_stays_so(tried, capsys):
    device = _Device(limit=2)
    [(first, tokens), (second, _)], segments = tried(device, "a")
    assert device.sizes == [8, 4] + [2] * 4 + [2] * 4 + [2] * 2 + [2] * 4
    assert [trial["index"] for trial in first] == list(range(20))
    assert [trial["index"] for trial in second] == list(range(7))
    assert (tokens.real, tokens.computed) == (10, 20), "what was tried in vain does not count"
    halved = [s.record for s in segments if s.kind == "memory"]
    assert [(r["stage_name"], r["candidates"], r["candidates_per_batch"]) for r in halved] == [
        ("one: adapt", 8, 4),
        ("one: adapt", 4, 2),
    ]
    plans = {s.key: s.record["candidates_per_batch"] for s in segments if s.kind == "plan"}
    assert plans == {"one": 8, "two": 2}
    groups = [s.record["trials"] for s in segments if s.kind == "trials"]
    assert [len(of) for of in groups] == [8, 8, 4, 2, 2, 2, 1], "groups stay as they were planned"
    printed = capsys.readouterr().out
    assert "one: adapt: the device has too little memory for 8 candidates at once" in printed


def test_a_run_stopped_at_each_halving_ends_with_the_same_ledger(tried):
    whole = tried(_Device(limit=2), "whole")
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            tried(_Device(limit=2), "stopped", stop=True)
    device = _Device(limit=2)
    assert tried(device, "stopped") == whole
    assert max(device.sizes) == 2, "what did not fit is not tried again"


def test_where_nothing_fits_the_settings_to_lower_are_named(tried):
    with pytest.raises(SettingsError, match=r"1 candidates at once.*Lower inner\.max_sequences"):
        tried(_Device(limit=0), "a")
    with pytest.raises(SettingsError, match="too little memory"):
        tried(_Device(limit=0, error=MemoryError()), "b")


def test_other_errors_of_the_device_are_not_taken_for_it(tried):
    error = jax.errors.JaxRuntimeError("INTERNAL: something broke")
    device = _Device(limit=0, error=error)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        tried(device, "a")
    assert device.sizes == [8]


def test_a_run_on_a_small_device_gives_the_results_of_a_smaller_k(
    undisturbed, settings, change, outcome, tmp_path, monkeypatch
):
    """Sixteen candidates do not fit, eight do: the same arithmetic as `inner.candidates` of 8."""
    plain = answering.gold_log_likelihoods

    def gold_log_likelihoods(*arguments, count, **named):
        if count > 8:
            raise _EXHAUSTED
        return plain(*arguments, count=count, **named)

    monkeypatch.setattr(answering, "gold_log_likelihoods", gold_log_likelihoods)
    train.train(change(settings, {"inner.candidates": 16}), str(tmp_path / "run"), quiet=True)
    with (
        Ledger(tmp_path / "run" / "ledger", read_only=True) as found,
        Ledger(undisturbed / "ledger", read_only=True) as wanted,
    ):
        records, others = (
            {(s.kind, s.key): {**s.record, "content": None} for s in ledger.segments()}
            for ledger in (found, wanted)
        )
        [halved] = found.segments("memory")
    del records["memory", halved.key]
    assert records == others
    assert halved.record["stage_name"] == "round 1: answers"


def test_sampling_is_split_until_there_is_room(
    undisturbed, settings, change, tmp_path, monkeypatch
):
    """Four contexts do not fit, two do: the arithmetic of edits.contexts_per_batch of 2."""
    plain, sizes = sample._sample, []

    def small(*arguments, at_once, **named):
        sizes.append(at_once)
        if at_once > 2:
            raise _EXHAUSTED
        return plain(*arguments, at_once=at_once, **named)

    monkeypatch.setattr(sample, "_sample", small)
    few = change(settings, {"edits.contexts_per_batch": 4})
    train.train(few, str(tmp_path / "run"), quiet=True)
    assert sizes[0] == 4 and set(sizes[1:]) == {2}, "what did not fit is not tried again"
    with (
        Ledger(tmp_path / "run" / "ledger", read_only=True) as found,
        Ledger(undisturbed / "ledger", read_only=True) as wanted,
    ):
        [halved] = found.segments("memory")
        edits = [
            [edit for segment in ledger.segments("edits") for edit in segment.record["edits"]]
            for ledger in (found, wanted)
        ]
    assert halved.record == {
        "stage_name": "round 1: sample",
        "contexts": 4,
        "contexts_per_batch": 2,
    }
    assert edits[0] == edits[1]


def test_sampling_and_the_m_step_name_their_own_settings(
    undisturbed, settings, tmp_path, monkeypatch
):
    def exhausted(*_, **__):
        raise _EXHAUSTED

    with monkeypatch.context() as patched:
        patched.setattr(sample, "_sample", exhausted)
        with pytest.raises(SettingsError, match=r"round 1: sample: 2 contexts.*edits\.samples"):
            train.train(settings, str(tmp_path / "a"), quiet=True)
    shutil.copytree(undisturbed, tmp_path / "b")
    (tmp_path / "b" / "results.json").unlink()
    shutil.rmtree(tmp_path / "b" / "checkpoints")
    monkeypatch.setattr(parallel, "m_step", lambda devices, static: exhausted)
    with pytest.raises(SettingsError, match=r"round 1: the M-step.*restem\.sft\.microbatch"):
        train.train(settings, str(tmp_path / "b"), quiet=True)
