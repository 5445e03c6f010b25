"""Tokenizers without PyTorch: from GGUF metadata or a Hugging Face directory, and what we ask them.

A GGUF file holds the vocabulary and the merges of a byte-level BPE, and the name of the rule that
cuts text into pieces first. The rule matters beyond digits: SmolLM2 sets every digit apart *before*
spaces are grouped, so that "\\n\\n1" is ["\\n\\n", "1"] and not ["\\n", "\\n", "1"].
"""

import dataclasses
import json
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any, Literal

import gguf as gguf_package
import tokenizers
from etils import epath
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from seal_jax.tasks import generated
from seal_jax.weights import gguf, tensor_file
from seal_jax.weights.names import WeightsError

_CONTROL, _USER_DEFINED = 3, 4  # values of tokenizer.ggml.token_type
_SPECIAL = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}
_TEXTS = (".json", ".txt", ".jinja")
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer.model")
# Tokens by which a model of these families ends its turn or its text, beside its own eos token.
_ENDS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>")
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclasses.dataclass(frozen=True)
class _Cut:
    """How text is cut before BPE: isolate digits, then a pattern (None: GPT-2's)."""

    digits: bool = False
    pattern: str | None = None
    composes: bool = False  # Unicode NFC first
    whole_words: bool = False  # a piece that is in the vocabulary is not merged up
    adds_bos: bool = False


_CUTS = {
    "gpt-2": _Cut(),
    "smollm": _Cut(digits=True),
    "qwen2": _Cut(pattern=rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_REST}", composes=True),
    "llama-bpe": _Cut(
        pattern=rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}",
        whole_words=True,
        adds_bos=True,
    ),
}


def from_gguf(path: str | os.PathLike | gguf_package.GGUFReader) -> PreTrainedTokenizerFast:
    """Builds the tokenizer that the metadata of a GGUF file describes.

    Args:
      path: the file, or an open one.

    Returns:
      A fast tokenizer with the file's special tokens and chat template.

    Raises:
      WeightsError: a kind of tokenizer, or a rule of cutting text, that is not supported.
    """
    reader = gguf.open_file(path)
    kind = gguf.value(reader, "tokenizer.ggml.model")
    if kind != "gpt2":
        raise WeightsError(
            f"The GGUF file's tokenizer is {kind!r}: expected 'gpt2' (byte-level BPE). "
            "Use the model's Hugging Face directory instead."
        )
    rule = gguf.value(reader, "tokenizer.ggml.pre")
    if rule not in _CUTS:
        raise WeightsError(
            f"The GGUF file's pre-tokenizer {rule!r} is not supported: expected one of "
            f"{', '.join(_CUTS)}. Use the model's Hugging Face directory instead."
        )
    tokens = gguf.value(reader, "tokenizer.ggml.tokens")
    backend = _backend(reader, tokens, _CUTS[rule])
    special = {}
    for role, key in _SPECIAL.items():
        index = gguf.value(reader, f"tokenizer.ggml.{key}", None)
        if index is not None:
            special[role] = tokens[index]
    bos = special.get("bos_token")
    if bos and gguf.value(reader, "tokenizer.ggml.add_bos_token", _CUTS[rule].adds_bos):
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A",
            special_tokens=[(bos, tokens.index(bos))],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=gguf.value(reader, "tokenizer.chat_template", None),
        clean_up_tokenization_spaces=False,
        **special,
    )


def load(path: str | os.PathLike) -> PreTrainedTokenizerFast:
    """The tokenizer of a Hugging Face directory.

    `tokenizer.json` is taken as it stands when there is one: going by the directory's tokenizer
    class, as `AutoTokenizer` does, rebuilds the pre-tokenizer and loses SmolLM2's digit rule
    (transformers 5).

    Raises:
      WeightsError: the directory holds no tokenizer.
    """
    directory = epath.Path(path)
    if not any((directory / name).exists() for name in _TOKENIZER_FILES):
        raise WeightsError(
            f"{directory} holds no tokenizer: expected one of {', '.join(_TOKENIZER_FILES)}. Copy "
            "the tokenizer files of the model there (tokenizer.json, tokenizer_config.json)."
        )
    if tensor_file.is_remote(directory):
        return _load_copy(directory)
    if (directory / "tokenizer.json").exists():
        return PreTrainedTokenizerFast.from_pretrained(path, local_files_only=True)
    found: Any = AutoTokenizer.from_pretrained(path, local_files_only=True)
    return found


