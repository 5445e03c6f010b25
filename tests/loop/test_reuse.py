"""What another run has done is used again where nothing differs, and only there."""

import pytest

from seal_jax.judges.graders import LocalGrader
from seal_jax.loop import answering, inner_loop, sample, train
from seal_jax.runs.ledger import Ledger
from seal_jax.settings import SettingsError


@pytest.fixture(scope="module")
def settings(tiny_settings, change):
    arms = ("base", "passage", "edit_before")
    return change(tiny_settings, {"restem.rounds": 1, "evaluation.arms": arms})


@pytest.fixture(scope="module")
def first(settings, tmp_path_factory):
    """The directory of a finished run."""
    workdir = tmp_path_factory.mktemp("reuse") / "first"
    train.train(settings, str(workdir), quiet=True)
    return workdir


@pytest.fixture
def done(monkeypatch):
    """What is done from now on, by kind."""
    found = []

    def watched(name, plain):
        def call(*arguments, **named):
            found.append(name)
            return plain(*arguments, **named)

        return call

    def ask(session, params, deltas, *rest, **named):
        found.append("answers" if deltas is None else "trials")
        return plain_ask(session, params, deltas, *rest, **named)

    plain_ask = answering.ask
    monkeypatch.setattr(answering, "ask", ask)
    monkeypatch.setattr(inner_loop, "train", watched("trials", inner_loop.train))
    monkeypatch.setattr(sample, "_sample", watched("edits", sample._sample))
    monkeypatch.setattr(LocalGrader, "grade", watched("marks", LocalGrader.grade))
    return found


def _records(workdir, kind):
    """By key, what a kind of record says, without what it follows from."""
    with Ledger(workdir / "ledger", read_only=True) as records:
        return {
            s.key: {name: of for name, of in s.record.items() if name != "content"}
            for s in records.segments(kind)
        }


def test_another_selection_rule_costs_no_inner_loop(first, settings, change, done, tmp_path):
    other = change(settings, {"restem.rule": "all"})
    found = train.train(other, str(tmp_path / "run"), reuse=[str(first)], quiet=True)
    assert done == ["marks"], "all is the first run's, but for the question that tries the judge"
    for kind in ("edits", "trials", "answers", "marks"):
        assert _records(tmp_path / "run", kind) == _records(first, kind)
    assert found["rounds"][0]["kept"] == 8
    alone = train.train(other, str(tmp_path / "alone"), quiet=True)
    assert set(done) == {"edits", "trials", "answers", "marks"}
    assert found == alone
    files = [(tmp_path / name / "results.json").read_bytes() for name in ("run", "alone")]
    assert files[0] == files[1]


def test_another_learning_rate_keeps_the_texts_and_the_unadapted_answers(
    first, settings, change, done, tmp_path
):
    other = change(settings, {"inner.learning_rate": 1e-2})
    train.train(other, str(tmp_path), reuse=[str(first)], quiet=True)
    assert set(done) == {"trials", "marks"}
    for kind in ("edits", "answers"):
        assert _records(tmp_path, kind) == _records(first, kind)
    trials = _records(tmp_path, "trials")
    assert trials.keys() == _records(first, "trials").keys() and trials != _records(first, "trials")


@pytest.mark.parametrize("changes", [{"model.remat": "full"}, {"edits.max_new_tokens": 8}])
def test_what_texts_follow_from_is_not_mistaken(changes, first, settings, change, done, tmp_path):
    few = {"evaluation.arms": ("base",), "restem.rounds": 1}
    train.train(change(settings, few | changes), str(tmp_path), reuse=[str(first)], quiet=True)
    assert "edits" in done


def test_what_is_no_run_cannot_be_used_again(settings, tmp_path):
    with pytest.raises(SettingsError, match=r"--reuse=.*no-run is not the directory of a run"):
        train.train(settings, str(tmp_path / "run"), reuse=[str(tmp_path / "no-run")], quiet=True)
