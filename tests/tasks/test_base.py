"""What a task does where its class says nothing else."""

import pytest
from plain_task import TOWNS, Towns, plain_task

from seal_jax.tasks import base, directives
from seal_jax.tasks.directives import Limits
from seal_jax.tasks.protocol import (
    Asked,
    Bounds,
    Context,
    Directives,
    Exam,
    Grammar,
    Lesson,
    Question,
    Refusal,
    Verdict,
)

ULLEN, OSK = TOWNS
SAYS = {"edits": {"directives": ("learning_rate", "epochs")}}
HEAD = '{"learning_rate": 1e-3, "epochs": 4}'


class Exact:
    """A grader by equality; "?" has no verdict, "later" none yet."""

    name = "exact"

    def __init__(self):
        self.asked = []

    def grade(self, answers):
        self.asked.append(list(answers))
        return [self._verdict(one) for one in answers]

    def _verdict(self, one):
        if one.prediction in ("?", "later"):
            later = one.prediction == "later"
            return Verdict(correct=None, empty=False, reason="no verdict", retry=later)
        return Verdict(correct=one.prediction == one.gold, empty=not one.prediction.strip())


def test_the_least_that_a_task_says_is_a_task():
    task = plain_task()
    assert (task.skipped("train"), task.difference("eval"), task.development()) == ((), "", ())
    assert task.reference_texts("eval") == [OSK.text]
    assert (task.show(OSK), task.practice(OSK)) == ({}, ())
    assert task.writes and not task.takes_all
    assert task.settings.seed == 0
    with pytest.raises(ValueError, match="no pictures of towns"):
        task.draw(OSK, [], "out.png")
    with pytest.raises(ValueError, match="no pictures of Task"):
        plain_task(base.Task).draw(OSK, [], "out.png")


def test_a_context_of_ones_own():
    task = plain_task()
    found = task.context_from("Rome", "  Rome fell.\n", [("When?", "476"), ("Why?", "")])
    asked = (Question("Rome/0", "When?", "476"), Question("Rome/1", "Why?", ""))
    assert found == Context("Rome", "Rome", "Rome fell.", asked)
    assert task.context_from("Rome", "x", [("When?", "")], id="r").questions[0].id == "r/0"
    assert found.group == "Rome"


# Self-edits.


def test_without_directives_a_self_edit_is_one_sequence():
    task = plain_task()
    assert (task.preface, task.grammar, task.directs) == ("", None, False)
    assert task.read(ULLEN, "Ullen has a mill.\n", 0) == Lesson(sequences=("Ullen has a mill.\n",))
    assert task.body(f"{HEAD}\nx") == f"{HEAD}\nx"
    for blank in ("", " \n\t"):
        assert task.read(ULLEN, blank, 0) == Refusal(base.NO_TEXT, invalid=False)
    assert task.context_lesson(ULLEN) == Lesson(sequences=(ULLEN.text,))
    assert task.bounds() == Bounds()


def test_with_directives_its_first_line_says_how_it_is_learned():
    task = plain_task(**SAYS)
    said = Directives(learning_rate=1e-3, epochs=4)
    expected = Lesson(sequences=("It has a mill.",), directives=said, head=HEAD)
    assert task.directs
    assert task.read(ULLEN, f"{HEAD}\nIt has a mill.", 0) == expected
    # Written otherwise, it is recorded in one form.
    other = '{"epochs": 4, "learning_rate": 0.001}'
    assert task.read(ULLEN, f"{other}\nIt has a mill.", 7) == expected
    assert task.directives_of(other) == said
    assert task.body(f"{HEAD}\nIt has a mill.") == "It has a mill."
    assert task.body("It has a mill.") == "It has a mill."


def test_what_is_no_head_is_invalid_and_what_has_no_body_says_nothing():
    task = plain_task(**SAYS)
    for text in ("It has a mill.", "", '{"epochs": 4}\nIt has a mill.'):
        refusal = task.read(ULLEN, text, 0)
        assert refusal.invalid and refusal.reason.startswith("not directives: the first line")
    assert task.read(ULLEN, f"{HEAD}\n \n", 0) == Refusal(base.NO_TEXT, invalid=False)
    over = task.read(ULLEN, HEAD.replace("4", "11") + "\nIt has a mill.", 0)
    assert over == Refusal("not directives: epochs must be from 1 to 10, not 11.")
    with pytest.raises(directives.HeadError):
        task.directives_of("")


