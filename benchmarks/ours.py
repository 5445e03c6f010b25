"""This project as a contestant."""

import functools
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import machine, models
from benchmarks.problems import MAX_SEQUENCES
from seal_jax.core import batching, evaluate, inner, optim, sampling
from seal_jax.core import delta as delta_lib
from seal_jax.core.delta import Delta, DeltaSpec
from seal_jax.core.model import decoder
from seal_jax.core.randomness import key_for

_SPREAD = 2


def open_contestant(spec: models.Spec) -> "Ours":
    return Ours(spec)


class Ours:
    """The model on the device, and what is measured on it. Every method returns a dict."""

    def __init__(self, spec: models.Spec):
        self.spec = spec
        self.compiles = machine.Compiles.listen()
        self.config, self.params = models.load_ours(spec)
        self.delta_spec = DeltaSpec(targets=models.TARGETS, rank=spec.rank, alpha=spec.alpha)
        attention = decoder.param_shapes(self.config)["layers"]["attn"]
        self._shapes = {target: attention[target]["kernel"] for target in models.TARGETS}

    def facts(self, *, small: bool) -> dict:
        """The machine's rates and the model's sizes."""
        return {
            "device": jax.devices()[0].device_kind,
            "platform": jax.default_backend(),
            "jax": jax.__version__,
            "gemm_flops": machine.gemm_rate(self.spec.dtype, small=small),
            "copy_bytes": machine.copy_bandwidth(small=small),
            "matmul_parameters": machine.matmul_parameters(self.config),
        }

    def gemm(self, *, small: bool) -> dict:
        """The large GEMM's rate at this moment."""
        return {"flops": machine.gemm_rate(self.spec.dtype, small=small)}

    def products_only(self, tokens: int) -> dict:
        """The model's large products alone, forward and by the input, for one row of tokens.

        What an update would take if norms, attention, adapters, softmax and the optimizer were
        free: the ceiling at the model's own shapes.
        """
        x_PxD = jnp.ones((tokens, self.config.hidden_size), self.spec.dtype)
        jax.block_until_ready(_products(self.config, self.params, x_PxD))
        start = time.perf_counter()
        jax.block_until_ready(_products(self.config, self.params, x_PxD))
        return {"seconds": time.perf_counter() - start, "real": tokens}

    def deltas(self, count: int, *, trained: bool) -> Delta:
        """K stacked deltas with the factors that every contestant has."""
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
        self, group, buckets, epochs: int, size: int, *, spread: float = _SPREAD, fitted=False
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

    def density(self, groups, buckets, *, size: int) -> dict:
        """Real and computed tokens of many groups; nothing is trained."""
        counts = {}
        for name, spread in (("packed", _SPREAD), ("padded", 1)):
            tokens = [self._schedule(group, buckets, 1, size, spread=spread)[2] for group in groups]
            counts[name] = {
                "real": sum(t.real for t in tokens),
                "computed": sum(t.computed for t in tokens),
            }
        return counts

    def update(
        self, group, buckets, *, epochs: int = 1, size: int | None = None, fitted: bool = False
    ) -> dict:
        """One inner update of a group. See `_update` and `_schedule`."""
        return self._update(group, buckets, epochs, size, fitted)[1]

    def compile(self, group, buckets, *, size: int | None = None, fitted: bool = False) -> dict:
        """Compiles the program of a group: an update of no steps."""
        return self._update(group, buckets, 1, size, fitted, steps=0)[1]

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
        deltas_K, results_K = inner.update_candidates(
            static,
            self.params,
            initial,
            *jax.device_put((batching.stack(problems), batching.stack(hparams), schedule)),
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

    def sample(self, prompts, *, samples: int, new_tokens: int) -> dict:
        """M samples of each prompt at temperature 1 and top-p 0.95, of fixed length."""
        settings = sampling.SampleSettings(max_new_tokens=new_tokens, temperature=1.0, top_p=0.95)
        return self._generate(prompts, settings, None, samples)

    def _generate(self, prompts, settings, delta, samples: int) -> dict:
        tokens_PxT, lengths_P = batching.right_align(
            prompts, rows=len(prompts), buckets=(max(map(len, prompts)),), what="the prompts"
        )
        keys_B = jax.random.split(jax.random.key(1), len(prompts) * samples)
        jax.block_until_ready((keys_B, delta))
        start = time.perf_counter()
        out = sampling.generate_jit(
            (self.config, settings),
            self.params,
            tokens_PxT,
            lengths_P,
            keys_B,
            delta=delta,
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
        out = evaluate.answers_of_candidates(
            (self.config, settings), self.params, deltas_K, *batching.stack(aligned), keys_KxQ
        )
        tokens_BxN, lengths_B = jax.device_get((out.tokens_BxN, out.lengths_B))
        answered = time.perf_counter()
        lls_KxQ = jax.device_get(
            evaluate.gold_log_likelihoods_of_candidates(
                self.config, self.params, deltas_K, batching.stack(gold)
            )
        )
        end = time.perf_counter()
        return {
            "seconds": record["seconds"] + end - start,
            "update_seconds": record["seconds"],
            "answer_seconds": answered - start,
            "belief_seconds": end - answered,
            "answers": [
                row[:length].tolist() for row, length in zip(tokens_BxN, lengths_B, strict=True)
            ],
            "log_likelihoods": lls_KxQ.ravel().tolist(),
        }


@functools.partial(jax.jit, static_argnums=0)
def _products(config, params, x_PxD):
    """A chain of all products of a training step; its values mean nothing."""
    scale = x_PxD.dtype.type(config.hidden_size**-0.5)

    def forward(x, layer):
        attn, mlp = layer["attn"], layer["mlp"]
        q, k, v = (x @ attn[name]["kernel"] for name in ("q_proj", "k_proj", "v_proj"))
        x = (q + k.sum() + v.sum()) @ attn["o_proj"]["kernel"] * scale
        gate, up = (x @ mlp[name]["kernel"] for name in ("gate_proj", "up_proj"))
        return (gate + up) @ mlp["down_proj"]["kernel"] * scale, None

    def backward(g, layer):
        attn, mlp = layer["attn"], layer["mlp"]
        inner = g @ mlp["down_proj"]["kernel"].T
        g = (inner @ mlp["gate_proj"]["kernel"].T + inner @ mlp["up_proj"]["kernel"].T) * scale
        heads = g @ attn["o_proj"]["kernel"].T
        g = heads @ attn["q_proj"]["kernel"].T
        for name in ("k_proj", "v_proj"):
            kernel = attn[name]["kernel"]
            g = g + heads[:, : kernel.shape[1]] @ kernel.T
        return g * scale, None

    x_PxD, _ = jax.lax.scan(forward, x_PxD, params["layers"])
    logits_PxV = decoder.logits(config, params, x_PxD)
    head = params["embed"]["embedding"] if config.tie_embeddings else params["head"]["kernel"].T
    g_PxD = logits_PxV.astype(x_PxD.dtype) @ head * scale
    return jax.lax.scan(backward, g_PxD, params["layers"], reverse=True)[0]


@jax.jit
def _decode_variables(deltas_K: Delta):
    """Grouped variables of K stacked deltas."""
    return delta_lib.grouped_variables(deltas_K)
