"""The one place where text becomes tokens: prompts, what continues them, chats, training texts.

A control token (an end, a role, a beginning) is one only where the chat template wrote it, or the
tokenizer's own rule of how a text begins and ends. Where a passage, a question or a model's text
spells one, it is text like any other. The rest is encoded jointly: a token may span what the
template wrote and what was said.

What is trained on is found by the characters that a token stands for (the fast tokenizer's
offsets), never by the ids of tokens.
"""

import datetime
import functools
import itertools
import json
import re
import secrets
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, NamedTuple

import tokenizers

from seal_jax.tasks import generated
from seal_jax.tasks.protocol import Chat
from seal_jax.weights import templates

Style = Literal["chat", "plain"]

DATE = "01 Jan 2025"  # of every chat: a template that writes today's would change runs overnight
_DAY = datetime.datetime(2025, 1, 1)
# Stands before a template that calls the clock. (transformers passes no function to a template.)
_CLOCK = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f".replace('%{c}', '{_DAY.strftime('%' + c)}')" for c in "aAbBcdDeFHIjmMpSTxXyYZ")
    + " }}{% endmacro %}\n"
)
_Span = tuple[int, int]  # of characters: the first, and the one after the last
_MARK = "\ue000turn\ue001"  # private use: no turn says it, and a template that changes case shows


class ChatError(ValueError):
    """A tokenizer that cannot render a chat; the message says what to change."""


class Encoded(NamedTuple):
    """Tokens, and for each whether it is trained on as a target (None: all)."""

    tokens: tuple[int, ...]
    loss_mask: tuple[bool, ...] | None = None


class Continued(NamedTuple):
    """A prompt and what is scored after it, as tokens.

    `merged` says that a token spans the end of the prompt's text: it is among what is scored, and
    the prompt's tokens end before it.
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    merged: bool


class _Codec(NamedTuple):
    """A tokenizer that knows its control tokens by names which no text spells.

    Attributes:
      backend: the tokenizer; its ids are the original's.
      swap: exchanges control tokens and those names in a text; twice gives the text back.
      begin, end: tokens that the tokenizer's own rule puts before and after a text.
    """

    backend: tokenizers.Tokenizer
    swap: Callable[[str], str]
    begin: list[int]
    end: list[int]

    def ids(self, text: str) -> list[int]:
        return self.backend.encode(text, add_special_tokens=False).ids


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Tokens of a text to learn, with those that the tokenizer's own rule puts around it."""
    codec = _codec(tokenizer)
    return [*codec.begin, *codec.ids(text), *codec.end]


def encode_prompt(
    tokenizer: Any, text: str, style: Style = "chat", *, answered: bool = False
) -> list[int]:
    """Tokens that ask the model to answer or continue a text.

    With style "chat" the text becomes a user's turn, the chat template adds what it adds (SmolLM2's
    a default system message of 21 tokens) and the prompt ends where the assistant begins. With
    style "plain", or a tokenizer that has no chat template, it is the text to continue.

    Args:
      answered: whether an answer follows at once, so that a train of thought that the chat template
        begins is ended first.

    Raises:
      ValueError: an unknown style, or a template that cannot write it (ChatError).
    """
    begin, opening = _opening(tokenizer, text, style)
    if answered and style == "chat" and tokenizer.chat_template:
        opening += _end_of_thought(tokenizer, opening)
    return [*begin, *_codec(tokenizer).ids(opening)]


def encode_continuation(
    tokenizer: Any, text: str, style: Style, said: str, *, begun: str = ""
) -> Continued:
    """A prompt, and a continuation of it: what follows the prompt's tokens when both are encoded.

    Args:
      said: the continuation. After a chat's prompt comes first what the template writes between it
        and the assistant's words: a space, which is scored, or an empty train of thought, which is
        not. A train of thought that the prompt opens is closed.
      begun: how the answer begins; a part of the prompt.

    Raises:
      ValueError: see `encode_prompt`.
    """
    begin, opening = _opening(tokenizer, text, style)
    codec = _codec(tokenizer)
    if style == "chat" and tokenizer.chat_template:
        lead = _lead(tokenizer)
        if lead.strip() or begun:
            opening += lead
        else:
            said = lead + said
    opening += begun
    alone, whole = codec.ids(opening), codec.ids(opening + said)
    pairs = zip(alone, whole, strict=False)
    common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    start = len(begin) + common
    tokens = (*begin, *whole)
    return Continued(tokens[:start], tokens[start:], merged=common < len(alone))