def test_directives_keep_to_the_settings_names_and_limits():
    own = {"min_epochs": 2, "max_epochs": 3}
    task = plain_task(edits={"directives": ("epochs",)}, directives=own)
    limits = Limits(min_epochs=2, max_epochs=3)
    assert task.preface == directives.preface(("epochs",), limits)
    assert task.grammar == Grammar(directives.regex(("epochs",), limits), "head")
    assert task.bounds() == Bounds(epochs=3)
    lesson = task.read(ULLEN, '{"epochs": 3}\nx', 0)
    assert (lesson.directives, lesson.head) == (Directives(epochs=3), '{"epochs": 3}')
    assert isinstance(task.read(ULLEN, '{"epochs": 4}\nx', 0), Refusal)
    free = plain_task(edits={"directives": ("epochs",)}, directives={"constrained": False})
    assert free.grammar is None and free.preface
    rates = plain_task(edits={"directives": ("learning_rate",)})
    assert rates.bounds() == Bounds()  # epochs are as the inner loop says


class Lines(Towns):
    """A domain that trains on lines."""

    def sequences(self, context, body):
        return [f"{context.title}: {line}" for line in body.split("\n") if line]


def test_a_domain_says_what_sequences_are():
    task = plain_task(Lines, **SAYS)
    lesson = task.read(ULLEN, f"{HEAD}\na\nb", 0)
    assert (lesson.sequences, lesson.head) == (("Ullen: a", "Ullen: b"), HEAD)
    assert task.read_body(ULLEN, "a") == Lesson(sequences=("Ullen: a",))


@pytest.mark.parametrize(
    ("bodies", "passage", "expected"),
    [
        (["a\nb", "c"], "once", ["Ullen: a", "Ullen: b", "Ullen: c", ULLEN.text]),
        (["a\nb", "c"], "per_completion", ["Ullen: a", "Ullen: b", "Ullen: c", *[ULLEN.text] * 2]),
        (["a\nb", "c"], "none", ["Ullen: a", "Ullen: b", "Ullen: c"]),
        ([], "once", [ULLEN.text]),
        ([], "per_completion", [ULLEN.text]),
        ([], "none", [ULLEN.text]),  # without self-edits it is the context alone
        (["a", "", "b"], "per_completion", ["Ullen: a", "Ullen: b", *[ULLEN.text] * 2]),
        (["", ""], "per_completion", [ULLEN.text]),
        (["", ""], "none", []),
    ],
)
def test_a_contexts_part_of_what_is_learned_together(bodies, passage, expected):
    assert plain_task(Lines).read_many(ULLEN, bodies, passage) == expected


class Whole(Lines):
    """A domain whose self-edits are learned with the context."""

    def sequences(self, context, body):
        return [*super().sequences(context, body), context.text]


def test_what_is_learned_together_has_the_context_as_often_as_it_is_asked_for():
    task = plain_task(Whole)
    assert task.read_many(ULLEN, ["a", "b"], "once") == ["Ullen: a", "Ullen: b", ULLEN.text]
    assert task.read_many(ULLEN, ["a", "b"], "none") == ["Ullen: a", "Ullen: b"]


def test_sources():
    assert list(plain_task().sources) == ["passage", "passage_steps", "teacher"]
    assert list(plain_task(**SAYS).sources) == [
        "passage", "passage_steps", "teacher", "random", "fixed", "oracle",
    ]  # fmt: skip


def test_directives_of_an_editor_are_described():
    task = plain_task(**SAYS)
    lessons = [[task.read(ULLEN, text, 0) for text in (f"{HEAD}\nx", "x", f"{HEAD}\n")]]
    found = task.describe(lessons)
    assert (found["valid"], found["invalid"], found["commonest"]) == (1, 1, HEAD)


# Exams.


class Reader(Towns):
    """A domain that words its questions."""

    def query(self, context, question):
        return f"{context.title}? {question.text}"


@pytest.mark.parametrize("view", ["adapted", "unadapted", "reading"])
def test_every_question_is_asked_once_and_scored(view):
    task = plain_task(Reader)
    prompts = ["Osk? What?", "Osk? Who?"]
    if view == "reading":
        prompts = [f"Osk is a river.\n\n{prompt}" for prompt in prompts]
    exam = task.exam(OSK, view)
    assert [(one.id, one.question, one.prompt) for one in exam.asked] == [
        ("q2", "q2", prompts[0]),
        ("q3", "q3", prompts[1]),
    ]
    assert [(one.question, one.prompt, one.gold) for one in exam.scored] == [
        ("q2", prompts[0], "a river"),
        ("q3", prompts[1], "nobody"),
    ]


