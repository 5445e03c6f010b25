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

from seal_jax.core import batching, distillation, evaluate, inner, parallel, restem, sampling
from seal_jax.core.delta import Delta
from seal_jax.core.model import decoder, per_layer
from seal_jax.core.model.config import ModelConfig
from seal_jax.core.model.token_loss import SoftTargets
from seal_jax.planning.workload import Workload
from seal_jax.settings import Settings

# In the place of the tokenizer's, which are not read: how many there are changes no figure.
_STOP_IDS = (0,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """A program of a round.

    Attributes:
      name: what it does.
      detail: the shapes that it is planned with.
      call: gives the jitted function with the shapes of its arguments.
      has_loop: whether it has a loop whose length is not known beforehand.
      branches: of the steps of that loop, the share that runs each branch of its `switch`.
      stages: where the loop is several, how many steps are done after each.
    """

    name: str
    detail: str
    call: Callable[[], functools.partial]
    has_loop: bool = True
    branches: tuple[float, ...] = ()
    stages: tuple[int, ...] = ()

    def lower(self) -> jax.stages.Lowered:
        """For the devices of the round's mesh."""
        call: Any = self.call()
        return call.func.lower(*call.args, **call.keywords)


@dataclasses.dataclass(frozen=True)
class Round:
    """A run's round on a mesh.

    Attributes:
      settings: of the run.
      config: of the model.
      devices: the mesh that the programs are made for.
      work: how long texts are.
    """

    settings: Settings
    config: ModelConfig
    devices: parallel.DeviceMesh
    work: Workload

    def programs(self) -> list[Program]:
        """Its programs, in the order in which it runs them."""
        found = [self.sampling()]
        if self.settings.reward.needs_inner_loop:
            found += [self.inner_update(), *self.questions()]
        buckets, prompt = self.settings.restem.sft.buckets, self.work.longest_prompt
        usual = _bucket(prompt + self.work.longest_edit, buckets)
        longest = _bucket(prompt + self.settings.edits.max_new_tokens, buckets)
        found.append(self.m_step("M-step", usual))
        if longest > usual:
            found.append(self.m_step("M-step, longest", longest))
        return found

    def sampling(self) -> Program:
        """Sampling self-edits: prefill and decode."""
        edits = self.settings.edits
        width = _bucket(self.work.longest_prompt, edits.prompt_buckets)
        prompts, rows = edits.contexts_per_batch, edits.contexts_per_batch * edits.samples
        return Program(
            name="sampling",
            detail=f"{rows} rows x ({width} + {edits.max_new_tokens}) tokens",
            call=lambda: functools.partial(
                sampling.generate_jit,
                (self.config, edits.sample_settings(_STOP_IDS)),
                self.params,
                self.rows(prompts, width),
                self.rows(prompts),
                self.keys(rows),
                samples_per_prompt=edits.samples,
            ),
            stages=sampling.stages(width, edits.max_new_tokens),
        )

    def inner_update(self, *, largest: bool = False) -> Program:
        """The inner update of K candidates, at the shapes of lines and of passages and the largest.

        Args:
          largest: at the largest shape alone, which takes the memory that all take.
        """
        recipe, work, most = self.settings.inner, self.work, self.work.bounds
        count, length, batch = recipe.candidates, recipe.buckets[-1], recipe.batch_size
        shards = self.devices.shards(count)
        lines, passage = (
            length if largest else _step_bucket(tokens, recipe.buckets, recipe.spread)
            for tokens in (work.line_tokens, work.passage_tokens)
        )
        used = sorted({lines, passage, length})
        weights = [0.0] * len(used)
        weights[used.index(lines)] += work.lines / work.sequences
        weights[used.index(passage)] += 1 / work.sequences
        table = batching.step_shapes(
            tuple(used), rows=count // shards * batch, spread=recipe.spread
        )
        rows = most.sequences or recipe.max_sequences
        epochs = max(self.settings.max_epochs, most.epochs or 1)
        steps = most.steps or epochs * math.ceil(rows / batch)

        def call():
            soft = None
            if recipe.loss == "distillation":
                of = (count, rows, length, distillation.LIKELIEST)
                soft = SoftTargets(self.rows(*of), self.rows(*of, dtype=jnp.float32))
            static = inner.InnerSettings(
                shapes=table, optimizer=recipe.optimizer, remat=self.settings.model.remat
            )
            return functools.partial(
                parallel.inner_program(self.devices, (self.config, static), shards),
                self.params,
                self.deltas(count),
                inner.InnerProblem(
                    self.rows(count, rows, length),
                    self.rows(count, rows, length, dtype=bool),
                    self.rows(count, rows),
                    soft_NxT=soft,
                ),
                inner.InnerHParams(self.rows(count, dtype=jnp.float32), *[self.rows(count)] * 3),
                inner.Schedule(
                    self.rows(shards, count // shards, steps, batch),
                    self.rows(shards, steps),
                    self.rows(shards),
                ),
                None,
            )

        sizes = " or ".join(str(packed) for packed, _ in table)
        return Program(
            name="inner update",
            detail=f"K = {count}, steps of {sizes} tokens",
            call=call,
            branches=tuple(weights),
        )

    def questions(self) -> list[Program]:
        """K adapted models answer their questions, and what they think of the gold answers."""
        answers, count = self.settings.answers, self.settings.inner.candidates
        width = _bucket(self.work.question_tokens, answers.prompt_buckets)
        limit, asked = answers.max_gold_tokens, (count, answers.questions_at_once)
        rows = math.prod(asked)
        return [
            Program(
                name="answers",
                detail=f"{rows} rows x ({width} + {answers.max_new_tokens}) tokens",
                call=lambda: functools.partial(
                    evaluate.answers_of_candidates,
                    (self.config, answers.sample_settings(_STOP_IDS)),
                    self.params,
                    self.deltas(count),
                    self.rows(*asked, width),
                    self.rows(*asked),
                    self.keys(*asked),
                ),
            ),
            Program(
                name="log-likelihoods",
                detail=f"{rows} rows x {width + limit} tokens",
                call=lambda: functools.partial(
                    evaluate.gold_log_likelihoods_of_candidates,
                    self.config,
                    self.params,
                    self.deltas(count),
                    evaluate.Queries(
                        self.rows(*asked, width + limit),
                        self.rows(*asked),
                        self.rows(*asked, limit),
                        self.rows(*asked),
                    ),
                ),
                has_loop=False,
            ),
        ]

    def m_step(self, name: str, length: int) -> Program:
        """One optimizer step on the kept self-edits, padded to `length` tokens."""
        recipe, devices = self.settings.restem.sft, self.devices
        gradient = self.settings.restem.gradient()
        static = (self.config, recipe.m_step_settings(self.settings.model.remat, gradient))
        at_once = devices.data_shards * static[1].microbatch
        wanted = recipe.batch_size * (gradient.rows if gradient else 1)
        rows = math.ceil(wanted / at_once) * at_once

        def call():
            state = jax.eval_shape(
                lambda params: restem.init(jax.random.key(0), params, recipe.spec(), static[1]),
                self.params,
            )
            split = (devices.data_shards, rows // devices.data_shards)
            return functools.partial(
                parallel.m_step(devices, static),
                self.params,
                parallel.shapes(state, devices.shardings(self.config, state)),
                restem.Batch(
                    self.rows(*split, length),
                    self.rows(*split, length, dtype=bool),
                    self.rows(*split, dtype=jnp.float32),
                    start_lls_BxT=self.rows(*split, length, dtype=jnp.float32)
                    if gradient
                    else None,
                ),
                jax.ShapeDtypeStruct((), jnp.int32),
            )

        return Program(
            name=name,
            detail=f"{rows} rows x {length} tokens, {at_once} at once",
            call=call,
            has_loop=False,
        )

    @functools.cached_property
    def params(self):
        """The shapes of the parameters, as a run on these devices holds them."""
        dtype = jnp.dtype(self.settings.model.dtype)
        tree = jax.tree.map(
            lambda shape: jax.ShapeDtypeStruct(shape, dtype),
            decoder.param_shapes(self.config),
            is_leaf=lambda node: isinstance(node, tuple),
        )
        if self.devices.separates_layers:
            tree = jax.eval_shape(per_layer.separated, tree)
        return parallel.shapes(tree, self.devices.shardings(self.config, tree))

    def deltas(self, count: int) -> Delta:
        """The shapes of `count` stacked deltas of the inner loop."""
        spec = self.settings.inner.lora.spec()
        keys_K = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count))
        init = functools.partial(inner.init_candidates, spec)
        tree_K = jax.eval_shape(init, self.params, keys_K).tree
        where = self.devices.candidate_shardings(self.config, tree_K)
        return Delta(parallel.shapes(tree_K, where), spec)

    def rows(self, *shape: int, dtype: Any = jnp.int32):
        """The shape of an array whose rows are spread over the devices."""
        array = jax.ShapeDtypeStruct(shape, dtype)
        return parallel.shapes(array, self.devices.row_shardings(array))

    def keys(self, *shape: int):
        """The shape of PRNG keys."""
        return self.rows(*shape, dtype=jax.random.key(0).dtype)


def _bucket(length: int, buckets: tuple[int, ...]) -> int:
    """The bucket that holds `length`, or the last."""
    return next((bucket for bucket in buckets if bucket >= length), buckets[-1])


def _step_bucket(tokens: int, buckets: tuple[int, ...], spread: float) -> int:
    """The bucket of a step of sequences of `tokens` tokens on average, the longest half as long
    again, as far as the last bucket allows."""
    longest = min(1.5 * tokens, buckets[-1])
    return _bucket(max(tokens, math.ceil(longest / spread)), buckets)
