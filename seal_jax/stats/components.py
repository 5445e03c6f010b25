"""Where the chance in a comparison comes from: contexts, self-edits, questions, and outer seeds.

Each context has E self-edits and Q questions, and a cell for each of both: a difference between two
arms, or one arm's score. The cells are a random-effects model (Searle, Casella and McCulloch,
"Variance Components", 1992, ch. 4), within contexts crossed without repetition:

    cell = mean + context + self-edit + question + rest

"self-edit" is all that differs between the updates of one context: the text where it differs, and
in any case the initial delta and the order of training. So an arm whose texts are all the same has
the share of the inner loop's seeds.

Runs of several outer-loop seeds on the same contexts are crossed with them, and with their
questions (`over_seeds`):

    cell = mean + seed + context + question + rest

Dims: C contexts, E self-edits, Q questions of a context, S outer seeds.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seal_jax.stats import intervals
from seal_jax.stats.intervals import Array


class Components(NamedTuple):
    """Variances of one context, one self-edit, one question and one cell; the design's size.

    Attributes:
      context, edit, question, rest: variances in the square of the cells' unit, not below 0.
      edits, questions: E, and the mean of Q.
    """

    context: float
    edit: float
    question: float
    rest: float
    edits: int
    questions: float

    def of_mean(self, edits: int) -> dict[str, float]:
        """What each adds to the variance of a context's mean with so many self-edits."""
        return {
            "contexts": self.context,
            "edits": self.edit / edits,
            "questions": self.question / self.questions,
            "rest": self.rest / (edits * self.questions),
        }

    def shares(self) -> dict[str, float]:
        """The same as shares of their sum, for the E there were."""
        return _shares(self.of_mean(self.edits))

    def detectable(
        self, contexts: int, edits: int, *, level: float = 0.95, power: float = 0.8
    ) -> float | None:
        """The least true mean that so many contexts and self-edits would mostly show.

        See `intervals.detectable`; None below two contexts.
        """
        if contexts < 2:
            return None
        error = math.sqrt(sum(self.of_mean(edits).values()) / contexts)
        return intervals.shown_mostly(error, contexts - 1, level=level, power=power)


def components(cells: Sequence[Array]) -> Components | None:
    """The components of variance, by the method of moments; a negative one is 0.

    Args:
      cells: for each context [E, Q] without NaN, of one E; contexts may differ in Q.

    Returns:
      None below two contexts, and where no context has two self-edits and two questions.

    >>> part = components([np.array([[1.0, 3.0], [2.0, 4.0]]), np.array([[5.0, 5.0], [6.0, 6.0]])])
    >>> part.edit, part.question, part.rest, part.context  # 4.5 - 0.25 - 0.5
    (0.5, 1.0, 0.0, 3.75)
    """
    cells = [np.asarray(of, np.float64) for of in cells]
    if len(cells) < 2:
        return None
    [edits] = {len(of) for of in cells}
    squares = _mean_squares(cells)
    if squares is None:
        return None
    of_edit, of_question, rest = squares
    questions = float(np.mean([of.shape[1] for of in cells]))
    found = Components(
        context=0.0,
        edit=max((of_edit - rest) / questions, 0.0),
        question=max((of_question - rest) / edits, 0.0),
        rest=float(rest),
        edits=edits,
        questions=questions,
    )
    between = float(np.var([of.mean() for of in cells], ddof=1))
    return found._replace(context=max(between - sum(found.of_mean(edits).values()), 0.0))


