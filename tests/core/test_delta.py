"""The invariants of deltas, for each family of models and each kind of delta."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seal_jax.core import delta as delta_lib
from seal_jax.core.delta import Delta, DeltaSpec
from seal_jax.core.model import decoder

TOKENS = np.random.default_rng(0).integers(0, 61, (6, 7)).astype(np.int32)
ATTENTION = DeltaSpec(("q_proj", "v_proj"), rank=3, alpha=6.0)
KERNELS = DeltaSpec(("attn/.*kernel", "mlp"), rank=2, alpha=8.0)
EVERYTHING = DeltaSpec((".",), kind="dense")


def _assert_trees(compare, found, expected, **kwargs):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(functools.partial(compare, **kwargs), found, expected)


assert_trees_equal = functools.partial(_assert_trees, np.testing.assert_array_equal)
assert_trees_close = functools.partial(_assert_trees, np.testing.assert_allclose)


@pytest.fixture(scope="module")
def kernels_delta(tiny_llama, random_delta):
    return random_delta(tiny_llama.params, KERNELS, seed=1)


@pytest.mark.parametrize("spec", [KERNELS, EVERYTHING], ids=["low_rank", "dense"])
def test_a_new_delta_is_the_base_model_bit_for_bit(tiny_model, spec):
    """Compiled without LLVM's reassociation, which may round two programs of one sum apart."""

    def logits(variables):
        def function(params, variables):
            hidden = decoder.hidden_states(tiny_model.config, params, TOKENS, delta=variables)
            return decoder.logits(tiny_model.config, params, hidden, delta=variables)

        lowered = jax.jit(function).lower(tiny_model.params, variables)
        exactly = lowered.compile(compiler_options={"xla_backend_optimization_level": 0})
        return exactly(tiny_model.params, variables)

    zero = delta_lib.init(jax.random.key(0), tiny_model.params, spec)
    np.testing.assert_array_equal(logits(delta_lib.variables(zero)), logits(None))
    assert_trees_equal(delta_lib.merge(tiny_model.params, zero), tiny_model.params)


@pytest.mark.parametrize("spec", [KERNELS, EVERYTHING], ids=["low_rank", "dense"])
def test_merging_a_delta_equals_applying_it(tiny_model, random_delta, spec):
    delta = random_delta(tiny_model.params, spec, seed=1, size=0.2)
    merged = dataclasses.replace(tiny_model, params=delta_lib.merge(tiny_model.params, delta))
    applied = tiny_model.logits(TOKENS, delta)
    np.testing.assert_allclose(merged.logits(TOKENS), applied, rtol=1e-4, atol=1e-4)
    assert np.abs(applied - tiny_model.logits(TOKENS)).max() > 0.1


def _paths(tree):
    return sorted(
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    )


def test_each_dense_leaf_alone_equals_its_merge_and_moves_the_logits(tiny_models, random_delta):
    """Embeddings (tied and not), head, biases, every norm and every kernel, one at a time."""
    for model in tiny_models.values():
        base = model.logits(TOKENS)
        everything = random_delta(model.params, EVERYTHING, seed=2)
        zero = jax.tree.map(jnp.zeros_like, everything)
        leaves, structure = jax.tree.flatten(zero)
        for i, (path, leaf) in enumerate(
            zip(_paths(everything.tree), jax.tree.leaves(everything), strict=True)
        ):
            delta = jax.tree.unflatten(structure, [*leaves[:i], leaf, *leaves[i + 1 :]])
            merged = dataclasses.replace(model, params=delta_lib.merge(model.params, delta))
            applied = model.logits(TOKENS, delta)
            np.testing.assert_allclose(
                applied, merged.logits(TOKENS), rtol=2e-4, atol=2e-4, err_msg=path
            )
            # Adding one vector to all keys moves every score of a query alike: rotary positions
            # alone make a key's bias matter, and little.
            least = 1e-3 if path.endswith("k_proj/bias") else 1e-2
            assert np.abs(applied - base).max() > least, path


