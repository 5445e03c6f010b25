"""Chats as tokens: which are trained on, that prompts begin them, and what is refused."""

import hashlib
import itertools
import json

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from seal_jax.tasks.arc import prompt
from seal_jax.tasks.arc.arc import Example, Pair
from seal_jax.tasks.arc.grids import check
from seal_jax.tasks.protocol import Chat
from seal_jax.weights import encoding
from seal_jax.weights import tokenizer as tokenization

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_3 = (
    "{{ bos_token }}<|start|>system<|end|>\n\nToday is {{ date_string }}<|eot_id|>"
    "{% for message in messages %}<|start|>{{ message['role'] }}<|end|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
)
# Llama 3 cuts numbers into threes, and takes line breaks into the token of the marks before them.
LLAMA_3_CUT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = ["<|bos|>", "<|start|>", "<|end|>", "<|eot_id|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["Ċ Ċ", "] ]", "]] ĊĊ", "[ [", ": Ċ", "0 1", "2 3", "01 2", "I n", "Ġ [", "] ,"]


def make_tokenizer(template, *, cut=LLAMA_3_CUT, merges=MERGES, eos="<|eot_id|>"):
    """A byte-level BPE of a few merges."""
    merges = [tuple(merge.split(" ")) for merge in merges]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*SPECIAL, *letters, *("".join(merge) for merge in merges)]
    vocabulary = {word: index for index, word in enumerate(words)}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    split = pre_tokenizers.Split(tokenizers.Regex(cut), behavior="isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, chat_template=template, bos_token="<|bos|>", eos_token=eos
    )


@pytest.fixture(scope="module")
def llama_3():
    return make_tokenizer(LLAMA_3)


@pytest.fixture(scope="module")
def chatml():
    return make_tokenizer(CHATML, eos="<|im_end|>")


@pytest.fixture(scope="module")
def smollm2(smollm2_path):
    return tokenization.from_gguf(smollm2_path)


@pytest.fixture(params=["llama_3", "chatml", pytest.param("smollm2", marks=pytest.mark.smollm2)])
def any_tokenizer(request):
    return request.getfixturevalue(request.param)


GRIDS = [check(rows) for rows in ([[0, 1], [2, 3]], [[4, 5, 6, 7]], [[8], [9]], [[0, 1, 2]])]
EXAMPLE = Example((Pair(GRIDS[0], GRIDS[1]), Pair(GRIDS[2], GRIDS[3])), Pair(GRIDS[1], GRIDS[0]))


def encode_chat(tokenizer, chat):
    return encoding.encode_chat(tokenizer, chat, tokenization.stop_token_ids(tokenizer))


def encode(tokenizer, example, form, *, outputs_only):
    return encode_chat(tokenizer, prompt.chat(example, form, outputs_only=outputs_only))


def asked_with(tokenizer, demonstrations, query_input, form):
    """The tokens that ask for an output grid, up to where the assistant begins."""
    return encoding.encode_prompt(tokenizer, prompt.query(demonstrations, query_input, form))


def runs(tokenizer, encoded):
    """The texts of unbroken runs of tokens that are trained on."""
    pairs = zip(encoded.loss_mask, encoded.tokens, strict=True)
    return [
        tokenizer.decode([token for _, token in group])
        for trained, group in itertools.groupby(pairs, key=lambda pair: pair[0])
        if trained
    ]


DIGESTS = {  # of tokens and masks of EXAMPLE, as they were before chats were tasks' own affair
    ("llama_3", "digits", True): "030f1cd09700dbc8",
    ("llama_3", "digits", False): "ce49bef14ae94293",
    ("llama_3", "nested", True): "472f1eb0e878b7cb",
    ("llama_3", "nested", False): "4e9ffa21fc268948",
    ("chatml", "digits", True): "a99ff7567a8c3528",
    ("chatml", "digits", False): "8c1b525c1f546874",
    ("chatml", "nested", True): "752d64ffab3da6d9",
    ("chatml", "nested", False): "bff6d8eff7fdfb9b",
    ("smollm2", "digits", True): "958ea9fe4f4625c6",
    ("smollm2", "digits", False): "5b270c77d75ff732",
    ("smollm2", "nested", True): "064511030fb0572d",
    ("smollm2", "nested", False): "44985963f4d67387",
}


@pytest.mark.parametrize(
    ("name", "form", "outputs_only"),
    [pytest.param(*key, marks=pytest.mark.smollm2 if key[0] == "smollm2" else ())
     for key in DIGESTS],
)  # fmt: skip
def test_tokens_and_masks_stay_the_same(request, name, form, outputs_only):
    tokenizer = request.getfixturevalue(name)
    encoded = encode(tokenizer, EXAMPLE, form, outputs_only=outputs_only)
    text = json.dumps([encoded.tokens, [int(trained) for trained in encoded.loss_mask]])
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert digest == DIGESTS[name, form, outputs_only]


@pytest.mark.parametrize("form", ["digits", "nested"])
@pytest.mark.parametrize("outputs_only", [True, False])
def test_a_prompt_begins_its_examples(any_tokenizer, form, outputs_only):
    """So that the model is asked with the tokens that it was trained after."""
    for query_output in GRIDS:
        pair = Pair(GRIDS[3], query_output)
        asked = asked_with(any_tokenizer, EXAMPLE.demonstrations, pair.input, form)
        example = Example(EXAMPLE.demonstrations, pair)
        encoded = encode(any_tokenizer, example, form, outputs_only=outputs_only)
        assert list(encoded.tokens[: len(asked)]) == asked
        said = any_tokenizer.decode(encoded.tokens[len(asked) :])
        end = any_tokenizer.eos_token if any_tokenizer.eos_token in said else "<|im_end|>"
        assert said == prompt.answer(query_output, form) + end
        assert all(encoded.loss_mask[len(asked) :])
        assert len(encoded.loss_mask) == len(encoded.tokens)


def test_output_tokens(any_tokenizer):
    end = "<|eot_id|>" if "<|eot_id|>" in any_tokenizer.chat_template else "<|im_end|>"
    encoded = encode(any_tokenizer, EXAMPLE, "digits", outputs_only=True)
    assert runs(any_tokenizer, encoded) == ["4567", "012", f"01\n23{end}"]


@pytest.mark.smollm2
def test_output_tokens_of_nested_lists(smollm2):
    encoded = encode(smollm2, EXAMPLE, "nested", outputs_only=True)
    assert runs(smollm2, encoded) == [
        "[[4, 5, 6, 7]]",
        "[[0, 1, 2]]",
        "[[0, 1], [2, 3]]<|im_end|>",
    ]


def test_a_token_that_goes_beyond_an_output_counts_as_one_of_it(llama_3):
    """The last brackets and the empty line after them are one token here, and in Llama 3."""
    assert "]]ĊĊ" in llama_3.tokenize("[[1]]\n\nInput")
    encoded = encode(llama_3, EXAMPLE, "nested", outputs_only=True)
    assert runs(llama_3, encoded) == [
        "[[4, 5, 6, 7]]\n\n",
        "[[0, 1, 2]]\n\n",
        "[[0, 1], [2, 3]]<|eot_id|>",
    ]


@pytest.mark.parametrize("form", ["digits", "nested"])
def test_all_tokens_but_the_assistants_header(any_tokenizer, form):
    encoded = encode(any_tokenizer, EXAMPLE, form, outputs_only=False)
    before, after = runs(any_tokenizer, encoded)
    left_out = [t for t, m in zip(encoded.tokens, encoded.loss_mask, strict=True) if not m]
    assert any_tokenizer.decode(left_out) in (
        "<|start|>assistant<|end|>\n\n",
        "<|im_start|>assistant\n",
    )
    assert before.rstrip("\n").endswith(f"Output:{after[-len('<|im_end|>') :]}")
    assert after.startswith(prompt.answer(EXAMPLE.query.output, form))


def test_the_end_of_turn_is_the_last_token(any_tokenizer):
    """A template's line break after it is no part of what the model has to write."""
    encoded = encode(any_tokenizer, EXAMPLE, "digits", outputs_only=False)
    assert encoded.tokens[-1] in tokenization.stop_token_ids(any_tokenizer)
    assert encoded.loss_mask[-1]


def test_without_demonstrations(chatml):
    example = Example((), EXAMPLE.query)
    encoded = encode(chatml, example, "digits", outputs_only=True)
    assert runs(chatml, encoded) == ["01\n23<|im_end|>"]


def test_grids_that_are_alike_are_told_apart(chatml):
    """An input equal to the output is not trained on, nor is the answer's copy in the prompt."""
    same = Pair(GRIDS[0], GRIDS[0])
    example = Example((same, same), same)
    encoded = encode(chatml, example, "digits", outputs_only=True)
    assert runs(chatml, encoded) == ["01\n23", "01\n23", "01\n23<|im_end|>"]


@pytest.mark.smollm2
def test_what_a_prompt_costs(smollm2):
    """Beside the grids' own: 72 of SmolLM2's tokens, and 9 more for each demonstration."""
    pair = Pair(check([[1]]), check([[2]]))
    for n in range(3):
        tokens = asked_with(smollm2, [pair] * n, pair.input, "digits")
        assert len(tokens) == 72 + 9 * n + (2 * n + 1)  # cells


def test_the_template_does_not_read_the_clock(llama_3):
    encoded = encode(llama_3, EXAMPLE, "digits", outputs_only=False)
    opening = "<|bos|><|start|>system<|end|>\n\nToday is 01 Jan 2025<|eot_id|>"
    assert llama_3.decode(encoded.tokens).startswith(opening)
    asked = asked_with(llama_3, EXAMPLE.demonstrations, EXAMPLE.query.input, "digits")
    assert llama_3.decode(asked).startswith(opening)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (None, r"has no chat template, which training on chats needs"),
        (CHATML.replace("message['content']", "message['content'] | upper"),
         r"does not write a user's turn as it is given"),
        (CHATML.replace("message['content']", "message['content'] * 2"),
         r"does not write a user's turn as it is given"),
        (CHATML.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>"),
         r"does not continue its own prompt with the assistant's turn"),
        (CHATML.replace("<|im_end|>", "<|end|>"), r"does not end the assistant's turn by a token"),
    ],
)  # fmt: skip
def test_templates_that_cannot_be_used(template, reason):
    tokenizer = make_tokenizer(template, eos="<|im_end|>")
    with pytest.raises(encoding.ChatError, match=reason):
        encode(tokenizer, EXAMPLE, "digits", outputs_only=True)