def encode_chat(tokenizer: Any, chat: Chat, stop_ids: Collection[int]) -> Encoded:
    """Tokens of a chat up to what ends the assistant's turn, and which are trained on.

    Args:
      tokenizer: a fast tokenizer with a chat template.
      chat: turns, the last one the assistant's.
      stop_ids: tokens at which generation stops.

    Returns:
      Tokens that begin with those of the prompt for the assistant's turn.

    Raises:
      ChatError: the tokenizer has no chat template, or is not a fast one; its template changes
        what is said in a turn, does not continue its own prompt, or does not end the assistant's
        turn by a token at which generation stops; or the tokenizer joins the prompt's last
        characters with the answer's first.
    """
    if not tokenizer.chat_template:
        raise ChatError(
            "the tokenizer has no chat template, which training on chats needs; use the tokenizer "
            "of an instruction-tuned model, or set chat_template in tokenizer_config.json."
        )
    *before, (_, said) = chat.turns
    asked = _rendered(tokenizer, before, prompt=False)
    opening = _rendered(tokenizer, before, prompt=True)
    text = _rendered(tokenizer, chat.turns, prompt=False)
    starts = _starts(tokenizer, before, asked)
    if starts is None or not opening.startswith(asked):
        raise ChatError(
            "the tokenizer's chat template does not write a user's turn as it is given, so what is "
            "trained on cannot be found in it; use a template that does."
        )
    begin = text.find(said, len(opening)) if text.startswith(opening) else -1
    if begin < 0 or text[len(opening) : begin].strip():
        raise ChatError(
            "the tokenizer's chat template does not continue its own prompt with the assistant's "
            "turn, so the model would be trained on another text than it is asked with; use a "
            "template that does."
        )
    end = begin + len(said)
    codec = _codec(tokenizer)
    encoded = codec.backend.encode(text, add_special_tokens=False)
    tokens, offsets = encoded.ids, encoded.offsets
    alone = codec.ids(opening)
    if tokens[: len(alone)] != alone:
        raise ChatError(
            "the tokenizer joins the end of the prompt with the answer, so the model would be "
            "trained on other tokens than it is asked with; write the answers in another form."
        )
    last = next(
        (i for i, token in enumerate(tokens) if token in stop_ids and offsets[i][0] >= end), None
    )
    if last is None:
        raise ChatError(
            "the tokenizer's chat template does not end the assistant's turn by a token at which "
            "generation stops; set eos_token in tokenizer_config.json to the one it uses."
        )
    tokens, offsets = tokens[: last + 1], offsets[: last + 1]
    if chat.spans is None:
        header = (len(asked), len(opening))
        return Encoded(tuple(tokens), tuple(not _overlap(offset, header) for offset in offsets))
    starts.append(begin)
    trained = [(starts[turn] + first, starts[turn] + after) for turn, first, after in chat.spans]
    trained.append((end, offsets[last][1]))
    mask = tuple(any(_overlap(offset, span) for span in trained) for offset in offsets)
    return Encoded(tuple(tokens), mask)


def template_of(tokenizer: Any) -> str:
    """The chat template that is used; "" where there is none, or several without a default."""
    found = tokenizer.chat_template or ""
    return found.get("default", "") if isinstance(found, dict) else found


def dated(tokenizer: Any) -> str:
    """What a model's description says of the date that its chats are written with; "" for none."""
    asks = any(word in template_of(tokenizer) for word in ("strftime_now", "date_string"))
    return f", chats dated {DATE}" if asks else ""


