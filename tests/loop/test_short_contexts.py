"""Contexts that are so short that no token is counted to find that they fit."""

import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seal_jax.loop import session as session_lib
from seal_jax.loop.session import Session, most_tokens
from seal_jax.tasks import registry
from seal_jax.weights import tokenizer as tokenizer_lib


@pytest.fixture(scope="module")
def tokenizer(checkpoint):
    return tokenizer_lib.load(checkpoint)


@pytest.fixture
def opened(tiny_settings, tokenizer, change):
    """(changed settings) -> a session without weights that counts the prompts it makes."""

    class Counting(Session):
        def prompt(self, turn, *args, **kwargs):
            made.append(turn)
            return super().prompt(turn, *args, **kwargs)

    made = []

    def make(changes):
        own = change(tiny_settings, changes)
        return made, Counting(
            settings=own,
            model=types.SimpleNamespace(max_positions=4096),
            tokenizer=tokenizer,
            source="",
            devices=None,
            base={},
            stop_ids=(),
            task=registry.open_task(own),
            grader=None,
        )

    return make


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=st.text(max_size=200))
def test_a_text_never_has_more_tokens_than_it_may_have(tokenizer, text):
    text = text.encode("utf-8", "replace").decode()
    assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) <= most_tokens(text)


def test_the_letter_that_grows_most():
    assert most_tokens("a b") == 3
    assert most_tokens("\ufdfa") >= len("صلى الله عليه وسلم".encode())


LARGE = {"edits.prompt_buckets": (4000,), "answers.prompt_buckets": (4000,),
         "restem.sft.buckets": (4096,)}  # fmt: skip


def test_short_contexts_are_not_turned_into_tokens_to_be_found_short(opened):
    made, session = opened(LARGE)
    every = session.task.contexts("train")
    assert {session.unfit(context, ("adapted", "reading")) for context in every} == {""}
    assert set(made) == {"x"}


@pytest.mark.parametrize("key", ["edits.prompt_buckets", "answers.prompt_buckets"])
def test_what_may_be_too_long_is_counted(opened, monkeypatch, key):
    made, session = opened(LARGE | {key: (60,)})
    counted = [session.unfit(context) for context in session.task.contexts("train")]
    assert set(made) > {"x"}
    monkeypatch.setattr(session_lib.Session, "_is_short", lambda *_, **__: False)
    _, exact = opened(LARGE | {key: (60,)})
    assert [exact.unfit(context) for context in exact.task.contexts("train")] == counted
