"""Parameters placed straight from a checkpoint: equal to those placed from the host, read once."""

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from seal_jax.core import parallel
from seal_jax.core.model.config import ModelConfig
from seal_jax.weights import names, placement

P = PartitionSpec


@pytest.fixture
def checkpoint(hf_settings, random_params, hf_tensors):
    """Loads a tiny model's parameters and lists what was read of each tensor."""
    config = ModelConfig.from_hf(hf_settings("llama"))
    params = random_params(config)
    tensors = hf_tensors(params)
    reads: dict[str, list] = {name: [] for name in tensors}

    def copy(name, index, target):
        reads[name].append(index)
        target[...] = tensors[name][index]

    def load(sharding_of):
        stored = {name: tensor.shape for name, tensor in tensors.items()}
        build = placement.builder(sharding_of, config)
        params = names.assemble(
            config, "hf", stored, copy, jnp.bfloat16, source="a test", advice="", build=build
        )
        return params, reads

    return params, load


def _mesh():
    return Mesh(np.asarray(jax.devices()).reshape(2, 4), ("data", "model"))


def _by_spec(of_stacked, of_others=None):
    """Kernels of the layers on one spec, their norms replicated, the rest on another spec."""

    def sharding_of(config, path, shape):
        if path.startswith("layers/"):
            spec = of_stacked if len(shape) == 3 else P()
        else:
            spec = of_others or P()
        return NamedSharding(_mesh(), spec)

    return sharding_of


@pytest.mark.parametrize(
    "sharding_of",
    [
        _by_spec(P()),
        _by_spec(P(None, None, "model"), P("model")),
        _by_spec(P(None, "model"), P("data")),
        _by_spec(P(None, ("data", "model"), None)),
        _by_spec(P("data", None, "model")),  # layers on different devices
        lambda config, path, shape: SingleDeviceSharding(jax.devices()[3]),
    ],
)
def test_placed_leaves_equal_those_that_device_put_makes(checkpoint, sharding_of):
    params, load = checkpoint
    placed, _ = load(sharding_of)

    def check(path, found, wanted):
        name = "/".join(key.key for key in path)
        wanted = jax.device_put(wanted.astype(jnp.bfloat16), sharding_of(None, name, wanted.shape))
        assert found.dtype == wanted.dtype and found.committed
        assert found.sharding == wanted.sharding
        for ours, theirs in zip(found.addressable_shards, wanted.addressable_shards, strict=True):
            assert (ours.device, ours.index) == (theirs.device, theirs.index)
            np.testing.assert_array_equal(np.asarray(ours.data), np.asarray(theirs.data))

    jax.tree_util.tree_map_with_path(check, placed, params)


def test_each_part_is_read_once_and_alone(checkpoint):
    _, load = checkpoint
    _, reads = load(_by_spec(P(None, None, "model")))
    # [in, out] here is [out, in] in the file: a part of the columns is one of the rows. 32 rows on
    # four devices, each part on two of them.
    rows = [index[0].indices(32)[:2] for index in reads["model.layers.1.self_attn.q_proj.weight"]]
    assert sorted(rows) == [(0, 8), (8, 16), (16, 24), (24, 32)]
    assert len(reads["model.embed_tokens.weight"]) == 1  # whole, on all eight
    _, reads = load(None)
    assert all(reads.values())


def test_a_layer_is_set_in_place():
    """Without a second copy of the stacked leaf, which would not fit where the leaf just does."""
    shape = (8, 64, 128)
    sharding = NamedSharding(_mesh(), P(None, None, "model"))
    empty, set_layer = placement._programs(shape, np.dtype(jnp.bfloat16), sharding)
    layer = jax.device_put(
        np.ones(shape[1:], jnp.bfloat16), NamedSharding(_mesh(), P(None, "model"))
    )
    used = set_layer.lower(empty(), layer, 3).compile().memory_analysis()
    a_share = 2 * 8 * 64 * 128 // 4
    assert used.alias_size_in_bytes == a_share
    assert used.temp_size_in_bytes < a_share // 2


@pytest.mark.parametrize("model_axis", [1, 2])
def test_a_parameter_goes_where_parallel_places_it(tiny_llama, model_axis):
    """Read onto its sharding or put there afterwards: the same, or every program compiles again."""
    devices = parallel.all_devices(model_axis)
    placed = devices.place(tiny_llama.config, tiny_llama.params)
    for path, leaf in flax.traverse_util.flatten_dict(placed, sep="/").items():
        read_onto = devices.param_sharding(tiny_llama.config, path, leaf.shape)
        assert read_onto == leaf.sharding, path
