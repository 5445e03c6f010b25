"""A PNG of a task in ARC's colours: demonstrations, tests, attempts and the truth."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from seal_jax.tasks.arc import grids
from seal_jax.tasks.arc.arc import ArcTask
from seal_jax.tasks.arc.grids import Grid

_COLOURS = (
    (0x00, 0x00, 0x00),
    (0x00, 0x74, 0xD9),
    (0xFF, 0x41, 0x36),
    (0x2E, 0xCC, 0x40),
    (0xFF, 0xDC, 0x00),
    (0xAA, 0xAA, 0xAA),
    (0xF0, 0x12, 0xBE),
    (0xFF, 0x85, 0x1B),
    (0x7F, 0xDB, 0xFF),
    (0x87, 0x0C, 0x25),
)
_PAPER, _INK, _LINE = (255, 255, 255), (30, 30, 30), (85, 85, 85)
_RIGHT, _WRONG = (20, 120, 40), (170, 30, 30)
_GRID_SIDE = 240  # pixels of the task's largest grid, about
_CELL = (8, 30)  # the least and the most pixels of a cell
_WIDTH = 1400  # after which demonstrations go on in a new line
_MARGIN, _GAP, _LABEL = 20, 28, 22

_Panel = tuple[str, tuple[int, int, int], Grid | None]  # a label, its colour and a grid


def draw_task(
    task: ArcTask,
    predictions: Sequence[Sequence[Grid]] | None,
    path: str | os.PathLike,
) -> None:
    """Draws a task to a PNG file.

    Demonstrations come first, each an input over its output. Then each test has a line of its own:
    its input, the attempts at it, labelled right or wrong, and the true output. A grid's label says
    its rows and columns. Nothing is said of an output that is not known.

    Args:
      task: the task.
      predictions: the attempts at each test, in the order of tests, none of them too; None for a
        picture of the task alone.
      path: the file; one already there is replaced. Its folder must exist.

    Raises:
      ValueError: predictions for another number of tests.
      GridError: an attempt that is no grid.
    """
    if predictions is not None and len(predictions) != len(task.tests):
        raise ValueError(
            f"task {task.id!r} has {len(task.tests)} test(s), but there are predictions for "
            f"{len(predictions)}; give a list of attempts for each test."
        )
    pairs = [
        [(f"demonstration {number}: input", _INK, pair.input), ("output", _INK, pair.output)]
        for number, pair in enumerate(task.demonstrations, 1)
    ]
    tests = [
        _test_panels(task, number, None if predictions is None else predictions[number])
        for number in range(len(task.tests))
    ]
    shown = [grid for line in pairs + tests for _, _, grid in line if grid is not None]
    cell = min(max(_GRID_SIDE // max(max(grid.shape) for grid in shown), _CELL[0]), _CELL[1])
    lines = _demonstration_lines([[_image(panel, cell) for panel in pair] for pair in pairs])
    lines += [_stack([_image(panel, cell) for panel in line], vertical=False) for line in tests]
    picture = _stack([_words(f"task {task.id}", _INK, size=20), *lines], vertical=True)
    canvas = ImageOps.expand(picture, _MARGIN, _PAPER)
    path = pathlib.Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        canvas.save(part, format="PNG")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _test_panels(task: ArcTask, number: int, attempts: Sequence[Grid] | None) -> list[_Panel]:
    """What is shown of a test: its input, the attempts and the truth."""
    test = task.tests[number]
    panels: list[_Panel] = [(f"test {number + 1}: input", _INK, test.input)]
    for i, attempt in enumerate(attempts or (), 1):
        grid = grids.check(attempt, f"task {task.id!r}, test {number + 1}, attempt {i}")
        verdict, colour = "", _INK
        if test.output is not None:
            right = np.array_equal(grid, test.output)
            verdict, colour = (": right", _RIGHT) if right else (": wrong", _WRONG)
        panels.append((f"attempt {i}{verdict}", colour, grid))
    if attempts is not None and not len(attempts):
        panels.append(("no attempt", _WRONG, None))
    if test.output is not None:
        panels.append(("truth", _INK, test.output))
    return panels


def _demonstration_lines(pairs: list[list[Image.Image]]) -> list[Image.Image]:
    """The demonstrations side by side, as many to a line as there is room for."""
    lines: list[list[list[Image.Image]]] = []
    used = _WIDTH
    for pair in pairs:
        width = max(image.width for image in pair) + _GAP
        if used + width > _WIDTH:
            lines.append([])
            used = 0
        lines[-1].append(pair)
        used += width
    images = []
    for line in lines:
        # Inputs of one line are made equally high, so that outputs begin at one height.
        tall = max(given.height for given, _ in line)
        columns = []
        for given, output in line:
            padded = ImageOps.expand(given, (0, 0, 0, tall - given.height), _PAPER)
            columns.append(_stack([padded, output], vertical=True, gap=_MARGIN // 2))
        images.append(_stack(columns, vertical=False))
    return images


def _image(panel: _Panel, cell: int) -> Image.Image:
    """A grid under its label."""
    label, colour, grid = panel
    if grid is None:
        return _words(label, colour)
    size = f" ({grid.shape[0]}x{grid.shape[1]})"
    return _stack([_words(label + size, colour), _grid(grid, cell)], vertical=True, gap=0)


def _grid(grid: Grid, cell: int) -> Image.Image:
    """The cells, with a line of one pixel round each."""
    pixels = np.array(_COLOURS, np.uint8)[grid].repeat(cell, 0).repeat(cell, 1)
    pixels[::cell] = pixels[:, ::cell] = _LINE
    pixels = np.pad(pixels, ((0, 1), (0, 1), (0, 0)))
    pixels[-1] = pixels[:, -1] = _LINE
    return Image.fromarray(pixels)


def _words(text: str, colour: tuple[int, int, int], size: int = 14) -> Image.Image:
    font = ImageFont.load_default(size)
    image = Image.new("RGB", (int(font.getlength(text)) + 2, size + _LABEL - 14), _PAPER)
    ImageDraw.Draw(image).text((0, 0), text, fill=colour, font=font)
    return image


def _stack(images: Sequence[Image.Image], *, vertical: bool, gap: int = _GAP) -> Image.Image:
    """Images under one another, or side by side."""
    sizes = [image.height if vertical else image.width for image in images]
    along = sum(sizes) + gap * (len(images) - 1)
    across = max(image.width if vertical else image.height for image in images)
    canvas = Image.new("RGB", (across, along) if vertical else (along, across), _PAPER)
    at = 0
    for image, size in zip(images, sizes, strict=True):
        canvas.paste(image, (0, at) if vertical else (at, 0))
        at += size + gap
    return canvas
