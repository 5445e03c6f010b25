"""A device with too little memory: fewer candidates at once, or settings to lower."""

import dataclasses
import shutil

import jax
import pytest

from seal_jax import settings as settings_lib
from seal_jax.core import parallel
from seal_jax.loop import answering, stages, train, writing
from seal_jax.loop.run import Run
from seal_jax.runs.ledger import Ledger
from seal_jax.settings import SettingsError

_EXHAUSTED = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")


@dataclasses.dataclass(frozen=True)
class _Session:
    """What `stages.in_batches` needs of a session."""

    settings: settings_lib.Settings
    devices: parallel.DeviceMesh


class _Device:
    """Tries candidates, at most `limit` of them; counts attempts."""

    def __init__(self, limit, error=_EXHAUSTED):
        self.limit, self.error, self.sizes = limit, error, []

    def __call__(self, session, group):
        size = session.settings.inner.candidates
        self.sizes.append(size)
        assert 0 < len(group) <= size
        if size > self.limit:
            raise self.error
        return {"trials": [{"i": i} for i in group], "real_tokens": 1, "computed_tokens": 2}


@pytest.fixture
def tried(tmp_path):
    """(device, name, stop=False) -> records of two stages of 20 and 7 candidates with K = 8.

    `stop` interrupts the run when K is halved.
    """
    inner = dataclasses.replace(settings_lib.Inner(), candidates=8)
    one = parallel.DeviceMesh(parallel.all_devices().devices[:1])
    session = _Session(dataclasses.replace(settings_lib.Settings(), inner=inner), one)

    def run_stages(device, name, stop=False):
        with (
            Ledger(tmp_path / name) as records,
            Run(session, records, tmp_path / "checkpoints", quiet=stop) as run,
        ):
            if stop:
                run.say = _interrupt
            found = [
                stages.in_batches(run, [(1, 1)] * count, [0] * count, device, stage=stage)
                for stage, count in (("one", 20), ("two", 7))
            ]
            return found, records.segments()

    return run_stages


def _interrupt(_):
    raise KeyboardInterrupt


def test_k_is_halved_until_there_is_room_and_stays_so(tried, capsys):
    device = _Device(limit=2)
    [(first, tokens), (second, _)], segments = tried(device, "a")
    assert device.sizes == [8, 4] + [2] * 4 + [2] * 4 + [2] * 2 + [2] * 4
    assert first == {i: {"i": i} for i in range(20)}
    assert second == {i: {"i": i} for i in range(7)}
    assert (tokens.real, tokens.computed) == (10, 20), "what was tried in vain does not count"
    halved = [s.record for s in segments if s.kind == "memory"]
    assert [(r["stage"], r["candidates"], r["candidates_per_batch"]) for r in halved] == [
        ("one: adapt", 8, 4),
        ("one: adapt", 4, 2),
    ]
    plans = {s.key: s.record["candidates_per_batch"] for s in segments if s.kind == "plan"}
    assert plans == {"one": 8, "two": 2}
    for segment in segments:
        if segment.kind == "batch":
            split = {k: segment.record.get(k) for k in ("candidates_per_batch", "split")}
            own = segment.key.startswith("one")
            assert split == {
                "candidates_per_batch": 2 if own else None,
                "split": "out of memory" if own else None,
            }
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
    plain = answering.believe

    def believe(session, *arguments, **named):
        if session.settings.inner.candidates > 8:
            raise _EXHAUSTED
        return plain(session, *arguments, **named)

    monkeypatch.setattr(answering, "believe", believe)
    train.train(change(settings, {"inner.candidates": 16}), str(tmp_path / "run"), quiet=True)
    with (
        Ledger(tmp_path / "run" / "ledger", read_only=True) as found,
        Ledger(undisturbed / "ledger", read_only=True) as wanted,
    ):
        records = {(s.kind, s.key): s.record for s in found.segments() if s.kind != "memory"}
        assert records == {(s.kind, s.key): s.record for s in wanted.segments()}
        [halved] = found.segments("memory")
    assert halved.record["stage"] == "round 1: answers"


def test_sampling_is_split_until_there_is_room(
    undisturbed, settings, change, tmp_path, monkeypatch
):
    """Four contexts do not fit, two do: the arithmetic of edits.contexts_per_batch of 2."""
    sample, sizes = writing.sample, []

    def small(session, *arguments, **named):
        sizes.append(session.settings.edits.contexts_per_batch)
        if sizes[-1] > 2:
            raise _EXHAUSTED
        return sample(session, *arguments, **named)

    monkeypatch.setattr(writing, "sample", small)
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
    assert halved.record == {"stage": "round 1: sample", "contexts": 4, "contexts_per_batch": 2}
    assert edits[0] == edits[1]


def test_sampling_and_the_m_step_name_their_own_settings(
    undisturbed, settings, tmp_path, monkeypatch
):
    def exhausted(*_, **__):
        raise _EXHAUSTED

    with monkeypatch.context() as patched:
        patched.setattr(writing, "sample", exhausted)
        with pytest.raises(SettingsError, match=r"round 1: sample: 2 contexts.*edits\.samples"):
            train.train(settings, str(tmp_path / "a"), quiet=True)
    shutil.copytree(undisturbed, tmp_path / "b")
    (tmp_path / "b" / "results.json").unlink()
    shutil.rmtree(tmp_path / "b" / "checkpoints")
    monkeypatch.setattr(parallel, "m_step", lambda devices, static: exhausted)
    with pytest.raises(SettingsError, match=r"round 1: the M-step.*restem\.sft\.microbatch"):
        train.train(settings, str(tmp_path / "b"), quiet=True)