def test_answers_are_graded_with_what_was_asked():
    task, grader = plain_task(Reader), Exact()
    exam = task.exam(OSK, "adapted")
    [mark] = task.mark([(OSK, exam, {"q2": "a river", "q3": " "})], grader)
    assert mark.answers == (
        {"question": "q2", "text": "a river", "correct": True, "empty": False, "ungraded": None},
        {"question": "q3", "text": " ", "correct": False, "empty": True, "ungraded": None},
    )
    assert (mark.scores, mark.retry) == ({"accuracy": 0.5}, False)
    [[first, _]] = grader.asked
    assert (first.query, first.question, first.gold) == ("Osk? What?", "What?", "a river")
    assert task.graded_by(grader) == "exact"


def test_a_batch_is_graded_at_once_and_answers_go_to_their_own():
    task, grader = plain_task(), Exact()
    batch = [
        (ULLEN, task.exam(ULLEN, "adapted"), {"q1": "the Varde"}),
        (OSK, task.exam(OSK, "adapted"), {"q2": "no", "q3": "nobody"}),
        (ULLEN, task.exam(ULLEN, "adapted"), {"q1": "no"}),
    ]
    marks = task.mark(batch, grader)
    assert [mark.scores["accuracy"] for mark in marks] == [1.0, 0.5, 0.0]
    assert [len(mark.answers) for mark in marks] == [1, 2, 1]
    assert len(grader.asked) == 1


def test_an_answer_without_a_verdict_is_in_no_mean():
    task = plain_task()
    exam = task.exam(OSK, "adapted")
    for text, retry in (("?", False), ("later", True)):
        [mark] = task.mark([(OSK, exam, {"q2": text, "q3": "nobody"})], Exact())
        assert (mark.scores, mark.retry) == ({"accuracy": 1.0}, retry)
        assert mark.answers[0]["correct"] is None
        assert mark.answers[0]["ungraded"] == "no verdict"
    [mark] = task.mark([(OSK, exam, {"q2": "?", "q3": "?"})], Exact())
    assert mark.scores == {"accuracy": None}


def test_questions_of_which_no_prompt_fits_are_ungraded():
    task = plain_task()
    exam = task.exam(OSK, "adapted")
    [one, none] = task.mark([(OSK, exam, {"q3": "nobody"}), (OSK, exam, {})], Exact())
    assert [(a["question"], a["text"], a["correct"]) for a in one.answers] == [
        ("q2", "", None),
        ("q3", "nobody", True),
    ]
    assert one.answers[0]["ungraded"] == "no prompt of the question fits"
    assert (one.scores, one.retry) == ({"accuracy": 1.0}, False)
    assert [answer["correct"] for answer in none.answers] == [None, None]
    assert (none.scores, none.retry) == ({"accuracy": None}, False)


@pytest.mark.parametrize(
    ("texts", "winner", "votes"),
    [
        (["a", "b", "b"], "b", {"a": 1, "b": 2}),
        (["b", "a", "c"], "b", {"b": 1, "a": 1, "c": 1}),  # equal: the one seen first
        (["a", "b", "b", "a"], "a", {"a": 2, "b": 2}),
        ([None, "b", "a"], "b", {"b": 1, "a": 1}),  # a prompt that did not fit has no vote
        (["a"], "a", None),
    ],
)
def test_of_several_answers_the_one_with_most_votes_counts(texts, winner, votes):
    task, grader = plain_task(), Exact()
    asked = tuple(Asked(id=f"q1/{i}", question="q1", prompt=f"way {i}") for i in range(len(texts)))
    answers = {f"q1/{i}": text for i, text in enumerate(texts) if text is not None}
    # The exam's order breaks ties, not that of the answers.
    answers = dict(reversed(answers.items()))
    [mark] = task.mark([(ULLEN, Exam(asked, ()), answers)], grader)
    [answer] = mark.answers
    assert (answer["text"], answer.get("votes")) == (winner, votes)
    [[graded]] = grader.asked
    assert graded.query == f"way {texts.index(winner)}"  # the first prompt that gave it


class Graded(Towns):
    """A domain with a score of its own for the context as a whole."""

    def more_scores(self, context, answers):
        return {"whole": float(all(answer["correct"] for answer in answers))}


def test_scores_of_the_context_as_a_whole_are_added():
    task = plain_task(Graded)
    exam = task.exam(OSK, "adapted")
    [mark] = task.mark([(OSK, exam, {"q2": "a river", "q3": "no"})], Exact())
    assert mark.scores == {"accuracy": 0.5, "whole": 0.0}


def test_a_self_edit_may_have_the_directives_of_another():
    task = plain_task(**SAYS)
    other = HEAD.replace("4", "2")
    assert (
        task.redirect(f"{HEAD}\nIt has\na mill.", f"\n{other}\nOsk.") == f"{other}\nIt has\na mill."
    )
    assert task.redirect("No head.", other) == f"{other}\nNo head."
    assert task.read(ULLEN, task.redirect(f"{HEAD}\nx", "no head"), 0).invalid