class OverSeeds(NamedTuple):
    """Where the chance in a difference comes from that several outer-loop seeds have measured.

    Attributes:
      seed: the variance of outer seeds, in the square of the cells' unit.
      context, question: of one context's mean: of the contexts, and of its choice of questions.
      edit, rest: of one context's mean under one seed: of its self-edits, and of all that is left.
      seeds, contexts: S and C.
    """

    seed: float
    context: float
    question: float
    edit: float
    rest: float
    seeds: int
    contexts: int

    def of_mean(self, seeds: int, contexts: int) -> dict[str, float]:
        """What each adds to the variance of the mean over so many seeds and contexts."""
        return {
            "seeds": self.seed / seeds,
            "contexts": self.context / contexts,
            "edits": self.edit / (seeds * contexts),
            "questions": self.question / contexts,
            "rest": self.rest / (seeds * contexts),
        }

    def shares(self) -> dict[str, float]:
        """The same as shares of their sum, for the S and C there were."""
        return _shares(self.of_mean(self.seeds, self.contexts))

    def detectable(self, seeds: int, contexts: int) -> float:
        """The least true mean that so many seeds and contexts, two or more, would mostly show.

        To an interval that adds the variance between seeds to that between contexts, each of which
        has what is of single contexts under single seeds (see `intervals.paired_bootstraps`).
        """
        parts = self.of_mean(seeds, contexts)
        both = parts["edits"] + parts["rest"]
        of_seeds = parts["seeds"] + both
        of_contexts = parts["contexts"] + parts["questions"] + both
        squared = of_seeds + of_contexts
        if not squared:
            return 0.0
        least = of_seeds**2 / (seeds - 1) + of_contexts**2 / (contexts - 1)  # Satterthwaite
        return intervals.shown_mostly(math.sqrt(squared), squared**2 / least)


def over_seeds(cells: Sequence[Array], *, edit: float = 0.0) -> OverSeeds | None:
    """The same with outer seeds, by the method of moments; a negative component is 0.

    Args:
      cells: for each context [S, Q] without NaN, the means over self-edits, of one S.
      edit: the variance of a context's mean under one seed from its self-edits, as
        `Components.of_mean` has it; it is taken out of what is left. 0 where it is not known.

    Returns:
      None below two seeds or contexts. Without a context of two questions their choice is part of
      the contexts.

    >>> found = over_seeds([np.array([[1.0], [3.0]]), np.array([[2.0], [8.0]])])
    >>> found.seed, found.context, found.rest  # mean squares 16, 9 and 4, by two each
    (6.0, 2.5, 4.0)
    """
    cells = [np.asarray(of, np.float64) for of in cells]
    if len(cells) < 2:
        return None
    [seeds] = {len(of) for of in cells}
    mean_SxC = np.stack([of.mean(axis=1) for of in cells], axis=1)
    squares = _mean_squares([mean_SxC])
    if squares is None:
        return None
    (of_seed, of_context, rest), contexts = squares, len(cells)
    within = _mean_squares(cells)
    question = 0.0
    if within is not None:
        _, of_question, of_cell = within
        a_question = max((of_question - of_cell) / seeds, 0.0)
        question = a_question * float(np.mean([1 / of.shape[1] for of in cells]))
    edit = min(edit, rest)
    return OverSeeds(
        seed=max((of_seed - rest) / contexts, 0.0),
        context=max((of_context - rest) / seeds - question, 0.0),
        question=question,
        edit=edit,
        rest=rest - edit,
        seeds=seeds,
        contexts=contexts,
    )


def _mean_squares(tables: Sequence[Array]) -> tuple[float, float, float] | None:
    """Mean squares of rows, columns and what is left, pooled over tables of both crossed.

    None where no table has two of either.
    """
    sums, freedoms = np.zeros(3), np.zeros(3)
    for of in tables:
        rows, columns = of.shape
        if rows < 2 or columns < 2:
            continue
        row_R, column_C = of.mean(axis=1) - of.mean(), of.mean(axis=0) - of.mean()
        rest_RxC = of - of.mean() - row_R[:, None] - column_C
        sums += columns * (row_R**2).sum(), rows * (column_C**2).sum(), (rest_RxC**2).sum()
        freedoms += rows - 1, columns - 1, (rows - 1) * (columns - 1)
    if not freedoms.all():
        return None
    of_rows, of_columns, rest = map(float, sums / freedoms)
    return of_rows, of_columns, rest


def _shares(parts: dict[str, float]) -> dict[str, float]:
    total = sum(parts.values())
    return {name: part / total for name, part in parts.items()} if total else {}