def test_merge_by_hand(tiny_llama):
    """One layer's kernel gains (alpha / rank) A B; nothing else changes."""
    spec = DeltaSpec(("k_proj",), rank=1, alpha=3.0)
    a, b = np.zeros((2, 16, 1), np.float32), np.zeros((2, 1, 8), np.float32)
    a[1, 4, 0], b[1, 0, 5] = 2.0, 0.5
    merged = delta_lib.merge(
        tiny_llama.params, Delta({"layers": {"attn": {"k_proj": {"a": a, "b": b}}}}, spec)
    )
    expected = jax.tree.map(np.array, tiny_llama.params)
    expected["layers"]["attn"]["k_proj"]["kernel"][1, 4, 5] += 3.0
    assert_trees_equal(merged, expected)


def test_merging_several_deltas_adds_them(tiny_llama, kernels_delta, random_delta):
    dense = random_delta(tiny_llama.params, EVERYTHING, seed=2)
    attention = random_delta(tiny_llama.params, ATTENTION, seed=3)
    deltas = [kernels_delta, dense, attention]
    together = delta_lib.merge(tiny_llama.params, deltas)
    one_by_one = tiny_llama.params
    for delta in deltas:
        one_by_one = delta_lib.merge(one_by_one, delta)
    assert_trees_close(together, one_by_one, rtol=1e-5, atol=1e-6)
    assert_trees_close(
        together, delta_lib.merge(tiny_llama.params, deltas[::-1]), rtol=1e-5, atol=1e-6
    )
    assert_trees_equal(delta_lib.merge(tiny_llama.params, []), tiny_llama.params)


def test_a_sum_below_one_rounding_is_not_lost_in_bfloat16(tiny_llama):
    """8 changes of 1/1024 at 1.0, where bfloat16 steps by 1/128: one by one, each would be lost."""
    params = jax.tree.map(lambda leaf: jnp.ones_like(leaf, jnp.bfloat16), tiny_llama.params)
    spec = DeltaSpec(("final_norm",), kind="dense")
    small = Delta({"final_norm": {"scale": jnp.full(16, 2.0**-10)}}, spec)
    merged = delta_lib.merge(params, [small] * 8)
    assert merged["final_norm"]["scale"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(merged["final_norm"]["scale"], float), 1 + 2.0**-7)
    once = delta_lib.merge(params, small)["final_norm"]["scale"]
    np.testing.assert_array_equal(np.asarray(once, float), 1.0)


def test_a_delta_on_a_bfloat16_base_is_float32_and_its_small_values_count(tiny_llama):
    bf16 = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tiny_llama.params)
    for spec in (KERNELS, EVERYTHING):
        fresh = delta_lib.init(jax.random.key(0), bf16, spec)
        assert {leaf.dtype for leaf in jax.tree.leaves(fresh)} == {jnp.dtype(jnp.float32)}
    # x A B with A = (1, 2^-10) and B = (1, -1): 2^-10 is lost when A is rounded to bfloat16's
    # eight bits after being added to 1, and kept when the product is taken in float32.
    spec = DeltaSpec(("down_proj",), rank=1, alpha=1.0)
    a = jnp.full((2, 24, 1), 1 + 2.0**-10)
    b = jnp.full((2, 1, 16), 2.0**-3)
    delta = Delta({"layers": {"mlp": {"down_proj": {"a": a, "b": b}}}}, spec)
    rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16).astype(jnp.float32), delta)
    model = dataclasses.replace(tiny_llama, params=bf16)
    assert np.abs(model.logits(TOKENS, delta) - model.logits(TOKENS, rounded)).max() > 0


@pytest.mark.parametrize("kind", ["low_rank", "dense"])
def test_a_target_that_matches_nothing_names_the_choices(tiny_llama, kind):
    spec = DeltaSpec(("q_proj", "query_proj"), kind=kind)
    with pytest.raises(ValueError, match=r"'query_proj' matches no .*layers/attn/q_proj/kernel"):
        delta_lib.init(jax.random.key(0), tiny_llama.params, spec)


def test_low_rank_deltas_change_kernels_of_layers_only(tiny_models):
    params = tiny_models["qwen3"].params
    for target in ("head", "embed", "norm"):
        with pytest.raises(ValueError, match=f"'{target}' matches no parameter; a low_rank"):
            delta_lib.target_paths(params, DeltaSpec((target,)))
        assert delta_lib.target_paths(params, DeltaSpec((target,), kind="dense"))
    assert delta_lib.target_paths(params, DeltaSpec(("v_proj", "attn/[qv]_proj"))) == [
        "layers/attn/q_proj/kernel",
        "layers/attn/v_proj/kernel",
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(targets=()), "targets are empty"),
        (dict(targets=("q_proj",), rank=0), "rank must be at least 1, not 0"),
        (dict(targets=("q_proj",), kind="full"), "'low_rank' or 'dense', not 'full'"),
    ],
)
def test_impossible_specs(fields, message):
    with pytest.raises(ValueError, match=message):
        DeltaSpec(**fields)


