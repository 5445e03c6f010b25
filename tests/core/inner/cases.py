"""Three candidates of the inner update, and a reference loop in numpy."""

import dataclasses

import jax
import numpy as np

from seal_jax.core import batching, inner, optim
from seal_jax.core.delta import Delta, DeltaSpec

SPEC = DeltaSpec(("q_proj", "v_proj"), rank=2, alpha=4.0)
SETTINGS = inner.InnerSettings(shapes=((12, 8), (24, 8)))
K, ROWS, LENGTH, EPOCHS = 3, 4, 8, 3
STEPS = ROWS * EPOCHS
LENGTHS = ((7, 3, 4), (2, 8, 5, 3), (6, 4))  # sequences of each candidate
ORDER_KEY = jax.random.key(11)


def update_one(static, params, *candidate_and_schedule):
    """Trains a candidate alone: K = 1."""
    *candidate, schedule = candidate_and_schedule
    found = inner.update_candidates(
        static,
        params,
        *(jax.tree.map(lambda leaf: leaf[None], part) for part in candidate),
        schedule,
    )
    return take(found, 0)


@dataclasses.dataclass(frozen=True)
class Group:
    """The arguments of `update_candidates` after the base parameters."""

    deltas: Delta
    problems: inner.InnerProblem
    hparams: inner.InnerHParams
    schedule: inner.Schedule

    def candidate(self, k):
        return [jax.tree.map(lambda leaf: leaf[k], part) for part in self.candidates()]

    def schedule_of(self, k):
        """The schedule with the order of candidate k alone."""
        return self.schedule.replace(ranks_KxSxB=self.schedule.ranks_KxSxB[k : k + 1])

    def candidates(self):
        return self.deltas, self.problems, self.hparams

    def replace(self, k, **parts):
        """The group with other leaves for candidate k."""
        changed = {}
        for name, part in parts.items():
            changed[name] = jax.tree.map(
                lambda leaf, new: np.concatenate([leaf[:k], np.asarray(new)[None], leaf[k + 1 :]]),
                getattr(self, name),
                part,
            )
        return dataclasses.replace(self, **changed)


def recipe(rate=0.02, steps=STEPS, warmup=0, decay="linear"):
    return inner.InnerHParams(
        np.float32(rate), np.int32(steps), np.int32(warmup), np.int32(optim.DECAYS.index(decay))
    )


def make_problem(seed, lengths):
    rng = np.random.default_rng([seed, 7])
    sequences = [rng.integers(0, 61, length).tolist() for length in lengths]
    return batching.inner_problem(sequences, rows=ROWS, length=LENGTH)


def make_schedule(lengths):
    schedule, _ = batching.make_schedule(
        lengths, epochs=EPOCHS, batch_size=1, key=ORDER_KEY, shapes=SETTINGS.shapes, rows=ROWS
    )
    return schedule


def take(tree, k):
    return jax.tree.map(lambda leaf: leaf[k], tree)


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def distance(found, expected, start):
    """|found - expected| over |expected - start|, of whole trees."""

    def norm(a, b):
        return sum(
            float(((np.asarray(x, np.float64) - y) ** 2).sum())
            for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        )

    return (norm(found, expected) / norm(expected, start)) ** 0.5


def rate_at(hparams, step):
    """The schedules once more, in plain Python."""
    peak, total, warmup, decay = (leaf.item() for leaf in jax.tree.leaves(hparams))
    if step < warmup:
        return peak * step / warmup
    progress = (step - warmup) / (total - warmup)
    return peak * [1.0, 1 - progress, (1 + np.cos(np.pi * progress)) / 2][decay]


def reference(loss_and_gradient, delta, problem, hparams, schedule):
    """Trains one candidate step by step: AdamW, clipping and schedule in float64."""
    leaves, structure = jax.tree.flatten(jax.tree.map(lambda x: np.asarray(x, float), delta.tree))
    first = [np.zeros_like(leaf) for leaf in leaves]
    second = [np.zeros_like(leaf) for leaf in leaves]
    losses, taken = [], 0
    ranks_SxB = schedule.ranks_KxSxB.max(axis=0)  # those of the group; it may lack some
    for rank in ranks_SxB[: int(schedule.num_steps), 0]:
        if rank >= (problem.lengths_N > 0).sum() or taken == hparams.num_steps:
            losses.append(None)
            continue
        tree = jax.tree.unflatten(structure, [leaf.astype(np.float32) for leaf in leaves])
        loss, gradient = loss_and_gradient(tree, problem.tokens_NxT[rank], problem.mask_NxT[rank])
        gradient = [np.asarray(g, float) for g in jax.tree.leaves(gradient)]
        norm = sum((g**2).sum() for g in gradient) ** 0.5
        for i, g in enumerate(gradient):
            g = g / max(1.0, norm)
            first[i] = 0.9 * first[i] + 0.1 * g
            second[i] = 0.999 * second[i] + 0.001 * g**2
            mean = first[i] / (1 - 0.9 ** (taken + 1))
            spread = np.sqrt(second[i] / (1 - 0.999 ** (taken + 1))) + 1e-8
            leaves[i] = leaves[i] - rate_at(hparams, taken) * mean / spread
        losses.append(float(loss))
        taken += 1
    return jax.tree.unflatten(structure, leaves), losses
