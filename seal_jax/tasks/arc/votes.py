"""Asking in several ways, voting over the answers, and grading the attempts.

The scheme is that of SEAL's few-shot experiments (Zweiger et al., arXiv 2506.10943): a test is
asked under changes that can be undone; the answers, mapped back, vote; the two with the most
votes are the attempts. A task is solved as in the ARC prize: every test right, in two attempts.
"""

import collections
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seal_jax.tasks.arc import augment
from seal_jax.tasks.arc.arc import ArcTask, Pair
from seal_jax.tasks.arc.augment import Transform
from seal_jax.tasks.arc.grids import MAX_SIZE, Grid

ATTEMPTS = 2
TRANSFORMS = (
    "identity",
    "transpose",
    "flip_vertical",
    "flip_horizontal",
    "rotate_90",
    "rotate_180",
    "rotate_270",
)


class Variant(NamedTuple):
    """One way to ask for a test's output.

    Attributes:
      demonstrations, query_input: what the model sees, changed by `transform`.
      transform: the change that an answer still carries.
    """

    demonstrations: tuple[Pair, ...]
    query_input: Grid
    transform: Transform


def variants(
    task: ArcTask,
    test_index: int,
    *,
    seed: Sequence[int],
    leave_one_out: bool,
    permutations: int,
    transforms: Sequence[str] = TRANSFORMS,
) -> list[Variant]:
    """The ways in which a test is asked: contexts x orders x transforms.

    Prompts under the identity come first, and among them those with the demonstrations in the
    task's order, so that `vote` decides for what the model says to them where votes are equal.
    Of the task's tests only the input of the one that is asked is read.

    Args:
      task: whose demonstrations are shown.
      test_index: which test is asked.
      seed: non-negative numbers from which the orders follow; those of a context are the same
        under every transform.
      leave_one_out: whether each context lacks one demonstration, each in its turn; otherwise
        there is one context with all of them, as for the in-context baseline. The context of a
        task with one demonstration has it in either case.
      permutations: number of distinct orders of each context, the task's own among them; fewer
        where there are not so many.
      transforms: names of `augment.transform`, without "translate". Prompts that they make larger
        than 30x30 in any grid are left out.

    Returns:
      At least one way where "identity" is among the transforms.

    Raises:
      ValueError: no such transform.
    """
    demonstrations = task.demonstrations
    count = len(demonstrations)
    contexts = [tuple(range(count))]
    if leave_one_out and count > 1:
        contexts = [tuple(i for i in range(count) if i != left_out) for left_out in range(count)]
    generator = np.random.default_rng(list(seed))
    orders = [augment.example_orders(generator, len(context), permutations) for context in contexts]
    prompts = [
        [context[i] for i in order]
        for alike in zip(*orders, strict=True)  # every context in its own order first
        for context, order in zip(contexts, alike, strict=True)
    ]
    names = sorted(dict.fromkeys(transforms), key=lambda name: name != augment.IDENTITY.name)
    asked = []
    for change in [augment.transform(name) for name in names]:
        pairs = [augment.on_pair(change.apply, pair) for pair in demonstrations]
        query_input = change.apply(task.tests[test_index].input)
        for prompt in prompts:
            shown = tuple(pairs[i] for i in prompt)
            grids = [query_input, *(grid for pair in shown for grid in (pair.input, pair.output))]
            if all(max(grid.shape) <= MAX_SIZE for grid in grids):
                asked.append(Variant(shown, query_input, change))
    return asked


def vote(answers: Sequence[Grid | None]) -> list[Grid]:
    """The attempts: answers with the most votes, the most first; equals in order of first sight.

    Args:
      answers: mapped back, one a prompt; None where a prompt gave no grid.

    >>> a, b = np.array([[1]], np.int8), np.array([[2]], np.int8)
    >>> [grid.tolist() for grid in vote([a, None, b, b])]
    [[[2]], [[1]]]
    """
    given = [answer for answer in answers if answer is not None]
    keys = [(answer.shape, np.asarray(answer, np.int8).tobytes()) for answer in given]
    grids = dict(zip(keys, given, strict=True))
    # most_common keeps the order of first sight among equals
    return [grids[key] for key, _ in collections.Counter(keys).most_common(ATTEMPTS)]


def graded(prediction: Grid | None, pair: Pair) -> float:
    """How far a prediction is from what is known without a rule to a right one, from 0 to 1.

    Its cell accuracy is compared with that of the better of two baselines: a copy of the input,
    where that has the output's size, and a grid of the output's size in its most frequent colour.
    The gain over it is divided by the largest possible gain. A prediction that is no better than
    the baseline scores 0, like one of the wrong size and a missing one: below the baseline fewer
    right cells are not less of a rule, and an answer must not be worth less than none. Only a
    right one scores 1, and where the baseline is right itself nothing else scores above 0.

    Args:
      prediction: a grid; None where there is none.
      pair: a test with its output.

    >>> pair = Pair(np.array([[5]], np.int8), np.array([[1, 1, 2, 3]], np.int8))
    >>> graded(np.array([[1, 1, 2, 2]], np.int8), pair)  # 3 of 4 cells; all 1 has 2 of 4
    0.5
    """
    output = pair.output
    assert output is not None, "tests without solutions are not asked"
    if prediction is None or prediction.shape != output.shape:
        return 0.0
    right = int(np.sum(prediction == output))
    base = int(np.bincount(output.ravel()).max())
    if pair.input.shape == output.shape:
        base = max(base, int(np.sum(pair.input == output)))
    if right == output.size:
        return 1.0
    return max(0.0, (right - base) / (output.size - base)) if base < output.size else 0.0