def test_a_tokenizer_that_joins_prompt_and_answer_is_refused():
    """Here the prompt's last line break and the answer's first bracket would be one token."""
    joins = make_tokenizer(CHATML, cut=r"\s*\S+", merges=["[ [", "Ċ [["], eos="<|im_end|>")
    with pytest.raises(encoding.ChatError, match=r"joins the end of the prompt with the answer"):
        encode(joins, EXAMPLE, "nested", outputs_only=True)
    encode(joins, EXAMPLE, "digits", outputs_only=True)


def test_a_tokenizer_without_offsets_is_refused(chatml):
    class Slow:
        chat_template = chatml.chat_template
        is_fast = False

    with pytest.raises(encoding.ChatError, match=r"tells no offsets, which loss masks need"):
        encoding.encode_chat(Slow(), Chat(turns=(("user", "2"), ("assistant", "3"))), ())


# What a domain may say, whose chats have more turns than few-shot learning's.
MANY = Chat(
    turns=(
        ("system", "Be brief."),
        ("user", "user"),  # a word of the template too
        ("assistant", "012"),
        ("user", "01"),  # a part of the turn before
        ("assistant", "012"),  # said already
        ("user", ""),
        ("assistant", "23"),
    ),
    spans=((0, 0, 2), (3, 0, 2), (4, 1, 3), (6, 0, 1)),
)


