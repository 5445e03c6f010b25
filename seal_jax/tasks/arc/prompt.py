"""Chat prompts of few-shot learning, training texts, and which of their tokens are trained on.

The user's turn is a short instruction, the demonstrations and the input to be answered; the
assistant's turn is the output grid and nothing else. What is trained on is found by the characters
that a token stands for (the fast tokenizer's offsets), never by the ids of tokens.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from seal_jax.tasks.arc import grids
from seal_jax.tasks.arc.arc import Example, Pair
from seal_jax.tasks.arc.grids import Form, Grid
from seal_jax.weights import tokenizer as tokenization

_INSTRUCTION = (
    "One rule turns each input grid into its output grid; digits are colours. Work out the rule, "
    "apply it to the last input, and write its output grid only."
)

Span = tuple[int, int]  # of characters: the first, and the one after the last


class PromptError(ValueError):
    """A tokenizer or an example that makes no prompt; the message says what to change."""


@dataclasses.dataclass(frozen=True)
class TrainingText:
    """An example as the chat template writes it.

    Attributes:
      text: the whole conversation.
      header: what begins the assistant's turn, which nobody has to write.
      outputs: the output grids, those of the demonstrations first and the answer last.
    """

    text: str
    header: Span
    outputs: tuple[Span, ...]


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Tokens, and for each whether it is trained on as a target."""

    tokens: list[int]
    mask: list[bool]


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


def query_tokens(
    tokenizer: Any, demonstrations: Sequence[Pair], query_input: Grid, form: Form
) -> list[int]:
    """Tokens that ask for an output grid, up to where the assistant begins.

    Raises:
      PromptError: see `query`; or the tokenizer has no chat template.
    """
    _check_tokenizer(tokenizer)
    return tokenization.chat_prompt(tokenizer, query(demonstrations, query_input, form))


def training_text(tokenizer: Any, example: Example, form: Form) -> TrainingText:
    """An example as the chat template writes it.

    Raises:
      PromptError: an output is not known, the tokenizer has no chat template, or its template
        changes what is said in a turn.
    """
    _check_tokenizer(tokenizer)
    user, spans = _user_turn(example.demonstrations, example.query.input, form)
    said = answer(example.query.output, form)
    asked = tokenization.chat_text(tokenizer, [("user", user)], prompt=False)
    prompt = tokenization.chat_text(tokenizer, [("user", user)], prompt=True)
    text = tokenization.chat_text(tokenizer, [("user", user), ("assistant", said)], prompt=False)
    if asked.count(user) != 1 or not prompt.startswith(asked):
        raise PromptError(
            "the tokenizer's chat template does not write a user's turn as it is given, so the "
            "grids in it cannot be found; use a template that does."
        )
    if not text.startswith(prompt + said):
        raise PromptError(
            "the tokenizer's chat template does not continue its own prompt with the assistant's "
            "turn, so the model would be trained on another text than it is asked with; use a "
            "template that does."
        )
    shift = asked.index(user)
    outputs = [(shift + start, shift + end) for start, end in spans]
    outputs.append((len(prompt), len(prompt) + len(said)))
    return TrainingText(text, (len(asked), len(prompt)), tuple(outputs))


def tokenize(tokenizer: Any, example: Example, form: Form, *, outputs_only: bool) -> Encoded:
    """Tokens of an example up to the assistant's end of turn, and which are trained on.

    Args:
      tokenizer: a fast tokenizer with a chat template.
      example: the demonstrations and the pair to be answered.
      form: how grids are written.
      outputs_only: whether only tokens that hold a part of an output grid are trained on
        (demonstrations' and the answer), and what ends the assistant's turn; otherwise all but the
        assistant's header.

    Returns:
      Tokens that begin with `query_tokens` of the same demonstrations and input.

    Raises:
      PromptError: see `training_text`; or the tokenizer joins the prompt's last characters with the
        answer's first, has no offsets, or its template does not end the assistant's turn by a
        token at which generation stops.
    """
    made = training_text(tokenizer, example, form)
    encoded = tokenizer(made.text, add_special_tokens=False, return_offsets_mapping=True)
    tokens, offsets = list(encoded["input_ids"]), encoded["offset_mapping"]
    begin, end = made.outputs[-1]
    prompt = tokenizer(made.text[:begin], add_special_tokens=False)["input_ids"]
    if tokens[: len(prompt)] != list(prompt):
        raise PromptError(
            "the tokenizer joins the end of the prompt with the answer, so the model would be "
            "trained on other tokens than it is asked with; use the other form of grids."
        )
    stops = tokenization.stop_token_ids(tokenizer)
    last = next(
        (i for i, token in enumerate(tokens) if token in stops and offsets[i][0] >= end), None
    )
    if last is None:
        raise PromptError(
            "the tokenizer's chat template does not end the assistant's turn by a token at which "
            "generation stops; set eos_token in tokenizer_config.json to the one it uses."
        )
    tokens, offsets = tokens[: last + 1], offsets[: last + 1]
    if outputs_only:
        trained = (*made.outputs[:-1], (begin, offsets[last][1]))
        mask = [any(_overlap(offset, span) for span in trained) for offset in offsets]
    else:
        mask = [not _overlap(offset, made.header) for offset in offsets]
    return Encoded(tokens, mask)


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


def _check_tokenizer(tokenizer: Any) -> None:
    if not tokenizer.chat_template:
        raise PromptError(
            "the tokenizer has no chat template, which few-shot prompts need; use the tokenizer of "
            "an instruction-tuned model, or set chat_template in tokenizer_config.json."
        )
    if not tokenizer.is_fast:
        raise PromptError(
            "the tokenizer tells no offsets, which loss masks need; use a fast one, with a file "
            "tokenizer.json."
        )


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]
