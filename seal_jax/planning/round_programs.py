"""Every program of a round, with the shapes and shardings that a run gives it.

Nothing is allocated: parameters, deltas and texts are shapes. Each program is the one that a run
calls; only the inner update's table of shapes is shortened to those that are planned for.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from seal_jax.core import batching, evaluate, inner, parallel, restem, sampling
from seal_jax.core.delta import Delta
from seal_jax.core.model import decoder
from seal_jax.core.model.config import ModelConfig
from seal_jax.planning.workload import Counts, Workload
from seal_jax.settings import Settings, Sft

# In the place of the tokenizer's, which are not read: how many there are changes no figure.
_STOP_IDS = (0,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """A program of a round.

    Attributes:
      name: what it does.
      detail: the shapes that it is planned with.
      lower: gives its `jax.stages.Lowered`.
      calls: how often a round runs it.
      trips: how often it runs the body of its one loop whose length is not known beforehand.
      has_loop: whether it has such a loop.
      branches: of the steps of that loop, the share that runs each branch of its `switch`.
      settings: what to lower when it does not fit.
    """

    name: str
    detail: str
    lower: Callable[[], Any]
    calls: int
    trips: int = 1
    has_loop: bool = True
    branches: tuple[float, ...] = ()
    settings: str = ""


@dataclasses.dataclass(frozen=True)
class Shapes:
    """Shapes with shardings of one model's trees on one mesh."""

    config: ModelConfig
    devices: parallel.DeviceMesh
    dtype: Any

    @functools.cached_property
    def params(self):
        """The parameters."""
        tree = jax.tree.map(
            lambda shape: jax.ShapeDtypeStruct(shape, self.dtype),
            decoder.param_shapes(self.config),
            is_leaf=lambda node: isinstance(node, tuple),
        )
        return parallel.shapes(tree, self.devices.shardings(self.config, tree))

    def deltas(self, spec, count: int) -> Delta:
        """`count` stacked deltas."""
        keys_K = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count))
        tree_K = jax.eval_shape(
            functools.partial(inner.init_candidates, spec), self.params, keys_K
        ).tree
        where = self.devices.candidate_shardings(self.config, tree_K)
        return Delta(parallel.shapes(tree_K, where), spec)

    def rows(self, tree):
        """Arrays whose rows are spread over the devices."""
        tree = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
        return parallel.shapes(tree, self.devices.row_shardings(tree))

    def keys(self, *shape: int):
        """PRNG keys."""
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), shape))
        return self.rows(keys)

    def ints(self, *shape: int):
        """int32 rows."""
        return self.rows(jax.ShapeDtypeStruct(shape, jnp.int32))


def programs(
    settings: Settings,
    config: ModelConfig,
    devices: parallel.DeviceMesh,
    work: Workload,
    counts: Counts,
) -> list[Program]:
    """The programs of a round, in the order in which it runs them.

    Args:
      settings: of the run.
      config: of the model.
      devices: the mesh that the programs are made for.
      work: how long texts are.
      counts: see `workload.counts`.
    """
    shapes = Shapes(config, devices, jnp.dtype(settings.model.dtype))
    found = [sampling_program(settings, shapes, work, counts)]
    if settings.reward.needs_inner_loop:
        found += [
            inner_program(settings, shapes, work, counts),
            answers_program(settings, shapes, work, counts),
            likelihoods_program(settings, shapes, work, counts),
        ]
    sft = settings.restem.sft
    usual = _bucket(work.longest_prompt + work.longest_edit, sft.buckets)
    longest = _bucket(work.longest_prompt + settings.edits.max_new_tokens, sft.buckets)
    found.append(m_step_program(settings, shapes, usual, counts.m_steps))
    if longest > usual:
        found.append(m_step_program(settings, shapes, longest, 0))
    return found


def sampling_program(settings: Settings, shapes: Shapes, work: Workload, counts: Counts) -> Program:
    """Sampling self-edits: prefill and decode."""
    edits = settings.edits
    prompts, width = edits.contexts_per_batch, _bucket(work.longest_prompt, edits.prompt_buckets)
    rows = prompts * edits.samples

    def lower():
        return sampling.generate_jit.lower(
            (shapes.config, edits.sample_settings(_STOP_IDS)),
            shapes.params,
            shapes.ints(prompts, width),
            shapes.ints(prompts),
            shapes.keys(rows),
            samples_per_prompt=edits.samples,
        )

    return Program(
        name="sampling",
        detail=f"{rows} rows x ({width} + {edits.max_new_tokens}) tokens",
        lower=lower,
        calls=counts.samplings,
        trips=counts.new_tokens,
        settings="edits.samples or edits.max_new_tokens",
    )


