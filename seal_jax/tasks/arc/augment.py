"""Changes of grids that keep a task's rule, or make one of the same kind; each can be undone.

The four families are those of SEAL's few-shot experiments (Zweiger et al., arXiv 2506.10943). A
change is always made to every grid of an example alike: the demonstrations' and the query's, the
inputs and the outputs. Nothing here draws a random number but from the generator it is given.

Changes are bijections, or copy cells in a fixed pattern. Undoing the latter takes the copy back,
and refuses a grid that does not have the pattern.
"""

import dataclasses
import itertools
import math
import types
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from seal_jax.tasks.arc.arc import Example, Pair
from seal_jax.tasks.arc.grids import COLOURS, Grid, GridError

_Change = Callable[[Grid], Grid]


@dataclasses.dataclass(frozen=True)
class Transform:
    """A change of a grid's cells that can be undone.

    Attributes:
      name: as in the families below.
      forward, backward: the change of a bare array, and the array that an image came from.

    >>> grid = np.array([[1, 2], [3, 4]], np.int8)
    >>> transform("rotate_90").apply(grid).tolist()
    [[2, 4], [1, 3]]
    >>> transform("rotate_90").undo(transform("rotate_90").apply(grid)).tolist()
    [[1, 2], [3, 4]]
    """

    name: str
    forward: _Change = dataclasses.field(repr=False)
    backward: _Change = dataclasses.field(repr=False)

    def apply(self, grid: Grid) -> Grid:
        """The changed grid: a copy that cannot be written to, and may be larger than 30x30."""
        return _stored(self.forward(grid))

    def undo(self, grid: Grid) -> Grid:
        """The grid that becomes `grid`.

        Raises:
          GridError: there is none.
        """
        source = self.backward(grid)
        if not np.array_equal(self.forward(source), grid):
            height, width = grid.shape
            raise GridError(
                f"no grid becomes this one of {height}x{width} cells by {self.name!r}, "
                "so that the change cannot be undone."
            )
        return _stored(source)


def _stored(grid: Grid) -> Grid:
    """A copy, contiguous and not writeable."""
    copy = np.array(grid, np.int8, order="C")
    copy.setflags(write=False)
    return copy


def _rotation(quarters: int) -> Transform:
    """Counter-clockwise by quarter turns."""
    return Transform(
        f"rotate_{90 * quarters}",
        lambda grid: np.rot90(grid, quarters),
        lambda grid: np.rot90(grid, -quarters),
    )


