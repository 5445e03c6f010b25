"""Pictures of tasks: the colours, where grids are, and what is said of attempts."""

import numpy as np
import pytest
from PIL import Image

from seal_jax.tasks.arc import picture
from seal_jax.tasks.arc.arc import ArcTask, Pair
from seal_jax.tasks.arc.grids import GridError, check

COLOURS = """000000 0074D9 FF4136 2ECC40 FFDC00 AAAAAA F012BE FF851B 7FDBFF 870C25""".split()
RIGHT, WRONG = (20, 120, 40), (170, 30, 30)


def pair(given, output):
    return Pair(check(given), None if output is None else check(output))


def draw(path, tests, predictions, demonstrations=None):
    shown = demonstrations or [pair([[5]], [[5]])]
    picture.draw_task(ArcTask("t", tuple(shown), tuple(tests)), predictions, path)
    return np.asarray(Image.open(path))


def count(pixels, colour):
    """How many pixels are of a colour, given as hex digits or numbers."""
    rgb = tuple(bytes.fromhex(colour)) if isinstance(colour, str) else colour
    return int((pixels == np.array(rgb)).all(-1).sum())


def test_each_cell_is_drawn_in_its_colour(tmp_path):
    """A row of all ten colours, twice: a cell of 24 pixels has 23 x 23 within its lines."""
    rows = [list(range(10))]
    pixels = draw(tmp_path / "a.png", [pair([[1]], [[2]])], None, [pair(rows, rows)])
    cells = np.array([2] * 10)
    cells[[1, 2]] += 1  # of the test
    counts = [count(pixels, colour) for colour in COLOURS]
    counts[5] -= counts[5] % (23 * 23)  # the edges of letters are grey as well
    assert counts == (cells * 23 * 23).tolist()


def test_cells_lie_in_their_rows_and_columns(tmp_path):
    grid = [[1, 2, 3], [4, 6, 7]]
    pixels = draw(tmp_path / "a.png", [pair([[5]], [[5]])], None, [pair(grid, [[5]])])
    found = {}
    for colour in (1, 2, 3, 4, 6, 7):
        where = np.argwhere((pixels == np.array(tuple(bytes.fromhex(COLOURS[colour])))).all(-1))
        found[colour] = where.min(0)
    np.testing.assert_array_equal(found[2] - found[1], [0, 30])
    np.testing.assert_array_equal(found[3] - found[1], [0, 60])
    np.testing.assert_array_equal(found[4] - found[1], [30, 0])
    np.testing.assert_array_equal(found[7] - found[1], [30, 60])


def test_attempts_are_labelled_right_or_wrong(tmp_path):
    tests = [pair([[1]], [[2, 2]])]
    right, wrong = check([[2, 2]]), check([[2], [2]])
    alone = draw(tmp_path / "a.png", tests, None)
    assert count(alone, RIGHT) == count(alone, WRONG) == 0
    both = draw(tmp_path / "b.png", tests, [[wrong, right]])
    assert count(both, RIGHT) > 20 and count(both, WRONG) > 20
    assert count(both, COLOURS[2]) == 3 * count(alone, COLOURS[2])  # two attempts and the truth
    one = draw(tmp_path / "c.png", tests, [[right]])
    assert count(one, RIGHT) > 20 and count(one, WRONG) == 0
    none = draw(tmp_path / "d.png", tests, [[]])
    assert count(none, WRONG) > 20  # "no attempt"
    assert count(none, COLOURS[2]) == count(alone, COLOURS[2])


def test_without_a_solution_nothing_is_said_of_it(tmp_path):
    pixels = draw(tmp_path / "a.png", [pair([[1]], None)], [[check([[2]])]])
    assert count(pixels, COLOURS[2]) == 29 * 29
    assert count(pixels, RIGHT) == count(pixels, WRONG) == 0


def test_each_test_has_its_own_attempts(tmp_path):
    tests = [pair([[1]], [[2]]), pair([[1]], [[3]])]
    pixels = draw(tmp_path / "a.png", tests, [[check([[4]])], [check([[6]])]])
    rows = [
        np.argwhere((pixels == np.array(tuple(bytes.fromhex(COLOURS[c])))).all(-1))[:, 0].min()
        for c in (2, 4, 3, 6)
    ]
    assert rows[0] == rows[1] < rows[2] == rows[3]


def test_many_large_demonstrations_go_on_in_new_lines(tmp_path):
    grid = np.full((30, 30), 8)
    grid[0, 0] = 1
    pixels = draw(tmp_path / "a.png", [pair([[1]], [[2]])], None, [pair(grid, grid)] * 10)
    assert pixels.shape[1] < 1500
    assert count(pixels, COLOURS[8]) == 20 * 899 * 7 * 7


def test_bad_predictions_leave_no_file(tmp_path):
    tests = [pair([[1]], [[2]])]
    with pytest.raises(ValueError, match=r"'t' has 1 test\(s\), but there are predictions for 2"):
        draw(tmp_path / "a.png", tests, [[], []])
    with pytest.raises(GridError, match=r"task 't', test 1, attempt 1: row 1, column 1 holds 10"):
        draw(tmp_path / "a.png", tests, [[np.array([[10]])]])
    assert list(tmp_path.iterdir()) == []


def test_a_picture_is_replaced(tmp_path):
    (tmp_path / "a.png").write_text("old")
    draw(tmp_path / "a.png", [pair([[1]], [[2]])], None)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
