"""Sweeps: a config file's grids of settings, each point a run of its own under one directory.

A config file declares them as `SWEEPS = {"dose": {"inner.epochs": (1, 3), "inner.learning_rate":
(1e-3, 3e-3)}}`; `--sweep=dose` then runs all four combinations. The same on a command line:
`--sweep.inner.epochs=1,3 --sweep.inner.learning_rate=1e-3,3e-3`.
"""

import itertools
import json
import os
import pathlib
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections

from seal_jax.runs import json_file, results_file, run_dir
from seal_jax.runtime import terminal
from seal_jax.settings import Settings, SettingsError, config_dict

Point = dict[str, Any]


def points(grid: Mapping[str, Sequence[Any]]) -> list[Point]:
    """Every combination of a grid's values, the last key's changing first.

    Raises:
      SettingsError: the grid is empty, or a key has no values or is no setting.

    >>> points({"seed": (0, 1), "inner.epochs": (3,)})
    [{'seed': 0, 'inner.epochs': 3}, {'seed': 1, 'inner.epochs': 3}]
    """
    values = grid.values() if isinstance(grid, Mapping) else []
    if not values or not all(of and isinstance(of, list | tuple) for of in values):
        raise SettingsError("a sweep needs settings, and a tuple of values for each of them.")
    for key in grid:
        config_dict.type_of(key)
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def parsed(key: str, text: str) -> tuple[Any, ...]:
    """A setting's values as they are spelled on a command line, with commas between them.

    Raises:
      SettingsError: the key does not exist, a text is no value of its type, or the setting is a
        tuple and the values are not tuples as Python writes them.

    >>> parsed("inner.learning_rate", "1e-3,3e-3"), parsed("inner.buckets", "(16,32),(64,)")
    ((0.001, 0.003), ((16, 32), (64,)))
    """
    if typing.get_origin(config_dict.type_of(key)) is not tuple:
        return tuple(config_dict.parsed(key, part) for part in text.split(","))
    values = config_dict.as_tuple(text, key) if text.startswith(("(", "[")) else ()
    if not all(isinstance(value, tuple | list) for value in values or [None]):
        raise SettingsError(
            f"{key} is a tuple itself: write its values as --sweep.{key}='(A, B), (C, D)'."
        )
    return values


def directory(point: Point) -> str:
    """The name of a point's directory.

    >>> directory({"inner.lora.rank": 8, "inner.buckets": (16, 32)})
    'inner.lora.rank=8,inner.buckets=16-32'
    """
    parts = []
    for key, value in point.items():
        text = "-".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
        parts.append(f"{key}={''.join(c if c.isalnum() or c in '-_.+' else '_' for c in text)}")
    return ",".join(parts)


def settings_of(config: ml_collections.ConfigDict, found: Sequence[Point]) -> list[Settings]:
    """The settings of each point; all are checked before any is run.

    Raises:
      SettingsError: a point is impossible, or two have one directory; it is named.
    """
    names = [directory(point) for point in found]
    if len(set(names)) < len(names):
        raise SettingsError("two points of the sweep have one directory: their values look alike.")
    settings = []
    for point in found:
        try:
            settings.append(config_dict.from_config(config_dict.changed(config, point)))
        except SettingsError as error:
            raise SettingsError(f"the sweep's point {directory(point)}: {error}") from None
    return settings


def run(
    grid: Mapping[str, Sequence[Any]],
    config: ml_collections.ConfigDict,
    workdir: str,
    start: Callable[[Settings, str], dict[str, Any]],
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = terminal.say,
) -> dict[str, Any]:
    """Runs every point of a grid that is not finished, and compares them.

    Args:
      grid: values of each setting.
      config: that the points change.
      workdir: a directory; each point's run has its own in it.
      start: runs or continues one run and returns its results.
      overwrite: do finished points again.
      say: is told what is done.

    Returns:
      What it wrote to sweep.json in workdir: {"points": a record {"settings", "workdir", "figures"}
      of each point}; see `figures`.

    Raises:
      SettingsError: see `points` and `settings_of`; nothing was run.
    """
    found = points(grid)
    each = settings_of(config, found)
    records = []
    for number, (point, settings) in enumerate(zip(found, each, strict=True), start=1):
        path = os.path.join(workdir, directory(point))
        finished = None if overwrite else _finished(path, settings)
        done = " (done)" if finished else ""
        say(f"\npoint {number} of {len(found)}: {directory(point)}{done}")
        results = finished or start(settings, path)
        records.append({"settings": point, "workdir": path, "figures": figures(results)})
    outcome = {"points": records}
    json_file.write_json(os.path.join(workdir, "sweep.json"), outcome)
    say(f"\n{_caption(results)}\n{table(records)}")
    return outcome


def _finished(path: str, settings: Settings) -> dict[str, Any] | None:
    """The results of a finished run of these settings in a directory."""
    if not run_dir.is_finished(path):
        return None
    given = json.loads(json_file.encode(config_dict.recorded(settings)))
    stored = {key: value for key, value in run_dir.read_config(path).items() if key in given}
    if run_dir.differing_keys(stored, given):
        return None
    return results_file.read(pathlib.Path(path, "results.json"))


def figures(results: Mapping[str, Any]) -> dict[str, float | None]:
    """What a table of runs shows of one: arms' gold log-likelihood, or mitigations' shares kept.

    >>> figures({"arms": {"base": {"accuracy": 0.2, "gold_log_likelihood": -9.0}}})
    {'base': -9.0}
    """
    found = {arm: of["gold_log_likelihood"] for arm, of in results.get("arms", {}).items()}
    for mitigation, of in results.get("continual", {}).items():
        found[mitigation] = of["summary"]["gold_log_likelihood"]["retained_share"]["value"]
    return found


def _caption(results: Mapping[str, Any]) -> str:
    """What `figures` are."""
    if results.get("continual"):
        return "retained share under each mitigation"
    return "gold log-likelihood of each arm, in nats"


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """The points as rows, their figures as columns."""
    columns = list(dict.fromkeys(name for record in records for name in record["figures"]))
    rows = [("", columns)]
    for record in records:
        values = [record["figures"].get(column) for column in columns]
        cells = ["-" if value is None else f"{value:.3f}" for value in values]
        rows.append((directory(record["settings"]), cells))
    widths = [len(column) + 3 for column in columns]
    wide = max(len(name) for name, _ in rows) + 2
    return "\n".join(
        f"{name:<{wide}}" + "".join(map(str.rjust, cells, widths)) for name, cells in rows
    )
