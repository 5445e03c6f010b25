"""Tokenizers without PyTorch: from GGUF metadata or a Hugging Face directory, and what we ask them.

A GGUF file holds the vocabulary and the merges of a byte-level BPE, and the name of the rule that
cuts text into pieces first. The rule matters beyond digits: SmolLM2 sets every digit apart *before*
spaces are grouped, so that "\\n\\n1" is ["\\n\\n", "1"] and not ["\\n", "\\n", "1"].
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Mapping
from typing import Any

import gguf as gguf_package
import tokenizers
from etils import epath
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from seal_jax.weights import gguf
from seal_jax.weights.files import is_remote, refuse_pointer
from seal_jax.weights.names import WeightsError

_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4  # values of tokenizer.ggml.token_type
_SPECIAL = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}
_NAMED = ("bos_token_id", "eos_token_id", "eot_token_id", "eom_token_id", "padding_token_id")
_MAIN = ("tokenizer.json", "vocab.json", "tokenizer.model")  # the first that is there is read
_TOKENIZER_FILES = (*_MAIN, "*.json", "*.txt", "*.jinja", "additional_chat_templates/*.jinja")
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
    begin, end = (
        special.get(f"{role}_token", "") if gguf.value(reader, key, default) else ""
        for role, default in (("bos", _CUTS[rule].adds_bos), ("eos", False))
        for key in [f"tokenizer.ggml.add_{role}_token"]
    )
    if begin or end:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A {end}".strip(),
            special_tokens=[(token, tokens.index(token)) for token in {begin, end} - {""}],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=gguf.value(reader, "tokenizer.chat_template", None),
        clean_up_tokenization_spaces=False,
        name_or_path=os.path.basename(reader.data.filename or ""),
        **special,
    )


def load(path: str | os.PathLike) -> PreTrainedTokenizerFast:
    """The tokenizer of a Hugging Face directory, which names it.

    `tokenizer.json` is taken as it stands when there is one: going by the directory's tokenizer
    class, as `AutoTokenizer` does, rebuilds the pre-tokenizer and loses SmolLM2's digit rule
    (transformers 5).

    Raises:
      WeightsError: the directory holds no tokenizer, or one that cannot be read.
    """
    directory = epath.Path(path)
    files = sorted({file for pattern in _TOKENIZER_FILES for file in directory.glob(pattern)})
    main = next((directory / name for name in _MAIN if directory / name in files), None)
    if main is None:
        raise WeightsError(
            f"{directory} holds no tokenizer: expected one of {', '.join(_MAIN)}. Copy the "
            "tokenizer files of the model there (tokenizer.json, tokenizer_config.json)."
        )
    for file in files:
        refuse_pointer(file)
    reader: Any = PreTrainedTokenizerFast if main.name == _MAIN[0] else AutoTokenizer
    with contextlib.ExitStack() as stack:
        local: str | os.PathLike = path
        if is_remote(directory):
            local = stack.enter_context(tempfile.TemporaryDirectory())
            for file in files:
                copy = epath.Path(local) / file.relative_to(directory)
                copy.parent.mkdir(exist_ok=True)
                copy.write_bytes(file.read_bytes())
        try:
            found: Any = reader.from_pretrained(local, local_files_only=True)
        except Exception as error:  # tokenizers, sentencepiece and json raise what they like
            raise WeightsError(_unreadable(main, error)) from error
    if not found.is_fast:
        raise WeightsError(_unreadable(main, "it has no fast tokenizer"))
    found.name_or_path = os.fspath(path)
    return found


def _unreadable(file: epath.Path, error: Exception | str) -> str:
    """What to say of a tokenizer that the libraries cannot read."""
    reason = " ".join(str(error).split())[:200]
    if file.name != _MAIN[0]:
        return (
            f"{file} cannot be made into a fast tokenizer here ({reason}): put the model's "
            "tokenizer.json beside it. Where there is none, one is written where sentencepiece, "
            "protobuf and tiktoken are installed, by "
            "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)."
        )
    return (
        f"{file}, or a file beside it that belongs to the tokenizer, cannot be read by tokenizers "
        f"{tokenizers.__version__} ({reason}): fetch them again; where a newer version wrote them, "
        "pip install --upgrade tokenizers transformers."
    )


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


def stop_token_ids(tokenizer: Any, *configs: Mapping[str, Any]) -> tuple[int, ...]:
    """Ids at which generation stops: the ends of a text or a turn.

    Args:
      configs: objects whose `eos_token_id` names one or several more (config.json,
        generation_config.json).

    Raises:
      WeightsError: there is none, or one is no number.
    """
    added = {str(token): index for index, token in tokenizer.added_tokens_decoder.items()}
    stops = {added[token] for token in _ENDS if token in added}
    for ends in (tokenizer.eos_token_id, *(config.get("eos_token_id") for config in configs)):
        said = [
            token for token in (ends if isinstance(ends, list) else [ends]) if token is not None
        ]
        if not all(isinstance(token, int) for token in said):
            raise WeightsError(
                f"eos_token_id of config.json or generation_config.json is {ends!r}: expected the "
                "id of a token, or several."
            )
        stops.update(said)
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
    values = {letter: byte for byte, letter in bytes_to_unicode().items()}
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
    types = _types(reader, tokens, {"".join(pair) for pair in merges})
    for kind, add in ((_CONTROL, backend.add_special_tokens), (_USER_DEFINED, backend.add_tokens)):
        add(
            [
                tokenizers.AddedToken(token, normalized=False, special=kind == _CONTROL)
                for token, found in zip(tokens, types, strict=True)
                if found == kind
            ]
        )
    return backend


def _types(reader, tokens: list[str], merged: set[str]) -> list[int]:
    """The kind of each token; some files call the tokens of a chat normal.

    Where the chat template spells one, or no merge makes it, it is a control token if the file
    names it as one (as the end of a turn, say) or by the shape of its name; and a user's token if
    it is in brackets and the template spells it.
    """
    named = {gguf.value(reader, f"tokenizer.ggml.{key}", None) for key in _NAMED}
    template = gguf.value(reader, "tokenizer.chat_template", None) or ""
    types = list(gguf.value(reader, "tokenizer.ggml.token_type"))
    for index, token in enumerate(tokens):
        spelled = token in template
        if types[index] != _NORMAL or len(token) == 1 or (token in merged and not spelled):
            continue
        if index in named or re.fullmatch(r"<\|[^<>|\s]+\|>", token):
            types[index] = _CONTROL
        elif spelled and re.fullmatch(r"<[^<>\s]+>|\[[^\[\]\s]+\]", token):
            types[index] = _USER_DEFINED
    return types


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
