"""The grid codec: text and back, what models write, and what is refused with which reason."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from seal_jax.tasks.arc import grids

FORMS = ("nested", "digits")
some_grids = st_numpy.arrays(
    np.int8,
    st.tuples(st.integers(1, grids.MAX_SIZE), st.integers(1, grids.MAX_SIZE)),
    elements=st.integers(0, 9),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(grid=some_grids, form=st.sampled_from(FORMS))
def test_reading_undoes_writing(grid, form):
    read = grids.read(grids.write(grid, form), form)
    assert read.dtype == np.int8 and not read.flags.writeable
    np.testing.assert_array_equal(read, grid)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    grid=some_grids,
    form=st.sampled_from(FORMS),
    around=st.sampled_from(
        [
            ("The output grid is:\n", ""),
            ("```\n", "\n```"),
            ("Sure!\n\n```json\n", "\n```\nEach of the 4 rows moved by 1."),
            ("**Output:**\n\n", "\n\nInput:\n12\n34\nOutput:\n56"),
            ("Input:\n[[1, 1]]\nOutput:\n", "<|im_end|>"),
            ("`", "`"),
        ]
    ),
    break_lines=st.booleans(),
)
def test_words_and_fences_around_a_grid(grid, form, around, break_lines):
    before, after = around
    written = grids.write(grid, form)
    if form == "digits" and not after.startswith(("\n", "`")):
        after = "\n" + after
    text = before + written + after
    if break_lines:
        text = text.replace("\n", "\r\n")
    np.testing.assert_array_equal(grids.read(text, form), grid)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(
    text=st.text(alphabet="[[]] \n,,0123456789-.`:Input²٣x", max_size=40),
    form=st.sampled_from(FORMS),
)
def test_any_text_is_a_grid_or_refused(text, form):
    try:
        grid = grids.read(text, form)
    except grids.GridError:
        return
    np.testing.assert_array_equal(grids.check(grid.tolist()), grid)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("nested", "[[0,1],[2,3]]"),
        ("nested", "[\n  [0, 1],\n  [2, 3],\n]"),
        ("nested", "[[0 1]\n [2 3]]"),
        ("nested", "np.array([[0, 1,], [2, 3]]) is it"),
        ("nested", "Input: [[9, 9]]\nOutput: [[0, 1], [2, 3]]\nInput: [[8]]"),
        ("nested", "The test input grid 1:\n[[9]]\n\n[[0, 1], [2, 3]]"),
        ("nested", "Applied to the input this gives: [[0, 1], [2, 3]]"),
        ("digits", " 01 \n 23 \n"),
        ("digits", "0 1\n2 3"),
        ("digits", "0, 1,\n2, 3,"),
        ("digits", "0  1\n23"),
        ("digits", "Output: 01\n23"),
        ("digits", "**Output grid 2:** 01\n23"),
        ("digits", "Input: 98\n76\nOutput: 01\n23"),
        ("digits", "Input:\n98\n76\n\nOutput:\n01\n23\n\nInput:\n11"),
        ("digits", "Input:\n```text\n98\n76\n```\nOutput:\n```text\n01\n23\n```"),
        ("digits", "A grid of 2x2:\n01\n23\nwhich is 2x2"),
        ("digits", "2x2 grid:\n01\n23"),
    ],
)
def test_what_models_write(form, text):
    assert grids.read(text, form).tolist() == [[0, 1], [2, 3]]


def test_a_column_of_one_cell_each():
    assert grids.read("3\n4\n5", "digits").tolist() == [[3], [4], [5]]
    assert grids.read("3,\n4,\n5", "digits").tolist() == [[3], [4], [5]]


@pytest.mark.parametrize(
    ("form", "text", "reason"),
    [
        ("nested", "", r"holds no grid: '\[\[' begins one"),
        ("nested", "[0, 1]", r"holds no grid"),
        ("nested", "Input: [[0, 1]]", r"no grid but one headed as an input"),
        ("nested", "[[0, 1], [2, 3]", r"ends within the grid, in or after row 2: it was cut off"),
        ("nested", "[[0, 1], [2", r"in or after row 2: it was cut off"),
        ("nested", "[[0, 1], [2]]", r"row 2 has length 1, but row 1 has length 2"),
        ("nested", "[[0, 1], [2, 10]]", r"holds '10' in row 2; colours are 0 to 9"),
        ("nested", "[[0, -1]]", r"holds '-1' in row 1"),
        ("nested", "[[0.5]]", r"holds '0.5' in row 1"),
        ("nested", "[[0, \u00b2]]", r"has '\u00b2\]\]' in or after row 1"),
        ("nested", "[[0, \u0663]]", r"has '\u0663\]\]' in or after row 1"),
        ("nested", "[[0., 1.]]", r"has '0., 1.\]\]' in or after row 1"),
        ("nested", "[[0, 1], ...]", r"has '...\]' in or after row 1"),
        ("nested", "[[0, 1], 2]", r"has '2\]' in or after row 1"),
        ("nested", "[[[0]]]", r"has '\[0\]\]\]' in or after row 1"),
        ("nested", '[["0"]]', r"has '\"0\"\]\]' in or after row 1"),
        ("nested", "[[]]", r"the grid is empty"),
        ("nested", str([[0] * 31]), r"1 rows of 31; at most 30 of 30"),
        ("digits", "", r"holds no grid: it is lines of digits"),
        ("digits", "I cannot tell.", r"holds no grid"),
        ("digits", "[[0, 1]]", r"holds no grid"),
        ("digits", "Input:\n01\n", r"no grid but one headed as an input"),
        ("digits", "012\n345\n67", r"row 3 has length 2, but row 1 has length 3"),
        ("digits", "0 1\n2 10", r"holds '10' in row 2"),
        ("digits", "0 -1", r"holds '-1' in row 1"),
        ("digits", "0 -", r"holds '-' in row 1"),
        ("digits", "01 23", r"holds '01' in row 1"),
        ("digits", "012\n3x5\n678", r"has '3x5' where a row of digits belongs"),
        ("digits", "O12\n345", r"has 'O12' where a row of digits belongs"),
        ("digits", "01\n23 is the answer", r"has '23 is the answer' where"),
        ("digits", "\n".join(["0"] * 31), r"31 rows of 1; at most 30 of 30"),
    ],
)
def test_what_is_refused(form, text, reason):
    with pytest.raises(grids.GridError, match=reason):
        grids.read(text, form)


@pytest.mark.parametrize("rest", ["[" * 50_000, "0 " * 50_000, "[[0]" * 20_000, "0\n" * 50_000])
def test_long_texts_are_refused_soon(rest):
    for form in FORMS:
        with pytest.raises(grids.GridError):
            grids.read("Input:\n[[0]] " + rest, form)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([[0, 1], [2]], r"^here: row 2 has length 1, but row 1 has length 2"),
        ([], r"^here: the grid is empty"),
        ([[]], r"^here: the grid is empty"),
        (np.zeros((0, 3), int), r"^here: the grid is empty"),
        ([[0, 10]], r"^here: row 1, column 2 holds 10; colours are 0 to 9"),
        (np.array([[0], [-1]]), r"^here: row 2, column 1 holds -1"),
        ([[10**50]], r"^here: row 1, column 1 holds 10000000000000000000; colours"),
        ([[0]] * 31, r"^here: the grid has 31 rows of 1; at most 30 of 30"),
        (np.zeros((2, 31), int), r"^here: the grid has 2 rows of 31"),
        ([[0, 1.0]], r"^here: row 1, column 2 is 1.0; expected a whole number from 0 to 9"),
        ([[True]], r"^here: row 1, column 1 is True"),
        ([["1"]], r"^here: row 1, column 1 is '1'"),
        ([[None]], r"^here: row 1, column 1 is null"),
        ([[[1]]], r"^here: row 1, column 1 is a list"),
        (["01", "23"], r"^here: row 1 is '01'; expected a list of colours"),
        ({"0": [1]}, r"^here: expected a list of rows, found an object"),
        (
            np.zeros(3, int),
            r"^here: an array of int64 with 1 axes is no grid; expected whole num",
        ),
        (np.zeros((2, 2)), r"^here: an array of float64 with 2 axes is no grid; expected whole"),
        (np.zeros((2, 2), bool), r"^here: an array of bool with 2 axes is no grid"),
    ],
)
def test_what_is_no_grid(rows, reason):
    with pytest.raises(grids.GridError, match=reason):
        grids.check(rows, "here")


def test_the_grid_is_a_copy_that_cannot_be_written_to():
    rows = np.zeros((2, 2), np.int8)
    grid = grids.check(rows)
    rows[0, 0] = 5
    assert grid.tolist() == [[0, 0], [0, 0]]
    with pytest.raises(ValueError, match="read-only"):
        grid[0, 0] = 1
    assert grids.check(grid) is grid
    assert grids.check(np.array([[3]], np.uint64)).dtype == np.int8


def test_unknown_forms_are_refused():
    grid = grids.check([[0]])
    with pytest.raises(ValueError, match=r"'json' is unknown: expected 'nested' or 'digits'"):
        grids.write(grid, "json")
    with pytest.raises(ValueError, match=r"'json' is unknown: expected 'nested' or 'digits'"):
        grids.read("[[0]]", "json")
