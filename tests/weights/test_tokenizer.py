"""Tokenizers: an independent BPE, transformers, golden ids, chat prompts, stop tokens."""

import functools
import json
import pathlib
import shutil

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from seal_jax.core.model.config import ModelConfig
from seal_jax.weights import encoding
from seal_jax.weights import tokenizer as tokenization
from seal_jax.weights.load import load_model
from seal_jax.weights.names import WeightsError

from .conftest import SPECIAL, tokenizer_keys
from .independent_bpe import DIGIT_RULE_MATTERS, LOST_BYTES, ReferenceBPE, varied_strings

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 9\n"
GOLDEN = pathlib.Path(__file__).parents[1] / "data" / "smollm2_tokens.json"


@pytest.fixture(scope="module")
def smollm2(smollm2_path):
    """The demo model's tokenizer."""
    return tokenization.from_gguf(smollm2_path)


@pytest.fixture(scope="module")
def strings(smollm2):
    """1,000 varied strings, some with SmolLM2's special tokens."""
    return varied_strings(1000, smollm2.convert_ids_to_tokens(list(range(17))))


@pytest.fixture
def tiny_gguf(write_gguf, hf_settings, random_params):
    """Writes a tiny GGUF file, with metadata to add or leave out."""
    config = ModelConfig.from_hf(hf_settings("llama"))
    return functools.partial(write_gguf, config, random_params(config))


@pytest.mark.smollm2
def test_golden_ids(smollm2):
    cases = json.loads(GOLDEN.read_text())
    assert len(cases) >= 20
    for case in cases:
        assert smollm2(case["text"])["input_ids"] == case["ids"], case["text"]


@pytest.mark.smollm2
def test_equals_an_independent_bpe(smollm2, smollm2_path, strings):
    reference = ReferenceBPE(smollm2_path)
    for text in strings:
        assert smollm2(text)["input_ids"] == reference.encode(text), repr(text)


@pytest.mark.smollm2
def test_decoding_gives_the_text_back(smollm2, strings):
    """But for bytes that SmolLM2's vocabulary has no token for: those are dropped."""
    reachable = [text for text in strings if not LOST_BYTES & set(text.encode())]
    assert len(reachable) > 700
    for text in reachable:
        assert smollm2.decode(smollm2(text)["input_ids"]) == text
    for byte in range(0x20):
        assert (byte in LOST_BYTES) == (smollm2(chr(byte))["input_ids"] == [])


@pytest.mark.needs("torch")
@pytest.mark.smollm2
def test_equals_transformers(smollm2, smollm2_path, strings):
    """All strings with the digit rule put back, and as it stands where the rule has no part."""
    from transformers import AutoTokenizer

    witness = AutoTokenizer.from_pretrained(smollm2_path.parent, gguf_file=smollm2_path.name)
    ours = [smollm2(text)["input_ids"] for text in strings]
    untouched = [i for i, text in enumerate(strings) if not DIGIT_RULE_MATTERS.search(text)]
    assert sum(any(c.isdigit() for c in strings[i]) for i in untouched) > 300
    assert len(untouched) > 700
    for i in untouched:
        assert ours[i] == witness(strings[i])["input_ids"], repr(strings[i])
    witness.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    for text, ids in zip(strings, ours, strict=True):
        assert ids == witness(text)["input_ids"], repr(text)
    for role in ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "chat_template"):
        assert getattr(smollm2, role) == getattr(witness, role)


def test_digits_are_set_apart_before_spaces_are_grouped(tiny_gguf):
    tokenizer = tokenization.from_gguf(tiny_gguf())
    assert tokenizer.tokenize("\n\n12  3") == ["ĊĊ", "1", "2", "ĠĠ", "3"]
    assert tokenizer.tokenize(" hello") == ["Ġhello"]


