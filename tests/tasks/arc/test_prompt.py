"""Few-shot prompts: the words, the tokens that are trained on, and that prompts begin examples."""

import itertools

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from seal_jax.tasks.arc import prompt
from seal_jax.tasks.arc.arc import Example, Pair
from seal_jax.tasks.arc.grids import check
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


def runs(tokenizer, encoded):
    """The texts of unbroken runs of tokens that are trained on."""
    pairs = zip(encoded.mask, encoded.tokens, strict=True)
    return [
        tokenizer.decode([token for _, token in group])
        for trained, group in itertools.groupby(pairs, key=lambda pair: pair[0])
        if trained
    ]


@pytest.mark.parametrize(
    ("form", "grid_lines"),
    [
        ("digits", ["01\n23", "4567", "8\n9", "012", "4567"]),
        ("nested", ["[[0, 1], [2, 3]]", "[[4, 5, 6, 7]]", "[[8], [9]]", "[[0, 1, 2]]",
                    "[[4, 5, 6, 7]]"]),
    ],
)  # fmt: skip
def test_the_users_turn(form, grid_lines):
    one, two, three, four, asked = grid_lines
    turn = prompt.query(EXAMPLE.demonstrations, EXAMPLE.query.input, form)
    instruction, _, rest = turn.partition("\n\n")
    assert "rule" in instruction and "output grid only" in instruction
    assert rest == (
        f"Input:\n{one}\nOutput:\n{two}\n\nInput:\n{three}\nOutput:\n{four}\n\n"
        f"Input:\n{asked}\nOutput:"
    )
    assert prompt.answer(EXAMPLE.query.output, form) == one


@pytest.mark.parametrize("form", ["digits", "nested"])
@pytest.mark.parametrize("outputs_only", [True, False])
def test_a_prompt_begins_its_examples(any_tokenizer, form, outputs_only):
    """So that the model is asked with the tokens that it was trained after."""
    for query_output in GRIDS:
        pair = Pair(GRIDS[3], query_output)
        asked = prompt.query_tokens(any_tokenizer, EXAMPLE.demonstrations, pair.input, form)
        example = Example(EXAMPLE.demonstrations, pair)
        encoded = prompt.tokenize(any_tokenizer, example, form, outputs_only=outputs_only)
        assert encoded.tokens[: len(asked)] == asked
        said = any_tokenizer.decode(encoded.tokens[len(asked) :])
        end = any_tokenizer.eos_token if any_tokenizer.eos_token in said else "<|im_end|>"
        assert said == prompt.answer(query_output, form) + end
        assert all(encoded.mask[len(asked) :])
        assert len(encoded.mask) == len(encoded.tokens)


def test_output_tokens(any_tokenizer):
    end = "<|eot_id|>" if "<|eot_id|>" in any_tokenizer.chat_template else "<|im_end|>"
    encoded = prompt.tokenize(any_tokenizer, EXAMPLE, "digits", outputs_only=True)
    assert runs(any_tokenizer, encoded) == ["4567", "012", f"01\n23{end}"]


@pytest.mark.smollm2
def test_output_tokens_of_nested_lists(smollm2):
    encoded = prompt.tokenize(smollm2, EXAMPLE, "nested", outputs_only=True)
    assert runs(smollm2, encoded) == [
        "[[4, 5, 6, 7]]",
        "[[0, 1, 2]]",
        "[[0, 1], [2, 3]]<|im_end|>",
    ]


def test_a_token_that_goes_beyond_an_output_counts_as_one_of_it(llama_3):
    """The last brackets and the empty line after them are one token here, and in Llama 3."""
    assert "]]ĊĊ" in llama_3.tokenize("[[1]]\n\nInput")
    encoded = prompt.tokenize(llama_3, EXAMPLE, "nested", outputs_only=True)
    assert runs(llama_3, encoded) == [
        "[[4, 5, 6, 7]]\n\n",
        "[[0, 1, 2]]\n\n",
        "[[0, 1], [2, 3]]<|eot_id|>",
    ]


@pytest.mark.parametrize("form", ["digits", "nested"])
def test_all_tokens_but_the_assistants_header(any_tokenizer, form):
    encoded = prompt.tokenize(any_tokenizer, EXAMPLE, form, outputs_only=False)
    before, after = runs(any_tokenizer, encoded)
    left_out = [t for t, m in zip(encoded.tokens, encoded.mask, strict=True) if not m]
    assert any_tokenizer.decode(left_out) in (
        "<|start|>assistant<|end|>\n\n",
        "<|im_start|>assistant\n",
    )
    assert before.rstrip("\n").endswith(f"Output:{after[-len('<|im_end|>') :]}")
    assert after.startswith(prompt.answer(EXAMPLE.query.output, form))


