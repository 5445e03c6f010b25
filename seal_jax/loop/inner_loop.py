"""Running the inner loop of a group of candidates: from token ids to trained deltas.

Nothing here reads or writes a file.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from seal_jax.core import batching, inner, optim, parallel
from seal_jax.core.delta import Delta
from seal_jax.core.randomness import key_for, keys_for
from seal_jax.loop.opened_model import OpenedModel
from seal_jax.settings import Inner


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lesson:
    """What one candidate learns, and how.

    Attributes:
      sequences: token ids.
      masks: the tokens of each whose loss is trained on; None is all of them.
      learning_rate, epochs: its recipe.
      init: names its initial delta in the keys.
    """

    sequences: Sequence[Sequence[int]]
    masks: Sequence[Sequence[bool]] | None = None
    learning_rate: float
    epochs: int
    init: tuple


def train(
    opened: OpenedModel,
    params,
    lessons: Sequence[Lesson],
    *,
    order: tuple,
    settings: Inner,
    max_epochs: int,
    max_steps: int = 0,
    pasts_K: inner.Past | None = None,
) -> tuple[Delta, inner.InnerResult, batching.Tokens]:
    """Trains the candidates of a group, at most K = settings.candidates of them, in one program.

    Args:
      params: of the model that is adapted.
      order: names the order of training in the keys.
      settings: what the candidates share.
      max_epochs, max_steps: what the program is made for; see `batching.make_schedule`.
      pasts_K: what the K candidates learned before; see `inner.Past`.

    Returns:
      K stacked deltas (padding candidates' ones change nothing), K results, and the number of real
      and computed tokens.
    """
    seed, count = opened.settings.seed, settings.candidates
    rows, length = settings.max_sequences, settings.buckets[-1]
    shares = opened.devices.shares(count)
    share = count // shares
    shapes = batching.step_shapes(
        settings.buckets, rows=share * settings.batch_size, spread=settings.spread
    )
    padding = Lesson(sequences=(), learning_rate=0.0, epochs=1, init=("init", "padding"))
    lessons = [*lessons, *[padding] * (count - len(lessons))]
    lengths = [[len(sequence) for sequence in lesson.sequences] for lesson in lessons]
    epochs = [lesson.epochs for lesson in lessons]
    schedules, tokens = zip(
        *(
            batching.make_schedule(
                lengths[first : first + share],
                epochs=epochs[first : first + share],
                batch_size=settings.batch_size,
                key=key_for(seed, "order", *order),
                shapes=shapes,
                rows=rows,
                max_epochs=max_epochs,
                max_steps=max_steps,
            )
            for first in range(0, count, share)
        ),
        strict=True,
    )
    problems = [
        batching.inner_problem(lesson.sequences, lesson.masks, rows=rows, length=length)
        for lesson in lessons
    ]
    hparams = [
        inner.InnerHParams(
            learning_rate=np.float32(lesson.learning_rate),
            num_steps=np.int32(
                batching.steps_of(
                    len(lesson.sequences), epochs=lesson.epochs, batch_size=settings.batch_size
                )
            ),
            warmup_steps=np.int32(settings.warmup_steps),
            decay=np.int32(optim.DECAYS.index(settings.decay)),
        )
        for lesson in lessons
    ]
    keys_K = opened.devices.shard(keys_for(seed, [lesson.init for lesson in lessons]))
    static = (
        opened.model,
        inner.InnerSettings(
            shapes=shapes, optimizer=settings.optimizer, remat=opened.settings.model.remat
        ),
    )
    deltas_K, results_K = parallel.inner_update(
        opened.devices,
        static,
        params,
        inner.init_candidates(settings.lora.spec(), params, keys_K),
        *opened.devices.shard((batching.stack(problems), batching.stack(hparams))),
        schedules,
        pasts_K,
    )
    real = sum(share.real for share in tokens)
    computed = sum(share.computed for share in tokens)
    return deltas_K, results_K, batching.Tokens(real=real, computed=computed)