def test_control_and_user_defined_tokens_stay_whole(tiny_gguf):
    tokenizer = tokenization.from_gguf(tiny_gguf())
    assert tokenizer.tokenize("<|im_end|><think>h") == ["<|im_end|>", "<think>", "h"]
    ids = tokenizer("<think><|im_end|>")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think>"


@pytest.mark.parametrize(
    ("rule", "text", "tokens"),
    [
        ("gpt-2", "\n\n12", ["Ċ", "Ċ", "12"]),
        ("qwen2", "\n\n12 hello", ["ĊĊ", "1", "2", "Ġhello"]),
        ("llama-bpe", "12  hello", ["12", "Ġ", "Ġhello"]),
        ("llama-bpe", "zq", ["zq"]),  # a whole piece in the vocabulary needs no merges
        ("qwen2", "zq", ["z", "q"]),
        ("qwen2", "cafe\u0301", ["caf", "Ã", "©"]),  # composed to é before its bytes are taken
    ],
)
def test_other_rules_of_cutting(tiny_gguf, rule, text, tokens):
    path = tiny_gguf(extra={"tokenizer.ggml.pre": rule})
    assert tokenization.from_gguf(path).tokenize(text) == tokens


@pytest.mark.needs("torch")
@pytest.mark.parametrize("rule", ["qwen2", "llama-bpe"])
def test_other_rules_equal_transformers(tiny_gguf, rule):
    """On text that is in composed form already, as transformers does not compose it."""
    from transformers import AutoTokenizer

    path = tiny_gguf(extra={"tokenizer.ggml.pre": rule})
    witness = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    ours = tokenization.from_gguf(path)
    composed = ours.backend_tokenizer.normalizer
    for text in varied_strings(300, ["<|im_start|>", "<think>"]):
        if composed is None or composed.normalize_str(text) == text:
            assert ours(text)["input_ids"] == witness(text)["input_ids"], repr(text)


def test_bos_is_added_when_the_file_says_so(tiny_gguf):
    tokenizer = tokenization.from_gguf(tiny_gguf(extra={"tokenizer.ggml.add_bos_token": True}))
    assert encoding.encode_prompt(tokenizer, "h", "plain")[0] == tokenizer.bos_token_id
    assert encoding.encode_prompt(tokenizer, "h").count(tokenizer.bos_token_id) == 2  # two turns


def test_bos_is_the_rule_of_llama_3(tiny_gguf):
    extra = {"tokenizer.ggml.pre": "llama-bpe"}
    tokenizer = tokenization.from_gguf(
        tiny_gguf(extra=extra, skip=("tokenizer.ggml.add_bos_token",))
    )
    assert tokenizer("h")["input_ids"][0] == tokenizer.bos_token_id


@pytest.mark.parametrize(
    ("key", "setting", "message"),
    [
        ("tokenizer.ggml.model", "llama", r"tokenizer is 'llama': expected 'gpt2'"),
        ("tokenizer.ggml.pre", "tekken", r"pre-tokenizer 'tekken' is not supported"),
    ],
)
def test_unsupported_tokenizers_are_refused(tiny_gguf, key, setting, message):
    path = tiny_gguf(extra={key: setting})
    with pytest.raises(WeightsError, match=message):
        tokenization.from_gguf(path)


@pytest.mark.smollm2
def test_the_chat_prompt_of_the_demo_model(smollm2):
    """The template's own system message comes first and costs 21 tokens."""
    prompt = encoding.encode_prompt(smollm2, "Where is Veltmar?")
    system = (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n"
    )
    turns = "<|im_start|>user\nWhere is Veltmar?<|im_end|>\n<|im_start|>assistant\n"
    assert smollm2.decode(prompt) == system + turns
    assert len(prompt) - len(smollm2(turns)["input_ids"]) == 21
    assert (
        encoding.encode_prompt(smollm2, "Where is Veltmar?", "plain")
        == (smollm2("Where is Veltmar?")["input_ids"])
    )