def bracketed(tokenizer, encoded):
    """The text of a chat, with brackets round what is trained on."""
    pairs = zip(encoded.loss_mask, encoded.tokens, strict=True)
    texts = [
        (trained, tokenizer.decode([token for _, token in group]))
        for trained, group in itertools.groupby(pairs, key=lambda pair: pair[0])
    ]
    return "".join(f"[{text}]" if trained else text for trained, text in texts)


@pytest.mark.parametrize(
    ("name", "third", "last"),
    [
        ("chatml", "[012]", "[23<|im_end|>]"),  # each number is one token
        pytest.param("smollm2", "0[12]", "[2]3[<|im_end|>]", marks=pytest.mark.smollm2),
    ],
)
def test_spans_of_any_turn_are_trained_on(request, name, third, last):
    tokenizer = request.getfixturevalue(name)
    begin, end = "<|im_start|>", "<|im_end|>\n"
    assert bracketed(tokenizer, encode_chat(tokenizer, MANY)) == (
        f"{begin}system\n[Be] brief.{end}{begin}user\nuser{end}{begin}assistant\n012{end}"
        f"{begin}user\n[01]{end}{begin}assistant\n{third}{end}{begin}user\n{end}"
        f"{begin}assistant\n{last}"
    )


def test_all_turns_but_the_last_header_are_trained_on_without_spans(chatml):
    encoded = encode_chat(chatml, Chat(turns=MANY.turns))
    before, after = runs(chatml, encoded)
    assert before.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nuser")
    assert after == "23<|im_end|>"


@pytest.mark.parametrize("said", [" 01", "01\n"])
def test_a_turn_that_the_template_trims_is_refused(llama_3, said):
    turns = (("user", "2"), ("assistant", "3"))
    for place in range(2):
        changed = [*turns]
        changed[place] = (turns[place][0], said)
        with pytest.raises(encoding.ChatError, match=r"does not (write|continue|end)"):
            encode_chat(llama_3, Chat(turns=tuple(changed)))
