"""Chats as tokens: what the template writes, and which of it is trained on.

What is trained on is found by the characters that a token stands for (the fast tokenizer's
offsets), never by the ids of tokens.
"""

from typing import Any, NamedTuple

from seal_jax.tasks.protocol import Chat
from seal_jax.weights import tokenizer as tokenization

_Span = tuple[int, int]  # of characters: the first, and the one after the last
_MARK = "\ue000turn\ue001"  # private use: no turn says it, and a template that changes case shows


class ChatError(ValueError):
    """A tokenizer that cannot render a chat for training; the message says what to change."""


class Encoded(NamedTuple):
    """Tokens, and for each whether it is trained on as a target (None: all)."""

    tokens: tuple[int, ...]
    loss_mask: tuple[bool, ...] | None = None


def encode(tokenizer: Any, chat: Chat) -> Encoded:
    """Tokens of a chat up to what ends the assistant's turn, and which are trained on.

    Args:
      tokenizer: a fast tokenizer with a chat template.
      chat: turns, the last one the assistant's.

    Returns:
      Tokens that begin with those of the prompt for the assistant's turn.

    Raises:
      ChatError: the tokenizer has no chat template or no offsets; its template changes what is said
        in a turn, does not continue its own prompt, or does not end the assistant's turn by a token
        at which generation stops; or the tokenizer joins the prompt's last characters with the
        answer's first.
    """
    check(tokenizer)
    *before, (_, said) = chat.turns
    asked = tokenization.chat_text(tokenizer, before, prompt=False)
    prompt = tokenization.chat_text(tokenizer, before, prompt=True)
    text = tokenization.chat_text(tokenizer, chat.turns, prompt=False)
    starts = _starts(tokenizer, before, asked)
    if starts is None or not prompt.startswith(asked):
        raise ChatError(
            "the tokenizer's chat template does not write a user's turn as it is given, so what is "
            "trained on cannot be found in it; use a template that does."
        )
    if not text.startswith(prompt + said):
        raise ChatError(
            "the tokenizer's chat template does not continue its own prompt with the assistant's "
            "turn, so the model would be trained on another text than it is asked with; use a "
            "template that does."
        )
    begin, end = len(prompt), len(prompt) + len(said)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    tokens, offsets = list(encoded["input_ids"]), encoded["offset_mapping"]
    alone = list(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    if tokens[: len(alone)] != alone:
        raise ChatError(
            "the tokenizer joins the end of the prompt with the answer, so the model would be "
            "trained on other tokens than it is asked with; write the answers in another form."
        )
    stops = tokenization.stop_token_ids(tokenizer)
    last = next(
        (i for i, token in enumerate(tokens) if token in stops and offsets[i][0] >= end), None
    )
    if last is None:
        raise ChatError(
            "the tokenizer's chat template does not end the assistant's turn by a token at which "
            "generation stops; set eos_token in tokenizer_config.json to the one it uses."
        )
    tokens, offsets = tokens[: last + 1], offsets[: last + 1]
    if chat.spans is None:
        header = (len(asked), begin)
        return Encoded(tuple(tokens), tuple(not _overlap(offset, header) for offset in offsets))
    starts.append(begin)
    trained = [(starts[turn] + first, starts[turn] + after) for turn, first, after in chat.spans]
    trained.append((end, offsets[last][1]))
    mask = tuple(any(_overlap(offset, span) for span in trained) for offset in offsets)
    return Encoded(tuple(tokens), mask)


def check(tokenizer: Any) -> None:
    """Refuses a tokenizer without a chat template, or without offsets.

    Raises:
      ChatError: it lacks one of them.
    """
    if not tokenizer.chat_template:
        raise ChatError(
            "the tokenizer has no chat template, which training on chats needs; use the tokenizer "
            "of an instruction-tuned model, or set chat_template in tokenizer_config.json."
        )
    if not tokenizer.is_fast:
        raise ChatError(
            "the tokenizer tells no offsets, which loss masks need; use a fast one, with a file "
            "tokenizer.json."
        )


def _starts(tokenizer: Any, turns: list[tuple[str, str]], text: str) -> list[int] | None:
    """Where each turn begins in the rendered text; None where the template changes one."""
    found = []
    for i, (role, said) in enumerate(turns):  # what a turn says may stand elsewhere too
        marked = [*turns[:i], (role, _MARK), *turns[i + 1 :]]
        parts = tokenization.chat_text(tokenizer, marked, prompt=False).split(_MARK)
        if said.join(parts) != text or len(parts) != 2:
            return None
        found.append(len(parts[0]))
    return found


def _overlap(one: _Span, other: _Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]
