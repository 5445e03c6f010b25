"""What is trained on and asked, as token ids."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from seal_jax.core import batching

MAX_SEQUENCES = 64

Tokens = tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problems:
    """What the contestants work on, as token ids.

    Attributes:
      source: one line on where it is from.
      buckets: row lengths for our programs.
      edits: the training sequences of each self-edit.
      questions: sets of (prompt, gold answer).
      edit_prompts: prompts that ask for a self-edit.
      stop_ids: tokens that end an answer.
      padded_length: length to which the padded contestant pads.
    """

    source: str
    buckets: tuple[int, ...]
    edits: tuple[tuple[Tokens, ...], ...]
    questions: tuple[tuple[tuple[Tokens, Tokens], ...], ...]
    edit_prompts: tuple[Tokens, ...]
    stop_ids: tuple[int, ...]
    padded_length: int

    def lengths(self) -> list[list[int]]:
        return [[len(sequence) for sequence in edit] for edit in self.edits]

    def costs(self) -> list[tuple[int, int]]:
        """What `batching.groups_of_like_cost` groups by."""
        return [(len(lengths), sum(lengths)) for lengths in self.lengths()]

    def group(self, size: int, offset: int = 0) -> list[tuple[Tokens, ...]]:
        """The self-edits of one group: the middle one of the plan, or one `offset` from it."""
        groups = batching.groups_of_like_cost(self.costs(), size=size)
        return [self.edits[index] for index in groups[(len(groups) // 2 + offset) % len(groups)]]

    def questions_of(self, count: int) -> list[tuple[tuple[Tokens, Tokens], ...]]:
        """A set of questions for each of `count` candidates."""
        return [self.questions[k % len(self.questions)] for k in range(count)]


def synthetic(
    *,
    vocab_size: int,
    counts: Sequence[int],
    longest: int,
    buckets: tuple[int, ...],
    question_sets: int,
    prompt: int,
) -> Problems:
    """Random tokens in the proportions of the published self-edits: short lines, one long text."""
    rng = np.random.default_rng(0)

    def tokens(length) -> Tokens:
        return tuple(int(token) for token in rng.integers(3, vocab_size, length))

    short = max(4, longest // 6)
    return Problems(
        source=f"{len(counts)} synthetic self-edits of random tokens",
        buckets=buckets,
        edits=tuple(
            (
                *(tokens(rng.integers(short // 2, 2 * short)) for _ in range(count - 1)),
                tokens(rng.integers(longest // 2, longest + 1)),
            )
            for count in counts
        ),
        questions=tuple(
            tuple((tokens(prompt - i), tokens(2 + i % 3)) for i in range(5))
            for _ in range(question_sets)
        ),
        edit_prompts=tuple(tokens(2 * prompt + i) for i in range(4)),
        stop_ids=(2,),
        padded_length=64 if longest < 64 else 2048,
    )
