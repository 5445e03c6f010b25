"""A session's texts as tokens."""

import dataclasses

import pytest
from tokenizers_of import sentencepiece_like


@pytest.mark.fault("1")
def test_a_sessions_gold_answers_follow_their_prompts(without_model, tiny_settings, change):
    """Through the session that knowledge, ARC, adapt and the API share."""
    settings = change(tiny_settings, {"answers.prompt_style": "plain"})
    tokenizer = sentencepiece_like()
    session = dataclasses.replace(without_model(settings), tokenizer=tokenizer)
    context = session.task.contexts("eval")[0]
    exam = session.exam(context, "adapted")
    for one, (prompt, gold) in zip(exam.exam.scored, exam.scored, strict=True):
        assert [*prompt, *gold] == tokenizer(f"{one.prompt} {one.gold}")["input_ids"]
        assert list(prompt) == tokenizer(one.prompt)["input_ids"]
