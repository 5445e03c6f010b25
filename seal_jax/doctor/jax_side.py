"""This project on one device: inner updates, decoding and whole self-edit evaluations."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from seal_jax.core import batching, evaluate, inner, optim, sampling
from seal_jax.core import delta as delta_lib
from seal_jax.core.delta import Delta, DeltaSpec
from seal_jax.core.model import decoder
from seal_jax.core.randomness import key_for
from seal_jax.doctor import models
from seal_jax.doctor.problems import MAX_SEQUENCES
from seal_jax.planning import compiled, hlo_cost
from seal_jax.planning.machines import Rates
from seal_jax.runtime.metrics import Compiles

SPREAD = 2
_NONE: Mapping[str, Any] = {}


def open_worker(spec: models.Spec) -> "JaxSide":
    return JaxSide(spec)


class JaxSide:
    """The model on the device, and what is measured on it. Every method returns a dict."""

    def __init__(self, spec: models.Spec):
        self.spec = spec
        self.compiles = Compiles()
        self._compiled: dict[Any, Any] = {}
        self._last: dict[str, _Call] = {}
        self.config, self.params = models.load_ours(spec)
        self.delta_spec = DeltaSpec(targets=models.TARGETS, rank=spec.rank, alpha=spec.alpha)
        attention = decoder.param_shapes(self.config)["layers"]["attn"]
        self._shapes = {target: attention[target]["kernel"] for target in models.TARGETS}

    def deltas(self, count: int, *, trained: bool) -> Delta:
        """K stacked deltas, with the factors that every side has where weights are compared."""
        if not self.spec.same_weights:
            keys_K = jax.random.split(jax.random.key(0), count)
            deltas_K = inner.init_candidates(self.delta_spec, self.params, keys_K)
            return jax.tree.map(lambda leaf: leaf + 0.01, deltas_K) if trained else deltas_K
        trees = [
            {
                target: {"a": a, "b": b}
                for target, (a, b) in models.factors(
                    self._shapes, self.spec, seed, trained=trained
                ).items()
            }
            for seed in range(count)
        ]
        tree = {"layers": {"attn": batching.stack(trees)}}
        return Delta(jax.device_put(tree), self.delta_spec)

    def _schedule(
        self, group, buckets, epochs: int, size: int, *, spread: float = SPREAD, fitted=False
    ):
        """(static, schedule, tokens) of a group in a program for `size` candidates.

        With `fitted` the program has only the shapes that this group runs at, which saves
        compiling the others and changes no step.
        """
        shapes = batching.step_shapes(buckets, rows=size, spread=spread)

        def order(shapes):
            return batching.make_schedule(
                [[len(sequence) for sequence in edit] for edit in group],
                epochs=epochs,
                batch_size=1,
                key=key_for(0, "order"),
                shapes=shapes,
                rows=MAX_SEQUENCES,
            )

        schedule, tokens = order(shapes)
        if fitted:
            used = sorted(set(schedule.shapes_S[: int(schedule.num_steps)].tolist()))
            shapes = tuple(shapes[index] for index in used)
            schedule, tokens = order(shapes)
        settings = inner.InnerSettings(
            shapes=shapes, optimizer=optim.AdamW(), remat=self.spec.remat
        )
        return (self.config, settings), schedule, tokens

    def order(self, group, buckets, epochs: int) -> dict:
        """The order of training: at each step, the sequence of each candidate (or none)."""
        _, schedule, _ = self._schedule(group, buckets, epochs, len(group))
        rows_K = []
        for edit in group:
            problem = batching.inner_problem(edit, rows=MAX_SEQUENCES, length=buckets[-1])
            rows_K.append(
                [
                    row[mask].tolist()
                    for row, mask in zip(problem.tokens_NxT, problem.mask_NxT, strict=True)
                    if mask.any()
                ]
            )
        steps = [
            [rows[rank] if rank >= 0 else [] for rows, rank in zip(rows_K, ranks_K, strict=True)]
            for ranks_K in schedule.ranks_KxSxB[:, : int(schedule.num_steps), 0].T.tolist()
        ]
        return {"steps": steps}

    def _run(
        self,
        name: str,
        program: Any,
        static: Any,
        *args: Any,
        steps: int | None = None,
        branches: tuple[float, ...] = (),
        arrays: Mapping[str, Any] = _NONE,
        **fixed: Any,
    ) -> Any:
        """Calls a program, which is compiled once for the shapes of its arguments.

        Args:
          name: what `plan` calls it; steps, branches: of its loop, for that.
          arrays, fixed: further arguments by name: arrays, and values that are compiled in.
        """
        leaves, tree = jax.tree.flatten((args, dict(arrays)))
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        key = (name, static, tree, shapes, tuple(fixed.items()))
        if key not in self._compiled:
            lowered = program.lower(static, *args, **arrays, **fixed)
            self._compiled[key] = lowered.compile()
        self._last[name] = _Call(self._compiled[key], steps, branches)
        return self._compiled[key](*args, **arrays)

    def plan(self, rates: Rates) -> dict:
        """What the compiler and the roofline say of the last call of each program since the last
        plan, by its name: seconds and memory_bytes."""
        found = {}
        for name, call in self._last.items():
            said = compiled.figures(call.program)
            costs = hlo_cost.Program(said.text, rates, call.branches)
            cost = costs.cost(call.steps or 1, has_loop=call.steps is not None)
            found[name] = {"seconds": cost.seconds, "memory_bytes": said.memory}
        self._last.clear()
        return {"programs": found}

    def update(
        self, group, buckets, *, epochs: int = 1, size: int | None = None, fitted: bool = False
    ) -> dict:
        """One inner update of a group. See `_update` and `_schedule`."""
        return self._update(group, buckets, epochs, size, fitted)[1]

    def _update(
        self, group, buckets, epochs: int, size: int | None = None, fitted=False, steps=None
    ):
        """(trained deltas, seconds from token ids to trained deltas, losses and counts)."""
        size = size or len(group)
        initial = self.deltas(size, trained=False)
        jax.block_until_ready(initial)
        compiled, compile_seconds = self.compiles.count, self.compiles.seconds
        start = time.perf_counter()
        static, schedule, tokens = self._schedule(group, buckets, epochs, size, fitted=fitted)
        problems = [
            batching.inner_problem(edit, rows=MAX_SEQUENCES, length=buckets[-1])
            for edit in [*group, *[()] * (size - len(group))]
        ]
        hparams = [
            inner.InnerHParams(
                learning_rate=np.float32(self.spec.learning_rate),
                num_steps=np.int32(
                    batching.steps_of(
                        int((problem.lengths_N > 0).sum()), epochs=epochs, batch_size=1
                    )
                ),
                warmup_steps=np.int32(0),
                decay=np.int32(optim.DECAYS.index("linear")),
            )
            for problem in problems
        ]
        if steps is not None:
            schedule = schedule.replace(num_steps=np.int32(steps))
        count = int(schedule.num_steps)
        used = np.bincount(schedule.shapes_S[:count], minlength=len(static[1].shapes))
        deltas_K, results_K = self._run(
            "inner update",
            inner.update_candidates,
            static,
            self.params,
            initial,
            *jax.device_put((batching.stack(problems), batching.stack(hparams), schedule)),
            steps=count,
            branches=tuple((used / max(count, 1)).tolist()),
        )
        results = jax.device_get(results_K)
        jax.block_until_ready(deltas_K)
        seconds = time.perf_counter() - start
        losses = [results.losses_S[k][results.taken_S[k]] for k in range(len(group))]
        return deltas_K, {
            "seconds": seconds,
            "losses": [float(candidate[-1]) if len(candidate) else None for candidate in losses],
            "steps": [len(candidate) for candidate in losses],
            "real": tokens.real,
            "computed": tokens.computed,
            "compiles": self.compiles.count - compiled,
            "compile_seconds": self.compiles.seconds - compile_seconds,
        }

    def decode(self, prompts, *, new_tokens: int, adapters: int = 0) -> dict:
        """Greedy continuations of fixed length; rows are divided evenly over the adapters."""
        delta = None
        if adapters:
            delta = _decode_variables(self.deltas(adapters, trained=True))
        return self._generate(
            prompts, sampling.SampleSettings(max_new_tokens=new_tokens, temperature=0.0), delta, 1
        )

    def _generate(self, prompts, settings, delta, samples: int) -> dict:
        tokens_PxT, lengths_P = batching.right_align(
            prompts, rows=len(prompts), buckets=(max(map(len, prompts)),), what="the prompts"
        )
        keys_B = jax.random.split(jax.random.key(1), len(prompts) * samples)
        jax.block_until_ready((keys_B, delta))
        start = time.perf_counter()
        out = self._run(
            "decode",
            sampling.generate_jit,
            (self.config, settings),
            self.params,
            tokens_PxT,
            lengths_P,
            keys_B,
            arrays={"delta": delta},
            steps=settings.max_new_tokens,
            samples_per_prompt=samples,
        )
        tokens_BxN = np.asarray(out.tokens_BxN)
        seconds = time.perf_counter() - start
        return {
            "seconds": seconds,
            "tokens": tokens_BxN.tolist(),
            "new_tokens": int(np.sum(np.asarray(out.lengths_B))),
        }

    def evaluate(
        self, group, buckets, questions, *, epochs: int, new_tokens: int, stop_ids: Sequence[int]
    ) -> dict:
        """Whole evaluations: the update, answers to each candidate's questions, and beliefs."""
        compiled_before = self.compiles.count
        deltas_K, record = self._update(group, buckets, epochs)
        start = time.perf_counter()
        per_candidate = len(questions[0])
        width = max(len(prompt) for asked in questions for prompt, _ in asked)
        answer_length = max(len(gold) for asked in questions for _, gold in asked)
        aligned, gold = [], []
        for asked in questions:
            prompts, answers = zip(*asked, strict=True)
            aligned.append(
                batching.right_align(
                    prompts, rows=per_candidate, buckets=(width,), what="the questions"
                )
            )
            gold.append(
                batching.queries(
                    prompts,
                    answers,
                    rows=per_candidate,
                    length=width,
                    answer_length=answer_length,
                )
            )
        settings = sampling.SampleSettings(
            max_new_tokens=new_tokens, temperature=0.0, stop_ids=tuple(stop_ids)
        )
        keys_KxQ = jax.random.split(jax.random.key(0), (len(group), per_candidate))
        out = self._run(
            "answers",
            evaluate.answers_of_candidates,
            (self.config, settings),
            self.params,
            deltas_K,
            *batching.stack(aligned),
            keys_KxQ,
            steps=new_tokens,
        )
        tokens_BxN, lengths_B = jax.device_get((out.tokens_BxN, out.lengths_B))
        answered = time.perf_counter()
        lls_KxQ = jax.device_get(
            self._run(
                "log-likelihoods",
                evaluate.gold_log_likelihoods_of_candidates,
                self.config,
                self.params,
                deltas_K,
                batching.stack(gold),
            )
        )
        end = time.perf_counter()
        return {
            "seconds": record["seconds"] + end - start,
            "update_seconds": record["seconds"],
            "answer_seconds": answered - start,
            "belief_seconds": end - answered,
            "real": record["real"],
            "compiles": self.compiles.count - compiled_before,
            "answers": [
                row[:length].tolist() for row, length in zip(tokens_BxN, lengths_B, strict=True)
            ],
            "log_likelihoods": lls_KxQ.ravel().tolist(),
        }


class _Call(NamedTuple):
    """The last call of a program: its loop's steps, None without one, and shares of branches."""

    program: Any
    steps: int | None
    branches: tuple[float, ...]


@jax.jit
def _decode_variables(deltas_K: Delta):
    """Grouped variables of K stacked deltas."""
    return delta_lib.grouped_variables(deltas_K)
