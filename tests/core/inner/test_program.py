"""What is compiled for the inner update: one branch a step, no recompilation, recomputation."""

import collections
import functools

import jax
import jax.extend
import numpy as np
import pytest

from seal_jax.core import batching, inner
from seal_jax.core import delta as delta_lib
from seal_jax.core.delta import DeltaSpec

SPEC = DeltaSpec(("q_proj", "v_proj"), rank=2, alpha=4.0)
SETTINGS = inner.InnerSettings(shapes=((12, 4), (24, 8)))
K, STEPS = 3, 12
LENGTHS = (8, 5, 4, 2)


def _hparams(rate=0.02, steps=STEPS, warmup=0, decay=1):
    one = (np.float32(rate), np.int32(steps), np.int32(warmup), np.int32(decay))
    return inner.InnerHParams(*(np.stack([leaf] * K) for leaf in one))


def _problems(lengths):
    rng = np.random.default_rng(len(lengths))
    return batching.stack(
        [
            batching.inner_problem(
                [rng.integers(0, 61, length).tolist() for length in lengths], rows=4, length=8
            )
            for _ in range(K)
        ]
    )


def _schedule(ranks, buckets):
    ranks_SxB, shapes_S = np.full((STEPS, 1), -1, np.int32), np.zeros(STEPS, np.int32)
    ranks_SxB[: len(ranks), 0], shapes_S[: len(ranks)] = ranks, buckets
    ranks_KxSxB = np.broadcast_to(ranks_SxB, (K, STEPS, 1))
    return inner.Schedule(ranks_KxSxB, shapes_S, np.int32(len(ranks)))


@pytest.fixture(scope="module")
def arguments(tiny_llama):
    """(params, deltas, problems, hparams, schedule) of three candidates."""
    keys = jax.random.split(jax.random.key(4), K)
    deltas = delta_lib.stack([delta_lib.init(key, tiny_llama.params, SPEC) for key in keys])
    schedule = _schedule([0, 3, 1, 2] * 3, [0, 1, 0, 1] * 3)
    return tiny_llama.params, deltas, _problems(LENGTHS), _hparams(), schedule


def _equations(jaxpr):
    """Every equation, those of nested programs included."""
    for equation in jaxpr.eqns:
        yield equation
        for nested in jax.extend.core.jaxprs_in_params(equation.params):
            yield from _equations(nested)


def _trace(function, *arguments):
    """Names of primitives -> equations of the program."""
    found = collections.defaultdict(list)
    for equation in _equations(jax.make_jaxpr(function)(*arguments).jaxpr):
        found[equation.primitive.name].append(equation)
    return found


def _program(tiny_llama, settings=SETTINGS):
    return functools.partial(inner.update_candidates, (tiny_llama.config, settings))


def test_one_branch_runs_at_each_step(tiny_llama, arguments):
    """One switch with a scalar predicate, in a loop with a scalar predicate."""
    found = _trace(_program(tiny_llama), *arguments)
    assert len(found["cond"]) == 1
    assert len(found["cond"][0].params["branches"]) == len(SETTINGS.shapes)
    assert found["cond"][0].invars[0].aval.shape == ()
    assert found["while"]
    for loop in found["while"]:
        assert loop.params["cond_jaxpr"].out_avals[0].shape == ()


def test_a_mapped_schedule_would_run_every_branch(tiny_llama, arguments):
    """What the test above guards against: the switch becomes a select."""
    update = functools.partial(inner.update, (tiny_llama.config, SETTINGS))
    groups = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), arguments[1:])
    mapped = jax.vmap(update, in_axes=(None, 0, 0, 0, 0))
    assert not _trace(mapped, arguments[0], *groups)["cond"]


