"""Training examples: which are made of the demonstrations, and what never is."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from seal_jax.tasks.arc import augment
from seal_jax.tasks.arc.arc import ArcTask, Pair
from seal_jax.tasks.arc.augment import FAMILIES
from seal_jax.tasks.arc.examples import training_examples

QUICK = settings(max_examples=50, deadline=None, derandomize=True)
# No transform of it equals another, nor a translation any of them.
ASYMMETRIC = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 1, 1, 2]], np.int8)


def blank(*widths):
    """A demonstration for each width: 1 x width cells of colour 0, which colours do not change."""
    return [Pair(*[np.zeros((1, width), np.int8)] * 2) for width in widths]


def widths_of(example):
    """An example of blank demonstrations: the widths in its context, then the query's."""
    context = tuple(pair.input.shape[1] for pair in example.demonstrations)
    return context, example.query.input.shape[1]


def grids_of(example):
    pairs = [*example.demonstrations, example.query]
    return [grid for pair in pairs for grid in (pair.input, pair.output)]


def key(example):
    return tuple((grid.shape, grid.tobytes()) for grid in grids_of(example))


def digest(made):
    return hashlib.sha256(repr([key(example) for example in made]).encode()).hexdigest()


@pytest.mark.parametrize(
    ("count", "leave_out", "expected"),
    [
        (3, (1,), "23>1 32>1 13>2 31>2 12>3 21>3"),
        (3, (2,), "2>1 3>1 1>2 3>2 1>3 2>3"),
        (3, (1, 2), "23>1 32>1 13>2 31>2 12>3 21>3 2>1 3>1 1>2 3>2 1>3 2>3"),
        (4, (3,), "2>1 3>1 4>1 1>2 3>2 4>2 1>3 2>3 4>3 1>4 2>4 3>4"),
        (2, (1, 2), "2>1 1>2"),  # leave-two-out of two has no context
        (2, (2,), ">1 >2"),  # ... unless there is nothing else
        (1, (1, 2), ">1"),
        (1, (2,), ">1"),
        (2, (5, 1, 1), "2>1 1>2"),
    ],
)
def test_splits_and_orders(count, leave_out, expected):
    """Context > query, by the widths of the demonstrations; the colour copies are duplicates."""
    found = training_examples(blank(*range(1, count + 1)), leave_out=leave_out, seed=[0])
    texts = [f"{''.join(map(str, context))}>{query}" for context, query in map(widths_of, found)]
    assert sorted(texts) == sorted(expected.split())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_makes_its_transforms_and_no_other(family):
    """One demonstration has one split without context, so that there are no orders: an example
    and its colour copy for the grid itself and for each transform."""
    names = FAMILIES[family]
    made = training_examples([Pair(ASYMMETRIC, ASYMMETRIC)], [family], seed=[1])
    found = {key(example) for example in made}
    assert len(made) == len(found) == 2 * (1 + len(names))
    for name in ("identity", *names):
        if name != "translate":
            grid = augment.transform(name).apply(ASYMMETRIC)
            assert (((grid.shape, grid.tobytes()),) * 2) in found, name


def test_every_family_together():
    made = training_examples([Pair(ASYMMETRIC, ASYMMETRIC)], FAMILIES, seed=[1])
    assert len(made) == 2 * 24


def test_translations_are_drawn_for_each_example_and_move_something():
    own = dict(leave_out=(1,), max_examples=10_000)
    rolled = {
        (down, right): np.roll(ASYMMETRIC, (down, right), (0, 1)).tobytes()
        for down in range(3)
        for right in range(4)
    }
    found = set()
    for seed in range(150):
        made = training_examples([Pair(ASYMMETRIC, ASYMMETRIC)], ["basic"], seed=[seed], **own)
        texts = {example.query.input.tobytes() for example in made}
        found |= {shift for shift, text in rolled.items() if shift != (0, 0) and text in texts}
        assert len(made) == 2 * 12  # a translation by (0, 0) would be a duplicate
    assert len(found) == 11


def test_a_change_is_made_to_all_grids_of_an_example_alike():
    """All grids are the same, and stay the same as each other under every change."""
    pairs = [Pair(ASYMMETRIC, ASYMMETRIC)] * 4
    made = training_examples(pairs, FAMILIES, max_examples=10_000, seed=[3])
    assert len(made) > 40
    for example in made:
        first, *others = grids_of(example)
        assert all(grid.tolist() == first.tolist() for grid in others)


def test_colour_copies_keep_the_background_and_permute_the_rest():
    row = np.arange(10, dtype=np.int8)[None]
    found = set()
    for seed in range(20):
        made = training_examples([Pair(row, row)], seed=[seed])
        plain, colours = sorted(example.query.input[0].tolist() for example in made)
        assert plain == list(range(10))
        assert colours[0] == 0
        assert sorted(colours) == list(range(10))
        found.add(tuple(colours))
    assert len(found) == 20


def test_duplicates_are_made_once():
    """A blank cell under all 24 transforms is 1x1, 2x1, 1x2 or 2x2, in any colour."""
    cell = np.zeros((1, 1), np.int8)
    made = training_examples([Pair(cell, cell)], FAMILIES, seed=[0])
    shapes = sorted(example.query.input.shape for example in made)
    assert shapes == [(1, 1), (1, 2), (2, 1), (2, 2)]


@st.composite
def demonstrations(draw):
    sizes = st.integers(1, 30)
    shapes = draw(st.lists(st.tuples(sizes, sizes), min_size=2, max_size=8))
    grids = [
        draw(st_numpy.arrays(np.int8, shape, elements=st.integers(0, 9), fill=st.just(0)))
        for shape in shapes
    ]
    return [Pair(*grids[i : i + 2]) for i in range(0, len(grids) - 1, 2)]


