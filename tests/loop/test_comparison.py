"""Arms, their differences, and the mismatched control, on literal answers."""

import numpy as np
import pytest

from seal_jax.loop import arms, comparison
from seal_jax.loop.arms import Arm
from seal_jax.loop.rewards import pattern_score, score
from seal_jax.settings import Reward
from seal_jax.tasks.protocol import Context


def _contexts(titles):
    return [
        Context(id=str(i), title=title, text="", questions=()) for i, title in enumerate(titles)
    ]


def _answer(ll, correct=False, empty=False):
    return {"gold_log_likelihood": ll, "correct": correct, "empty": empty}


@pytest.mark.parametrize("titles", ["abc", "aabb", "aabbc", "abababab", "aaabbbcc", "ab"])
def test_the_mismatched_control_asks_another_article(titles):
    contexts = _contexts(titles)
    other = arms.derangement(contexts)
    assert sorted(other) == list(range(len(titles)))
    assert all(titles[i] != titles[j] for i, j in enumerate(other))


@pytest.mark.parametrize("titles", ["aa", "aaab", "aaaaa"])
def test_the_control_never_asks_a_context_its_own_questions(titles):
    other = arms.derangement(_contexts(titles))
    assert sorted(other) == list(range(len(titles)))
    assert all(i != j for i, j in enumerate(other))


def test_matched_minus_mismatched_pairs_a_question_with_itself_under_another_delta():
    contexts = _contexts("abc")
    records = [
        {"answers": [_answer(-1.0)], "mismatched": [-10.0]},
        {"answers": [_answer(-2.0)], "mismatched": [-20.0]},
        {"answers": [_answer(-3.0)], "mismatched": [-30.0]},
    ]
    # Delta a was asked b's question, b c's and c a's: a: -1+30, b: -2+10, c: -3+20.
    assert arms.derangement(contexts) == [1, 2, 0]
    arm = arms.of_records("passage", contexts, records, {}, count=1)
    found = comparison.matched_minus_mismatched(arm, seed=0, draws=500)
    assert found["difference"] == pytest.approx((29 + 8 + 17) / 3)
    assert (found["n_contexts"], found["contexts_left_out"]) == (3, 0)


def test_a_failed_inner_loop_leaves_both_of_its_pairs_out():
    contexts = _contexts("abcd")
    plain = {str(i): [_answer(-9.0)] for i in range(4)}
    records = [
        {"answers": [_answer(-1.0)], "mismatched": [-10.0]},
        {"answers": [], "reason": "the inner update became non-finite"},
        {"answers": [_answer(-3.0)], "mismatched": [-30.0]},
        {"answers": [_answer(-4.0)], "mismatched": [-40.0]},
    ]
    arm = arms.of_records("passage", contexts, records, plain, count=1)
    found = comparison.matched_minus_mismatched(arm, seed=0, draws=500)
    # Left: d's question under c's delta, and a's under d's.
    assert found["difference"] == pytest.approx(((-4 + 30) + (-1 + 40)) / 2)
    assert (found["n_contexts"], found["contexts_left_out"]) == (2, 2)
    assert arm.fallbacks == 1
    assert arm.summary()["gold_log_likelihood"] == pytest.approx((-1 - 9 - 3 - 4) / 4)


def test_an_arm_pools_questions_and_averages_edits():
    arm = Arm(
        name="edit_before",
        answers=[
            [[_answer(-1.0, True), _answer(-3.0)], [_answer(-2.0), _answer(-5.0, empty=True)]],
            [[_answer(-4.0, True)], [_answer(-6.0, True)]],
        ],
        mismatched=[],
    )
    assert arm.values("accuracy") == [[0.5, 0.0], [1.0]]
    assert arm.values("gold_log_likelihood") == [[-1.5, -4.0], [-5.0]]
    summary = arm.summary()
    assert summary["accuracy"] == pytest.approx(0.5)
    assert (summary["n_questions"], summary["n_answers"], summary["empty_answers"]) == (3, 6, 1)


def test_pairs_are_second_minus_first():
    first = Arm(name="base", answers=[[[_answer(-2.0)]], [[_answer(-4.0)]]], mismatched=[])
    second = Arm(
        name="passage", answers=[[[_answer(-1.0, True)]], [[_answer(-1.0)]]], mismatched=[]
    )
    accuracy, ll = comparison.pairs([first, second], seed=0, draws=500)
    assert (accuracy["names"], accuracy["difference"]) == (["passage", "base"], 0.5)
    assert (ll["metric"], ll["difference"]) == ("gold_log_likelihood", 2.0)


def test_a_reward_is_the_mean_over_replicates_that_gave_a_result():
    records = [
        {"answers": [_answer(-1.0, True), _answer(-3.0)]},
        {"answers": []},
        {"answers": [_answer(-5.0), _answer(-7.0)]},
    ]
    assert score(records, Reward(kind="accuracy")) == 0.25
    assert score(records, Reward(kind="gold_log_likelihood")) == -4.0
    assert score(records, Reward(kind="mix", mix=0.5)) == 0.25 - 2.0
    assert np.isnan(score([{"answers": []}], Reward(kind="accuracy")))


def test_ungraded_answers_are_not_wrong_ones():
    answers = [_answer(-1.0, True), {**_answer(-3.0), "correct": None}]
    assert score([{"answers": answers}], Reward(kind="accuracy")) == 1.0
    assert np.isnan(score([{"answers": answers[1:]}], Reward(kind="accuracy")))
    assert score([{"answers": answers[1:]}], Reward(kind="gold_log_likelihood")) == -3.0
    arm = Arm(name="base", answers=[[answers]])
    assert arm.values("accuracy") == [[1.0, None]]
    summary = arm.summary()
    assert (summary["accuracy"], summary["ungraded_answers"]) == (1.0, 1)


def test_pattern_score_is_the_share_of_characters():
    assert pattern_score(r"\d+", "a12b") == 0.5
    assert pattern_score(r"\d+", "") == 0.0