def test_init_is_uniform_within_the_inverse_root_of_the_inputs(tiny_llama):
    """A's bound is 1/4 for the 16 inputs of q_proj and 1/sqrt(24) for those of down_proj."""
    spec = DeltaSpec(("q_proj", "down_proj"), rank=32)
    layers = delta_lib.init(jax.random.key(0), tiny_llama.params, spec).tree["layers"]
    for module, inputs, outputs in (
        (layers["attn"]["q_proj"], 16, 16),
        (layers["mlp"]["down_proj"], 24, 16),
    ):
        a, bound = np.asarray(module["a"]), inputs**-0.5
        assert a.shape == (2, inputs, 32) and module["b"].shape == (2, 32, outputs)
        assert 0.98 * bound < np.abs(a).max() <= bound
        # About 1,000 draws or more: the mean within 4 deviations, the variance within 10 %.
        assert abs(a.mean()) < 4 * bound / np.sqrt(3 * a.size)
        np.testing.assert_allclose(a.var(), bound**2 / 3, rtol=0.1)
        assert not np.array_equal(a[0], a[1])
        assert not np.any(module["b"])


def test_the_numbers_of_a_leaf_depend_on_its_own_path_and_the_key_only(tiny_llama):
    def a_of_v(key, *targets):
        delta = delta_lib.init(key, tiny_llama.params, DeltaSpec(targets, rank=3, alpha=6.0))
        return np.asarray(delta.tree["layers"]["attn"]["v_proj"]["a"])

    key = jax.random.key(5)
    alone = a_of_v(key, "v_proj")
    np.testing.assert_array_equal(a_of_v(key, "q_proj", "v_proj", "mlp"), alone)
    np.testing.assert_array_equal(a_of_v(key, "v_proj", "q_proj"), alone)
    assert not np.array_equal(a_of_v(jax.random.key(6), "v_proj"), alone)
    both = delta_lib.init(key, tiny_llama.params, DeltaSpec(("k_proj", "v_proj"), rank=3)).tree
    attention = both["layers"]["attn"]  # of equal shapes, and still of other numbers
    assert not np.array_equal(attention["k_proj"]["a"], attention["v_proj"]["a"])


def test_shapes_are_those_of_init(tiny_llama):
    for spec in (KERNELS, EVERYTHING):
        tree = delta_lib.init(jax.random.key(0), tiny_llama.params, spec).tree
        expected = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
        assert delta_lib.shapes(tiny_llama.params, spec) == expected


def test_scale_is_alpha_over_rank(tiny_llama, kernels_delta):
    scaled = dataclasses.replace(KERNELS, alpha=2 * KERNELS.alpha)
    doubled_alpha = Delta(kernels_delta.tree, scaled)
    doubled_b = jax.tree_util.tree_map_with_path(
        lambda path, leaf: 2 * leaf if path[-1].key == "b" else leaf, kernels_delta.tree
    )
    assert_trees_equal(
        delta_lib.variables(doubled_alpha), delta_lib.variables(Delta(doubled_b, KERNELS))
    )
    b = kernels_delta.tree["layers"]["attn"]["o_proj"]["b"]
    found = delta_lib.variables(kernels_delta)["layers"]["attn"]["o_proj"]["b"]
    np.testing.assert_array_equal(found, 4 * b)  # 8 / 2
    assert delta_lib.variables(None) is None


def test_stack_then_take_gives_each_back(tiny_llama, random_delta):
    deltas = [random_delta(tiny_llama.params, ATTENTION, seed=seed) for seed in range(3)]
    stacked = delta_lib.stack(deltas)
    assert stacked.spec == ATTENTION
    for k, delta in enumerate(deltas):
        assert_trees_equal(delta_lib.take(stacked, k), delta)
    assert_trees_equal(
        delta_lib.take(stacked, np.array([2, 0])), delta_lib.stack([deltas[2], deltas[0]])
    )


