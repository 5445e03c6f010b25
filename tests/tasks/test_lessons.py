"""The defaults of a task: lessons and directives, votes, and its own sources."""

import dataclasses

import cut_lessons
import pytest

from seal_jax.settings import DirectiveSettings, Edits, Settings, SettingsError
from seal_jax.tasks import sources
from seal_jax.tasks.base import NO_TEXT, Task
from seal_jax.tasks.protocol import (
    Asked,
    BaseEdits,
    Best,
    Context,
    Directives,
    Exam,
    Lesson,
    Question,
    Refusal,
    Teach,
    Verdict,
)

HEADS = ('{"learning_rate": 1e-3, "epochs": 2}', '{"learning_rate": 2e-3, "epochs": 4}')
OSK = Context(
    id="osk",
    title="Osk",
    text="The Osk is long.",
    questions=(Question("a", "How long?", "84"), Question("b", "Where?", "Vell")),
)


class Lines(Task):
    """A line is a sequence, and the context is the last one where there is any."""

    def sequences(self, context, body):
        lines = [line for line in body.splitlines() if line.strip()]
        return [*lines, context.text] if lines else []


class Exact:
    """A grader of exact texts that remembers what it was asked."""

    name = "exact"

    def __init__(self):
        self.asked = []

    def grade(self, answers):
        self.asked += answers
        return [Verdict(correct=a.prediction == a.gold, empty=not a.prediction) for a in answers]


def task(*names, **directives):
    """The task with self-edits that say these of directives."""
    own = DirectiveSettings(**{"fixed": HEADS, "oracle": HEADS[1], **directives})
    return Lines(Settings(edits=Edits(directives=names), directives=own))


@pytest.mark.parametrize(
    ("passage", "expected"),
    [
        ("once", ["one", "two", "three", OSK.text]),
        ("per_completion", ["one", "two", "three", OSK.text, OSK.text]),
        ("none", ["one", "two", "three"]),
    ],
)
def test_the_context_is_in_a_corpus_as_often_as_is_asked(passage, expected):
    assert task().read_many(OSK, ["one\ntwo", " ", "three"], passage) == expected


@pytest.mark.parametrize(
    ("passage", "bodies", "times"),
    [
        ("once", [], 1),
        ("per_completion", [], 1),
        ("none", [], 1),
        ("per_completion", [" ", ""], 1),
        ("none", [" "], 0),
    ],
)
def test_self_edits_that_say_nothing_leave_the_context(passage, bodies, times):
    assert task().read_many(OSK, bodies, passage) == [OSK.text] * times


def exam(*asked):
    """An exam of (id, question) whose prompts are named after the ids."""
    return Exam(tuple(Asked(id=i, question=q, prompt=f"prompt {i}") for i, q in asked), ())


def test_the_commonest_answer_counts_and_of_several_the_one_that_was_asked_first():
    asked = exam(("a/0", "a"), ("a/1", "a"), ("a/2", "a"), ("b/0", "b"), ("b/1", "b"))
    texts = {"a/0": "12", "a/1": "84", "a/2": "84", "b/1": "Ire", "b/0": "Vell"}
    grader = Exact()
    [mark] = task().mark([(OSK, asked, texts)], grader)
    assert [(a["text"], a["correct"]) for a in mark.answers] == [("84", True), ("Vell", True)]
    assert mark.answers[0]["votes"] == {"12": 1, "84": 2}
    assert mark.scores == {"accuracy": 1.0} and not mark.retry
    # The judge sees the first prompt that had this answer.
    assert [(a.query, a.question, a.gold) for a in grader.asked] == [
        ("prompt a/1", "How long?", "84"),
        ("prompt b/0", "Where?", "Vell"),
    ]


def test_a_question_without_a_prompt_that_fits_is_ungraded_in_its_place():
    asked = exam(("a/0", "a"), ("a/1", "a"), ("b/0", "b"))
    grader = Exact()
    first, second = task().mark([(OSK, asked, {"b/0": "Vell"}), (OSK, asked, {"a/1": "1"})], grader)
    assert [a["question"] for a in first.answers] == [a["question"] for a in second.answers]
    assert [a["correct"] for a in first.answers] == [None, True]
    assert first.answers[0]["ungraded"] == "no prompt of the question fits"
    assert "votes" not in first.answers[0] and "votes" not in second.answers[0]
    assert [a["correct"] for a in second.answers] == [False, None]
    assert (first.scores, second.scores) == ({"accuracy": 1.0}, {"accuracy": 0.0})
    assert not first.retry and len(grader.asked) == 2


def test_what_has_several_answers_does_not_change_an_exam_of_one_prompt_each():
    own = task()
    plain = own.exam(OSK, "adapted")
    assert [(one.id, one.question, one.prompt) for one in plain.asked] == [
        ("a", "a", "How long?"),
        ("b", "b", "Where?"),
    ]
    assert [(one.prompt, one.gold) for one in plain.scored] == [
        ("How long?", "84"),
        ("Where?", "Vell"),
    ]
    reading = own.exam(OSK, "reading")
    assert [one.prompt for one in reading.asked] == [
        "The Osk is long.\n\nHow long?",
        "The Osk is long.\n\nWhere?",
    ]
    [mark] = own.mark([(OSK, plain, {"a": "84", "b": ""})], Exact())
    assert "votes" not in mark.answers[0] and mark.answers[1]["empty"]