@QUICK
@given(demonstrations(), st.integers(0, 2**32))
def test_no_grid_exceeds_30x30(pairs, seed):
    made = training_examples(pairs, FAMILIES, seed=[seed])
    assert 1 <= len(made) <= 250
    assert max(max(grid.shape) for example in made for grid in grids_of(example)) <= 30
    assert len({key(example) for example in made}) == len(made)


def test_the_limit_of_30_is_exact():
    """15 rows doubled are 30; with 16 in any grid, even the last output, the example is dropped."""
    low, high = np.zeros((15, 3), np.int8), np.zeros((16, 3), np.int8)
    shapes = {
        name: {
            example.query.input.shape for example in training_examples(pairs, ["size"], seed=[0])
        }
        for name, pairs in {"low": [Pair(low, low)], "high": [Pair(low, high)]}.items()
    }
    assert shapes["low"] == {(15, 3), (30, 6), (30, 3), (15, 6)}
    assert shapes["high"] == {(15, 3), (15, 6)}


def test_larger_sets_are_cut_by_a_seeded_choice():
    rng = np.random.default_rng(0)
    pairs = [Pair(*rng.integers(0, 10, (2, 4, 3)).astype(np.int8)) for _ in range(4)]
    # 4 + 12 splits under 24 transforms, each with two copies; leave-two-out of 4 has 2 in context.
    full = training_examples(pairs, FAMILIES, max_examples=10_000, seed=[0])
    assert len(full) == (4 + 12) * 24 * 3
    cut = training_examples(pairs, FAMILIES, seed=[0])
    assert len(cut) == 250
    assert {key(example) for example in cut} < {key(example) for example in full}
    # 16 of the 24 make a 4x3 grid longer than 4; in a fair choice of 250 that share has a standard
    # deviation of 0.03.
    grown = [max(example.query.input.shape) > 4 for example in cut]
    assert abs(np.mean(grown) - 16 / 24) < 0.1


def test_the_same_seed_the_same_examples_another_seed_others():
    rng = np.random.default_rng(1)
    pairs = [Pair(*rng.integers(0, 10, (2, 3, 3)).astype(np.int8)) for _ in range(3)]
    made = {tuple(seed): training_examples(pairs, FAMILIES, seed=seed) for seed in ([0, 1], [0, 2])}
    again = training_examples(pairs, FAMILIES, seed=[0, 1])
    assert [key(example) for example in again] == [key(example) for example in made[0, 1]]
    assert {key(example) for example in made[0, 1]} != {key(example) for example in made[0, 2]}


def canonical(pair):
    """The pair up to a permutation of the colours but 0: colours named as they first appear."""
    names = {0: 0}
    cells = [int(cell) for grid in (pair.input, pair.output) for cell in grid.ravel()]
    named = tuple(names.setdefault(cell, len(names)) for cell in cells)
    return pair.input.shape, pair.output.shape, named


def images(pair):
    """What a demonstration can become, up to colours."""
    shifts = [(down, right) for down in range(6) for right in range(6)]
    fixed = {name for family in FAMILIES.values() for name in family} - {"translate"}
    made = [augment.transform("translate", shift=shift) for shift in shifts]
    made += [augment.transform(name) for name in fixed]
    return {canonical(augment.on_pair(each.apply, pair)) for each in made}


@pytest.mark.parametrize("seed", range(3))
def test_every_pair_is_an_image_of_a_demonstration_and_none_of_a_test(seed):
    """The canary: a test like the demonstrations in size and colours leaves no trace."""
    rng = np.random.default_rng(seed)
    sizes = [(3, 2), (2, 3), (3, 3)]
    drawn = [
        tuple(rng.integers(0, 10, size).astype(np.int8) for size in (sizes[i % 3], sizes[i // 2]))
        for i in (0, 1, 2, 3, 0)
    ]
    task = ArcTask("t", tuple(Pair(*grids) for grids in drawn[:4]), (Pair(*drawn[4]),))
    known = set().union(*map(images, task.demonstrations))
    canary = images(task.tests[0])
    assert not known & canary
    made = training_examples(task.demonstrations, FAMILIES, max_examples=10_000, seed=[seed])
    found = {
        canonical(pair) for example in made for pair in (*example.demonstrations, example.query)
    }
    assert found <= known
    assert len(found) > 4 * 23


_PROGRAM = """
import hashlib
import numpy as np
from seal_jax.tasks.arc.arc import Pair
from seal_jax.tasks.arc.augment import FAMILIES
from seal_jax.tasks.arc.examples import training_examples
rng = np.random.default_rng(2)
pairs = [Pair(*rng.integers(0, 10, (2, 3, 3)).astype(np.int8)) for _ in range(3)]
texts = []
for example in training_examples(pairs, FAMILIES, seed=[4, 5]):
    grids = [g for p in (*example.demonstrations, example.query) for g in (p.input, p.output)]
    texts.append(tuple((grid.shape, grid.tobytes()) for grid in grids))
print(hashlib.sha256(repr(texts).encode()).hexdigest())
"""


def test_the_order_of_hashes_does_not_matter():
    rng = np.random.default_rng(2)
    pairs = [Pair(*rng.integers(0, 10, (2, 3, 3)).astype(np.int8)) for _ in range(3)]
    here = digest(training_examples(pairs, FAMILIES, seed=[4, 5]))
    for hash_seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.strip() == here
