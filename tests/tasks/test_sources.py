"""Sources of lessons, driven by hand: what they ask for, and what they make of the answers."""

import collections

import pytest
from plain_task import TOWNS, Towns, plain_task

from seal_jax.settings import SettingsError
from seal_jax.tasks import base, sources
from seal_jax.tasks.protocol import BaseEdits, Best, Directives, Lesson, Refusal, Teach

ULLEN, OSK = TOWNS
NAMES = ("learning_rate", "epochs")
HEAD, OTHER = '{"learning_rate": 1e-3, "epochs": 4}', '{"learning_rate": 2e-4, "epochs": 1}'
SAYS = {"edits": {"directives": NAMES}}


class Lines(Towns):
    """A domain that trains on lines."""

    def sequences(self, context, body):
        return [line for line in body.split("\n") if line]


def drive(asking, answers=()):
    """What a source was asked and returns, its requests answered one after the other."""
    requests, answers = [], list(answers)

    def answer(request):
        requests.append(request)
        return answers.pop(0)

    found = sources.answered(asking, answer)
    assert not answers
    return requests, found


def source(name, **groups):
    return plain_task(Lines, **groups).sources[name]


def test_the_context_alone_asks_for_nothing():
    requests, lessons = drive(source("passage").lessons(TOWNS, 3))
    assert requests == []
    assert lessons == [[Lesson(sequences=(ULLEN.text,))], [Lesson(sequences=(OSK.text,))]]
    for passage in ("once", "per_completion", "none"):
        assert drive(source("passage").together(TOWNS, 3, passage)) == ([], [ULLEN.text, OSK.text])


def test_the_context_as_often_as_the_base_models_self_edit_has_sequences():
    edits = [["a\nb\nc", "a"], ["", "a\nb"]]
    requests, lessons = drive(source("passage_steps").lessons(TOWNS, 2), [edits])
    assert requests == [BaseEdits()]
    assert [[lesson.sequences for lesson in of] for of in lessons] == [
        [(ULLEN.text,) * 3, (ULLEN.text,)],
        [(OSK.text,), (OSK.text,) * 2],  # one that teaches nothing is no reason to learn nothing
    ]
    assert all(not lesson.directives for of in lessons for lesson in of)


def test_it_is_learned_as_the_base_models_self_edit_says():
    edits = [[f"{HEAD}\na\nb"], ["a\nb"]]
    _, lessons = drive(source("passage_steps", **SAYS).lessons(TOWNS, 1), [edits])
    said = Directives(learning_rate=1e-3, epochs=4)
    assert lessons[0] == [Lesson(sequences=(ULLEN.text,) * 2, directives=said)]
    assert lessons[1] == [Lesson(sequences=(OSK.text,))]  # the self-edit has no head


@pytest.mark.parametrize(("passage", "times"), [("once", 4), ("per_completion", 5), ("none", 3)])
def test_together_it_is_there_as_often_as_all_sequences(passage, times):
    edits = [["a\nb", "c"], [""]]
    asking = source("passage_steps").together(TOWNS, 2, passage)
    requests, texts = drive(asking, [edits])
    assert requests == [BaseEdits()]
    assert texts == [ULLEN.text] * times + [OSK.text]


def test_a_teachers_texts():
    texts = [["a\nb", ""], ["c", f"{HEAD}\nd"]]
    requests, lessons = drive(source("teacher").lessons(TOWNS, 2), [texts])
    assert requests == [Teach()]
    assert lessons == [
        [Lesson(sequences=("a", "b")), Refusal(base.NO_TEXT, invalid=False)],
        [Lesson(sequences=("c",)), Lesson(sequences=(HEAD, "d"))],
    ]
    requests, together = drive(source("teacher").together(TOWNS, 2, "once"), [texts])
    assert requests == [Teach()]
    assert together == ["a", "b", ULLEN.text, "c", HEAD, "d", OSK.text]


def test_a_teacher_knows_nothing_of_directives():
    """It is asked without the preface, so that its first line is not looked at."""
    _, lessons = drive(source("teacher", **SAYS).lessons(TOWNS[:1], 1), [[["a\nb"]]])
    assert lessons == [[Lesson(sequences=("a", "b"))]]