def test_directives_come_off_a_self_edit_and_go_into_the_lesson():
    own = task("learning_rate", "epochs")
    read = own.read(OSK, f"{HEADS[0]}\none\ntwo", 0)
    assert read == Lesson(
        sequences=("one", "two", OSK.text),
        directives=Directives(learning_rate=1e-3, epochs=2),
        head=HEADS[0],
    )
    assert own.body(f"{HEADS[0]}\none") == "one" and own.body("one") == "one"
    assert own.read(OSK, "one", 0) == Refusal("not directives: the first line is not JSON.")
    assert own.read(OSK, f"{HEADS[0]}\n", 0) == Refusal(NO_TEXT, invalid=False)
    assert own.preface.endswith("on the next line.\n\n") and own.grammar.scope == "head"
    assert own.bounds().epochs == 10 and own.directs
    free = task("epochs", constrained=False)
    assert free.grammar is None and free.bounds().epochs == 10
    assert task("learning_rate").bounds().epochs is None
    assert task().preface == "" and task().grammar is None and not task().directs
    assert task().read(OSK, HEADS[0], 0).sequences == (HEADS[0], OSK.text)


EDITS = [[f"{HEADS[0]}\none\ntwo", "no head"]]


def asked_of(name, own, best=1, teacher=("one",)):
    """The lessons of a source about one context, and the requests that it made."""
    requests = []

    def answer(request):
        requests.append(request)
        if isinstance(request, BaseEdits):
            return EDITS
        return best if isinstance(request, Best) else [list(teacher)]

    lessons = sources.answered(own.sources[name].lessons([OSK], 2), answer)
    return lessons, [type(request) for request in requests]


def test_sources_with_directives():
    own = task("learning_rate", "epochs")
    assert asked_of("passage", own) == ([[Lesson(sequences=(OSK.text,))]], [])
    # As many steps as the base's self-edit, under its directives; one that is refused counts once.
    [[as_often, once]], requests = asked_of("passage_steps", own)
    assert as_often.sequences == (OSK.text,) * 3 and once.sequences == (OSK.text,)
    assert as_often.directives == Directives(learning_rate=1e-3, epochs=2)
    assert requests == [BaseEdits]
    # A teacher is not asked for directives, so its texts are learned as the settings say.
    [[taught]], requests = asked_of("teacher", own)
    assert taught == Lesson(sequences=("one", OSK.text)) and requests == [Teach]
    [[nothing]], _ = asked_of("teacher", own, teacher=("",))
    assert nothing == Refusal(NO_TEXT, invalid=False)
    for name, head, requested in (
        ("oracle", HEADS[1], [BaseEdits]),
        ("fixed", HEADS[1], [Best, BaseEdits]),
    ):
        [[with_head, without]], requests = asked_of(name, own)
        assert requests == requested
        assert with_head.head == without.head == head
        assert with_head.sequences == ("one", "two", OSK.text)
        assert without.sequences == ("no head", OSK.text)
    [drawn], _ = asked_of("random", own)
    assert drawn[0].head != drawn[1].head and [drawn] == asked_of("random", own)[0]
    assert all(0 < lesson.directives.epochs <= 10 for lesson in drawn)
    with pytest.raises(ValueError, match="cannot be learned together"):
        own.sources["random"].together([OSK], 1, "once")


def test_sources_without_directives():
    own = task()
    assert own.sources.keys() == {"passage", "passage_steps", "teacher"}

    def together(name):
        def answer(request):
            return [["one\ntwo"]] if isinstance(request, BaseEdits) else [["three"]]

        return sources.answered(own.sources[name].together([OSK], 1, "once"), answer)

    assert together("passage") == [OSK.text]
    assert together("passage_steps") == [OSK.text] * 3
    assert together("teacher") == ["three", OSK.text]


def test_heads_of_the_settings_that_cannot_be_followed_are_named():
    own = task("epochs", fixed=(), oracle='{"epochs": 11}')
    with pytest.raises(SettingsError, match=r"directives\.oracle has .*must be from 1 to 10"):
        asked_of("oracle", own)
    with pytest.raises(SettingsError, match=r"give directives\.fixed"):
        asked_of("fixed", own)


def test_a_context_of_ones_own_and_what_has_no_pictures():
    own = task()
    lune = own.context_from("Lune", " It is cold.\n", [("Is it cold?", "yes"), ("Why?", "")])
    assert lune.text == "It is cold." and [q.id for q in lune.questions] == ["Lune/0", "Lune/1"]
    assert dataclasses.replace(lune, questions=()) == Context("Lune", "Lune", "It is cold.")
    with pytest.raises(ValueError, match="no pictures of Lines"):
        own.draw(lune, [], "picture.png")


@pytest.mark.parametrize(
    ("sequences", "max_sequences", "max_tokens", "expected"),
    [
        # Nothing to do: order kept, nothing counted.
        ([[1, 2], [3, 4, 5]], 2, 3, (((1, 2), (3, 4, 5)), 0, 0)),
        # The passage (last) survives, the first others too.
        ([[1, 1], [2, 2], [3, 3], [4, 4]], 2, 9, (((1, 1), (4, 4)), 2, 0)),
        ([[1, 1], [2, 2], [3, 3]], 1, 9, (((3, 3),), 2, 0)),
        # One token and no token teach nothing, and take no place from others.
        ([[1], [2, 2], [], [4, 4]], 2, 9, (((2, 2), (4, 4)), 2, 0)),
        # Tokens cut off are those of the sequences that stay: 1 + 3.
        ([[1, 2, 3], [9, 9, 9, 9, 9, 9], [4, 5, 6, 7, 8]], 2, 2, (((1, 2), (4, 5)), 1, 4)),
        ([], 2, 2, ((), 0, 0)),
    ],
)
def test_lessons_are_cut_to_the_shapes_of_the_program(
    sequences, max_sequences, max_tokens, expected
):
    found = cut_lessons.cut(sequences, max_sequences=max_sequences, max_tokens=max_tokens)
    assert (found.sequences, found.dropped_sequences, found.dropped_tokens) == expected
    assert found.loss_masks == (None,) * len(found.sequences)
