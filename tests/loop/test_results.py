"""Arms, their differences, and the mismatched control, on literal marks."""

import pytest

from seal_jax.loop import arms, results
from seal_jax.loop.results import Outcome
from seal_jax.loop.rewards import metrics, pattern_score, score
from seal_jax.settings import Reward, Settings
from seal_jax.stats.intervals import mean
from seal_jax.tasks.base import Task
from seal_jax.tasks.protocol import Context

TASK = Task(Settings())
METRICS = metrics(TASK)
ACCURACY, LIKELIHOOD = METRICS
ARM = arms.table(TASK)["passage"]


def _contexts(titles):
    return [
        Context(id=str(i), title=title, text="", questions=()) for i, title in enumerate(titles)
    ]


def _answer(ll, correct=False, empty=False):
    reason = "no judge" if correct is None else None
    return {
        "question": "q",
        "gold_log_likelihood": ll,
        "correct": correct,
        "empty": empty,
        "ungraded": reason,
    }


def _mark(*answers):
    """What a task and the gold answers make of the answers to an exam."""
    scores = {
        "accuracy": mean(a["correct"] for a in answers),
        "gold_log_likelihood": mean(a["gold_log_likelihood"] for a in answers),
    }
    return {"answers": list(answers), "scores": scores}


def _trials(contexts, records, plain=None):
    of = [[{"context": c.id, **record}] for c, record in zip(contexts, records, strict=True)]
    return results.of_trials("passage", ARM, contexts, of, plain or {}, {}, TASK)


def _found(outcomes, contexts):
    return results.of(outcomes, TASK, contexts, seed=0, draws=500)


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
        {**_mark(_answer(-1.0)), "mismatched": [-10.0]},
        {**_mark(_answer(-2.0)), "mismatched": [-20.0]},
        {**_mark(_answer(-3.0)), "mismatched": [-30.0]},
    ]
    # Delta a was asked b's question, b c's and c a's: a: -1+30, b: -2+10, c: -3+20.
    assert arms.derangement(contexts) == [1, 2, 0]
    found = _found([_trials(contexts, records)], contexts)["matched_minus_mismatched"]["passage"]
    assert found["difference"] == pytest.approx((29 + 8 + 17) / 3)
    assert (found["n_contexts"], found["contexts_left_out"]) == (3, 0)


def test_a_failed_inner_loop_leaves_both_of_its_pairs_out():
    contexts = _contexts("abcd")
    plain = {str(i): _mark(_answer(-9.0)) for i in range(4)}
    records = [
        {**_mark(_answer(-1.0)), "mismatched": [-10.0]},
        {"answers": [], "reason": "the inner update became non-finite"},
        {**_mark(_answer(-3.0)), "mismatched": [-30.0]},
        {**_mark(_answer(-4.0)), "mismatched": [-40.0]},
    ]
    found = _found([_trials(contexts, records, plain)], contexts)
    gain, summary = found["matched_minus_mismatched"]["passage"], found["arms"]["passage"]
    # Left: d's question under c's delta, and a's under d's.
    assert gain["difference"] == pytest.approx(((-4 + 30) + (-1 + 40)) / 2)
    assert (gain["n_contexts"], gain["contexts_left_out"]) == (2, 2)
    assert (summary["unadapted_fallbacks"], summary["trials"]) == (1, 4)
    assert summary["gold_log_likelihood"] == pytest.approx((-1 - 9 - 3 - 4) / 4)


def test_an_arm_pools_questions_and_averages_edits():
    one = Outcome(
        "edit_before",
        ARM,
        [
            [
                _mark(_answer(-1.0, True), _answer(-3.0)),
                _mark(_answer(-2.0), _answer(-5.0, empty=True)),
            ],
            [_mark(_answer(-4.0, True)), _mark(_answer(-6.0, True))],
        ],
    )
    assert one.values(ACCURACY) == [[0.5, 0.0], [1.0]]
    assert one.values(LIKELIHOOD) == [[-1.5, -4.0], [-5.0]]
    summary = one.summary(METRICS)
    assert summary["accuracy"] == pytest.approx(0.5)
    assert (summary["n_questions"], summary["n_answers"], summary["empty_answers"]) == (3, 6, 1)


def test_pairs_are_second_minus_first():
    first = Outcome("base", ARM, [[_mark(_answer(-2.0))], [_mark(_answer(-4.0))]])
    second = Outcome("passage", ARM, [[_mark(_answer(-1.0, True))], [_mark(_answer(-1.0))]])
    accuracy, ll = _found([first, second], _contexts("ab"))["pairs"]
    assert (accuracy["names"], accuracy["difference"]) == (["passage", "base"], 0.5)
    assert (ll["metric"], ll["difference"]) == ("gold_log_likelihood", 2.0)


def test_a_reward_is_the_mean_over_replicates_that_gave_a_result():
    records = [
        _mark(_answer(-1.0, True), _answer(-3.0)),
        {"answers": []},
        _mark(_answer(-5.0), _answer(-7.0)),
    ]
    assert score(records, Reward(kind="accuracy"), "accuracy") == 0.25
    assert score(records, Reward(kind="gold_log_likelihood"), "accuracy") == -4.0
    assert score(records, Reward(kind="mix", mix=0.5), "accuracy") == 0.25 - 2.0
    assert score([{"answers": []}], Reward(kind="accuracy"), "accuracy") is None


def test_ungraded_answers_are_not_wrong_ones():
    answers = [_answer(-1.0, True), _answer(-3.0, None)]
    assert score([_mark(*answers)], Reward(kind="accuracy"), "accuracy") == 1.0
    assert score([_mark(answers[1])], Reward(kind="accuracy"), "accuracy") is None
    assert score([_mark(answers[1])], Reward(kind="gold_log_likelihood"), "accuracy") == -3.0
    one = Outcome("base", ARM, [[_mark(*answers)]])
    assert one.values(ACCURACY) == [[1.0, None]]
    summary = one.summary(METRICS)
    assert (summary["accuracy"], summary["ungraded_answers"]) == (1.0, 1)


def test_an_arm_that_no_judge_has_marked_has_no_figure_and_no_difference():
    contexts = _contexts("abc")
    graded = Outcome("base", ARM, [[_mark(_answer(-1.0, True))]] * 3)
    never = Outcome("passage", ARM, [[_mark(_answer(-2.0, None))]] * 3)
    found = _found([graded, never], contexts)
    assert found["arms"]["passage"]["accuracy"] is None
    assert found["arms"]["passage"]["ungraded_answers"] == 3
    accuracy, ll = found["pairs"]
    assert (accuracy["difference"], accuracy["interval"]) == (None, None)
    assert ll["difference"] == -1.0
    lines = results.table(found).splitlines()
    assert len(lines) == 3 and "-" in lines[2].split()
    assert _found([never], contexts)["arms"]["passage"]["accuracy"] is None


def test_two_contexts_of_one_id_are_refused():
    contexts = [Context(id="c", title=title, text="") for title in "ab"]
    outcome = Outcome("base", ARM, [[_mark(_answer(-1.0))]] * 2)
    with pytest.raises(ValueError, match="two contexts have the id 'c'"):
        _found([outcome], contexts)


def test_pattern_score_is_the_share_of_characters():
    assert pattern_score(r"\d+", "a12b") == 0.5
    assert pattern_score(r"\d+", "") == 0.0
