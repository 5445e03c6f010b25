"""Verb: prune. The kept self-edits lose the lines without which they earn at least as much."""

import collections
import dataclasses
import math
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seal_jax.loop.lines import harms
from seal_jax.loop.run import Run
from seal_jax.loop.sample import Edit
from seal_jax.loop.stage import Stage
from seal_jax.tasks.base import Task
from seal_jax.tasks.protocol import Context, Lesson, Sequence_

Record = dict[str, Any]
_ITEM = re.compile(r"\d+(?=[.)]\s)")  # of a list
# (contexts [C], texts [C][M], stage) -> rewards [C, M]; NaN where a text has none
Earn = Callable[[Sequence[Context], Sequence[Sequence[str]], Stage], np.ndarray]


def prune(
    run: Run,
    contexts: Sequence[Context],
    edits: Sequence[Sequence[Edit]],
    rewards_CxM: np.ndarray,
    weights_CxM: Sequence[Sequence[float]],
    earn: Earn,
    *,
    stage: Stage,
) -> tuple[list[list[Edit]], Record]:
    """The self-edits, of which the kept ones have fewer lines; recorded.

    A line's credit is the self-edit's reward less that of the rest, from the same initial deltas.
    With restem.lines "random" the credits of a self-edit are dealt out anew among its lines.
    Self-edits with thoughts, to which their lines belong, stay whole.

    Args:
      rewards_CxM, weights_CxM: of the self-edits; weights are 0 of those that are not kept.
      earn: gives texts their rewards.
      stage: the round.

    Returns:
      Self-edits [C][M], and {"lines": that could be left out, "lines_left_out"}.
    """
    session = run.session
    kept = [
        (c, m)
        for (c, m), weight in np.ndenumerate(np.array(weights_CxM))
        if weight and not edits[c][m].thoughts
    ]
    rests = [without_each(session.task, contexts[c], edits[c][m].text) for c, m in kept]
    tried = [(contexts[c], [of[n]]) for (c, _), of in zip(kept, rests, strict=True) for n in of]

    within = Stage(kind="lines", round=stage.round, what=stage.name)
    left = iter(earn(*zip(*tried, strict=True), within)[:, 0] if tried else ())  # type: ignore
    found = []
    for (c, m), of in zip(kept, rests, strict=True):
        credits = {n: float(rewards_CxM[c, m] - next(left)) for n in of}
        known = {n: None if math.isnan(one) else one for n, one in credits.items()}
        left_out = _left_out(run, edits[c][m], known)
        found.append({"place": [c, m], "credits": [*known.items()], "left_out": left_out})
    pruned = [list(of) for of in edits]
    record = run.once("pruned", stage.name, lambda: {"of": found}, stage=stage)["of"]
    for one in record:
        c, m = one["place"]
        pruned[c][m] = _without(run, edits[c][m], one["left_out"])
    figures = {
        "lines": sum(len(one["credits"]) for one in record),
        "lines_left_out": sum(len(one["left_out"]) for one in record),
    }
    run.say(
        f"{stage}: {figures['lines_left_out']} of {figures['lines']} lines of the kept self-edits "
        "are left out"
    )
    return pruned, figures


def without_each(task: Task, context: Context, text: str) -> dict[int, str]:
    """A self-edit without each of its lines in turn, by the line's number.

    Only of lines that are a training sequence each, where the others are read as they were: no
    heading, and neither a question nor its answer on the next line.
    """
    whole = task.read(context, text, 0)
    if not isinstance(whole, Lesson):
        return {}
    lines, sequences, found = text.splitlines(), collections.Counter(whole.sequences), {}
    for n, line in enumerate(lines):
        rest = "\n".join(lines[:n] + lines[n + 1 :])
        read = task.read(context, rest, 0)
        if isinstance(read, Lesson) and len(read.sequences) + 1 == len(whole.sequences):
            missing = [*(sequences - collections.Counter(read.sequences)).elements()]
            if len(missing) == 1 and _says(missing[0], line):
                found[n] = rest
    return found


def _says(sequence: Sequence_, line: str) -> bool:
    """Whether a sequence is a line, after a title or alone."""
    return isinstance(sequence, str) and sequence.endswith(line.strip())


def _left_out(run: Run, edit: Edit, credits: dict[int, float | None]) -> list[int]:
    """Numbers of the lines that go."""
    values = list(credits.values())
    if run.session.settings.restem.lines == "random":
        seed = [run.session.settings.seed, zlib.crc32(edit.context.encode()), edit.index]
        values = np.random.default_rng(seed).permutation(np.array(values, object)).tolist()
    return sorted(harms(dict(zip(credits, values, strict=True))))


def _without(run: Run, edit: Edit, left_out: Sequence[int]) -> Edit:
    """The self-edit without some of its lines, as if it had been sampled so."""
    if not left_out:
        return edit
    text = shortened(edit.text, left_out)
    end = [token for token in edit.tokens[-1:] if token in run.session.stop_ids]
    return dataclasses.replace(edit, text=text, tokens=[*run.session.continued(text), *end])


def shortened(text: str, left_out: Sequence[int]) -> str:
    """A text without some of its lines; items that were numbered from 1 on are numbered anew.

    >>> shortened("1. Red.\\n2. Old.\\n3. Tall.", [1]), shortened("1. Red.\\n7. Old.", [0])
    ('1. Red.\\n2. Tall.', '7. Old.')
    """
    lines = text.splitlines()
    items = [n for n, line in enumerate(lines) if _ITEM.match(line)]
    numbers = [_ITEM.match(lines[n])[0] for n in items]  # type: ignore[index]
    if numbers == [str(number) for number in range(1, len(items) + 1)]:
        left = (n for n in items if n not in left_out)
        for number, n in enumerate(left, start=1):
            lines[n] = _ITEM.sub(str(number), lines[n], count=1)
    return "\n".join(line for n, line in enumerate(lines) if n not in left_out)
