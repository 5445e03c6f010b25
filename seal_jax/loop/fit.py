"""Buckets made to measure for a few texts, where nothing has been compiled yet.

A run's buckets are chosen before its texts are known. Where the texts are, whatever they take is
what a bucket holds: nothing is cut off, and little is computed on padding.
"""

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np

from seal_jax.loop.session import EncodedLesson, Session
from seal_jax.settings import SettingsError, config_dict
from seal_jax.tasks.protocol import Context, Lesson, Refusal, View

# Buckets are multiples, so that texts of like length share compiled programs.
_PROMPT, _TRAINED, _SEQUENCES = 32, 8, 32
_DRAWS = 200
AT_ONCE = 16  # prompts of a program


def to_prompts(session: Session, contexts: Sequence[Context]) -> Session:
    """The session with room for the prompts that ask for self-edits of these contexts.

    Raises:
      SettingsError: one takes more positions than the model has, together with a self-edit.
    """
    lengths = [len(session.edit_prompt(context)) for context in contexts]
    room = session.model.max_positions - session.settings.edits.max_new_tokens
    if max(lengths) > room:
        raise SettingsError(
            f"a passage's prompt takes {max(lengths)} tokens and the model has room for {room}: "
            "lower data.max_words, or edits.max_new_tokens."
        )
    at_once = min(len(contexts), max(AT_ONCE // session.settings.edits.samples, 1))
    return _with(
        session,
        {
            "edits.prompt_buckets": (_rounded(max(lengths), _PROMPT),),
            "edits.contexts_per_batch": at_once,
        },
    )


def to_questions(session: Session, contexts: Sequence[Context], view: View) -> Session:
    """The session with room for the questions about some contexts.

    Raises:
      SettingsError: one takes more positions than the model has, together with its answer.
    """
    lengths = [len(prompt) for of in contexts for prompt in session.exam(of, view).prompts]
    room = session.model.max_positions - session.settings.answers.max_new_tokens
    if max(lengths) > room:
        raise SettingsError(
            f"a question takes {max(lengths)} tokens and the model has room for {room}: shorten it."
        )
    return _with(
        session,
        {
            "answers.prompt_buckets": (_rounded(max(lengths), _PROMPT),),
            "answers.questions_at_once": min(len(lengths), AT_ONCE),
        },
    )


def to_lessons(
    session: Session, lessons: Iterable[Lesson | Refusal]
) -> tuple[Session, EncodedLesson]:
    """The session with room for one lesson of all these, and that lesson.

    Directives are those of the first lesson that has some.

    Raises:
      SettingsError: the lessons hold nothing to train on, or a sequence takes more positions than
        the model has.
    """
    given = [lesson for lesson in lessons if isinstance(lesson, Lesson)]
    sequences = list(dict.fromkeys(itertools.chain(*(lesson.sequences for lesson in given))))
    positions = session.model.max_positions
    roomy = {"inner.buckets": (positions,), "inner.max_sequences": max(len(sequences), 2)}
    whole = Lesson(sequences=tuple(sequences), directives=given[0].directives) if given else None
    found = whole and _with(session, roomy).lesson(whole)
    if not isinstance(found, EncodedLesson):
        raise SettingsError("there is nothing in the text to train on.")
    if lost := found.dropped_tokens + found.dropped_sequences:
        raise SettingsError(
            f"{lost} tokens or sequences of the text do not fit the model's {positions} "
            "positions: lower data.max_words."
        )
    lengths = list(map(len, found.sequences))
    return _with(
        session,
        {
            "inner.buckets": (_rounded(max(lengths), 2 * _TRAINED),),
            "inner.max_sequences": _rounded(len(lengths), _SEQUENCES),
            "inner.candidates": 1,
        },
    ), found


def step_shapes(lengths: Sequence[int], batch_size: int) -> tuple[tuple[int, int], ...]:
    """Shapes (P, T) of the steps that learn sequences of these lengths; see `inner.InnerSettings`.

    The largest has room for the longest sequences together. Below it are up to two more, by which
    least is computed on padding: each takes seconds to compile.

    >>> step_shapes([20] * 30 + [60, 61], batch_size=4)
    ((96, 64), (128, 64), (192, 64))
    """
    longest_first = sorted(lengths, reverse=True)
    draw = np.random.default_rng(0).permutation
    steps_D = np.array([draw(lengths)[:batch_size].sum() for _ in range(_DRAWS)])
    size = batch_size * _TRAINED
    offered = range(size, _rounded(sum(longest_first[:batch_size]), size) + 1, size)

    def computed(rooms: tuple[int, ...]) -> int:
        return int(np.take(rooms, np.searchsorted(rooms, steps_D)).sum())

    choices = itertools.combinations_with_replacement(offered[:-1] or offered, 2)
    rooms = min(((*lower, offered[-1]) for lower in choices), key=computed)
    padded = _rounded(longest_first[0], 2 * _TRAINED)
    return tuple((room, padded) for room in dict.fromkeys(rooms))


def _with(session: Session, changes: dict[str, object]) -> Session:
    return session.changed(config_dict.replaced(session.settings, changes))


def _rounded(count: float, step: int) -> int:
    """Up to a multiple."""
    return math.ceil(count / step) * step
