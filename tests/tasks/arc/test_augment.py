"""Transforms and permutations: literal results, and what holds for every grid."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from seal_jax.tasks.arc import augment
from seal_jax.tasks.arc.arc import Example, Pair
from seal_jax.tasks.arc.grids import GridError

QUICK = settings(max_examples=50, deadline=None, derandomize=True)
ALL = ("identity", *itertools.chain(*augment.FAMILIES.values()))
GROWING = {
    "reflect_down": (2, 1),
    "reflect_up": (2, 1),
    "reflect_right": (1, 2),
    "reflect_left": (1, 2),
    "resolution_x2": (2, 2),
    "height_x2": (2, 1),
    "width_x2": (1, 2),
    **dict.fromkeys(augment.FAMILIES["chain"], (2, 2)),
    "tile_vertical": (2, 1),
    "tile_horizontal": (1, 2),
    "tile_both": (2, 2),
}
TURNED = {"rotate_90", "rotate_270", "transpose"}
TURNED |= {f"{name}_resolution_x2" for name in TURNED}

# What becomes of 123
#                 456, the rows separated by spaces.
RESULTS = {
    "identity": "123 456",
    "rotate_90": "36 25 14",
    "rotate_180": "654 321",
    "rotate_270": "41 52 63",
    "flip_vertical": "456 123",
    "flip_horizontal": "321 654",
    "reflect_down": "123 456 456 123",
    "reflect_up": "456 123 123 456",
    "reflect_right": "123321 456654",
    "reflect_left": "321123 654456",
    "translate": "645 312",  # by one row and by one column
    "transpose": "14 25 36",
    "resolution_x2": "112233 112233 445566 445566",
    "height_x2": "123 123 456 456",
    "width_x2": "112233 445566",
    "rotate_90_resolution_x2": "3366 3366 2255 2255 1144 1144",
    "rotate_180_resolution_x2": "665544 665544 332211 332211",
    "rotate_270_resolution_x2": "4411 4411 5522 5522 6633 6633",
    "flip_vertical_resolution_x2": "445566 445566 112233 112233",
    "flip_horizontal_resolution_x2": "332211 332211 665544 665544",
    "transpose_resolution_x2": "1144 1144 2255 2255 3366 3366",
    "tile_vertical": "123 456 123 456",
    "tile_horizontal": "123123 456456",
    "tile_both": "123123 456456 123123 456456",
}


def grid_of(text):
    return np.array([[int(cell) for cell in row] for row in text.split()], np.int8)


def grids(largest=8):
    sizes = st.integers(1, largest)
    return st.tuples(sizes, sizes).flatmap(
        lambda shape: st_numpy.arrays(np.int8, shape, elements=st.integers(0, 9))
    )


@st.composite
def transforms(draw, names=ALL):
    name = draw(st.sampled_from(names))
    steps = st.integers(-40, 40)
    shift = draw(st.tuples(steps, steps)) if name == "translate" else None
    return augment.transform(name, shift=shift)


def test_the_families_are_those_of_the_paper():
    sizes = {name: len(family) for name, family in augment.FAMILIES.items()}
    assert sizes == {"basic": 11, "size": 3, "chain": 6, "repeat": 3}
    assert len(set(ALL)) == 24
    assert set(ALL) == set(RESULTS)


@pytest.mark.parametrize("name", RESULTS)
def test_literal_results(name):
    shift = (1, 1) if name == "translate" else None
    made = augment.transform(name, shift=shift)
    assert made.name == name
    changed = made.apply(grid_of("123 456"))
    assert changed.tolist() == grid_of(RESULTS[name]).tolist()
    assert changed.dtype == np.int8


@QUICK
@given(transforms(), grids())
def test_undoing_gives_the_grid_back(made, grid):
    assert made.undo(made.apply(grid)).tolist() == grid.tolist()


@QUICK
@given(transforms(), grids(30))
def test_sizes_are_as_documented(made, grid):
    height, width = grid.shape
    if made.name in TURNED:
        height, width = width, height
    rows, columns = GROWING.get(made.name, (1, 1))
    assert made.apply(grid).shape == (height * rows, width * columns)


@QUICK
@given(transforms(), grids())
def test_the_grid_itself_stays_as_it_was(made, grid):
    before = grid.copy()
    changed = made.apply(grid)
    with pytest.raises(ValueError, match="read-only"):
        changed[0, 0] = 1
    grid[0, 0] += 1
    assert changed.tolist() == made.apply(before).tolist()


@QUICK
@given(transforms(sorted(GROWING)), grids(), st.data())
def test_a_grid_without_the_pattern_is_not_undone(made, grid, data):
    """Every cell has a copy, so that an image with one cell changed is no image."""
    broken = made.apply(grid).copy()
    row = data.draw(st.integers(0, broken.shape[0] - 1))
    column = data.draw(st.integers(0, broken.shape[1] - 1))
    broken[row, column] = (broken[row, column] + data.draw(st.integers(1, 9))) % 10
    with pytest.raises(GridError, match=made.name):
        made.undo(broken)


@pytest.mark.parametrize("name", sorted(GROWING))
@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (5, 1)])
def test_a_grid_of_odd_size_is_not_undone(name, shape):
    made = augment.transform(name)
    with pytest.raises(GridError, match=f"no grid becomes this one of {shape[0]}x{shape[1]}"):
        made.undo(np.zeros(shape, np.int8))


@QUICK
@given(grids(), st.integers(-40, 40), st.integers(-40, 40))
def test_a_translation_moves_every_cell_by_its_shift(grid, down, right):
    moved = augment.transform("translate", shift=(down, right)).apply(grid)
    height, width = grid.shape
    for row, column in np.ndindex(grid.shape):
        assert moved[(row + down) % height, (column + right) % width] == grid[row, column]


def test_unknown_transforms_and_shifts_out_of_place_are_refused():
    with pytest.raises(ValueError, match=r"'spin'; expected one of identity, rotate_90, .*transl"):
        augment.transform("spin")
    with pytest.raises(ValueError, match="needs its shift"):
        augment.transform("translate")
    with pytest.raises(ValueError, match="only the transform 'translate'"):
        augment.transform("transpose", shift=(1, 0))


def test_an_example_is_changed_in_all_its_grids():
    pairs = [Pair(grid_of("12"), grid_of("34")), Pair(grid_of("56"), grid_of("78"))]
    change = augment.transform("flip_horizontal").apply
    changed = augment.on_example(change, Example((pairs[0],), pairs[1]))
    (demonstration,) = changed.demonstrations
    found = [demonstration.input, demonstration.output, changed.query.input, changed.query.output]
    assert [grid.tolist() for grid in found] == [[[2, 1]], [[4, 3]], [[6, 5]], [[8, 7]]]


@QUICK
@given(st.integers(0, 2**32), grids())
def test_colour_permutations_are_bijections_that_keep_zero(seed, grid):
    permutation = augment.colour_permutation(np.random.default_rng(seed))
    assert sorted(permutation) == list(range(10))
    assert permutation[0] == 0
    changed = augment.permute_colours(grid, permutation)
    for old, new in zip(grid.ravel(), changed.ravel(), strict=True):
        assert new == permutation[old]


def test_every_other_colour_may_take_any_place():
    drawn = {augment.colour_permutation(np.random.default_rng(seed))[1] for seed in range(200)}
    assert drawn == set(range(1, 10))


@QUICK
@given(st.integers(0, 2**32), st.integers(0, 6), st.integers(1, 30))
def test_orders_are_distinct_and_begin_with_the_given_one(seed, length, count):
    orders = augment.example_orders(np.random.default_rng(seed), length, count)
    assert orders[0] == tuple(range(length))
    assert len(orders) == len(set(orders)) == min(count, math.factorial(length))
    assert all(sorted(order) == list(range(length)) for order in orders)


def test_all_orders_of_four_come_up():
    """A second order is one of the 23 others."""
    seconds = {augment.example_orders(np.random.default_rng(seed), 4, 2)[1] for seed in range(400)}
    assert len(seconds) == 23