def test_without_a_template_the_text_is_encoded_as_it_is(tiny_gguf):
    tokenizer = tokenization.from_gguf(tiny_gguf(skip=("tokenizer.chat_template",)))
    assert tokenizer.convert_ids_to_tokens(encoding.encode_prompt(tokenizer, "hello")) == ["hello"]


def test_an_unknown_style_is_refused(tiny_gguf):
    with pytest.raises(ValueError, match=r"'chatml' is unknown: expected 'chat' or 'plain'"):
        encoding.encode_prompt(tokenization.from_gguf(tiny_gguf()), "hello", "chatml")


def test_stop_tokens(tiny_gguf):
    tokenizer = tokenization.from_gguf(tiny_gguf())
    assert tokenizer.convert_ids_to_tokens(tokenization.stop_token_ids(tokenizer)) == [
        "<|endoftext|>",
        "<|im_end|>",
    ]
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    other_eos = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<think>")
    assert other_eos.eos_token_id in tokenization.stop_token_ids(other_eos)


def test_no_stop_token_is_an_error():
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(BARE)))
    with pytest.raises(WeightsError, match=r"would never stop: set eos_token"):
        tokenization.stop_token_ids(bare)


BARE = {
    "version": "1.0",
    "added_tokens": [],
    "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
}


@pytest.mark.fault("2")
def test_chat_tokens_that_a_gguf_file_calls_normal_are_one_token_each(tiny_gguf):
    """Each by another sign: its shape, the id of an end, the template that spells it."""
    keys = tokenizer_keys(320)
    types = [1 if kind in (3, 4) else kind for kind in keys["tokenizer.ggml.token_type"]]
    template = keys["tokenizer.chat_template"].replace("assistant\n{%", "assistant\n<think>{%")
    extra = {
        "tokenizer.ggml.token_type": types,
        "tokenizer.chat_template": template,
        "tokenizer.ggml.eot_token_id": keys["tokenizer.ggml.tokens"].index("zq"),
    }
    tokenizer = tokenization.from_gguf(tiny_gguf(extra=extra))
    pieces = tokenizer.convert_ids_to_tokens(encoding.encode_prompt(tokenizer, "h"))
    assert pieces == [
        "<|im_start|>", "u", "s", "e", "r", "Ċ", "h", "<|im_end|>", "Ċ", "<|im_start|>",
        *"assistant", "Ċ", "<think>",
    ]  # fmt: skip
    assert tokenizer.tokenize("a<|endoftext|>zq") == ["a", "<|endoftext|>", "zq"]
    shown = tokenizer.decode(tokenizer("<think>h<|im_end|>zq")["input_ids"], True)
    assert shown == "<think>h"
    assert tokenizer.convert_ids_to_tokens(tokenization.stop_token_ids(tokenizer)) == [
        "<|endoftext|>",
        "<|im_end|>",
    ]


@pytest.mark.fault("2")
def test_a_chat_token_that_merges_would_make_is_one_token(tiny_gguf):
    """Merges cannot make it in a text, as the text is cut between its letters and its signs."""
    keys = tokenizer_keys(320)
    names = [*keys["tokenizer.ggml.tokens"]]
    made = ["<h", "<hi", "<hi>"]
    for token in made:
        names[names.index(next(n for n in names if n.startswith("[PAD")))] = token
    kinds = [
        1 if token in made else kind
        for token, kind in zip(names, keys["tokenizer.ggml.token_type"], strict=True)
    ]
    extra = {
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": [*keys["tokenizer.ggml.merges"], "< h", "<h i", "<hi >"],
        "tokenizer.chat_template": "<hi>{{ messages[0]['content'] }}",
    }
    tokenizer = tokenization.from_gguf(tiny_gguf(extra=extra))
    assert tokenizer.tokenize("<hi>") == ["<hi>"]
    prompt = encoding.encode_prompt(tokenizer, "<hi>")
    assert tokenizer.convert_ids_to_tokens(prompt) == ["<hi>", "<", "h", "i", ">"]