def test_the_end_of_turn_is_the_last_token(any_tokenizer):
    """A template's line break after it is no part of what the model has to write."""
    encoded = prompt.tokenize(any_tokenizer, EXAMPLE, "digits", outputs_only=False)
    assert encoded.tokens[-1] in tokenization.stop_token_ids(any_tokenizer)
    assert encoded.mask[-1]


def test_the_spans_are_in_the_order_of_the_outputs(chatml):
    made = prompt.training_text(chatml, EXAMPLE, "digits")
    assert [made.text[start:end] for start, end in made.outputs] == ["4567", "012", "01\n23"]


def test_without_demonstrations(chatml):
    example = Example((), EXAMPLE.query)
    encoded = prompt.tokenize(chatml, example, "digits", outputs_only=True)
    assert runs(chatml, encoded) == ["01\n23<|im_end|>"]


def test_grids_that_are_alike_are_told_apart(chatml):
    """An input equal to the output is not trained on, nor is the answer's copy in the prompt."""
    same = Pair(GRIDS[0], GRIDS[0])
    example = Example((same, same), same)
    encoded = prompt.tokenize(chatml, example, "digits", outputs_only=True)
    assert runs(chatml, encoded) == ["01\n23", "01\n23", "01\n23<|im_end|>"]
    text = prompt.training_text(chatml, example, "digits")
    assert [text.text[start - 8 : end] for start, end in text.outputs[:2]] == (
        ["Output:\n01\n23"] * 2
    )


@pytest.mark.smollm2
def test_what_a_prompt_costs(smollm2):
    """Beside the grids' own: 72 of SmolLM2's tokens, and 9 more for each demonstration."""
    pair = Pair(check([[1]]), check([[2]]))
    for n in range(3):
        tokens = prompt.query_tokens(smollm2, [pair] * n, pair.input, "digits")
        assert len(tokens) == 72 + 9 * n + (2 * n + 1)  # cells


def test_the_template_does_not_read_the_clock(llama_3):
    example = prompt.training_text(llama_3, EXAMPLE, "digits")
    assert example.text.startswith(
        "<|bos|><|start|>system<|end|>\n\nToday is 01 Jan 2025<|eot_id|>"
    )
    asked = prompt.query_tokens(llama_3, EXAMPLE.demonstrations, EXAMPLE.query.input, "digits")
    assert llama_3.decode(asked) == example.text[: example.header[1]]


def test_outputs_that_are_not_known(chatml):
    unknown = Pair(GRIDS[0], None)
    for example in (Example((unknown,), EXAMPLE.query), Example(EXAMPLE.demonstrations, unknown)):
        with pytest.raises(prompt.PromptError, match=r"an output is not known"):
            prompt.tokenize(chatml, example, "digits", outputs_only=True)
    assert prompt.query_tokens(chatml, EXAMPLE.demonstrations, unknown.input, "digits")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (None, r"has no chat template, which few-shot prompts need"),
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
    with pytest.raises(prompt.PromptError, match=reason):
        prompt.tokenize(tokenizer, EXAMPLE, "digits", outputs_only=True)


def test_no_query_without_a_template():
    with pytest.raises(prompt.PromptError, match=r"has no chat template"):
        prompt.query_tokens(make_tokenizer(None), EXAMPLE.demonstrations, GRIDS[0], "digits")


def test_a_tokenizer_that_joins_prompt_and_answer_is_refused():
    """Here the prompt's last line break and the answer's first bracket would be one token."""
    joins = make_tokenizer(CHATML, cut=r"\s*\S+", merges=["[ [", "Ċ [["], eos="<|im_end|>")
    with pytest.raises(prompt.PromptError, match=r"joins the end of the prompt with the answer"):
        prompt.tokenize(joins, EXAMPLE, "nested", outputs_only=True)
    prompt.tokenize(joins, EXAMPLE, "digits", outputs_only=True)


def test_a_tokenizer_without_offsets_is_refused(chatml):
    class Slow:
        chat_template = chatml.chat_template
        is_fast = False

    with pytest.raises(prompt.PromptError, match=r"tells no offsets, which loss masks need"):
        prompt.tokenize(Slow(), EXAMPLE, "digits", outputs_only=True)