def test_a_step_runs_at_the_shape_that_the_schedule_names(tiny_llama, arguments):
    """Three sequences of 4 or 2 tokens train alike at 12 and 24; 8 tokens each are cut at 12."""
    params, *candidates, _ = arguments
    for rank, fits in ((2, True), (3, True), (0, False)):
        (narrow, narrow_result), (wide, wide_result) = (
            _program(tiny_llama)(params, *candidates, _schedule([rank], [shape]))
            for shape in (0, 1)
        )
        losses = narrow_result.losses_S[:, 0], wide_result.losses_S[:, 0]
        assert np.allclose(*losses, rtol=1e-5) == fits
        for a, b, start in zip(*map(jax.tree.leaves, (narrow, wide, candidates[0])), strict=True):
            assert (np.linalg.norm(a - b) <= 1e-3 * np.linalg.norm(b - start)) or not fits


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_recomputing_activations_changes_nothing(tiny_llama, arguments, remat):
    plain = _program(tiny_llama)
    saving = _program(tiny_llama, inner.InnerSettings(SETTINGS.shapes, remat=remat))
    (expected, expected_result), (found, result) = plain(*arguments), saving(*arguments)
    np.testing.assert_allclose(result.losses_S, expected_result.losses_S, rtol=1e-5, atol=1e-6)
    assert np.all(result.taken_S)
    for a, b, start in zip(*map(jax.tree.leaves, (found, expected, arguments[1])), strict=True):
        assert np.linalg.norm(a - b) < 1e-4 * np.linalg.norm(b - start)
    recomputes = [
        any(name.startswith(("checkpoint", "remat")) for name in _trace(program, *arguments))
        for program in (plain, saving)
    ]
    assert recomputes == [False, True]


def test_dots_keep_the_outputs_of_large_products_only(tiny_llama, arguments):
    """Of 7 projections: forward, gradient by the input, and, with "full", forward once more."""
    products = {
        remat: sum(
            equation.params["dimension_numbers"][1] == ((), ())
            for equation in _trace(
                _program(tiny_llama, inner.InnerSettings(((24, 8),), remat=remat)), *arguments
            )["dot_general"]
        )
        for remat in ("none", "dots", "full")
    }
    assert products["none"] == products["dots"] < products["full"]


@pytest.mark.parametrize(
    ("ranks", "buckets", "recipe", "lengths"),
    [
        ([0], [0], {}, LENGTHS),
        ([3, 2, 1, 0, 3], [1, 1, 0, 0, 1], {}, LENGTHS),
        ([0, 1], [0, 0], {}, LENGTHS),
        ([2, 3], [1, 1], {}, LENGTHS),
        ([0, 3, 1, 2], [1, 1, 1, 1], dict(rate=0.5, steps=2, warmup=1, decay=2), LENGTHS),
        ([0, 1], [1, 0], {}, (3, 4)),
    ],
)
def test_neither_steps_nor_buckets_nor_recipes_compile_again(
    tiny_llama, arguments, count_compiles, ranks, buckets, recipe, lengths
):
    program, (params, deltas, *_) = _program(tiny_llama), arguments
    jax.block_until_ready(program(*arguments))
    others = (_problems(lengths), _hparams(**recipe), _schedule(ranks, buckets))
    count, (_, result) = count_compiles(program, params, deltas, *others)
    assert count == 0
    np.testing.assert_array_equal(
        result.taken_S.sum(axis=1), [min(len(ranks), recipe.get("steps", STEPS))] * K
    )


def test_the_counter_sees_a_compilation(count_compiles):
    assert count_compiles(jax.jit(lambda x: x * 3 + 1), np.float32(0))[0] == 1


def test_a_batch_of_sequences_is_averaged_over_its_tokens(tiny_llama, arguments):
    """Sequences of 8 and 2 tokens: 7 and 1 targets, so that the mean of means would differ."""
    params, *candidates, _ = arguments
    delta, problem, _ = (jax.tree.map(lambda leaf: leaf[:1], part) for part in candidates)
    hparams = jax.tree.map(lambda leaf: leaf[:1], _hparams(rate=0.0))
    ranks_KxSxB, shapes_S = np.array([[[0, 3], [2, -1]]], np.int32), np.ones(2, np.int32)
    schedule = inner.Schedule(ranks_KxSxB, shapes_S, np.int32(2))
    _, result = _program(tiny_llama)(params, delta, problem, hparams, schedule)
    logits = np.asarray(tiny_llama.logits(problem.tokens_NxT[0]), np.float64)
    log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    sums = [
        -sum(log_probs[n, t - 1, problem.tokens_NxT[0, n, t]] for t in range(1, length))
        for n, length in enumerate(LENGTHS)
    ]
    assert abs(sums[3] - sums[0] / 7) > 0.1
    expected = [(sums[0] + sums[3]) / (1 + 7), sums[2] / 3]
    np.testing.assert_allclose(result.losses_S[0], expected, rtol=1e-5)


def test_initial_deltas_of_candidates_are_those_of_their_keys(tiny_llama, arguments):
    keys = jax.random.split(jax.random.key(4), K)
    found = inner.init_candidates(SPEC, tiny_llama.params, keys)
    jax.tree.map(np.testing.assert_array_equal, found, arguments[1])