@functools.lru_cache(maxsize=8)
def _codec(tokenizer: Any) -> _Codec:
    """The control tokens are the special ones, and those that the chat template writes.

    A word, a blank or a single character is text, whatever role it has (as "!" that pads).

    Raises:
      ChatError: the tokenizer is not a fast one.
    """
    if not tokenizer.is_fast:
        raise ChatError(
            "the tokenizer tells no offsets, which loss masks need; use a fast one, with a file "
            "tokenizer.json."
        )
    template, nonce = template_of(tokenizer), secrets.randbits(64)
    special = set(tokenizer.all_special_ids)
    names = {
        token.content: f"\ue000{nonce}-{index}\ue001"
        for index, token in tokenizer.added_tokens_decoder.items()
        if (token.special or index in special or token.content in template)
        and not (len(token.content) == 1 or token.content.isalnum() or token.content.isspace())
    }
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    content |= {"truncation": None, "padding": None}
    for token in content["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    model = content["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(token, token): i for token, i in model["vocab"].items()}
    else:
        model["vocab"] = [[names.get(token, token), score] for token, score in model["vocab"]]
    if model.get("unk_token"):
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    if "merges" in model:  # none makes a control token, or is made of one
        pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"])
        model["merges"] = [p for p in pairs if names.keys().isdisjoint((*p, "".join(p)))]
    backend = tokenizers.Tokenizer.from_str(json.dumps(content))
    bare, whole = (backend.encode("a", add_special_tokens=rule).ids for rule in (False, True))
    places = [i for i in range(len(whole)) if whole[i : i + len(bare)] == bare]
    if not bare or not places:
        raise ChatError(
            f"the tokenizer {tokenizer.name_or_path or ''} does not keep a text between what its "
            "own rule (post_processor of tokenizer.json) puts around it; fetch its files again."
        )
    first = places[0]
    exchange = names | {name: token for token, name in names.items()}
    longest_first = sorted(exchange, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
    return _Codec(
        backend,
        lambda text: pattern.sub(lambda found: exchange[found[0]], text),
        begin=whole[:first],
        end=whole[first + len(bare) :],
    )


@functools.lru_cache(maxsize=1024)  # of a question that is asked and whose answer is scored
def _opening(tokenizer: Any, text: str, style: Style) -> tuple[list[int], str]:
    """The tokens that begin a prompt, and its text."""
    if style not in ("chat", "plain"):
        raise ValueError(f"Prompt style {style!r} is unknown: expected 'chat' or 'plain'.")
    if style == "plain" or not tokenizer.chat_template:
        return _codec(tokenizer).begin, text
    return [], _rendered(tokenizer, [("user", text)], prompt=True)


@functools.lru_cache(maxsize=8)
def _lead(tokenizer: Any) -> str:
    """What the chat template writes between a prompt and the assistant's words."""
    opening = _rendered(tokenizer, [("user", "u")], prompt=True)
    if end := _end_of_thought(tokenizer, opening):
        return end
    whole = _rendered(tokenizer, [("user", "u"), ("assistant", _MARK)], prompt=False)
    return whole.removeprefix(opening).partition(_MARK)[0] if whole.startswith(opening) else ""


def _end_of_thought(tokenizer: Any, opening: str) -> str:
    """What ends the train of thought that a prompt begins; "" for none."""
    swap = _codec(tokenizer).swap
    return swap(generated.until_answer(swap(opening)))


def _rendered(tokenizer: Any, turns: Sequence[tuple[str, str]], *, prompt: bool) -> str:
    """A conversation as the chat template writes it, control tokens by the codec's names.

    Args:
      turns: pairs of a role ("user", "assistant") and what it says.
      prompt: whether the text goes on to where the assistant begins.

    Raises:
      ChatError: the template raises, or there are several without a default.
    """
    swap, name = _codec(tokenizer).swap, tokenizer.name_or_path or "the tokenizer"
    template = template_of(tokenizer)
    if not template:
        raise ChatError(
            f"{name} has several chat templates ({', '.join(sorted(tokenizer.chat_template))}) and "
            "none of them is called 'default': give that name to the one to use."
        )
    try:
        # Some templates read the clock, and Qwen3's opens a train of thought unless told not to.
        write = functools.partial(
            tokenizer.apply_chat_template,
            [{"role": role, "content": swap(said)} for role, said in turns],
            chat_template=(_CLOCK if "strftime_now" in template else "") + template,
            tokenize=False,
            add_generation_prompt=prompt,
            date_string=DATE,
            enable_thinking=False,
        )
        text = templates.bounded(template, write)
    except Exception as error:  # a template can raise anything
        roles = ", ".join(role for role, _ in turns)
        raise ChatError(
            f"the chat template of {name} cannot write a conversation of {roles} "
            f"({type(error).__name__}: {error}): use another template (chat_template in "
            "tokenizer_config.json, or chat_template.jinja), or prompt_style 'plain'."
        ) from error
    return swap(text)


def _starts(tokenizer: Any, turns: list[tuple[str, str]], text: str) -> list[int] | None:
    """Where each turn begins in the rendered text; None where the template changes one."""
    found = []
    for i, (role, said) in enumerate(turns):  # what a turn says may stand elsewhere too
        marked = [*turns[:i], (role, _MARK), *turns[i + 1 :]]
        parts = _rendered(tokenizer, marked, prompt=False).split(_MARK)
        if said.join(parts) != text or len(parts) != 2:
            return None
        found.append(len(parts[0]))
    return found


def _overlap(one: _Span, other: _Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]
