"""The sharding rules: what each parameter is split along, that none is forgotten, refusals."""

import dataclasses

import flax.traverse_util
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from seal_jax.core import delta as delta_lib
from seal_jax.core import parallel, restem, sharding
from seal_jax.core.delta import DeltaSpec
from seal_jax.core.model import decoder
from seal_jax.core.model.config import ModelConfig

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SIZES = dict(vocab_size=96, hidden_size=40, intermediate_size=48, num_layers=2, head_dim=4)
CONFIG = ModelConfig(family="llama", num_heads=8, num_kv_heads=4, **SIZES)
FAMILIES = {
    "llama": CONFIG,
    "llama with biases": dataclasses.replace(CONFIG, attention_bias=True, attention_out_bias=True),
    "qwen2": dataclasses.replace(CONFIG, family="qwen2", attention_bias=True, tie_embeddings=True),
    "qwen3": dataclasses.replace(CONFIG, family="qwen3", qk_norm="head"),
    "olmo2": dataclasses.replace(CONFIG, family="olmo2", qk_norm="all", norms="after"),
    "gemma3": dataclasses.replace(
        CONFIG, family="gemma3_text", qk_norm="head", norms="around", tie_embeddings=True
    ),
}
SPLIT = {  # of CONFIG's family with biases, over two or four devices: 0 is the leading dimension
    "embed/embedding": 0,
    "head/kernel": 1,
    "layers/attn/q_proj/kernel": 2,
    "layers/attn/q_proj/bias": 1,
    "layers/attn/k_proj/kernel": 2,
    "layers/attn/k_proj/bias": 1,
    "layers/attn/v_proj/kernel": 2,
    "layers/attn/v_proj/bias": 1,
    "layers/attn/o_proj/kernel": 1,
    "layers/mlp/gate_proj/kernel": 2,
    "layers/mlp/up_proj/kernel": 2,
    "layers/mlp/down_proj/kernel": 1,
}
SPLIT_FACTORS = {  # of deltas of them, without the candidates' axis
    **{f"layers/attn/{name}/b": 2 for name in ("q_proj", "k_proj", "v_proj")},
    **{f"layers/mlp/{name}/b": 2 for name in ("gate_proj", "up_proj")},
    "layers/attn/o_proj/a": 1,
    "layers/mlp/down_proj/a": 1,
}


def _shapes(config):
    """The parameter tree with a ShapeDtypeStruct for each leaf."""
    return jax.eval_shape(lambda: decoder.init(config, jax.random.key(0)))


def _split(config, tree, model_axis, first=None):
    """{path: dimension} of the leaves that are split over "model"."""
    specs = sharding.specs(config, tree, model_axis, first)
    flat = flax.traverse_util.flatten_dict(specs, sep="/")
    return {path: spec.index("model") for path, spec in flat.items() if "model" in spec}


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_every_parameter_and_every_delta_of_it_is_covered(config):
    params = _shapes(config)
    expected = {path: at for path, at in SPLIT.items() if path != "head/kernel"}
    if not config.tie_embeddings:
        expected = SPLIT
    if not config.attention_bias:
        expected = {path: at for path, at in expected.items() if not path.endswith("bias")}
    assert _split(config, params, 2) == _split(config, params, 4) == expected
    low_rank = delta_lib.shapes(params, DeltaSpec(ALL, rank=3))
    assert _split(config, low_rank, 4) == SPLIT_FACTORS
    dense = delta_lib.shapes(params, DeltaSpec((".",), kind="dense"))
    assert _split(config, dense, 4) == expected
    assert _split(config, params, 1) == {}


def test_fused_projections_are_whole_on_each_device():
    params = _shapes(dataclasses.replace(CONFIG, family="phi3", fused=True))
    others = ("embed/embedding", "head/kernel", "layers/attn/o_proj/kernel")
    expected = {path: SPLIT[path] for path in (*others, "layers/mlp/down_proj/kernel")}
    assert _split(CONFIG, params, 2) == expected
    targets = ("qkv_proj", "gate_up_proj", "o_proj", "down_proj")
    factors = {path: at for path, at in SPLIT_FACTORS.items() if path.endswith("/a")}
    assert _split(CONFIG, delta_lib.shapes(params, DeltaSpec(targets, rank=3)), 4) == factors


