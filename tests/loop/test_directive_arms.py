"""Arms that exchange texts and directives, and the price of tokens, on a tiny model."""

import json

import numpy as np
import pytest

from seal_jax.loop import arms, evaluate, sources, train
from seal_jax.reports import records, words
from seal_jax.settings import Reward

PRICE = 20.0
NAMES = ("learning_rate", "epochs")


@pytest.fixture(scope="module")
def settings(tiny_settings, change):
    return change(
        tiny_settings,
        {
            "restem.rounds": 1,
            "restem.sft.learning_rate": 3e-2,
            "restem.sft.epochs": 8,
            "reward": Reward(kind="gold_log_likelihood", replicates=1, token_price=PRICE),
            "edits.max_new_tokens": 48,
            "edits.directives": NAMES,
            "directives.min_learning_rate": 1e-3,
            "directives.max_learning_rate": 3e-2,
            "directives.max_epochs": 3,
            "evaluation.contexts": 3,
            "evaluation.arms": ("base", "edit_after_base", *arms.DIRECTED),
        },
    )


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("directed") / "run"
    return workdir, train.train(settings, str(workdir), quiet=True)


@pytest.fixture(scope="module")
def stages(finished):
    return records.read(finished[0] / "ledger")


def texts(stages, editor):
    return {edit["context"]: edit["text"] for edit in stages[f"eval edits {editor}"].edits}


def trials(stages, arm):
    return {trial["context"]: trial for trial in stages[f"eval {arm}"].trials}


def head(text):
    return text.partition("\n")[0]


def tokens(trial):
    """Of a trial's lesson, whatever its epochs."""
    return trial["trained_tokens"] / json.loads(trial["head"])["epochs"]


@pytest.mark.parametrize("arm", arms.DIRECTED)
def test_an_arm_learns_its_editors_text_under_its_directives(finished, stages, arm):
    _, results = finished
    editor = arms.DIRECTED[arm].editor
    own, found = texts(stages, editor), trials(stages, arm)
    assert found.keys() == own.keys() and len(own) == 3
    # The body is the editor's own, whoever wrote the head.
    if editor == "policy":
        plain = trials(stages, "edit_after_base")
        assert [tokens(found[id]) for id in own] == [tokens(plain[id]) for id in own]
    heads = {id: trial["head"] for id, trial in found.items()}
    if arm.endswith("constant"):
        assert set(heads.values()) == {results["best_tried"]["head"]}
    elif arm == "edit_before_directed":
        assert heads == {id: head(text) for id, text in texts(stages, "policy").items()}
        assert heads != {id: head(text) for id, text in own.items()}, "nothing was learned"
    else:
        written = [head(text) for text in own.values()]
        assert sorted(heads.values()) == sorted(written)
        assert all(heads[id] != head(own[id]) for id in own), "heads of three contexts all differ"


def test_the_best_constant_is_the_one_that_earned_most_in_the_round(finished, stages):
    _, results = finished
    [selection] = stages["round 1"].others["selection"]
    tried = {(trial["context"], trial["index"]): trial for trial in stages["round 1"].trials}
    above = {}
    for context, rewards in zip(selection["contexts"], selection["rewards"], strict=True):
        for m, reward in enumerate(rewards):
            said = tried[context, m]["head"]
            above.setdefault(said, []).append(reward - np.mean(rewards))
    scores = {said: sum(of) / (len(of) + 1) for said, of in above.items()}
    assert results["best_tried"]["head"] == max(scores, key=scores.get)
    assert results["best_tried"]["above"] == pytest.approx(scores)
    assert len(scores) > 2


def test_the_best_constant_by_hand():
    """Context 1 is easy: "a" was written there only, and earns less than "b" beside it."""
    selections = [
        {"heads": [["a", "b"], ["b", "c"]], "rewards": [[9.0, 10.0], [-1.0, -3.0]]},
        {"heads": [["", "b", "d"]], "rewards": [[5.0, 1.0, None]]},
        {"rewards": [[1.0, 2.0]]},  # of a run without directives
    ]
    found = sources.best_tried(selections)
    # b: 0.5 + 1 - 2 over 3 + 1; a: -0.5 over 2; c: -1 over 2; "" and what has no reward are none.
    assert found == {
        "head": "b",
        "times": {"b": 3, "a": 1, "c": 1},
        "above": {"b": -0.125, "a": -0.25, "c": -0.5},
    }
    assert sources.best_tried([{"heads": [["a"]], "rewards": [[None]]}]) is None


def test_tokens_have_their_price(stages):
    [selection] = stages["round 1"].others["selection"]
    tried = {(trial["context"], trial["index"]): trial for trial in stages["round 1"].trials}
    for context, rewards in zip(selection["contexts"], selection["rewards"], strict=True):
        for m, reward in enumerate(rewards):
            trial = tried[context, m]
            taken = PRICE * trial["trained_tokens"] / 1000
            assert taken > 0.1
            assert reward == pytest.approx(trial["scores"]["gold_log_likelihood"] - taken)


def test_what_trains_on_nothing_has_no_price():
    with pytest.raises(ValueError, match="token_price is of tokens that are trained on"):
        Reward(kind="length", replicates=1, token_price=1.0)


def test_own_less_permuted_is_named_in_the_closing_words(finished):
    results = json.loads((finished[0] / "results.json").read_text())
    [said] = [line for line in words.of_results(results) if "for another context" in line]
    [pair] = [
        pair
        for pair in results["pairs"]
        if set(pair["names"]) == {"edit_after_base", "edit_after_permuted"}
        and pair["metric"] == "gold_log_likelihood"
    ]
    sign = 1 if pair["names"][0] == "edit_after_base" else -1
    assert f"{sign * pair['difference']:+.2f}".replace("-", "−") in said.replace("-", "−")
    labels = [label for rows in words.compared(results).values() for label, _ in rows]
    assert any(label.endswith(results["arms"]["edit_after_permuted"]["label"]) for label in labels)


def test_an_evaluation_takes_the_constant_of_the_run_that_trained_the_policy(
    finished, settings, tmp_path
):
    workdir, results = finished
    again = evaluate.evaluate(settings, str(tmp_path), policy_from=str(workdir), quiet=True)
    assert again["best_tried"] == results["best_tried"]
    assert again["arms"] == results["arms"]


def test_without_a_policy_or_directives_there_are_no_such_arms(settings, change, tmp_path):
    kept = evaluate.evaluate(
        change(settings, {"evaluation.arms": ("base", *arms.DIRECTED)}), str(tmp_path), quiet=True
    )
    assert list(kept["arms"]) == ["base"]
    plain = change(settings, {"edits.directives": ()})
    with pytest.raises(ValueError, match=r"evaluation\.arms must be of"):
        train.train(plain, str(tmp_path / "plain"), quiet=True)
