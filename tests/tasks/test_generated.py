"""What a generated text says, and what it only thought."""

import time

import pytest

from seal_jax.tasks import directives, generated
from seal_jax.tasks.knowledge import entity_graph, instructed, parse
from seal_jax.tasks.protocol import Context

_FINAL = "<|channel|>analysis<|message|>21?<|end|><|start|>assistant<|channel|>final<|message|>Yes"


@pytest.mark.fault("3")
@pytest.mark.parametrize(
    "text, said, thoughts",
    [
        ("It is red.", "It is red.", ""),
        ("<think>Red?</think>\n\nIt is red.\n", "It is red.", "Red?"),
        ("<think>\nRed?\n</think>It is red.", "It is red.", "Red?"),
        ("<thinking>Red?</thinking> It is red.", "It is red.", "Red?"),
        ("<Thought>Red?</Thought> It is red.", "It is red.", "Red?"),
        ("[THINK]Red?[/THINK]It is red.", "It is red.", "Red?"),
        ("Red?\n</think>\n\nIt is red.", "It is red.", "Red?"),  # begun by the prompt
        ("<think>Red? Blue", "", "Red? Blue"),  # cut off
        ("Yes.\n<think>Or not", "Yes.", "Or not"),
        ("<think></think>\n\nIt is red.", "It is red.", ""),
        ("<think>Red?</think>It is\n<think>Or?</think> red.", "It is\n red.", "Red?\n\nOr?"),
        ("<think>a<think>b</think>c</think> It is red.", "It is red.", "a<think>b\n\nc"),
        ("Write <think> before a thought.", "Write <think> before a thought.", ""),
        (_FINAL, "Yes", "21?"),
        (_FINAL + "<|return|>", "Yes", "21?"),
        ("21?<|end|><|start|>assistant<|channel|>final<|message|>Yes", "Yes", "21?"),
        ("<|channel|>commentary to=f <|constrain|>json<|message|>{}<|call|>", "", "{}"),
        ("<|channel|>analysis<|message|>21", "", "21"),
        ("analysisWe compare.assistantfinalYes", "Yes", "We compare."),
        ("analysis of the mills", "analysis of the mills", ""),
        ("Yes<|im_end|>\n", "Yes", ""),
        ("Yes.</s></s>", "Yes.", ""),
        ("", "", ""),
    ],
)
def test_thoughts_are_taken_off_and_kept_apart(text, said, thoughts):
    assert generated.read(text) == (said, thoughts, False)


@pytest.mark.fault("3")
def test_a_thought_that_the_prompt_begins_ends_in_the_text_or_is_all_of_it():
    assert generated.read("Red?</think>It is.", opened=True) == ("It is.", "Red?", False)
    assert generated.read("Red? Blue", opened=True, cut_off=True) == ("", "Red? Blue", True)


@pytest.mark.fault("3")
@pytest.mark.parametrize(
    "prompt, then",
    [
        ("<|model|>", ""),
        ("<|model|><think>\n", "\n</think>\n\n"),
        ("<|model|><think>", "\n\n</think>\n\n"),
        ("<|model|><think>\n\n</think>\n\n", ""),
        ("<|start|>assistant", "<|channel|>final<|message|>"),
        (
            "<|channel|>analysis<|message|>",
            "<|end|><|start|>assistant<|channel|>final<|message|>",
        ),
    ],
)
def test_what_comes_between_a_prompt_and_an_answer(prompt, then):
    assert generated.until_answer(prompt) == then
    assert not generated.opens(prompt + then)


_ADA = Context("a", "Ada", "Ada met Babbage.")
_READERS = {
    "generated": generated.read,
    "lines": parse.split_lines,
    "questions": parse.split_questions,
    "dashes": parse.split_dashes,
    "marker": lambda text: parse.after_marker(text, "Statements:"),
    "entities": lambda text: entity_graph.parse_entities(text, _ADA),
    "instructions": instructed.instructions,
    "directives": lambda text: _refused(text),
}


def _refused(text):
    with pytest.raises(directives.HeadError):
        directives.split(text, directives.NAMES, directives.Limits())


@pytest.mark.fault("S7")
@pytest.mark.parametrize(
    "reader, begin, unit, count",
    [
        *[("generated", "", unit, 20_000) for unit in ("<think>", "</think>", "<think>\n", "\n")],
        *[("generated", "", unit, 20_000) for unit in ("<|channel|>", "<|im_end|>", "\n[THINK]")],
        *[(reader, "", "\n", 80_000) for reader in _READERS],
        ("marker", "", "_", 20_000),
        ("marker", "1.", "_", 20_000),
        ("instructions", "", "1. ", 20_000),
        ("entities", '["', '\\"', 20_000),
    ],
)
def test_reading_takes_time_in_proportion_to_the_text(reader, begin, unit, count):
    start = time.process_time()
    _READERS[reader](begin + unit * count + "x")
    assert time.process_time() - start < 1