def test_random_directives_replace_those_of_the_base_models_self_edits():
    edits = [[f"{HEAD}\na\nb", "c", f"{HEAD}\n"], [f"{HEAD}\nd"] * 3]
    requests, lessons = drive(source("random", **SAYS).lessons(TOWNS, 3), [edits])
    assert requests == [BaseEdits()]
    assert [[getattr(one, "sequences", one) for one in of] for of in lessons] == [
        [("a", "b"), ("c",), Refusal(base.NO_TEXT, invalid=False)],
        [("d",)] * 3,
    ]
    drawn = [one.directives for of in lessons for one in of if isinstance(one, Lesson)]
    assert len(set(drawn)) == 5  # of 280
    assert drive(source("random", **SAYS).lessons(TOWNS, 3), [edits])[1] == lessons


def test_random_directives_depend_on_seed_context_and_number_alone():
    def drawn(contexts, edits, **groups):
        _, lessons = drive(source("random", **SAYS, **groups).lessons(contexts, 1), [edits])
        return {
            (context.id, m): one.directives
            for context, of in zip(contexts, lessons, strict=True)
            for m, one in enumerate(of)
        }

    found = drawn(TOWNS, [["a", "b"], ["c", "d"]])
    assert drawn(TOWNS[::-1], [["x"], ["y", "z"]]).items() <= found.items()
    other = drawn(TOWNS, [["a", "b"], ["c", "d"]], seed=1)
    assert other.keys() == found.keys() and all(other[key] != found[key] for key in found)


def test_random_directives_are_even_within_the_limits():
    own = {"min_learning_rate": 8e-5, "max_learning_rate": 2e-4, "min_epochs": 2, "max_epochs": 4}
    asking = source("random", **SAYS, directives=own).lessons(TOWNS[:1], 1)
    _, [lessons] = drive(asking, [[["a"] * 1200]])
    counts = collections.Counter(lesson.directives for lesson in lessons)
    # 4 rates and 3 numbers of epochs: 100 of each pair, standard deviation 9.6.
    assert len(counts) == 12
    assert min(counts.values()) > 60 and max(counts.values()) < 140


def test_oracle_directives():
    asking = source("oracle", **SAYS, directives={"oracle": OTHER}).lessons(TOWNS, 1)
    requests, lessons = drive(asking, [[[f"{HEAD}\na\nb"], ["c"]]])
    said = Directives(learning_rate=2e-4, epochs=1)
    assert requests == [BaseEdits()]
    assert lessons == [
        [Lesson(sequences=("a", "b"), directives=said, head=OTHER)],
        [Lesson(sequences=("c",), directives=said, head=OTHER)],
    ]
    with pytest.raises(SettingsError, match=r"directives\.oracle has '': .* not JSON"):
        drive(source("oracle", **SAYS).lessons(TOWNS, 1), [[["a"], ["b"]]])


@pytest.mark.parametrize("best", [0, 1])
def test_the_best_fixed_directives_are_asked_for_first(best):
    fixed = (HEAD, '{"epochs": 1, "learning_rate": 0.0002}')
    asking = source("fixed", **SAYS, directives={"fixed": fixed}).lessons(TOWNS, 2)
    edits = [["a", f"{HEAD}\nb"], ["c", "d"]]
    requests, lessons = drive(asking, [best, edits])
    offered, after = requests
    assert isinstance(offered, Best) and after == BaseEdits()
    assert offered.options == (HEAD, OTHER)  # as canonical lines
    assert offered.edits  # it is learned with the base model's self-edits
    heads = [HEAD, OTHER]
    for option, head in enumerate(heads):
        lesson = offered.lesson(OSK, option, f"{HEAD}\nx")
        assert (lesson.sequences, lesson.head) == (("x",), head)
        assert lesson == offered.lesson(OSK, option, "x")
    assert [[(one.sequences, one.head) for one in of] for of in lessons] == [
        [(("a",), heads[best]), (("b",), heads[best])],
        [(("c",), heads[best]), (("d",), heads[best])],
    ]


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ((), r"chooses the best of some: give directives\.fixed"),
        (
            (HEAD, '{"epochs": 4}'),
            r"directives\.fixed has '\{\"epochs\": 4\}': the first line must",
        ),
    ],
)
def test_fixed_directives_that_cannot_be_chosen_among_are_refused(fixed, message):
    with pytest.raises(SettingsError, match=message):
        drive(source("fixed", **SAYS, directives={"fixed": fixed}).lessons(TOWNS, 1))


@pytest.mark.parametrize("name", ["random", "fixed", "oracle"])
def test_directives_of_several_contexts_cannot_be_learned_together(name):
    with pytest.raises(ValueError, match="directives are those of one context"):
        drive(source(name, **SAYS).together(TOWNS, 1, "once"))


def test_labels_are_different():
    labels = [one.label for one in plain_task(Lines, **SAYS).sources.values()]
    assert len(set(labels)) == len(labels) and all(labels)
