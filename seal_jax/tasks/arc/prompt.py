"""Chats of few-shot learning: what a puzzle's test is asked with, and what is trained on.

The user's turn is a short instruction, the demonstrations and the input to be answered; the
assistant's turn is the output grid and nothing else.
"""

from collections.abc import Sequence

from seal_jax.tasks.arc import grids
from seal_jax.tasks.arc.arc import Example, Pair
from seal_jax.tasks.arc.grids import Form, Grid
from seal_jax.tasks.protocol import Chat

_INSTRUCTION = (
    "One rule turns each input grid into its output grid; digits are colours. Work out the rule, "
    "apply it to the last input, and write its output grid only."
)

Span = tuple[int, int]  # of characters: the first, and the one after the last


class PromptError(ValueError):
    """An example that makes no prompt; the message says what to change."""


def query(demonstrations: Sequence[Pair], query_input: Grid, form: Form) -> str:
    """The user's turn.

    Args:
      demonstrations: pairs that show the rule.
      query_input: the grid that is to be answered.
      form: how grids are written.

    Raises:
      PromptError: a demonstration without an output.

    >>> import numpy as np
    >>> grid = np.eye(2, dtype=np.int8)
    >>> print(query([Pair(grid, 2 * grid)], grid, "digits").partition("\\n\\n")[2])
    Input:
    10
    01
    Output:
    20
    02
    <BLANKLINE>
    Input:
    10
    01
    Output:
    """
    return _user_turn(demonstrations, query_input, form)[0]


def show(demonstrations: Sequence[Pair], form: Form) -> str:
    """Pairs as text, as they stand in a user's turn.

    Raises:
      PromptError: one without an output.
    """
    return "\n\n".join(_asked(pair, form) + answer(pair.output, form) for pair in demonstrations)


def answer(grid: Grid | None, form: Form) -> str:
    """The assistant's turn.

    Raises:
      PromptError: there is no grid, as in tests that came without solutions.
    """
    if grid is None:
        raise PromptError("an output is not known, so it cannot be shown or trained on.")
    return grids.write(grid, form)


def chat(example: Example, form: Form, *, outputs_only: bool) -> Chat:
    """An example as a training sequence.

    Args:
      example: the demonstrations and the pair to be answered.
      form: how grids are written.
      outputs_only: whether only tokens that hold a part of an output grid are trained on
        (demonstrations' and the answer), and what ends the assistant's turn; otherwise all but the
        assistant's header.

    Raises:
      PromptError: an output is not known.
    """
    user, outputs = _user_turn(example.demonstrations, example.query.input, form)
    said = answer(example.query.output, form)
    spans = (*((0, first, last) for first, last in outputs), (1, 0, len(said)))
    return Chat(turns=(("user", user), ("assistant", said)), spans=spans if outputs_only else None)


def _user_turn(
    demonstrations: Sequence[Pair], query_input: Grid, form: Form
) -> tuple[str, list[Span]]:
    """The user's turn, and where the demonstrations' outputs are in it."""
    text, spans = _INSTRUCTION, []
    for pair in demonstrations:
        text += f"\n\n{_asked(pair, form)}"
        output = answer(pair.output, form)
        spans.append((len(text), len(text) + len(output)))
        text += output
    return f"{text}\n\nInput:\n{grids.write(query_input, form)}\nOutput:", spans


def _asked(pair: Pair, form: Form) -> str:
    return f"Input:\n{grids.write(pair.input, form)}\nOutput:\n"