def _reflection(name: str, axis: int, *, image_first: bool) -> Transform:
    """A grid joined to its mirror image along `axis`."""

    def forward(grid: Grid) -> Grid:
        image = np.flip(grid, axis)
        return np.concatenate([image, grid] if image_first else [grid, image], axis)

    def backward(grid: Grid) -> Grid:
        return np.split(grid, [grid.shape[axis] // 2], axis)[image_first]

    return Transform(name, forward, backward)


def _stretch(name: str, rows: int, columns: int) -> Transform:
    """Every cell becomes a block of `rows` times `columns` cells."""
    return Transform(
        name,
        lambda grid: grid.repeat(rows, axis=0).repeat(columns, axis=1),
        lambda grid: grid[::rows, ::columns],
    )


def _tiling(name: str, rows: int, columns: int) -> Transform:
    """`rows` times `columns` copies of the grid."""
    return Transform(
        name,
        lambda grid: np.tile(grid, (rows, columns)),
        lambda grid: grid[: grid.shape[0] // rows, : grid.shape[1] // columns],
    )


def _chained(first: Transform, second: Transform) -> Transform:
    """`first`, then `second`."""
    return Transform(
        f"{first.name}_{second.name}",
        lambda grid: second.forward(first.forward(grid)),
        lambda grid: first.backward(second.backward(grid)),
    )


def _translation(shift: tuple[int, int]) -> Transform:
    """Down and right by `shift`; what leaves the grid enters it again on the other side."""
    back = (-shift[0], -shift[1])
    return Transform(
        TRANSLATE,
        lambda grid: np.roll(grid, shift, axis=(0, 1)),
        lambda grid: np.roll(grid, back, axis=(0, 1)),
    )


TRANSLATE = "translate"
IDENTITY = Transform("identity", np.asarray, np.asarray)
_TURNS = (
    *map(_rotation, (1, 2, 3)),
    Transform("flip_vertical", np.flipud, np.flipud),
    Transform("flip_horizontal", np.fliplr, np.fliplr),
)
_REFLECTIONS = (
    _reflection("reflect_down", 0, image_first=False),
    _reflection("reflect_up", 0, image_first=True),
    _reflection("reflect_right", 1, image_first=False),
    _reflection("reflect_left", 1, image_first=True),
)
_TRANSPOSE = Transform("transpose", np.transpose, np.transpose)
_STRETCHES = (
    _stretch("resolution_x2", 2, 2),
    _stretch("height_x2", 2, 1),
    _stretch("width_x2", 1, 2),
)
_CHAINS = tuple(_chained(first, _STRETCHES[0]) for first in (*_TURNS, _TRANSPOSE))
_TILINGS = (
    _tiling("tile_vertical", 2, 1),
    _tiling("tile_horizontal", 1, 2),
    _tiling("tile_both", 2, 2),
)
_FIXED: Mapping[str, Transform] = types.MappingProxyType(
    {
        each.name: each
        for each in (
            IDENTITY,
            *_TURNS,
            *_REFLECTIONS,
            _TRANSPOSE,
            *_STRETCHES,
            *_CHAINS,
            *_TILINGS,
        )
    }
)
# The names that `transform` takes, by family, in the order in which they are made.
FAMILIES: Mapping[str, tuple[str, ...]] = types.MappingProxyType(
    {
        "basic": (*(each.name for each in (*_TURNS, *_REFLECTIONS)), TRANSLATE, _TRANSPOSE.name),
        "size": tuple(each.name for each in _STRETCHES),
        "chain": tuple(each.name for each in _CHAINS),
        "repeat": tuple(each.name for each in _TILINGS),
    }
)


def transform(name: str, *, shift: tuple[int, int] | None = None) -> Transform:
    """The transform of a name; rotations are counter-clockwise.

    "flip_vertical" turns a grid upside down, "flip_horizontal" swaps left and right;
    "reflect_down" joins the mirror image below the grid, "reflect_up", "reflect_right" and
    "reflect_left" on the other sides; "resolution_x2", "height_x2" and "width_x2" double each
    cell, "tile_vertical", "tile_horizontal" and "tile_both" the whole grid.

    Args:
      name: "identity", or one of `FAMILIES`.
      shift: for "translate" only: by how many cells the grid moves down and right. It wraps round,
        so that no cell is lost; a shift beyond the grid's size counts modulo that size.

    Raises:
      ValueError: there is no such transform, or `shift` is missing or out of place.

    >>> transform("translate", shift=(0, 1)).apply(np.array([[1, 2, 3]], np.int8)).tolist()
    [[3, 1, 2]]
    """
    if name == TRANSLATE:
        if shift is None:
            raise ValueError("the transform 'translate' needs its shift=(down, right).")
        return _translation(shift)
    if shift is not None:
        raise ValueError(f"only the transform 'translate' takes a shift, not {name!r}.")
    if name not in _FIXED:
        known = ", ".join([*_FIXED, TRANSLATE])
        raise ValueError(f"there is no transform {name!r}; expected one of {known}.")
    return _FIXED[name]


def on_pair(change: _Change, pair: Pair) -> Pair:
    """The pair with its grids changed."""
    output = None if pair.output is None else change(pair.output)
    return Pair(change(pair.input), output)


def on_example(change: _Change, example: Example) -> Example:
    """The example with all of its grids changed."""
    pairs = tuple(on_pair(change, pair) for pair in example.demonstrations)
    return Example(pairs, on_pair(change, example.query))


def permute_colours(grid: Grid, permutation: Sequence[int]) -> Grid:
    """The grid with `permutation[colour]` in the place of every colour.

    >>> swapped = (0, 2, 1, 3, 4, 5, 6, 7, 8, 9)
    >>> permute_colours(np.array([[0, 1, 2]], np.int8), swapped).tolist()
    [[0, 2, 1]]
    """
    return _stored(np.asarray(permutation, np.int8)[grid])


def colour_permutation(generator: np.random.Generator) -> tuple[int, ...]:
    """A random permutation of the colours but 0, the background of most tasks; all equally likely.

    Args:
      generator: what it is drawn from.
    """
    return (0, *generator.permutation(np.arange(1, COLOURS)).tolist())


def example_orders(
    generator: np.random.Generator, length: int, count: int
) -> list[tuple[int, ...]]:
    """Distinct orders of `length` demonstrations: as they are, then random others.

    Args:
      generator: what they are drawn from.
      length: of each order.
      count: how many; fewer where there are not so many orders.

    >>> example_orders(np.random.default_rng(0), 2, 5)
    [(0, 1), (1, 0)]
    """
    if count >= math.factorial(length):
        rest = list(itertools.permutations(range(length)))[1:]
        return [tuple(range(length)), *(rest[i] for i in generator.permutation(len(rest)))][:count]
    found = {tuple(range(length)): None}  # a dict keeps the order in which they were drawn
    while len(found) < count:
        found[tuple(int(i) for i in generator.permutation(length))] = None
    return list(found)
