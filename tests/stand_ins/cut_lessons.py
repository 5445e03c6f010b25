"""What a session keeps of a lesson's sequences, without a model."""

from types import SimpleNamespace

from seal_jax.loop.session import EncodedLesson, Session
from seal_jax.settings import Inner
from seal_jax.tasks.protocol import Lesson


def cut(sequences, *, max_sequences: int, max_tokens: int) -> EncodedLesson:
    """`Session.lesson` of sequences of tokens."""
    session = SimpleNamespace(
        settings=SimpleNamespace(inner=Inner(buckets=(max_tokens,))),
        _encoded=lambda sequences: [(tuple(tokens), None, True) for tokens in sequences],
    )
    lesson = Lesson(sequences=tuple(map(tuple, sequences)))
    return Session.lesson(session, lesson, room=max_sequences)
