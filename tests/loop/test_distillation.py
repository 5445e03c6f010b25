"""The inner loop's loss "distillation": who reads what, and the loss that comes of it."""

import jax
import numpy as np
import pytest

from seal_jax.core import distillation
from seal_jax.core.model import decoder
from seal_jax.loop import inner_loop
from seal_jax.loop.session import open_session
from seal_jax.tasks.protocol import Lesson, Question


@pytest.fixture(scope="module")
def session(tiny_settings, change):
    changes = {
        "inner.loss": "distillation",
        "inner.candidates": 1,
        "inner.epochs": 1,
        "inner.batch_size": 2,  # all in one step
    }
    return open_session(change(tiny_settings, changes))


@pytest.fixture(scope="module")
def reply(session):
    context = session.task.contexts("train")[0]
    return context, session.task.reply(context, "How many mills has it?", "3 mills")


def test_an_answer_is_read_with_the_passage(session, reply):
    context, one = reply
    lesson = session.lesson(Lesson(sequences=(one, "A text without a reader.")))
    assert list(lesson.readings) == [0]
    prompt, count = lesson.readings[0]
    asked = Question("", "How many mills has it?", "")
    turn = session.task.reading_query(context, asked)
    assert context.text in turn and list(prompt) == session.prompt(turn, "plain")
    assert session.tokenizer.decode(lesson.sequences[0][-count:]) == " 3 mills<|end|>"


@pytest.mark.parametrize(
    "changes", [{"inner.loss": "cross_entropy"}, {"answers.prompt_buckets": (16,)}]
)
def test_nobody_reads_by_cross_entropy_or_what_is_too_long(session, reply, change, changes):
    other = session.changed(change(session.settings, changes))
    assert not other.lesson(Lesson(sequences=(reply[1],))).readings


def test_the_loss_of_an_answer_is_its_divergence_from_the_reader(session, reply):
    """One step on a question with its answer: cross-entropy on the question's tokens."""
    lesson = session.lesson(Lesson(sequences=(reply[1],)))
    trained = inner_loop.train(
        session,
        session.base,
        [lesson],
        [("init", "test")],
        order=("test",),
        count=1,
        bounds=session.bounds,
    )
    [tokens], (prompt, count) = lesson.sequences, lesson.readings[0]

    def log_probs(of):
        hidden = decoder.hidden_states(session.model, session.base, np.array([of]))
        logits = decoder.logits(session.model, session.base, hidden)[0, :-1]
        return np.asarray(jax.nn.log_softmax(logits), np.float64)

    own, reads = log_probs(tokens), log_probs([*prompt, *tokens[-count:]])
    said = len(tokens) - count
    losses = [-own[t - 1][tokens[t]] for t in range(1, said)]
    for q, t in zip(own[-count:], reads[-count:], strict=True):
        best = np.argsort(-t)[: distillation.LIKELIEST]
        rests = [1 - np.exp(of[best]).sum() for of in (t, q)]
        known = (np.exp(t[best]) * (t[best] - q[best])).sum()
        losses.append(known + rests[0] * np.log(rests[0] / rests[1]))
    assert len(losses) == len(tokens) - 1
    [found] = trained.results_K.losses_S[0][np.asarray(trained.results_K.taken_S[0])]
    assert found == pytest.approx(np.mean(losses), rel=1e-3)
