"""Which contexts and questions a run uses, and what is said about the others."""

import dataclasses
import json
import pathlib
import types

import pytest

from seal_jax import settings as settings_lib
from seal_jax.loop import contexts, sample, train
from seal_jax.settings import SettingsError
from seal_jax.tasks import registry
from seal_jax.tasks.protocol import Lesson
from seal_jax.weights import encoding


def _session(settings, unfit=lambda context, views: ""):
    """A session without a model."""
    task = registry.open_task(settings)
    return types.SimpleNamespace(settings=settings, task=task, unfit=unfit)


def _questions(found):
    return [question.id for context in found for question in context.questions]


def test_so_many_questions_in_all_are_a_fixed_choice(tiny_settings, change):
    corpus = change(tiny_settings, {"evaluation.form": "corpus", "evaluation.contexts": 0})
    limited = change(corpus, {"evaluation.questions": 3})
    opened = _session(corpus)
    available = contexts.available(opened, "eval")
    everything = contexts.held_out(opened, available)
    some = contexts.held_out(_session(limited), available)
    # All four passages stay, to be learned, but three of the eight questions are asked.
    assert [context.id for context in some] == [context.id for context in everything]
    assert len(_questions(everything)) == 8
    assert len(_questions(some)) == 3 and set(_questions(some)) < set(_questions(everything))
    again = contexts.held_out(_session(change(limited, {"seed": 7})), available)
    assert _questions(again) == _questions(some)
    more = contexts.held_out(_session(change(limited, {"evaluation.questions": 5})), available)
    assert set(_questions(some)) < set(_questions(more))


def test_the_evaluations_seed_chooses_its_contexts_and_the_runs_does_not(tiny_settings, change):
    opened = _session(tiny_settings)
    available = contexts.available(opened, "eval")

    def chosen(changes):
        return [
            c.id for c in contexts.held_out(_session(change(tiny_settings, changes)), available)
        ]

    assert chosen({}) == chosen({"seed": 3})
    assert len({tuple(chosen({"evaluation.seed": seed})) for seed in range(8)}) > 2


def test_the_contexts_of_an_earlier_look_are_skipped(tiny_settings, change):
    def chosen(changes):
        opened = _session(change(tiny_settings, changes))
        found = contexts.held_out(opened, contexts.available(opened, "eval"))
        return [context.id for context in found]

    every = chosen({"evaluation.contexts": 4})
    first = chosen({"evaluation.contexts": 2})
    for wanted in (2, 0):
        rest = chosen({"evaluation.contexts": wanted, "evaluation.skip": 2})
        assert len(rest) == 2 and {*first} | {*rest} == {*every}
    with pytest.raises(SettingsError, match=r"2 evaluation contexts after the 2 of"):
        chosen({"evaluation.contexts": 3, "evaluation.skip": 2})
    with pytest.raises(SettingsError, match="at least 2 evaluation contexts"):
        chosen({"evaluation.contexts": 0, "evaluation.skip": 9})


def test_contexts_that_do_not_fit_are_left_out_with_the_reason(tiny_settings):
    opened = _session(
        tiny_settings, lambda c, views: "too long" if c.title in ("eval 1", "eval 2") else ""
    )
    available = contexts.available(opened, "eval")
    assert [context.title for context in available.contexts] == ["eval 0", "eval 3"]
    assert available.left_out == {"too long": 2}
    assert [context.title for context in contexts.held_out(opened, available)] == [
        "eval 0",
        "eval 3",
    ]
    opened = _session(tiny_settings, lambda c, views: "too long")
    with pytest.raises(SettingsError, match=r"Left out: 4, such as eval-0.*: too long"):
        contexts.held_out(opened, contexts.available(opened, "eval"))


def test_a_passage_of_ten_thousand_words_is_left_out_and_the_run_goes_on(
    tiny_settings, change, squad_file, tmp_path
):
    path = tmp_path / "long.json"
    data = json.loads(pathlib.Path(squad_file("eval", 4)).read_text())
    data["data"][0]["paragraphs"][0]["context"] = "river " * 10_000
    path.write_text(json.dumps(data))
    settings = change(
        tiny_settings,
        {"data.eval_path": str(path), "restem.rounds": 0, "evaluation.arms": ("base", "passage")},
    )
    results = train.train(settings, str(tmp_path / "run"), quiet=True)
    assert list(results["left_out"]["eval"].values()) == [1]
    assert "edits.prompt_buckets (384)" in next(iter(results["left_out"]["eval"]))
    assert results["arms"]["passage"]["n_questions"] == 4


def test_questions_are_answered_in_parts(tiny_settings, change, tmp_path):
    few = {"restem.rounds": 0, "evaluation.arms": ("base", "passage")}
    together = change(tiny_settings, few)
    apart = change(together, {"answers.questions_at_once": 1})
    answers = [
        train.train(settings, str(tmp_path / name), quiet=True)["contexts"]
        for name, settings in (("together", together), ("apart", apart))
    ]
    assert answers[0].keys() == answers[1].keys()
    for name, context in answers[0].items():
        for arm in ("base", "passage"):
            one, other = context["arms"][arm], answers[1][name]["arms"][arm]
            assert one["questions"] == other["questions"] and len(one["questions"]) == 2
            assert one["accuracy"] == other["accuracy"]
            assert one["gold_log_likelihood"] == pytest.approx(
                other["gold_log_likelihood"], abs=1e-3
            )


class _Letters:
    """A token a letter."""

    eos_token_id = 99


def test_padding_that_is_trained_on_repeats_the_reference(
    without_model, tiny_settings, change, monkeypatch
):
    """Each sequence is filled up with the end token, as far as the switch says."""
    inner = settings_lib.Inner(buckets=(4, 8), padding_loss=6)
    opened = without_model(change(tiny_settings, {"inner": inner}))
    opened = dataclasses.replace(opened, tokenizer=_Letters())
    monkeypatch.setattr(encoding, "encode_text", lambda _, text: list(range(len(text))))
    lesson = opened.lesson(Lesson(sequences=("abc", "abcdefgh")))
    assert lesson.sequences == ((0, 1, 2, 99, 99, 99), tuple(range(8)))
    assert lesson.tokens == 6 + 8, "what is filled up counts as trained on"
    with pytest.raises(ValueError, match="padding_loss"):
        settings_lib.Inner(buckets=(4, 8), padding_loss=9)


def test_a_blank_self_edit_has_no_reward_of_its_text(tiny_settings, change, tmp_path, monkeypatch):
    """A rule that likes short texts must not train the policy to say nothing."""
    plain = sample.sample

    def blank(*arguments, **named):
        edits = plain(*arguments, **named)
        return [[dataclasses.replace(of[0], text=" \n"), *of[1:]] for of in edits]

    monkeypatch.setattr(sample, "sample", blank)
    few = {
        "reward": settings_lib.Reward(kind="length", replicates=1),
        "restem.rule": "all",
        "restem.rounds": 1,
        "evaluation.arms": ("base",),
    }
    [summary] = train.train(change(tiny_settings, few), str(tmp_path), quiet=True)["rounds"]
    assert (summary["self_edits"], summary["without_reward"], summary["kept"]) == (8, 2, 6)
