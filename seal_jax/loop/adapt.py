"""Verb: adapt. One delta learns a document, passage by passage, and answers questions about it.

1. Each passage gets its self-edits.
2. What they teach, and the passages themselves, is learned together.
3. The model answers before and after, and with the text in its prompt: what reading is worth.
4. Texts that have nothing to do with the document show what it cost.
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seal_jax.core.delta import Delta
from seal_jax.loop import answering, fit, inner_loop, sample
from seal_jax.loop.session import EncodedLesson, Session
from seal_jax.runtime.progress import Progress
from seal_jax.settings import SettingsError
from seal_jax.tasks import documents
from seal_jax.tasks.protocol import Context, View

MAX_WORDS = 40  # of a passage: short ones become sequences of like length, and little is padding
Say = Callable[[str], None]


class Answer(NamedTuple):
    """What a model answers to a question.

    Attributes:
      text: the answer.
      correct: what the grader says; None without a gold answer.
      cut_off: whether it ends at the length limit.
    """

    text: str
    correct: bool | None
    cut_off: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adapted:
    """A document that was learned.

    Attributes:
      delta: what was learned.
      self_edits: of each passage; empty where none were asked for.
      sequences, steps: that were trained on, and optimizer steps.
      before, after, reading: answers to each question, without the document and with it.
      read: how much of the document the model read for that, for people.
      unrelated: loss on unrelated texts before and after, nats a token.
    """

    delta: Delta = dataclasses.field(compare=False, repr=False)
    self_edits: list[list[str]]
    sequences: int
    steps: int
    before: list[Answer]
    after: list[Answer]
    reading: list[Answer]
    read: str
    unrelated: tuple[float | None, float | None]


def passages_of(session: Session, whole: Context, max_words: int) -> list[Context]:
    """The passages of a document, of at most so many words each, as contexts."""
    parts = documents.split(whole.text, whole.title, max_words)
    return [
        session.task.context_from(part.title, part.text, id=f"{whole.id}/{i}")
        for i, part in enumerate(parts)
    ]


def adapt(
    session: Session,
    whole: Context,
    passages: Sequence[Context],
    *,
    edit: bool = True,
    say: Say = lambda line: None,
    quiet: bool = False,
) -> Adapted:
    """Learns a document and answers the questions of `whole`.

    Args:
      passages: of the document; see `passages_of`.
      edit: whether self-edits are written; otherwise the passages alone are trained on.
      say: is told what is being done.
      quiet: shows no progress.

    Raises:
      SettingsError: nothing can be learned, or something does not fit the model.
    """
    edits: list[list[str]] = []
    if edit and session.task.writes:
        edits = _self_edits(session, passages, quiet=quiet)
    lessons = [session.task.context_lesson(passage) for passage in passages]
    for passage, texts in zip(passages, edits, strict=False):
        lessons += [session.task.read(passage, text, 0) for text in texts]  # type: ignore[misc]
    learner, lesson = fit.to_lessons(session, lessons)
    say(f"learning {len(lesson.sequences)} sequences in {learner.steps(lesson)} steps")
    delta = _learned(learner, whole, lesson)
    unadapted = jax.tree.map(jnp.zeros_like, delta)  # for the program of the adapted one
    with Progress(3 * len(whole.questions), "questions", unit="answer", quiet=quiet) as progress:
        before = _answers(session, [whole], unadapted, progress)
        after = _answers(session, [whole], delta, progress)
        read, of = _to_read(session, whole, passages)
        reading = _answers(session, of, None, progress)
    others = session.unrelated(session.settings.continual.unrelated)
    unrelated = [
        answering.text_losses(session, session.base, one, others, models=1, count=1)[0]
        for one in (unadapted, delta)
    ]
    return Adapted(
        delta=jax.tree.map(lambda leaf: leaf[0], delta),
        self_edits=edits,
        sequences=len(lesson.sequences),
        steps=learner.steps(lesson),
        before=before,
        after=after,
        reading=reading,
        read=read,
        unrelated=(unrelated[0], unrelated[1]),
    )


def _self_edits(session: Session, passages: Sequence[Context], *, quiet: bool) -> list[list[str]]:
    """edits.samples self-edits of each passage."""
    writer, found = fit.to_prompts(session, passages), []
    size, samples = writer.settings.edits.contexts_per_batch, writer.settings.edits.samples
    with Progress(len(passages), "self-edits", unit="passage", quiet=quiet) as progress:
        for first in range(0, len(passages), size):
            part = passages[first : first + size]
            found += sample.self_edits(writer, part, draw="adapt", samples=samples)
            progress.update(len(part))
    return found


def _learned(session: Session, whole: Context, lesson: EncodedLesson) -> Delta:
    """One delta, with an axis of one candidate."""
    trained = inner_loop.train(
        session,
        session.base,
        [lesson],
        [("init", "adapt", whole.id, 0)],
        order=("adapt", 0),
        count=1,
        bounds=session.bounds._replace(epochs=lesson.epochs),
        shapes=fit.step_shapes(list(map(len, lesson.sequences)), session.settings.inner.batch_size),
    )
    if not jax.device_get(trained.results_K.finite)[0]:
        raise SettingsError("the update became non-finite: lower --config.inner.learning_rate.")
    return trained.deltas_K


def _answers(
    session: Session, contexts: Sequence[Context], delta: Delta | None, progress: Progress
) -> list[Answer]:
    """The answers to the questions of one context, or of several with a question each.

    Args:
      contexts: the document, whose questions are asked without it; or what is read for each.
      delta: of the model that answers; None is the model itself, which reads them.
    """
    view: View = "adapted" if delta is not None else "reading"
    asker = fit.to_questions(session, contexts, view)
    exams = [asker.exam(context, view) for context in contexts]
    [said] = answering.generate(
        asker,
        asker.base,
        delta,
        [[prompt for exam in exams for prompt in exam.prompts]],
        count=1,
        width=asker.settings.answers.prompt_buckets[-1],
        draws=[[("answer", "adapt", one.id) for exam in exams for one in exam.exam.asked]],
    )
    progress.update(sum(len(context.questions) for context in contexts))
    left = iter(said)
    texts = [{one.id: next(left) for one in exam.exam.asked} for exam in exams]
    marks = asker.task.mark(
        [
            (context, exam.exam, {id: one.text for id, one in of.items()})
            for context, exam, of in zip(contexts, exams, texts, strict=True)
        ],
        asker.grader,
    )
    return [
        Answer(
            answer["text"],
            answer["correct"],
            any(
                of[one.id].cut_off for one in exam.exam.asked if one.question == answer["question"]
            ),
        )
        for mark, exam, of in zip(marks, exams, texts, strict=True)
        for answer in mark.answers
    ]


def _to_read(
    session: Session, whole: Context, passages: Sequence[Context]
) -> tuple[str, list[Context]]:
    """What the model reads for each question, in words and as contexts: the document if it fits.

    Of a longer one it reads the passages that share most words with the question, as many as fit,
    in their order. A word counts the less the more passages have it.
    """
    answers = session.settings.answers
    room = min(answers.prompt_buckets[-1], session.model.max_positions - answers.max_new_tokens)

    def fits(context: Context) -> bool:
        return all(len(prompt) <= room for prompt in session.exam(context, "reading").prompts)

    alone = [dataclasses.replace(whole, questions=(question,)) for question in whole.questions]
    if all(map(fits, alone)):
        return "the whole text", alone
    has = [_words(f"{passage.title} {passage.text}") for passage in passages]
    spread = collections.Counter(word for of in has for word in of)
    found = []
    for one in alone:
        asked = _words(one.questions[0].text)
        shared = [sum(1 / spread[word] for word in asked & of) for of in has]
        chosen: list[int] = []
        read = dataclasses.replace(one, text="")
        for i in sorted(range(len(passages)), key=lambda i: -shared[i]):
            more = sorted([*chosen, i])
            longer = dataclasses.replace(one, text="\n\n".join(passages[j].text for j in more))
            if not fits(longer):
                break
            chosen, read = more, longer
        found.append(read)
    return f"the passages most like each question, at most {room} tokens of the text", found


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