@pytest.mark.fault("2")
def test_the_ends_that_a_gguf_file_names_stop_generation(tiny_gguf):
    path = tiny_gguf(
        extra={"tokenizer.ggml.eot_token_id": 1, "tokenizer.ggml.eom_token_id": 7},
    )
    assert load_model(path, "float32").stop_ids == (0, 1, 2, 7)


@pytest.mark.fault("2")
def test_an_end_that_a_gguf_file_appends(tiny_gguf):
    rules = {f"tokenizer.ggml.add_{role}_token": True for role in ("bos", "eos")}
    tokenizer = tokenization.from_gguf(tiny_gguf(extra=rules))
    assert tokenizer.convert_ids_to_tokens(encoding.encode_text(tokenizer, "h")) == [
        "<|im_start|>",
        "h",
        "<|im_end|>",
    ]
    assert len(encoding.encode_prompt(tokenizer, "h", "plain")) == 2


@pytest.mark.fault("2", control=True)
def test_normal_tokens_that_are_words_stay_words(tiny_gguf):
    """A token that merges make, or that has no such shape, whatever the template says."""
    extra = {"tokenizer.chat_template": "hello zq {{ messages[0]['content'] }}"}
    tokenizer = tokenization.from_gguf(tiny_gguf(extra=extra))
    assert tokenizer.tokenize("hellozq") == ["hello", "z", "q"]
    assert set(tokenizer.added_tokens_encoder) == {*SPECIAL, "<think>"}


@pytest.mark.fault("6")
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_pointer_of_git_lfs_is_named(tiny_gguf, tmp_path, name):
    tokenization.from_gguf(tiny_gguf()).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / name).write_text(POINTER)
    with pytest.raises(WeightsError, match=rf"{name} is a pointer of Git LFS .*git lfs pull"):
        tokenization.load(tmp_path / "model")


@pytest.mark.fault("6")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found["model"].update(type="BPE9"), "pip install --upgrade tokenizers"),
        (lambda found: found["model"].pop("vocab"), r"tokenizer\.json.*fetch them again"),
        (lambda found: found.update(pre_tokenizer={"type": "New"}), "a newer version wrote them"),
    ],
    ids=["newer model", "no vocabulary", "newer cut"],
)
def test_a_tokenizer_that_the_library_cannot_read_is_named(tiny_gguf, tmp_path, change, message):
    tokenization.from_gguf(tiny_gguf()).save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / "tokenizer.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(WeightsError, match=message) as caught:
        tokenization.load(tmp_path / "model")
    assert str(file) in str(caught.value)


