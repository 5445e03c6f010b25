"""Inference-time variants, votes, and the graded score."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from seal_jax.tasks.arc import augment, votes
from seal_jax.tasks.arc.arc import ArcTask, Pair
from seal_jax.tasks.arc.grids import GridError
from seal_jax.tasks.arc.votes import graded, variants, vote

QUICK = settings(max_examples=50, deadline=None, derandomize=True)
UNDOABLE = ("identity", *itertools.chain(*augment.FAMILIES.values()))
UNDOABLE = tuple(name for name in UNDOABLE if name != augment.TRANSLATE)
IN_FULL = dict(seed=[0], leave_one_out=False, permutations=1)


def grid_of(text):
    return np.array([[int(cell) for cell in row] for row in text.split()], np.int8)


def pair_of(text):
    return Pair(*map(grid_of, text.split(" > ")))


def task_of(demonstrations, tests):
    return ArcTask("t", tuple(map(pair_of, demonstrations)), tuple(map(pair_of, tests)))


def numbered(count):
    """Demonstrations 1 to `count`, of one cell each."""
    return task_of([f"{i} > {i}" for i in range(1, count + 1)], ["90 > 09"])


def shown(asked):
    return "".join(str(pair.input.item()) for pair in asked.demonstrations)


def grids(largest=6):
    sizes = st.integers(1, largest)
    return st.tuples(sizes, sizes).flatmap(
        lambda shape: st_numpy.arrays(np.int8, shape, elements=st.integers(0, 9))
    )


class Untouchable:
    """A grid that must not be looked at."""

    def __getattribute__(self, name):
        raise AssertionError(f"somebody asked for {name!r} of a grid that is to be predicted")

    def __array__(self, *args, **kwargs):
        raise AssertionError("somebody read a grid that is to be predicted")


def test_contexts_orders_and_transforms_multiply():
    asked = variants(numbered(3), 0, seed=[0], leave_one_out=True, permutations=2)
    assert len(asked) == 3 * 2 * 7
    assert [variant.transform.name for variant in asked[::6]] == list(votes.TRANSFORMS)
    in_full = variants(numbered(3), 0, seed=[0], leave_one_out=False, permutations=6)
    assert len(in_full) == 1 * 6 * 7


def test_prompts_as_the_task_has_them_come_first():
    """Two in each context: after their own order there is one other."""
    asked = variants(
        numbered(3),
        0,
        seed=[0],
        leave_one_out=True,
        permutations=5,
        transforms=("rotate_90", "identity"),
    )
    assert [shown(variant) for variant in asked] == ["23", "13", "12", "32", "31", "21"] * 2
    assert [variant.transform.name for variant in asked[::6]] == ["identity", "rotate_90"]
    assert [variant.query_input.tolist() for variant in asked[5:7]] == [[[9, 0]], [[0], [9]]]


def test_the_baseline_sees_all_demonstrations():
    asked = variants(numbered(4), 0, **IN_FULL, transforms=("identity", "transpose"))
    assert [shown(variant) for variant in asked] == ["1234", "1234"]


def test_the_only_demonstration_is_not_left_out():
    asked = variants(numbered(1), 0, seed=[0], leave_one_out=True, permutations=3)
    assert [shown(variant) for variant in asked] == ["1"] * 7


def test_orders_follow_from_the_seed():
    def orders(*seed):
        asked = variants(numbered(6), 0, seed=seed, leave_one_out=True, permutations=4)
        texts = list(map(shown, asked))
        assert texts == texts[:24] * 7  # alike under every transform
        assert len(set(texts)) == 24
        return texts

    assert orders(0, 7) == orders(0, 7)
    assert orders(0, 7) != orders(0, 8)


@QUICK
@given(grids(), grids(), st.sampled_from(UNDOABLE))
def test_an_answer_that_follows_the_rule_is_the_same_however_it_was_asked(first, test, name):
    """The rule turns 1 to 9 into 2 to 9 and 1; it commutes with every transform."""
    rule = np.array([0, 2, 3, 4, 5, 6, 7, 8, 9, 1], np.int8)
    task = ArcTask("t", (Pair(first, rule[first]),), (Pair(test, rule[test]),))
    asked = variants(task, 0, **IN_FULL, transforms=("identity", name))
    assert [variant.transform.name for variant in asked] == list(dict.fromkeys(["identity", name]))
    for variant in asked:
        (pair,) = variant.demonstrations
        assert pair.output.tolist() == rule[pair.input].tolist()
        undo = variant.transform.undo
        assert undo(pair.input).tolist() == first.tolist()
        assert undo(variant.query_input).tolist() == test.tolist()
        assert undo(rule[variant.query_input]).tolist() == rule[test].tolist()


def test_an_answer_that_does_not_fit_the_transform_is_no_image():
    task = task_of(["1 > 1"], ["2 > 2"])
    (asked,) = variants(task, 0, **IN_FULL, transforms=("width_x2",))
    assert asked.transform.undo(grid_of("33 44")).tolist() == [[3], [4]]
    for text in ("34", "333"):
        with pytest.raises(GridError, match="width_x2"):
            asked.transform.undo(grid_of(text))


@pytest.mark.parametrize("tall", ["demonstration", "query"])
def test_prompts_with_a_grid_above_30x30_are_left_out(tall):
    """15 columns doubled are 30, 16 are too many."""
    cell, wide, wider = (np.zeros((1, width), np.int8) for width in (1, 15, 16))
    fits = ArcTask("t", (Pair(cell, wide),), (Pair(wide, cell),))
    exceeds = {
        "demonstration": ArcTask("t", (Pair(cell, wider),), fits.tests),
        "query": ArcTask("t", fits.demonstrations, (Pair(wider, cell),)),
    }
    names = ("identity", "width_x2", "height_x2")
    found = [
        [asked.transform.name for asked in variants(task, 0, **IN_FULL, transforms=names)]
        for task in (fits, exceeds[tall])
    ]
    assert found == [["identity", "width_x2", "height_x2"], ["identity", "height_x2"]]


def test_nothing_of_the_tests_is_read_but_the_input_that_is_asked():
    hidden = Untouchable()
    tests = (Pair(hidden, hidden), Pair(grid_of("12"), hidden))
    task = ArcTask("t", numbered(3).demonstrations, tests)
    asked = variants(task, 1, seed=[0], leave_one_out=True, permutations=2)
    assert len(asked) == 42
    with pytest.raises(AssertionError, match="to be predicted"):
        variants(task, 0, seed=[0], leave_one_out=True, permutations=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(transforms=("spin",)), "no transform 'spin'"),
        (dict(transforms=("translate",)), "needs its shift"),
    ],
)
def test_what_cannot_be_asked_is_refused(change, message):
    asked = dict(task=numbered(2), test_index=0, leave_one_out=True, permutations=1)
    with pytest.raises(ValueError, match=message):
        variants(**{**asked, **change}, seed=[0])


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ("1 2 2 3 3 3", "3 2"),  # two attempts
        ("1 2 1 2", "1 2"),  # equal: the first seen
        ("2 1 3", "2 1"),
        ("- - 4", "4"),
        ("- -", ""),
        ("", ""),
        ("12 1/2 1/2", "1/2 12"),  # the same cells in another shape
    ],
)
def test_votes(answers, expected):
    """An answer is its rows with "/" between them, "-" for none."""
    given_ = [None if a == "-" else grid_of(a.replace("/", " ")) for a in answers.split()]
    ranked = vote(given_)
    assert ["/".join("".join(map(str, row)) for row in g.tolist()) for g in ranked] == (
        expected.split()
    )


@pytest.mark.parametrize(
    ("pair", "prediction", "expected"),
    [
        # constant 1 has 2 of 4 right; the input is of another size
        ("0 > 1123", "1123", 1.0),
        ("0 > 1123", "1122", 0.5),
        ("0 > 1123", "1111", 0.0),
        ("0 > 1123", "0000", 0.0),  # worse than the constant grid
        # a copy of the input has 4 of 5 right, constant 1 has 2 of 5
        ("11230 > 11234", "11234", 1.0),
        ("11230 > 11234", "11230", 0.0),
        ("11230 > 11234", "11231", 0.0),
        # a copy has 1 of 4 right, constant 1 has 2 of 4: 3 right are half of the gain
        ("1000 > 1123", "1120", 0.5),
        # a baseline is right
        ("1234 > 1234", "1234", 1.0),
        ("1234 > 1234", "1230", 0.0),
        ("0 > 55", "55", 1.0),
        ("0 > 55", "56", 0.0),
        # the wrong size, with as many cells and with cells in common
        ("0 > 11 23", "1123", 0.0),
        ("0 > 11 23", "11", 0.0),
        ("0 > 11 23", None, 0.0),
    ],
)
def test_graded_predictions(pair, prediction, expected):
    grid = None if prediction is None else grid_of(prediction)
    assert graded(grid, pair_of(pair)) == expected


@QUICK
@given(grids(3), grids(3), st.data())
def test_only_the_right_grid_has_the_highest_grade(given_input, output, data):
    pair = Pair(given_input, output)
    shape = st.just(output.shape)
    prediction = data.draw(st_numpy.arrays(np.int8, shape, elements=st.integers(0, 2)))
    assert 0 <= graded(prediction, pair) <= 1
    assert (graded(prediction, pair) == 1) == (prediction.tolist() == output.tolist())
    assert graded(output, pair) == 1
