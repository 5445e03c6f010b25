"""Models that think: what they only think is no text of theirs, and no gold answer waits in it."""

import dataclasses
import types

import numpy as np
import pytest
from tokenizers import AddedToken

from seal_jax.core import evaluate, sampling
from seal_jax.loop import answering, sample
from seal_jax.weights import tokenizer

_OPENS = (
    "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|model|><think>\n{% endif %}"
)
_CHANNELS = ["<|start|>", "<|channel|>", "<|message|>", "<|return|>"]


@pytest.fixture
def session(without_model, tiny_settings, checkpoint, change):
    """(template, special tokens) -> a session of such a model, without parameters."""

    def make(template="", special=()):
        made = tokenizer.load(checkpoint)
        made.add_tokens([AddedToken(token, special=True) for token in special])
        made.chat_template = template or made.chat_template
        asked = {"edits.samples": 1, "answers.prompt_style": "chat"}
        settings = change(tiny_settings, asked)
        found = dataclasses.replace(without_model(settings), tokenizer=made)
        return dataclasses.replace(found, stop_ids=tokenizer.stop_token_ids(made))

    return make


@pytest.fixture
def says(monkeypatch):
    """(session, text, stopped=True) -> what models write from now on, whatever they are asked."""

    def write(session, text, stopped=True):
        ids = session.tokenizer(text, add_special_tokens=False)["input_ids"]

        def generate(rows):
            return types.SimpleNamespace(
                tokens_BxN=np.tile(ids, (rows, 1)),
                lengths_B=np.full(rows, len(ids)),
                stopped_B=np.full(rows, stopped),
            )

        monkeypatch.setattr(
            sampling,
            "generate_jit",
            lambda static, params, prompts_PxT, *_, **__: generate(len(prompts_PxT)),
        )
        monkeypatch.setattr(
            evaluate,
            "answers_of_candidates",
            lambda static, params, deltas, prompts_KxQxT, *_: generate(
                prompts_KxQxT.shape[0] * prompts_KxQxT.shape[1]
            ),
        )

    return write


def _edit(session):
    prompts = sample.edit_prompts(session, session.task.contexts("eval")[:1])
    [edit] = sample._sample(
        session, {}, prompts, at_once=1, draw="d", samples=1, automaton=session.automaton
    )
    return edit


@pytest.mark.fault("3")
def test_a_self_edit_is_what_comes_after_the_thoughts(session, says):
    """Its tokens are as sampled: the policy learns to think as it did."""
    thinks = session()
    says(thinks, "<think>\nRed?\n</think>\n\nThe tower is red.<|end|>")
    edit = _edit(thinks)
    assert (edit.text, edit.thoughts, edit.stopped) == ("The tower is red.", "Red?", True)
    assert edit.record()["thoughts"] == "Red?"
    assert thinks.tokenizer.decode(edit.tokens).startswith("<think>")


@pytest.mark.fault("3")
def test_thoughts_that_the_template_begins(session, says):
    thinks = session(_OPENS)
    says(thinks, "Red?</think>The tower is red.<|end|>")
    assert _edit(thinks).text == "The tower is red."
    says(thinks, "Red? Or blue", stopped=False)
    edit = _edit(thinks)
    assert (edit.text, edit.thoughts, edit.stopped) == ("", "Red? Or blue", False)


@pytest.mark.fault("3")
def test_channels_that_are_special_tokens(session, says):
    """They are no text of their own, and yet say what is an answer."""
    thinks = session(special=_CHANNELS)
    says(
        thinks,
        "<|channel|>analysis<|message|>Red?<|start|>assistant<|channel|>final<|message|>"
        "The tower is red.<|end|>",
    )
    edit = _edit(thinks)
    assert (edit.text, edit.thoughts) == ("The tower is red.", "Red?")


@pytest.mark.fault("3", control=True)
def test_without_thoughts_a_text_is_what_the_tokenizer_says(session, says):
    plain = session()
    says(plain, " The tower\n is red. <|user|><|end|>")
    edit = _edit(plain)
    assert edit.text == "The tower\n is red."
    assert "thoughts" not in edit.record()


@pytest.mark.fault("3")
def test_answers_without_thoughts_and_with_marks_where_they_are_cut_off(session, says):
    thinks = session()
    context = thinks.task.contexts("eval")[0]
    exam = thinks.exam(context, "adapted")._replace(scored=())
    exam = exam._replace(exam=dataclasses.replace(exam.exam, scored=()))
    first, second = (question.id for question in context.questions)
    says(thinks, "<think>21?</think>Red<|end|>")
    [record] = answering.ask(thinks, {}, None, [exam], count=1, width=128, draws=[("x",)])
    assert record["texts"] == {first: "Red", second: "Red"}
    assert record["thoughts"] == {first: "21?", second: "21?"}
    assert "cut_off" not in record
    says(thinks, "Red and", stopped=False)
    [record] = answering.ask(thinks, {}, None, [exam], count=1, width=128, draws=[("x",)])
    assert (record["texts"][first], record["cut_off"]) == ("Red and", [first, second])
    assert "thoughts" not in record


@pytest.mark.fault("3")
def test_gold_answers_are_scored_after_the_thoughts(session):
    thinks = session(_OPENS)
    exam = thinks.exam(thinks.task.contexts("eval")[0], "adapted")
    for asked, (scored, _) in zip(exam.prompts, exam.scored, strict=True):
        assert thinks.tokenizer.decode(asked).endswith("<|model|><think>\n")
        assert thinks.tokenizer.decode(scored).endswith("<|model|><think>\n\n</think>\n\n")
    plain = session()
    exam = plain.exam(plain.task.contexts("eval")[0], "adapted")
    assert exam.prompts == tuple(prompt for prompt, _ in exam.scored), "no other prompt changes"
