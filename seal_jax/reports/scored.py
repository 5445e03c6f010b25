"""Files of scored self-edits, in the form that SEAL's authors published, and files of picks.

A scored file is a JSON list of entries, one a passage: {"title", "context", "prompt",
"completions": [{"text", "stats": {"adapter_mean", "baseline_mean", ...}, "correct": [[run,
question, verdict], ...]}]}. `stats.adapter_mean` is the self-edit's mean accuracy over runs,
`stats.baseline_mean` that of the unadapted model; a verdict is true, false, or null where the
answer was not graded. A file of picks has one JSON object a line, {"prompt", "completion"}, and
"weight" where the rule gives weights.

What is missing leaves a self-edit without a reward and is counted; what is of the wrong type is an
error, since nobody can tell what was meant.
"""

import collections
import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Iterable
from typing import Any

from seal_jax.runs import json_file
from seal_jax.tasks.texts import is_blank

_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
_NAMES |= {type(None): "null", int: "a number", float: "a number"}
# JSON leaves these as they are, and some readers end a line there.
_LINE_SEPARATORS = "\x85\u2028\u2029"


class ScoredError(ValueError):
    """A scored file that cannot be used; the message names the entry and what belongs there."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One graded answer: its run, its question, and whether it is right (None: not graded)."""

    run: int | str
    question: str
    correct: bool | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Completion:
    """A scored self-edit.

    Attributes:
      text: as sampled.
      reward: stats.adapter_mean; NaN where it has none.
      baseline: stats.baseline_mean; NaN where the file gives none.
      verdicts: of each run's answers; empty where the file gives none.
      problem: why it has no reward, or "".
    """

    text: str
    reward: float
    baseline: float
    verdicts: tuple[Verdict, ...]
    problem: str


@dataclasses.dataclass(frozen=True)
class Entry:
    """A passage's self-edits.

    Attributes:
      name: what to call it in messages: its place in the file, and its title if it has one.
      prompt: what the self-edits were sampled from.
      completions: may be none.
    """

    name: str
    prompt: str
    completions: tuple[Completion, ...]


def load(path: str | os.PathLike[str]) -> list[Entry]:
    """Reads a scored file.

    Raises:
      ScoredError: the file cannot be read, is not in the form, or holds no entry.
    """
    file = pathlib.Path(path)
    document = json_file.read(file, error=ScoredError, expected="one list of entries")
    if not isinstance(document, list):
        raise ScoredError(f"{file}: expected a list of entries, found {_name(document)}.")
    if not document:
        raise ScoredError(f"{file}: the list of entries is empty.")
    return [_entry(value, f"{file}: entry {i}") for i, value in enumerate(document)]


def pick_line(pick: dict[str, Any], encoding: str | None = "utf-8") -> str:
    """A pick as a line of JSON, its characters escaped where `encoding` cannot hold them.

    >>> pick_line({"prompt": "é", "completion": "1."}), pick_line({"prompt": "é"}, "ascii")
    ('{"prompt": "é", "completion": "1."}', '{"prompt": "\\\\u00e9"}')
    """
    line = json.dumps(pick, ensure_ascii=False, allow_nan=False)
    try:
        line.encode(encoding or "ascii")
    except UnicodeEncodeError:  # also half of a surrogate pair, which UTF-8 cannot hold
        line = json.dumps(pick, ensure_ascii=True, allow_nan=False)
    for separator in _LINE_SEPARATORS:
        line = line.replace(separator, f"\\u{ord(separator):04x}")
    return line


