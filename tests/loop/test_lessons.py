"""How a lesson is cut to the shapes of the inner update's program."""

import cut_lessons
import pytest

from seal_jax.tasks.protocol import Refusal


@pytest.mark.parametrize(
    ("sequences", "max_sequences", "max_tokens", "expected"),
    [
        # Nothing to do: order kept, nothing counted.
        ([[1, 2], [3, 4, 5]], 2, 3, (((1, 2), (3, 4, 5)), 0, 0)),
        # The passage (last) survives, the first others too.
        ([[1, 1], [2, 2], [3, 3], [4, 4]], 2, 9, (((1, 1), (4, 4)), 2, 0)),
        ([[1, 1], [2, 2], [3, 3]], 1, 9, (((3, 3),), 2, 0)),
        # One token and no token teach nothing, and take no place from others.
        ([[1], [2, 2], [], [4, 4]], 2, 9, (((2, 2), (4, 4)), 2, 0)),
        # Tokens cut off are those of the sequences that stay: 1 + 3.
        ([[1, 2, 3], [9, 9, 9, 9, 9, 9], [4, 5, 6, 7, 8]], 2, 2, (((1, 2), (4, 5)), 1, 4)),
    ],
)
def test_lessons_are_cut_to_the_shapes_of_the_program(
    sequences, max_sequences, max_tokens, expected
):
    found = cut_lessons.cut(sequences, max_sequences=max_sequences, max_tokens=max_tokens)
    assert (found.sequences, found.dropped_sequences, found.dropped_tokens) == expected
    assert found.loss_masks == (None,) * len(found.sequences)


def test_of_a_lesson_without_sequences_there_is_nothing_to_learn():
    found = cut_lessons.cut([], max_sequences=2, max_tokens=2)
    assert isinstance(found, Refusal) and "no training sequence" in found.reason
