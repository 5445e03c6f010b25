"""The inner update against a reference loop in numpy, and what its candidates may not share."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seal_jax import batching, inner, optim
from seal_jax import delta as delta_lib
from seal_jax.delta import Delta, DeltaSpec
from seal_jax.model import decoder

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
    return _take(found, 0)


@dataclasses.dataclass(frozen=True)
class Group:
    """The arguments of `update_candidates` after the base parameters."""

    deltas: Delta
    problems: inner.InnerProblem
    hparams: inner.InnerHParams
    schedule: inner.Schedule

    def candidate(self, k):
        return [jax.tree.map(lambda leaf: leaf[k], part) for part in self.candidates()]

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


def _hparams(rate=0.02, steps=STEPS, warmup=0, decay="linear"):
    return inner.InnerHParams(
        np.float32(rate), np.int32(steps), np.int32(warmup), np.int32(optim.DECAYS.index(decay))
    )


def _problem(seed, lengths):
    rng = np.random.default_rng([seed, 7])
    sequences = [rng.integers(0, 61, length).tolist() for length in lengths]
    return batching.inner_problem(sequences, rows=ROWS, length=LENGTH)


def _schedule(lengths):
    schedule, _ = batching.make_schedule(
        lengths, epochs=EPOCHS, batch_size=1, key=ORDER_KEY, shapes=SETTINGS.shapes, rows=ROWS
    )
    return schedule


@pytest.fixture(scope="module")
def group(tiny_llama):
    """Three candidates of other sizes and recipes, each on its own random sequences."""
    recipes = [
        _hparams(0.02, 3 * EPOCHS, 0, "linear"),
        _hparams(0.01, 4 * EPOCHS, 3, "cosine"),
        _hparams(0.03, 4, 2, "constant"),  # of the 6 steps that its sequences offer
    ]
    problems = [_problem(k, lengths) for k, lengths in enumerate(LENGTHS)]
    # Candidate 0 is trained on the odd positions of its sequences only.
    odd = problems[0].mask_NxT & (np.arange(LENGTH) % 2 == 1)
    problems[0] = problems[0].replace(mask_NxT=odd)
    keys = jax.random.split(jax.random.key(2), K)
    deltas = delta_lib.stack([delta_lib.init(key, tiny_llama.params, SPEC) for key in keys])
    return Group(
        jax.tree.map(np.asarray, deltas),
        batching.stack(problems),
        batching.stack(recipes),
        _schedule(LENGTHS),
    )


@pytest.fixture(scope="module")
def run(tiny_llama):
    """Group -> (deltas, results) as numpy arrays, through the one compiled program."""

    def run(group):
        static = (tiny_llama.config, SETTINGS)
        found = inner.update_candidates(
            static, tiny_llama.params, *group.candidates(), group.schedule
        )
        return jax.tree.map(np.asarray, found)

    return run


@pytest.fixture(scope="module")
def trained(group, run):
    return run(group)


def _take(tree, k):
    return jax.tree.map(lambda leaf: leaf[k], tree)


def _assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def _distance(found, expected, start):
    """|found - expected| over |expected - start|, of whole trees."""

    def norm(a, b):
        return sum(
            float(((np.asarray(x, np.float64) - y) ** 2).sum())
            for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        )

    return (norm(found, expected) / norm(expected, start)) ** 0.5


@pytest.fixture(scope="module")
def loss_and_gradient(tiny_llama):
    """(tree, tokens [T], mask [T]) -> loss and gradient, through merged weights."""

    @jax.jit
    def function(tree, tokens_T, mask_T):
        def loss(tree):
            merged = delta_lib.merge(tiny_llama.params, Delta(tree, SPEC))
            lls = decoder.log_likelihoods(tiny_llama.config, merged, tokens_T[None])[0]
            return -jnp.where(mask_T[1:], lls, 0.0).sum() / mask_T[1:].sum()

        return jax.value_and_grad(loss)(tree)

    return function


def _rate(hparams, step):
    """The schedules once more, in plain Python."""
    peak, total, warmup, decay = (leaf.item() for leaf in jax.tree.leaves(hparams))
    if step < warmup:
        return peak * step / warmup
    progress = (step - warmup) / (total - warmup)
    return peak * [1.0, 1 - progress, (1 + np.cos(np.pi * progress)) / 2][decay]


def _reference(loss_and_gradient, delta, problem, hparams, schedule):
    """Trains one candidate step by step: AdamW, clipping and schedule in float64."""
    leaves, structure = jax.tree.flatten(jax.tree.map(lambda x: np.asarray(x, float), delta.tree))
    first = [np.zeros_like(leaf) for leaf in leaves]
    second = [np.zeros_like(leaf) for leaf in leaves]
    losses, taken = [], 0
    for rank in schedule.ranks_SxB[: int(schedule.num_steps), 0]:
        if rank >= problem.num_sequences or taken == hparams.num_steps:
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
            leaves[i] = leaves[i] - _rate(hparams, taken) * mean / spread
        losses.append(float(loss))
        taken += 1
    return jax.tree.unflatten(structure, leaves), losses


def test_each_candidate_equals_a_reference_loop(group, trained, loss_and_gradient):
    """Rates, steps, warm-ups, decays, masks, order, clipping and losses, all at once."""
    deltas, results = trained
    for k in range(K):
        start, problem, hparams = group.candidate(k)
        tree, losses = _reference(loss_and_gradient, start, problem, hparams, group.schedule)
        assert _distance(_take(deltas.tree, k), tree, start.tree) < 1e-3
        expected_taken = [loss is not None for loss in losses]
        np.testing.assert_array_equal(results.taken_S[k], expected_taken)
        np.testing.assert_allclose(
            results.losses_S[k], [loss or 0.0 for loss in losses], rtol=1e-4, atol=1e-6
        )
        assert results.finite[k]
    np.testing.assert_array_equal(results.taken_S.sum(axis=1), [9, 12, 4])


def test_training_lowers_the_loss_and_moves_the_logits(group, trained, tiny_llama):
    deltas, results = trained
    losses = results.losses_S[1].reshape(EPOCHS, ROWS).mean(axis=1)
    assert losses[0] > losses[1] > losses[2]
    tokens = group.problems.tokens_NxT[1]
    moved = tiny_llama.logits(tokens, _take(deltas, 1)) - tiny_llama.logits(tokens)
    assert np.abs(moved).max() > 0.1


def test_mapped_candidates_equal_a_loop_over_them(group, trained, tiny_llama):
    static = (tiny_llama.config, SETTINGS)
    for k in range(K):
        delta, result = update_one(static, tiny_llama.params, *group.candidate(k), group.schedule)
        start, *_ = group.candidate(k)
        assert _distance(_take(trained[0].tree, k), delta.tree, start.tree) < 1e-4
        np.testing.assert_allclose(trained[1].losses_S[k], result.losses_S, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(trained[1].taken_S[k], result.taken_S)
        assert trained[1].finite[k] == result.finite


def test_packed_equals_padded(group, trained, tiny_llama):
    """Steps at shapes with room for every sequence at the length of the longest: nothing packed."""
    runs = []
    for shapes in (
        batching.step_shapes((4, 8), rows=K, spread=1),
        ((6, 8), (10, 8), (15, 8), (21, 8)),
    ):
        schedule, tokens = batching.make_schedule(
            LENGTHS, epochs=EPOCHS, batch_size=1, key=ORDER_KEY, shapes=shapes, rows=ROWS
        )
        static = (tiny_llama.config, inner.InnerSettings(shapes))
        found = inner.update_candidates(static, tiny_llama.params, *group.candidates(), schedule)
        runs.append((tokens, *found))
    (tokens, deltas, results), (packed_tokens, packed, packed_results) = runs
    # Longest first the ranks have 21, 13, 6 and 2 tokens, padded to 3 times 8, 8, 4 and 4.
    assert packed_tokens == batching.Tokens(real=42 * EPOCHS, computed=(21 + 15 + 6 + 6) * EPOCHS)
    assert tokens == batching.Tokens(real=42 * EPOCHS, computed=72 * EPOCHS)
    for k in range(K):
        start, *_ = group.candidate(k)
        assert _distance(_take(packed.tree, k), _take(deltas.tree, k), start.tree) < 1e-4
    np.testing.assert_allclose(packed_results.losses_S, results.losses_S, rtol=1e-5, atol=1e-6)


GARBAGE = {
    "tokens": lambda d, p, h: dict(problems=p.replace(tokens_NxT=60 - p.tokens_NxT)),
    "mask": lambda d, p, h: dict(problems=p.replace(mask_NxT=~p.mask_NxT)),
    "sequences": lambda d, p, h: dict(problems=p.replace(lengths_N=0 * p.lengths_N)),
    "steps": lambda d, p, h: dict(hparams=h.replace(num_steps=np.int32(1))),
    "delta": lambda d, p, h: dict(deltas=jax.tree.map(lambda leaf: leaf + 0.5, d)),
    "huge rate": lambda d, p, h: dict(hparams=_hparams(rate=1e30)),
    "nan rate": lambda d, p, h: dict(hparams=_hparams(rate=np.nan)),
    "infinite rate": lambda d, p, h: dict(hparams=_hparams(rate=np.inf)),
    "nan delta": lambda d, p, h: dict(deltas=jax.tree.map(lambda leaf: leaf * np.nan, d)),
}
NOT_FINITE = ("nan rate", "infinite rate", "nan delta")


@pytest.mark.parametrize("name", GARBAGE)
def test_nothing_that_a_candidate_brings_reaches_its_neighbours(group, trained, run, name):
    """Bit for bit: candidates 0 and 2 are what they were, whatever becomes of candidate 1."""
    found = run(group.replace(1, **GARBAGE[name](*group.candidate(1))))
    for k in (0, 2):
        _assert_same(_take(found, k), _take(trained, k))
    changed = jax.tree.leaves(_take(found[0], 1)), jax.tree.leaves(_take(trained[0], 1))
    assert any(not np.array_equal(a, b) for a, b in zip(*changed, strict=True))
    np.testing.assert_array_equal(found[1].finite, [True, name not in NOT_FINITE, True])


def test_a_candidate_that_is_not_finite_stops_there(group, run):
    """The first step breaks the delta, the second sees it in its loss and is the last."""
    _, results = run(group.replace(1, hparams=_hparams(rate=np.inf)))
    assert results.taken_S[1].sum() == 2
    assert np.isfinite(results.losses_S[1, 0]) and not np.isfinite(results.losses_S[1, 1])
    assert (results.losses_S[1, 2:] == 0).all()


def test_a_delta_that_only_the_last_step_breaks_is_not_finite(group, run):
    """One step: the loss before it is finite, what it leaves behind is not."""
    deltas, results = run(group.replace(2, hparams=_hparams(rate=np.nan, steps=1)))
    assert np.isfinite(results.losses_S[2]).all() and results.taken_S[2].sum() == 1
    assert not np.isfinite(deltas.tree["layers"]["attn"]["q_proj"]["b"][2]).all()
    np.testing.assert_array_equal(results.finite, [True, True, False])


def test_what_padding_holds_never_matters(group, trained, run):
    """Other tokens behind every sequence and in every missing row: the same bits."""
    tokens = group.problems.tokens_NxT
    lengths = np.array(
        [sorted(lengths, reverse=True) + [0] * (ROWS - len(lengths)) for lengths in LENGTHS]
    )
    padding = np.arange(LENGTH) >= lengths[..., None]
    assert padding.sum() > 40
    noise = np.random.default_rng(0).integers(1, 61, tokens.shape).astype(np.int32)
    problems = group.problems.replace(tokens_NxT=np.where(padding, noise, tokens))
    _assert_same(run(dataclasses.replace(group, problems=problems)), trained)


def test_missing_rows_are_not_trained_on_whatever_their_mask_says(group, trained, run):
    missing = np.arange(ROWS) >= group.problems.num_sequences[:, None]
    problems = group.problems.replace(mask_NxT=group.problems.mask_NxT | missing[..., None])
    _assert_same(run(dataclasses.replace(group, problems=problems)), trained)


def test_the_group_of_a_candidate_matters_to_the_last_bits_only(group, trained, run, tiny_llama):
    """Candidate 2 with other neighbours, and alone: other buckets, the same steps in order."""
    lengths = ((2, 2), (3, 3, 2), LENGTHS[2])
    others = group.replace(0, problems=_problem(8, lengths[0]))
    others = others.replace(1, problems=_problem(9, lengths[1]))
    others = dataclasses.replace(others, schedule=_schedule(lengths))
    alone, static = _schedule(LENGTHS[2:]), (tiny_llama.config, SETTINGS)
    runs = [
        (_take(trained, 2), group.schedule),
        (_take(run(others), 2), others.schedule),
        (update_one(static, tiny_llama.params, *group.candidate(2), alone), alone),
    ]
    assert not np.array_equal(group.schedule.shapes_S, others.schedule.shapes_S)
    visited = [
        schedule.ranks_SxB[np.asarray(result.taken_S), 0].tolist() for (_, result), schedule in runs
    ]
    assert visited[0] == visited[1] == visited[2] and len(visited[0]) == 4
    (first, first_result), _ = runs[0]
    start, *_ = group.candidate(2)
    for (delta, result), _ in runs[1:]:
        assert _distance(delta.tree, first.tree, start.tree) < 1e-4
        np.testing.assert_allclose(
            result.losses_S[result.taken_S], first_result.losses_S[first_result.taken_S], rtol=1e-5
        )


def _steps(group, ranks):
    """The group with a schedule of literal ranks, all in the wide bucket."""
    ranks_SxB = np.full((STEPS, 1), -1, np.int32)
    ranks_SxB[: len(ranks), 0] = ranks
    schedule = inner.Schedule(ranks_SxB, np.ones(STEPS, np.int32), np.int32(len(ranks)))
    return dataclasses.replace(group, schedule=schedule)


def test_the_first_step_by_hand(group, run, loss_and_gradient):
    """At B = 0 Adam's first step moves every entry of B by the rate against its gradient's sign.

    m / (1 - b1) = g and v / (1 - b2) = g^2, so that the step is g / (|g| + eps); clipping scales g,
    which cancels. The gradient of A is exactly zero while B is zero, so A stays.
    """
    for k in range(K):
        group = group.replace(k, hparams=_hparams(rate=0.5 * (k + 1), steps=9, decay="constant"))
    deltas, results = run(_steps(group, [1]))
    for k in range(K):
        start, problem, _ = group.candidate(k)
        loss, gradient = loss_and_gradient(start.tree, problem.tokens_NxT[1], problem.mask_NxT[1])
        np.testing.assert_allclose(results.losses_S[k, 0], loss, rtol=1e-5)
        for name, module in _take(deltas.tree, k)["layers"]["attn"].items():
            np.testing.assert_array_equal(module["a"], start.tree["layers"]["attn"][name]["a"])
            g = np.asarray(gradient["layers"]["attn"][name]["b"])
            clear = np.abs(g) > 1e-5
            assert clear.mean() > 0.9
            np.testing.assert_allclose(
                module["b"][clear], -0.5 * (k + 1) * np.sign(g[clear]), rtol=1e-2
            )


def test_warm_up_and_decay_by_hand(group, run):
    """Two steps on one sequence. With 4 steps of warm-up the first has rate 0 and the second a
    quarter of the peak; since the delta has not moved, its gradient is the same, and Adam's
    direction is its sign again."""
    recipes = [
        _hparams(rate=0.4, steps=9, warmup=4, decay="constant"),
        _hparams(rate=0.4, steps=9, warmup=4, decay="linear"),
        _hparams(rate=0.4, steps=9, warmup=1, decay="linear"),
    ]
    for k, hparams in enumerate(recipes):
        group = group.replace(k, hparams=hparams)
    one, two = run(_steps(group, [1])), run(_steps(group, [1, 1]))
    _assert_same(one[0], group.deltas)
    for k, size in enumerate((0.1, 0.1, 0.4)):
        b = two[0].tree["layers"]["attn"]["v_proj"]["b"][k]
        np.testing.assert_allclose(np.median(np.abs(b)), size, rtol=1e-3)


def test_fewer_steps_equal_a_shorter_schedule(group, run):
    """5 steps of the candidate in a schedule of 12, and the other way round: the same bits."""
    lengths = (3, 5, 6, 8)
    for k in range(K):
        group = group.replace(k, problems=_problem(k, lengths))
    schedule = _schedule([lengths] * K)
    runs = []
    for of_candidate, of_schedule in ((5, STEPS), (STEPS, 5)):
        for k in range(K):
            group = group.replace(k, hparams=_hparams(steps=of_candidate, decay="constant"))
        shorter = schedule.replace(num_steps=np.int32(of_schedule))
        runs.append(run(dataclasses.replace(group, schedule=shorter)))
    _assert_same(*runs)
    np.testing.assert_array_equal(runs[0][1].taken_S, [[True] * 5 + [False] * 7] * K)


def test_skipped_steps_leave_the_moments_and_the_step_count_alone(group, run):
    """Candidate 2 has ranks 0 and 1: steps of ranks 2 and 3 in between do not age its state."""
    with_gaps = run(_steps(group, [0, 3, 1, 2, 2, 0]))
    without = run(_steps(group, [0, 1, 0]))
    _assert_same(_take(with_gaps[0], 2), _take(without[0], 2))
    np.testing.assert_array_equal(with_gaps[1].taken_S[2, :6], [1, 0, 1, 0, 0, 1])
    np.testing.assert_array_equal(with_gaps[1].losses_S[2, [0, 2, 5]], without[1].losses_S[2, :3])


def test_targets_that_are_masked_give_no_loss_and_no_gradient(group, run):
    """The last token of each sequence is read by nobody: masked, it may be any token."""
    problems = group.problems
    tokens, mask, other = map(
        np.array, (problems.tokens_NxT, problems.mask_NxT, problems.tokens_NxT)
    )
    for k, lengths in enumerate(LENGTHS):
        for n, length in enumerate(sorted(lengths, reverse=True)):
            mask[k, n, length - 1] = False
            other[k, n, length - 1] = (tokens[k, n, length - 1] + 1) % 61
    runs = [
        run(dataclasses.replace(group, problems=problems.replace(tokens_NxT=t, mask_NxT=mask)))
        for t in (tokens, other)
    ]
    _assert_same(*runs)
    changed = run(dataclasses.replace(group, problems=problems.replace(tokens_NxT=other)))
    assert not np.array_equal(changed[1].losses_S[1], runs[0][1].losses_S[1])


def test_the_first_token_is_never_a_target(group, trained, run):
    mask = group.problems.mask_NxT.copy()
    mask[:, :, 0] = ~mask[:, :, 0]
    problems = group.problems.replace(mask_NxT=mask)
    _assert_same(run(dataclasses.replace(group, problems=problems)), trained)