def inner_program(
    settings: Settings, shapes: Shapes, work: Workload, counts: Counts, *, largest: bool = False
) -> Program:
    """The inner update of K candidates, at the shapes of lines and of passages and the largest.

    Args:
      largest: at the largest shape alone, which takes the memory that all take.
    """
    recipe, devices = settings.inner, shapes.devices
    count, length = recipe.candidates, recipe.buckets[-1]
    shards = devices.shards(count)
    per_shard = count // shards
    lines, passage = (
        _step_bucket(tokens, recipe.buckets, recipe.spread)
        for tokens in (work.line_tokens, work.passage_tokens)
    )
    if largest:
        lines = passage = length
    used = sorted({lines, passage, length})
    weights = [0.0] * len(used)
    weights[used.index(lines)] += work.lines / work.sequences
    weights[used.index(passage)] += 1 / work.sequences
    table = batching.step_shapes(
        tuple(used), rows=per_shard * recipe.batch_size, spread=recipe.spread
    )
    static = (
        shapes.config,
        inner.InnerSettings(shapes=table, optimizer=recipe.optimizer, remat=settings.model.remat),
    )
    most = work.bounds
    rows = most.sequences or recipe.max_sequences
    epochs = max(settings.max_epochs, most.epochs or 1)
    steps = most.steps or epochs * math.ceil(rows / recipe.batch_size)

    def lower():
        struct = jax.ShapeDtypeStruct
        problems_K = inner.InnerProblem(
            struct((count, rows, length), jnp.int32),
            struct((count, rows, length), bool),
            struct((count, rows), jnp.int32),
        )
        hparams_K = inner.InnerHParams(
            struct((count,), jnp.float32), *[struct((count,), jnp.int32)] * 3
        )
        schedules_D = inner.Schedule(
            struct((shards, per_shard, steps, recipe.batch_size), jnp.int32),
            struct((shards, steps), jnp.int32),
            struct((shards,), jnp.int32),
        )
        return parallel.inner_program(devices, static, shards).lower(
            shapes.params,
            shapes.deltas(recipe.lora.spec(), count),
            shapes.rows(problems_K),
            shapes.rows(hparams_K),
            shapes.rows(schedules_D),
            None,
        )

    return Program(
        name="inner update",
        detail=f"K = {count}, steps of {' or '.join(str(packed) for packed, _ in table)} tokens",
        lower=lower,
        calls=counts.updates,
        trips=counts.inner_steps,
        branches=tuple(weights),
        settings="inner.candidates or the last of inner.buckets, or set model.remat to 'full'",
    )


def answers_program(settings: Settings, shapes: Shapes, work: Workload, counts: Counts) -> Program:
    """K adapted models answer their questions."""
    answers, count = settings.answers, settings.inner.candidates
    width = _bucket(work.question_tokens, answers.prompt_buckets)
    asked = (count, answers.questions_at_once)

    def lower():
        return evaluate.answers_of_candidates.lower(
            (shapes.config, answers.sample_settings(_STOP_IDS)),
            shapes.params,
            shapes.deltas(settings.inner.lora.spec(), count),
            shapes.ints(*asked, width),
            shapes.ints(*asked),
            shapes.keys(*asked),
        )

    return Program(
        name="answers",
        detail=f"{math.prod(asked)} rows x ({width} + {answers.max_new_tokens}) tokens",
        lower=lower,
        calls=counts.asked,
        trips=counts.answer_tokens,
        settings="inner.candidates or answers.questions_at_once",
    )


def likelihoods_program(
    settings: Settings, shapes: Shapes, work: Workload, counts: Counts
) -> Program:
    """What K adapted models think of the gold answers."""
    answers, count = settings.answers, settings.inner.candidates
    width = _bucket(work.question_tokens, answers.prompt_buckets)
    rows, limit = answers.questions_at_once, answers.max_gold_tokens
    queries = evaluate.Queries(
        *(
            jax.ShapeDtypeStruct(shape, jnp.int32)
            for shape in (
                (count, rows, width + limit),
                (count, rows),
                (count, rows, limit),
                (count, rows),
            )
        )
    )

    def lower():
        return evaluate.gold_log_likelihoods_of_candidates.lower(
            shapes.config,
            shapes.params,
            shapes.deltas(settings.inner.lora.spec(), count),
            shapes.rows(queries),
        )

    return Program(
        name="log-likelihoods",
        detail=f"{count * rows} rows x {width + limit} tokens",
        lower=lower,
        calls=counts.believed,
        has_loop=False,
        settings="inner.candidates or answers.questions_at_once",
    )


def m_step_program(settings: Settings, shapes: Shapes, length: int, calls: int) -> Program:
    """One optimizer step on the kept self-edits, padded to `length` tokens."""
    recipe: Sft = settings.restem.sft
    devices = shapes.devices
    multiple = devices.data_shards * recipe.microbatch
    rows = math.ceil(recipe.batch_size / multiple) * multiple
    static = (shapes.config, recipe.m_step_settings(settings.model.remat))

    def lower():
        state = jax.eval_shape(
            lambda params: restem.init(jax.random.key(0), params, recipe.spec(), static[1]),
            shapes.params,
        )
        state = parallel.shapes(state, devices.shardings(shapes.config, state))
        struct = jax.ShapeDtypeStruct
        batch = restem.Batch(
            struct((rows, length), jnp.int32),
            struct((rows, length), bool),
            struct((rows,), jnp.float32),
        )
        batch = jax.eval_shape(devices.split, batch)
        return parallel.m_step(devices, static).lower(
            shapes.params, state, shapes.rows(batch), jax.ShapeDtypeStruct((), jnp.int32)
        )

    return Program(
        name="M-step" if calls else "M-step, longest",
        detail=f"{rows} rows x {length} tokens, {recipe.microbatch * devices.data_shards} at once",
        lower=lower,
        calls=calls,
        has_loop=False,
        settings="edits.max_new_tokens (restem.sft.buckets holds the longest self-edit)",
    )


def _bucket(length: int, buckets: tuple[int, ...]) -> int:
    """The bucket that holds `length`, or the last."""
    return next((bucket for bucket in buckets if bucket >= length), buckets[-1])


def _step_bucket(tokens: int, buckets: tuple[int, ...], spread: float) -> int:
    """The bucket of a step of sequences of `tokens` tokens on average, the longest half as long
    again, as far as the last bucket allows."""
    return next(
        (
            bucket
            for bucket in buckets
            if bucket >= tokens and spread * bucket >= min(1.5 * tokens, buckets[-1])
        ),
        buckets[-1],
    )
