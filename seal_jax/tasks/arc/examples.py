"""From a task's demonstrations to the examples of its inner problem.

The scheme is that of SEAL's few-shot experiments (Zweiger et al., arXiv 2506.10943), which follow
test-time training on ARC (Akyurek et al., arXiv 2411.07279). Only demonstrations come in: a task's
tests are out of reach.
"""

import itertools
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from seal_jax.tasks.arc import augment
from seal_jax.tasks.arc.arc import Example, Pair
from seal_jax.tasks.arc.grids import MAX_SIZE, Grid


def training_examples(
    demonstrations: Sequence[Pair],
    families: Collection[str] = (),
    *,
    seed: Sequence[int],
    leave_out: Sequence[int] = (1, 2),
    max_examples: int = 250,
) -> list[Example]:
    """The examples on which a task's delta is trained.

    1. Splits. For leave-one-out every demonstration is the query once, and the others, in their
       order, are its context. For leave-two-out one further demonstration is missing, each in its
       turn. A split without any context is used only where no split has one, as for a task with
       one demonstration. A number to leave out beyond the number of demonstrations leaves all out.
    2. Each split as it is, and under each transform of the enabled families; the same transform is
       made of all grids of an example. "translate" draws a shift for each split, below the largest
       height and width of its grids and not (0, 0). An example with a grid above 30x30 is dropped.
    3. Of every example so far one copy with colours permuted at random, 0 staying 0, and one with
       its demonstrations in another order. Both are made whether or not a family is enabled.
    4. Examples that are equal in every grid and in order are kept once; then at most
       `max_examples` are chosen, each being as likely as any other.

    Args:
      demonstrations: of one task, at least one.
      families: which of `augment.FAMILIES` are enabled.
      seed: non-negative numbers that say what the draws are for, such as (seed, round, task).
      leave_out: how many demonstrations are kept out of an example's context, its query among
        them; one group of examples for each number.
      max_examples: a seeded choice of so many is made of larger sets.

    Returns:
      The examples in a random order. Order and content follow from the arguments alone.
    """
    generator = np.random.default_rng(list(seed))
    splits = _splits(len(demonstrations), leave_out)
    made = [
        example
        for example in _augmented(demonstrations, splits, families, generator)
        if all(max(grid.shape) <= MAX_SIZE for grid in _grids(example))
    ]
    recoloured = [_recoloured(example, generator) for example in made]
    reordered = [_reordered(example, generator) for example in made]
    distinct = list({_key(example): example for example in made + recoloured + reordered}.values())
    chosen = generator.permutation(len(distinct))[:max_examples]
    return [distinct[i] for i in chosen]


def _splits(count: int, leave_out: Sequence[int]) -> list[tuple[int, tuple[int, ...]]]:
    """(query, context) as indices of demonstrations."""
    found = [
        (query, tuple(i for i in others if i not in missing))
        for left_out in dict.fromkeys(min(number, count) for number in leave_out)
        for query in range(count)
        for others in [[i for i in range(count) if i != query]]
        for missing in itertools.combinations(others, left_out - 1)
    ]
    with_context = [split for split in found if split[1]]
    return with_context or found


def _augmented(
    demonstrations: Sequence[Pair],
    splits: Sequence[tuple[int, tuple[int, ...]]],
    families: Collection[str],
    generator: np.random.Generator,
) -> Iterator[Example]:
    """Every split as it is and under each enabled transform."""
    enabled = [names for family, names in augment.FAMILIES.items() if family in families]
    for name in [augment.IDENTITY.name, *itertools.chain(*enabled)]:
        if name == augment.TRANSLATE:
            for split in splits:
                example = _example(demonstrations, split)
                shift = _shift(example, generator)
                moved = augment.transform(name, shift=shift)
                yield augment.on_example(moved.apply, example)
        else:
            change = augment.transform(name).apply
            pairs = [augment.on_pair(change, pair) for pair in demonstrations]
            yield from (_example(pairs, split) for split in splits)


def _example(pairs: Sequence[Pair], split: tuple[int, tuple[int, ...]]) -> Example:
    query, context = split
    return Example(tuple(pairs[i] for i in context), pairs[query])


def _shift(example: Example, generator: np.random.Generator) -> tuple[int, int]:
    """Any shift but (0, 0) within the largest height and width; (0, 0) where there is no other."""
    height, width = np.max([grid.shape for grid in _grids(example)], axis=0)
    if height * width == 1:
        return 0, 0
    down, right = divmod(int(generator.integers(1, height * width)), int(width))
    return down, right


def _recoloured(example: Example, generator: np.random.Generator) -> Example:
    permutation = augment.colour_permutation(generator)
    return augment.on_example(lambda grid: augment.permute_colours(grid, permutation), example)


def _reordered(example: Example, generator: np.random.Generator) -> Example:
    """The example in another order; itself where there is none."""
    *_, order = augment.example_orders(generator, len(example.demonstrations), 2)
    return Example(tuple(example.demonstrations[i] for i in order), example.query)


def _grids(example: Example) -> list[Grid]:
    pairs = (*example.demonstrations, example.query)
    return [grid for pair in pairs for grid in (pair.input, pair.output) if grid is not None]


def _key(example: Example) -> tuple:
    """What makes examples equal."""
    return tuple((grid.shape, grid.tobytes()) for grid in _grids(example))
