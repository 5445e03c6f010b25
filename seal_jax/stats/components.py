"""Where the chance in a comparison comes from: contexts, self-edits, and questions.

Each context has E self-edits and Q questions, and a cell for each of both: a difference between two
arms, or one arm's score. The cells are a random-effects model (Searle, Casella and McCulloch,
"Variance Components", 1992, ch. 4), within contexts crossed without repetition:

    cell = mean + context + self-edit + question + rest

"self-edit" is all that differs between the updates of one context: the text where it differs, and
in any case the initial delta and the order of training. So an arm whose texts are all the same has
the share of the inner loop's seeds.

Dims: C contexts, E self-edits, Q questions of a context.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

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
        parts = self.of_mean(self.edits)
        total = sum(parts.values())
        return {name: part / total for name, part in parts.items()} if total else {}

    def detectable(
        self, contexts: int, edits: int, *, level: float = 0.95, power: float = 0.8
    ) -> float | None:
        """The least true mean that so many contexts and self-edits would mostly show.

        See `intervals.detectable`; None below two contexts.
        """
        if contexts < 2:
            return None
        error = math.sqrt(sum(self.of_mean(edits).values()) / contexts)
        critical = special.stdtrit(contexts - 1, (1 + level) / 2)
        return float(special.nctdtrinc(contexts - 1, 1 - power, critical) * error)


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
    sums, freedoms = np.zeros(3), np.zeros(3)
    for of in cells:
        count = of.shape[1]
        if edits < 2 or count < 2:
            continue
        edit_E, question_Q = of.mean(axis=1) - of.mean(), of.mean(axis=0) - of.mean()
        rest_ExQ = of - of.mean() - edit_E[:, None] - question_Q
        sums += count * (edit_E**2).sum(), edits * (question_Q**2).sum(), (rest_ExQ**2).sum()
        freedoms += edits - 1, count - 1, (edits - 1) * (count - 1)
    if not freedoms.all():
        return None
    of_edit, of_question, rest = map(float, sums / freedoms)
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