def test_deltas_of_different_specs_cannot_be_stacked(tiny_llama, random_delta):
    other = dataclasses.replace(ATTENTION, alpha=1.0)
    deltas = [random_delta(tiny_llama.params, spec, seed=0) for spec in (ATTENTION, other)]
    with pytest.raises(ValueError, match="only deltas of one spec"):
        delta_lib.stack(deltas)


@pytest.mark.parametrize(
    ("second", "rank", "alpha"),
    [
        # Scales 2 and 4 differ: each B carries its own. ATTENTION leaves five modules alone.
        (KERNELS, 5, 5.0),
        # Both scale by 2: 2 x (3 + 1).
        (DeltaSpec(("o_proj", "q_proj"), rank=1, alpha=2.0), 4, 8.0),
    ],
    ids=["other scale", "same scale"],
)
def test_concatenated_factors_add_up(tiny_llama, random_delta, second, rank, alpha):
    deltas = [
        random_delta(tiny_llama.params, spec, seed=seed, size=0.2)
        for seed, spec in enumerate((ATTENTION, second))
    ]
    one = delta_lib.concatenate(deltas)
    assert one.spec == DeltaSpec((*ATTENTION.targets, *second.targets[:1], *(
        target for target in second.targets[1:] if target not in ATTENTION.targets
    )), rank=rank, alpha=alpha)  # fmt: skip
    expected = delta_lib.merge(tiny_llama.params, deltas)
    assert_trees_close(delta_lib.merge(tiny_llama.params, one), expected, rtol=1e-5, atol=1e-5)
    assert one.tree["layers"]["attn"]["o_proj"]["a"].shape[-1] == rank


def test_a_single_delta_is_concatenated_bit_for_bit(kernels_delta):
    one = delta_lib.concatenate([kernels_delta])
    assert one.spec == kernels_delta.spec
    assert_trees_equal(one.tree, kernels_delta.tree)


def test_what_cannot_be_concatenated(tiny_llama, kernels_delta):
    dense = delta_lib.init(jax.random.key(0), tiny_llama.params, EVERYTHING)
    for deltas in ([], [kernels_delta, dense]):
        with pytest.raises(ValueError, match="only low-rank deltas can be concatenated"):
            delta_lib.concatenate(deltas)


def test_rows_grouped_by_candidate_equal_the_mapped_candidates(tiny_models, random_delta):
    """Three candidates of two rows each, in one batch, against vmap over the candidates."""
    config, params = tiny_models["qwen2"].config, tiny_models["qwen2"].params
    stacked = delta_lib.stack([random_delta(params, KERNELS, seed=seed) for seed in range(3)])
    states = functools.partial(decoder.hidden_states, config, params)

    @jax.jit
    def grouped(stacked):
        return states(TOKENS, delta=delta_lib.grouped_variables(stacked))

    @jax.jit
    def mapped(stacked):
        def of_one(delta, tokens_BxT):
            return states(tokens_BxT, delta=delta_lib.variables(delta))

        return jax.vmap(of_one)(stacked, TOKENS.reshape(3, 2, -1))

    found, expected = grouped(stacked), mapped(stacked).reshape(6, *grouped(stacked).shape[1:])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    swapped = grouped(delta_lib.take(stacked, np.array([1, 0, 2])))
    assert np.abs(swapped - found)[:4].max() > 0.1
    np.testing.assert_array_equal(swapped[4:], found[4:])


def test_dense_deltas_cannot_share_rows(tiny_llama):
    zero = delta_lib.init(jax.random.key(0), tiny_llama.params, EVERYTHING)
    with pytest.raises(ValueError, match="2 dense deltas cannot share one program"):
        delta_lib.grouped_variables(delta_lib.stack([zero, zero]))
    jax.tree.map(
        np.testing.assert_array_equal,
        delta_lib.grouped_variables(delta_lib.stack([zero])),
        zero.tree,
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_number_makes_a_delta_not_finite(tiny_llama, kernels_delta, bad):
    assert delta_lib.is_finite(kernels_delta)
    leaves, structure = jax.tree.flatten(kernels_delta)
    for i, leaf in enumerate(leaves):
        broken = np.array(leaf)
        broken[1, 0, 1] = bad
        delta = jax.tree.unflatten(structure, [*leaves[:i], broken, *leaves[i + 1 :]])
        assert not delta_lib.is_finite(delta)