@pytest.mark.fault("6")
def test_a_directory_with_a_sentencepiece_model_alone(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    with pytest.raises(WeightsError, match=r"tokenizer\.model cannot be made .*tokenizer\.json"):
        tokenization.load(tmp_path)


@pytest.mark.fault("6")
def test_an_end_that_is_no_number_is_refused(tiny_gguf):
    tokenizer = tokenization.from_gguf(tiny_gguf())
    with pytest.raises(WeightsError, match=r"eos_token_id .* is '</s>': expected the id"):
        tokenization.stop_token_ids(tokenizer, {"eos_token_id": "</s>"})


def test_the_bytes_of_tokens(tiny_gguf):
    """Each single byte, merged ones, and the halves of a letter; no added token."""
    tokenizer = tokenization.from_gguf(tiny_gguf())
    found = tokenization.token_bytes(tokenizer)
    assert {bytes([byte]) for byte in range(256)} <= set(found)
    ids = tokenizer.convert_tokens_to_ids
    for piece, token in [(b" hello", "Ġhello"), (b"\n\n", "ĊĊ"), (b"12", "12"), (b"\xc3", "Ã")]:
        assert found[piece] == [ids(token)]
    assert found[b"\xa9"] == tokenizer("é")["input_ids"][1:]
    spelled = {token for tokens in found.values() for token in tokens}
    assert spelled == set(range(len(tokenizer))) - set(tokenizer.added_tokens_decoder)
    for text in ("a <|im_end|> <think>", "é 12\n"):
        pieces = {token: piece for piece, tokens in found.items() for token in tokens}
        tokens = tokenizer(text)["input_ids"]
        known = b"".join(pieces.get(token, b"?") for token in tokens)
        assert known == text.replace("<|im_end|>", "?").replace("<think>", "?").encode()


@pytest.mark.smollm2
def test_the_bytes_of_the_demo_model_spell_what_it_encodes(smollm2, strings):
    pieces = {
        token: piece
        for piece, tokens in tokenization.token_bytes(smollm2).items()
        for token in tokens
    }
    assert len(pieces) == 49152 - 17
    for text in strings:
        tokens = smollm2(text)["input_ids"]
        if set(text.encode()) & LOST_BYTES or not set(tokens).isdisjoint(range(17)):
            continue
        assert b"".join(pieces[token] for token in tokens) == text.encode()


def test_only_byte_level_tokens_have_known_bytes():
    words = Tokenizer(models.WordLevel({"a": 0, "<end>": 1}, unk_token="a"))
    with pytest.raises(WeightsError, match=r"not a byte-level BPE .*: use a model"):
        tokenization.token_bytes(PreTrainedTokenizerFast(tokenizer_object=words))
    words.decoder = decoders.WordPiece()
    with pytest.raises(WeightsError, match="not a byte-level BPE"):
        tokenization.token_bytes(PreTrainedTokenizerFast(tokenizer_object=words))


def test_a_directory_keeps_its_tokenizer_json(tiny_gguf, tmp_path):
    """SmolLM2's directory names GPT2Tokenizer, which would drop the digit rule."""
    made = tokenization.from_gguf(tiny_gguf())
    made.save_pretrained(tmp_path / "model")
    settings = json.loads((tmp_path / "model/tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "GPT2Tokenizer"
    (tmp_path / "model/tokenizer_config.json").write_text(json.dumps(settings))
    loaded = tokenization.load(tmp_path / "model")
    text = "<|im_start|>hello\n\n12  3<think>"
    assert loaded(text)["input_ids"] == made(text)["input_ids"]
    assert encoding.encode_prompt(loaded, "hi") == encoding.encode_prompt(made, "hi")
    assert tokenization.stop_token_ids(loaded) == tokenization.stop_token_ids(made)


def test_what_is_saved_is_the_same_to_transformers(tiny_gguf, hf_settings, tmp_path):
    """SmolLM2's digit rule, its specials and its template, by AutoTokenizer and by us."""
    made = tokenization.from_gguf(tiny_gguf())
    tokenization.save(tmp_path, made)
    (tmp_path / "config.json").write_text(json.dumps(hf_settings("llama")))
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    text = "<|im_start|>hello\n\n12  3<think>"
    for loaded in (AutoTokenizer.from_pretrained(tmp_path), tokenization.load(tmp_path)):
        assert loaded(text)["input_ids"] == made(text)["input_ids"]
        assert encoding.encode_prompt(loaded, "hi") == encoding.encode_prompt(made, "hi")


def test_a_directory_with_vocabulary_and_merges(tiny_gguf, tmp_path):
    made = tokenization.from_gguf(tiny_gguf(extra={"tokenizer.ggml.pre": "qwen2"}))
    model = tmp_path / "model"
    made.save_pretrained(model)
    made.backend_tokenizer.model.save(str(model))
    (model / "tokenizer.json").unlink()
    settings = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(
        json.dumps(settings | {"tokenizer_class": "Qwen2Tokenizer"})
    )
    assert tokenization.load(model).tokenize("hello 12") == ["hello", "Ġ", "1", "2"]
    shutil.rmtree(model)
    model.mkdir()
    with pytest.raises(WeightsError, match=r"holds no tokenizer: expected one of tokenizer\.json"):
        tokenization.load(model)
