"""Buckets made to measure: nothing of a text is cut off."""

import pytest

from seal_jax import api
from seal_jax.loop import fit
from seal_jax.settings import SettingsError
from seal_jax.tasks.protocol import Lesson, Refusal, Reply

pytestmark = pytest.mark.usefixtures("few_devices")


@pytest.fixture(scope="module")
def session(tiny_settings, change):
    return api.load(
        change(tiny_settings, {"inner.batch_size": 8})
    )  # four sequences of at most 128 tokens


def test_lessons_become_one_without_losing_anything(session):
    texts = [f"The river {i} is {'very ' * i}long." for i in range(0, 60, 3)]
    lessons = [Lesson(sequences=tuple(texts[i : i + 4])) for i in range(0, 20, 4)]
    assert session.lesson(Lesson(sequences=tuple(texts))).dropped_sequences == 16
    learner, lesson = fit.to_lessons(session, [*lessons, Refusal("nothing said"), lessons[0]])
    assert lesson.sequences == tuple(tuple(session.encode(text)) for text in texts)
    assert (lesson.dropped_sequences, lesson.dropped_tokens) == (0, 0)
    inner, longest = learner.settings.inner, max(map(len, lesson.sequences))
    assert longest > 128 and longest <= inner.buckets[-1] < longest + 16
    assert learner.bounds.sequences >= len(texts)
    assert learner.lesson(Lesson(sequences=tuple(texts))) == lesson


def test_steps_have_room_for_the_longest_and_little_padding():
    lengths = [20] * 30 + [60, 61]
    shapes = fit.step_shapes(lengths, 4)
    rooms, padded = [room for room, _ in shapes], {longest for _, longest in shapes}
    assert rooms == [96, 128, 192] and padded == {64}  # 60 + 61 + 20 + 20 = 161
    assert fit.step_shapes([20], 4) == ((32, 32),)


def test_what_the_model_has_no_positions_for_is_refused(session):
    long = Lesson(sequences=("so " * 600,))
    with pytest.raises(SettingsError, match=r"do not fit the model's 512 positions: lower data"):
        fit.to_lessons(session, [long])
    with pytest.raises(SettingsError, match="nothing in the text to train on"):
        fit.to_lessons(session, [Refusal("nothing said")])
    context = session.task.context_from("Rivers", "so " * 600, [("so " * 600, "")])
    with pytest.raises(SettingsError, match=r"prompt takes \d+ tokens and the model has room"):
        fit.to_prompts(session, [context])
    with pytest.raises(SettingsError, match=r"question takes \d+ tokens and the model has room"):
        fit.to_questions(session, [context], "adapted")


@pytest.mark.parametrize("style", ["plain", "chat"])
def test_a_reply_is_put_as_an_exam_is_and_ended(session, change, style):
    session = session.changed(change(session.settings, {"answers.prompt_style": style}))
    context = session.task.context_from("Ullen", "It is red.", [("What is red?", "the tower")])
    exam = session.exam(context, "adapted")
    prompt = exam.exam.asked[0].prompt
    lesson = session.lesson(Lesson(sequences=(Reply(prompt=prompt, answer="the tower"),)))
    [(put, answer)], [tokens], [mask] = exam.scored, lesson.sequences, lesson.loss_masks
    assert tokens == (*put, *answer, session.tokenizer.eos_token_id)
    assert mask is None
