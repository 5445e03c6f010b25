"""What cannot work is refused before the first round, with what to change, and nothing is done."""

import dataclasses
import json
import pathlib

import pytest

from seal_jax.loop import train
from seal_jax.runs import ledger
from seal_jax.settings import Reward, Teacher, Tuning
from seal_jax.tasks import registry
from seal_jax.tasks.knowledge.task import KnowledgeTask


@pytest.fixture
def refused(tiny_settings, change, tmp_path):
    """(changes, message) -> checks that the run is refused and has recorded nothing."""

    def check(changes, message):
        with pytest.raises(ValueError, match=message):
            train.train(change(tiny_settings, changes), str(tmp_path / "run"), quiet=True)
        with ledger.Ledger(tmp_path / "run" / "ledger", read_only=True) as records:
            assert not records.segments()

    return check


@pytest.fixture
def rewritten(tmp_path):
    """(file, change of an article) -> another file."""

    def make(path, rewrite):
        data = json.loads(pathlib.Path(path).read_text())
        for article in data["data"]:
            rewrite(article)
        path = tmp_path / "rewritten.json"
        path.write_text(json.dumps(data))
        return str(path)

    return make


_TUNED = {"data.eval_part": "test", "restem.rounds": 1}


def test_too_few_tuning_contexts(refused):
    tuning = Tuning(learning_rates=(1e-3,), epochs=(1,), contexts=3)
    refused(_TUNED | {"tuning": tuning}, "tuning.contexts is 3, but there are 2 development")


def test_development_questions_that_are_too_long(refused, rewritten, tiny_settings):
    """They are left out like others, so that too few are left."""
    titles = {context.title for context in registry.open_task(tiny_settings).development()}

    def lengthen(article):
        if article["title"] in titles:
            article["paragraphs"][0]["qas"][0]["question"] = "Why? " * 200

    path = rewritten(tiny_settings.data.eval_path, lengthen)
    tuning = Tuning(learning_rates=(1e-3,), epochs=(1,), contexts=2)
    refused(
        _TUNED | {"data.eval_path": path, "tuning": tuning},
        "tuning.contexts is 2, but there are 0 development contexts",
    )


def test_prompts_of_the_entity_graph_that_are_too_long(refused):
    refused(
        {"evaluation.arms": ("base", "entity_graph"), "edits.prompt_buckets": (200,)},
        r"the arm 'entity_graph' asks for entities with a prompt of \d+ tokens .*"
        r"more than fit \(200\): add a larger bucket to edits\.prompt_buckets",
    )


def test_a_teachers_file_without_one_of_the_contexts(refused, tiny_settings, tmp_path):
    context = registry.open_task(tiny_settings).contexts("eval")[0]
    file = tmp_path / "teacher.jsonl"
    file.write_text(json.dumps({"context": context.id, "completion": "It is red."}) + "\n")
    arms = ("base", "teacher")
    refused(
        {"teacher": Teacher(file=str(file)), "evaluation.arms": arms},
        r"\d of 2 contexts have a completion among its 1 lines; none is about 'eval",
    )


@pytest.mark.parametrize(
    "split, message",
    [
        ("train", "4 training contexts have no question, such as 'train.*would have no reward"),
        ("eval", "none of the 2 evaluation contexts has a question: give data with some"),
    ],
)
def test_contexts_without_a_question(split, message, refused, monkeypatch):
    """Of a task of one's own: SQuAD's reader leaves such passages out."""
    plain = KnowledgeTask.contexts

    def contexts(self, of):
        found = plain(self, of)
        return [dataclasses.replace(c, questions=()) for c in found] if of == split else found

    monkeypatch.setattr(KnowledgeTask, "contexts", contexts)
    refused({}, message)


@pytest.mark.parametrize(
    "changes, key",
    [
        ({"inner.buckets": (64, 1024)}, "inner"),
        ({"evaluation.form": "corpus", "corpus.buckets": (64, 1024)}, "corpus"),
    ],
)
def test_a_passage_longer_than_the_models_positions(
    changes, key, refused, rewritten, tiny_settings
):
    """Nobody is asked for a self-edit about it, whose prompt would be too long before."""

    def lengthen(article):
        article["paragraphs"][0]["context"] += " It is red." * 200

    alone = {
        "data.eval_path": rewritten(tiny_settings.data.eval_path, lengthen),
        "prompts.edit_format": "none",
        "restem.rounds": 0,
        "evaluation.arms": ("base", "passage"),
    }
    refused(
        alone | changes,
        rf"the arm 'passage' learns a text of \d+ tokens, but the model has 512 positions: "
        rf"end {key}\.buckets with 512 or less",
    )


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"evaluation.arms": ("base", "edit_befor")},
            "evaluation.arms must be of base, prompt, passage, .* not edit_befor",
        ),
        (
            {"evaluation.arms": ("base", "icl")},
            "evaluation.arms must be of .*not icl",
        ),
        (
            {"reward": Reward(kind="acuracy")},
            "reward.kind='acuracy' is none of task=knowledge: expected one of accuracy, .*rubric",
        ),
        ({"reward": Reward(kind="solved")}, "reward.kind='solved' is none of task=knowledge"),
        (
            {
                "data.eval_part": "test",
                "tuning": Tuning(learning_rates=(1e-3,), epochs=(1,), contexts=2, metric="solved"),
            },
            "tuning.metric='solved' is none of task=knowledge",
        ),
        ({"evaluation.arms": ("base", "oracle")}, "not oracle"),
    ],
)
def test_names_that_the_task_does_not_have(changes, message, refused):
    refused(changes, message)


def test_the_plan_counts_every_arm_that_is_run(
    tiny_settings, change, tmp_path, capsys, monkeypatch
):
    class Begun(Exception):
        pass

    def begin(*arguments):
        raise Begun

    monkeypatch.setattr(train, "restem_rounds", begin)
    named = {"evaluation.arms": ("base", "passage", "edit_before", "edit_after")}
    with pytest.raises(Begun):
        train.train(change(tiny_settings, named), str(tmp_path / "run"))
    # The learner after RL brings its unadapted row.
    assert " evaluation contexts in 5 arms" in capsys.readouterr().out