def _load_copy(path: epath.Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a directory on an object store, through a temporary copy of small files."""
    with tempfile.TemporaryDirectory() as folder:
        for file in path.iterdir():
            if file.suffix in _TEXTS or file.name == "tokenizer.model":
                (pathlib.Path(folder) / file.name).write_bytes(file.read_bytes())
        return load(folder)


def save(path: str | os.PathLike, tokenizer: Any) -> None:
    """Writes the files of a tokenizer, its chat template among them, into a directory.

    The class is written as `PreTrainedTokenizerFast`, which transformers 4 knows too.
    """
    tokenizer.save_pretrained(path)
    file = pathlib.Path(path) / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    if settings.get("tokenizer_class") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        file.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", "utf-8")


def chat_prompt(
    tokenizer: Any,
    user_text: str,
    style: Literal["chat", "plain"] = "chat",
    *,
    answered: bool = False,
) -> list[int]:
    """Token ids that ask the model for an answer to a user's text.

    With style "chat" the text becomes a user's turn, the chat template adds what it adds (SmolLM2's
    a default system message of 21 tokens) and the prompt ends where the assistant begins. With
    style "plain", or a tokenizer that has no chat template, the text is encoded as it is.
    Special tokens that are spelled out in the text are read as such.

    Args:
      answered: whether an answer that is given follows, so that a thought that the template begins
        is ended first.

    Raises:
      ValueError: an unknown style.
    """
    if style not in ("chat", "plain"):
        raise ValueError(f"Prompt style {style!r} is unknown: expected 'chat' or 'plain'.")
    if style == "plain" or not tokenizer.chat_template:
        return list(tokenizer(user_text)["input_ids"])
    text = chat_text(tokenizer, [("user", user_text)], prompt=True)
    text += generated.until_answer(text) if answered else ""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def chat_text(tokenizer: Any, turns: Sequence[tuple[str, str]], *, prompt: bool) -> str:
    """A conversation as the tokenizer's chat template writes it, special tokens spelled out.

    Args:
      tokenizer: one with a chat template.
      turns: pairs of a role ("user", "assistant") and what it says.
      prompt: whether the text goes on to where the assistant begins.
    """
    # Llama 3's template reads the clock and Qwen3's may open a train of thought unless told not to.
    return tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in turns],
        tokenize=False,
        add_generation_prompt=prompt,
        date_string="01 Jan 2025",
        enable_thinking=False,
    )


def stop_token_ids(tokenizer: Any) -> tuple[int, ...]:
    """Ids at which generation stops: the end-of-sequence token, and other ends of turn or text.

    Raises:
      WeightsError: the tokenizer has no such token.
    """
    added = {str(token): index for index, token in tokenizer.added_tokens_decoder.items()}
    stops = {added[token] for token in _ENDS if token in added}
    if tokenizer.eos_token_id is not None:
        stops.add(tokenizer.eos_token_id)
    if not stops:
        raise WeightsError(
            "The tokenizer has no end-of-sequence token, so generation would never stop: set "
            "eos_token in tokenizer_config.json."
        )
    return tuple(sorted(stops))


def token_bytes(tokenizer: Any) -> dict[bytes, list[int]]:
    """The bytes that each token of a byte-level BPE stands for, and the ids that stand for them.

    Added tokens (ends, roles and the like) stand for no text and are left out.

    Raises:
      WeightsError: the tokenizer is not a byte-level one.
    """
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    decoder = getattr(backend, "decoder", None)
    if decoder is None or decoder.decode(["\u0120\u00c3\u00a9"]) != " \u00e9":
        raise WeightsError(
            "This needs to know the bytes of each token, and the tokenizer is not a byte-level BPE "
            "(as of Llama 3, Qwen or SmolLM2): use a model with such a tokenizer."
        )
    # A byte's letter is itself where it is printable, the others are U+0100 and up in their order.
    printable = {ord(letter) for letter in pre_tokenizers.ByteLevel.alphabet()} & set(range(256))
    others = [byte for byte in range(256) if byte not in printable]
    values = {chr(byte): byte for byte in printable}
    values |= {chr(256 + place): byte for place, byte in enumerate(others)}
    found: dict[bytes, list[int]] = {}
    for token, index in sorted(backend.get_vocab(with_added_tokens=False).items()):
        if index not in tokenizer.added_tokens_decoder and all(map(values.__contains__, token)):
            found.setdefault(bytes(values[letter] for letter in token), []).append(index)
    return found


def _backend(reader, tokens: list[str], cut: _Cut) -> tokenizers.Tokenizer:
    """Byte-level BPE with the file's merges and added tokens."""
    merges = [tuple(pair.split(" ")) for pair in gguf.value(reader, "tokenizer.ggml.merges")]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    try:
        model = models.BPE(vocab=vocabulary, merges=merges, ignore_merges=cut.whole_words)
    except Exception as error:  # tokenizers raises nothing narrower
        raise WeightsError(
            f"The GGUF file's vocabulary and merges do not fit each other ({error}): fetch the "
            "file again, or use the model's Hugging Face directory."
        ) from error
    backend = tokenizers.Tokenizer(model)
    if cut.composes:
        backend.normalizer = normalizers.NFC()
    steps: list[pre_tokenizers.PreTokenizer]
    steps = [pre_tokenizers.Digits(individual_digits=True)] if cut.digits else []
    if cut.pattern:
        steps.append(pre_tokenizers.Split(tokenizers.Regex(cut.pattern), behavior="isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cut.pattern is None))
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    backend.decoder = decoders.ByteLevel()
    types = gguf.value(reader, "tokenizer.ggml.token_type")
    for kind, add in ((_CONTROL, backend.add_special_tokens), (_USER_DEFINED, backend.add_tokens)):
        add(
            [
                tokenizers.AddedToken(token, normalized=False, special=kind == _CONTROL)
                for token, found in zip(tokens, types, strict=True)
                if found == kind
            ]
        )
    return backend


def start_of_text(tokenizer: Any) -> list[int]:
    """The token with which a text of the model's own may begin: its first, or else its last.

    >>> import types
    >>> start_of_text(types.SimpleNamespace(bos_token_id=0, eos_token_id=2))
    [0]
    >>> start_of_text(types.SimpleNamespace(bos_token_id=None, eos_token_id=2))
    [2]
    """
    token = tokenizer.bos_token_id
    return [tokenizer.eos_token_id if token is None else token]
