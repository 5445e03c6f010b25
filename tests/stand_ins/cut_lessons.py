"""What a session keeps of a lesson's sequences, without a model."""

from types import SimpleNamespace

from seal_jax.loop.session import Bounds, EncodedLesson, EncodedSequence, Session
from seal_jax.settings import Inner
from seal_jax.tasks.protocol import Lesson, Refusal


def cut(sequences, *, max_sequences: int, max_tokens: int) -> EncodedLesson | Refusal:
    """`Session.lesson` of sequences of tokens."""
    session = SimpleNamespace(
        settings=SimpleNamespace(inner=Inner(buckets=(max_tokens,))),
        bounds=Bounds(max_sequences, 1, 0),
        steps=lambda lesson: 0,
        _encoded=lambda sequences: [EncodedSequence(tuple(tokens)) for tokens in sequences],
    )
    lesson = Lesson(sequences=tuple(map(tuple, sequences)))
    return Session.lesson(session, lesson)