def write_picks(path: str | os.PathLike[str], picks: Iterable[dict[str, Any]]) -> None:
    """Writes a file of picks, whole or not at all.

    Raises:
      ScoredError: there is such a file, which is not empty: it is left as it is; or the path is
        not one of a file.
    """
    file = pathlib.Path(path)
    if file.is_dir():
        raise ScoredError(f"--out={file} is a directory: give a file.")
    if not file.parent.is_dir():
        raise ScoredError(f"--out={file}: there is no directory {file.parent}: make it first.")
    if file.exists() and file.stat().st_size:
        raise ScoredError(f"--out={file} exists and is not overwritten: give another name.")
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "x", encoding="utf-8", newline="\n") as lines:
            lines.writelines(pick_line(pick) + "\n" for pick in picks)
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def problems(entries: Iterable[Entry]) -> list[str]:
    """What has no reward, counted by reason, a line each; the first place is named."""
    counts: collections.Counter[str] = collections.Counter()
    first: dict[str, str] = {}
    for entry in entries:
        found = [
            (f"self-edit without a reward: {c.problem}", f"{entry.name}, completions[{m}]")
            for m, c in enumerate(entry.completions)
            if c.problem
        ]
        if not entry.completions:
            found = [("entry without completions", entry.name)]
        for reason, where in found:
            counts[reason] += 1
            first.setdefault(reason, where)
    return [f"{count} x {reason} (first: {first[reason]})" for reason, count in counts.items()]


def _entry(value: Any, where: str) -> Entry:
    _require(value, dict, where)
    title = value.get("title")
    name = f"{where} ({title!r})" if isinstance(title, str) and title else where
    prompt = _field(value, "prompt", str, name)
    listed = value.get("completions")
    if listed is None:
        listed = []
    _require(listed, list, f'{name}: "completions"')
    return Entry(
        name,
        prompt,
        tuple(_completion(c, f"{name}, completions[{m}]") for m, c in enumerate(listed)),
    )


def _completion(value: Any, where: str) -> Completion:
    _require(value, dict, where)
    text = _field(value, "text", str, where)
    stats = value.get("stats")
    if stats is None:
        stats = {}
    _require(stats, dict, f'{where}: "stats"')
    reward, problem = _figure(stats, "adapter_mean", where)
    baseline, _ = _figure(stats, "baseline_mean", where)
    if is_blank(text):
        reward, problem = math.nan, "the self-edit is empty"
    return Completion(
        text=text,
        reward=reward,
        baseline=baseline,
        verdicts=_verdicts(value.get("correct"), f'{where}: "correct"'),
        problem=problem,
    )


def _figure(stats: dict[str, Any], key: str, where: str) -> tuple[float, str]:
    """A finite number, or NaN and why."""
    value = stats.get(key)
    if value is None:
        return math.nan, f"stats.{key} is missing"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ScoredError(f"{where}: stats.{key} must be a number, found {_name(value)}.")
    try:
        figure = float(value)
    except OverflowError:
        figure = math.inf
    if not math.isfinite(figure):
        return math.nan, f"stats.{key} is not a finite number"
    return figure, ""


def _verdicts(rows: Any, where: str) -> tuple[Verdict, ...]:
    if rows is None:
        return ()
    _require(rows, list, where)
    found = []
    for i, row in enumerate(rows):
        place = f"{where}[{i}]"
        _require(row, list, place)
        if len(row) != 3:
            raise ScoredError(
                f"{place}: expected [run, question, verdict], found {len(row)} items."
            )
        run, question, correct = row
        if isinstance(run, bool) or not isinstance(run, int | str):
            raise ScoredError(f"{place}: the run must be a number or a name, found {_name(run)}.")
        _require(question, str, f"{place}: the question")
        if correct is not None and not isinstance(correct, bool):
            raise ScoredError(
                f"{place}: the verdict must be true, false, or null for an answer that was not "
                f"graded, found {_name(correct)}."
            )
        found.append(Verdict(run, question, correct))
    return tuple(found)


def _field(parent: dict[str, Any], key: str, kind: type, where: str) -> Any:
    if key not in parent:
        raise ScoredError(f'{where}: "{key}" is missing; expected {_NAMES[kind]}.')
    _require(parent[key], kind, f'{where}: "{key}"')
    return parent[key]


def _require(value: Any, kind: type, where: str) -> None:
    if not isinstance(value, kind):
        raise ScoredError(f"{where}: expected {_NAMES[kind]}, found {_name(value)}.")


def _name(value: Any) -> str:
    return _NAMES.get(type(value), type(value).__name__)
