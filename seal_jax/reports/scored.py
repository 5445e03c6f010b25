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
import json
import math
import os
import pathlib
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from seal_jax.runs import json_file
from seal_jax.runtime import terminal
from seal_jax.tasks.texts import is_blank

Kinds = tuple[type, ...]
_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
_NAMES |= {type(None): "null", int: "a number", float: "a number"}


class ScoredError(ValueError):
    """A scored file that cannot be used; the message names the entry and what belongs there."""


class Verdict(NamedTuple):
    """One graded answer: its run, its question, and whether it is right (None: not graded)."""

    run: int | str
    question: str
    correct: bool | None


class Completion(NamedTuple):
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


class Entry(NamedTuple):
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
        raise ScoredError(f"{file}: expected a list of entries, found {_names((type(document),))}.")
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
    return terminal.visible(line)


def problems(entries: Iterable[Entry]) -> list[str]:
    """What has no reward, counted by reason, a line each; the first place is named."""
    places: dict[str, list[str]] = collections.defaultdict(list)
    for entry in entries:
        if not entry.completions:
            places["entry without completions"].append(entry.name)
        for m, completion in enumerate(entry.completions):
            if completion.problem:
                reason = f"self-edit without a reward: {completion.problem}"
                places[reason].append(f"{entry.name}, completions[{m}]")
    return [f"{len(where)} x {reason} (first: {where[0]})" for reason, where in places.items()]


def _entry(value: Any, where: str) -> Entry:
    title = _of_type(value, (dict,), where).get("title")
    name = f"{where} ({title!r})" if isinstance(title, str) and title else where
    prompt = _field(value, "prompt", (str,), name)
    listed = _field(value, "completions", (list,), name, [])
    completions = [_completion(c, f"{name}, completions[{m}]") for m, c in enumerate(listed)]
    return Entry(name, prompt, tuple(completions))


def _completion(value: Any, where: str) -> Completion:
    text = _field(_of_type(value, (dict,), where), "text", (str,), where)
    stats = _field(value, "stats", (dict,), where, {})
    reward, problem = _figure(stats, "adapter_mean", where)
    baseline, _ = _figure(stats, "baseline_mean", where)
    if is_blank(text):
        reward, problem = math.nan, "the self-edit is empty"
    rows = _field(value, "correct", (list,), where, [])
    verdicts = [_verdict(row, f'{where}: "correct"[{i}]') for i, row in enumerate(rows)]
    return Completion(text, reward, baseline, tuple(verdicts), problem)


def _figure(stats: dict[str, Any], key: str, where: str) -> tuple[float, str]:
    """A finite number, or NaN and why."""
    value = _field(stats, key, (int, float), f"{where}, stats", None)
    if value is None:
        return math.nan, f"stats.{key} is missing"
    if not -sys.float_info.max <= value <= sys.float_info.max:
        return math.nan, f"stats.{key} is not a finite number"
    return float(value), ""


def _verdict(row: Any, where: str) -> Verdict:
    if len(_of_type(row, (list,), where)) != 3:
        raise ScoredError(f"{where}: expected [run, question, verdict], found {len(row)} items.")
    run, question, correct = row
    return Verdict(
        _of_type(run, (int, str), f"{where}: the run"),
        _of_type(question, (str,), f"{where}: the question"),
        _of_type(correct, (bool, type(None)), f"{where}: the verdict"),
    )


def _field(parent: dict[str, Any], key: str, kinds: Kinds, where: str, *absent: Any) -> Any:
    """A value of an object; `absent` stands for a missing one and for null, where it is given."""
    if absent and parent.get(key) is None:
        return absent[0]
    if key not in parent:
        raise ScoredError(f'{where}: "{key}" is missing; expected {_names(kinds)}.')
    return _of_type(parent[key], kinds, f'{where}: "{key}"')


def _of_type(value: Any, kinds: Kinds, where: str) -> Any:
    if type(value) not in kinds:
        raise ScoredError(f"{where}: expected {_names(kinds)}, found {_names((type(value),))}.")
    return value


def _names(kinds: Kinds) -> str:
    return " or ".join(dict.fromkeys(_NAMES[kind] for kind in kinds))