def test_what_the_axis_does_not_divide_is_replicated():
    """Eight devices divide 8 heads but not 4 key/value heads; five divide nothing; three 96, 48."""
    params = _shapes(FAMILIES["llama with biases"])
    of_8 = {path: at for path, at in SPLIT.items() if "k_proj" not in path and "v_proj" not in path}
    assert _split(CONFIG, params, 8) == of_8
    assert _split(CONFIG, params, 5) == {}
    of_3 = {path: at for path, at in SPLIT.items() if "attn" not in path}
    assert _split(CONFIG, params, 3) == of_3


def test_a_state_is_split_as_the_delta_that_it_is_about():
    """Moments like the delta; step counters are replicated."""
    spec = DeltaSpec(("q_proj",), rank=3)
    settings = restem.MStepSettings()
    state = jax.eval_shape(
        lambda: restem.init(jax.random.key(0), _shapes_as_zeros(CONFIG), spec, settings)
    )
    found = sharding.specs(CONFIG, state, 4)
    split, whole = PartitionSpec(None, None, "model"), PartitionSpec()
    moments = found.opt_state[1]
    for tree in (found.delta.tree, moments.mu, moments.nu):
        assert tree["layers"]["attn"]["q_proj"] == {"a": whole, "b": split}
    assert found.step == moments.count == whole


def _shapes_as_zeros(config):
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), _shapes(config))


def test_candidates_lie_along_the_data_axis():
    deltas = {"layers": {"attn": {"o_proj": {"a": jnp.zeros((8, 2, 32, 3))}}}}
    devices = parallel.all_devices(2)
    [of_8] = jax.tree.leaves(devices.candidate_shardings(CONFIG, deltas))
    assert of_8.spec == PartitionSpec("data", None, "model")
    [of_6] = jax.tree.leaves(
        devices.candidate_shardings(CONFIG, jax.tree.map(lambda leaf: leaf[:6], deltas))
    )
    assert of_6.spec == PartitionSpec(None, None, "model")


@pytest.mark.parametrize("path", ["layers/attn/q_proj/scale", "layers/moe/router/kernel", "bias"])
def test_a_parameter_that_no_rule_covers_is_named(path):
    tree = flax.traverse_util.unflatten_dict({path: jnp.zeros((2, 4))}, sep="/")
    for devices in (parallel.all_devices(), parallel.all_devices(2)):
        with pytest.raises(ValueError, match=f"no sharding rule covers the parameter '{path}'"):
            devices.place(CONFIG, tree)


@pytest.mark.parametrize("model_axis", [0, 3, 16])
def test_a_model_axis_must_divide_the_devices(model_axis):
    message = rf"devices.model_axis={model_axis} does not .* \(8\): set it to 1 or 2 or 4 or 8\."
    with pytest.raises(ValueError, match=message):
        parallel.all_devices(model_axis)


def test_a_mesh_of_given_devices():
    """Neighbours share a copy of the weights; trees lie on those devices and no others."""
    given = jax.devices()[2:6]
    devices = parallel.DeviceMesh(tuple(given), 2)
    assert devices.mesh.axis_names == ("data", "model")
    assert devices.mesh.devices.tolist() == [given[:2], given[2:]]
    assert (devices.data_shards, devices.shards(4), devices.shards(3)) == (2, 2, 1)
    assert str(devices) == "4 cpu (2 data x 2 model)"
    placed = devices.place(CONFIG, {"head": {"kernel": jnp.arange(40 * 96.0).reshape(40, 96)}})
    kernel = placed["head"]["kernel"]
    halves = {shard.device: shard.data[0, 0] for shard in kernel.addressable_shards}
    assert halves == {given[0]: 0, given[1]: 48, given[2]: 0, given[3]: 48}
