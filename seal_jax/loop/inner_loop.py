"""The inner loop of a group of candidates: from token ids to trained deltas.

Nothing here reads or writes a file.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import jax
import numpy as np

from seal_jax.core import batching, distillation, inner, optim, parallel
from seal_jax.core.delta import Delta
from seal_jax.core.model.token_loss import SoftTargets
from seal_jax.core.randomness import key_for, keys_for
from seal_jax.loop.session import Bounds, EncodedLesson, Session

_PADDING = EncodedLesson(sequences=(), loss_masks=(), learning_rate=0.0, epochs=1)


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a group of candidates learned.

    Attributes:
      deltas_K, results_K: K stacked deltas (padding candidates' ones change nothing), and results.
      tokens: how many were trained on and computed.
    """

    deltas_K: Delta
    results_K: inner.InnerResult
    tokens: batching.TokenCounts


def train(
    session: Session,
    params,
    lessons: Sequence[EncodedLesson],
    inits: Sequence[tuple],
    *,
    order: tuple,
    count: int,
    bounds: Bounds,
    shapes: tuple[tuple[int, int], ...] = (),
    pasts_K: inner.Past | None = None,
) -> Trained:
    """Trains the candidates of a group in one program.

    Args:
      params: of the model that is adapted.
      lessons: at most `count`.
      inits: of each lesson, what names its initial delta in the keys.
      order: names the order of training in the keys.
      count: K.
      bounds: what the program is made for.
      shapes: (P, T) of steps on one shard; none is by the settings' buckets.
      pasts_K: what the K candidates learned before; see `inner.Past`.
    """
    settings, seed = session.settings.inner, session.settings.seed
    shards = session.devices.shards(count)
    share = count // shards
    shapes = shapes or batching.step_shapes(
        settings.buckets, rows=share * settings.batch_size, spread=settings.spread
    )
    missing = count - len(lessons)
    lessons = [*lessons, *[_PADDING] * missing]
    keys = keys_for(seed, [*inits, *[("init", "padding")] * missing])
    schedules, tokens = zip(
        *(
            batching.make_schedule(
                [list(map(len, lesson.sequences)) for lesson in of],
                epochs=[lesson.epochs for lesson in of],
                batch_size=settings.batch_size,
                key=key_for(seed, "order", *order),
                shapes=shapes,
                rows=bounds.sequences,
                max_epochs=bounds.epochs,
                max_steps=bounds.steps,
            )
            for of in (lessons[first : first + share] for first in range(0, count, share))
        ),
        strict=True,
    )
    size = {"rows": bounds.sequences, "length": settings.buckets[-1]}
    filler = session.tokenizer.eos_token_id if settings.padding_loss else None
    teachers = _teachers(session, params, lessons)
    problems = [
        batching.inner_problem(lesson.sequences, lesson.loss_masks, **size, filler=filler, soft=of)
        for lesson, of in zip(lessons, teachers, strict=True)
    ]
    hparams = [
        inner.InnerHParams(
            learning_rate=np.float32(lesson.learning_rate),
            num_steps=np.int32(session.steps(lesson)),
            warmup_steps=np.int32(settings.warmup_steps),
            decay=np.int32(optim.DECAYS.index(settings.decay)),
        )
        for lesson in lessons
    ]
    remat = session.settings.model.remat
    static = inner.InnerSettings(shapes=shapes, optimizer=settings.optimizer, remat=remat)
    problems_K, hparams_K = session.devices.shard(
        (batching.stack(problems), batching.stack(hparams))
    )
    deltas_K, results_K = parallel.inner_update(
        session.devices,
        (session.model, static),
        params,
        inner.init_candidates(settings.lora.spec(), params, session.devices.shard(keys)),
        problems_K,
        hparams_K,
        schedules,
        pasts_K,
    )
    return Trained(deltas_K, results_K, total(tokens))


def _teachers(
    session: Session, params, lessons: Sequence[EncodedLesson]
) -> Sequence[dict[int, SoftTargets] | None]:
    """What the model expects of each lesson's answers as it reads; None where nothing is distilled.

    The answers go through the program answers.questions_at_once at a time.
    """
    settings, answers = session.settings.inner, session.settings.answers
    if settings.loss != "distillation":
        return [None] * len(lessons)
    found: list[dict[int, SoftTargets]] = [{} for _ in lessons]
    places = [(k, i) for k, lesson in enumerate(lessons) for i in lesson.readings]
    for first in range(0, len(places), answers.questions_at_once):
        part = places[first : first + answers.questions_at_once]
        read = [lessons[k].readings[i] for k, i in part]
        queries = batching.queries(
            [prompt for prompt, _ in read],
            [lessons[k].sequences[i][-n:] for (k, i), (_, n) in zip(part, read, strict=True)],
            rows=answers.questions_at_once,
            length=answers.prompt_buckets[-1],
            answer_length=settings.buckets[-1],
        )
        expected = jax.device_get(distillation.expected(session.model, params, queries))
        for q, ((k, i), (_, count)) in enumerate(zip(part, read, strict=True)):
            found[k][i] = SoftTargets(*(of[q, :count] for of in expected))
    return found


def total(counts: Iterable[batching.TokenCounts]) -> batching.TokenCounts:
    """The sum of counts of tokens."""
    every = list(counts)
    return batching.TokenCounts(
        real=sum(of.real for of in every), computed=sum(of.computed for of in every)
    )
