"""A whole run on a mesh leaves the records that one device leaves; bad meshes are refused."""

import functools
import itertools

import jax
import numpy as np
import pytest

from seal_jax.cli import adapt
from seal_jax.core import delta as delta_lib
from seal_jax.core import parallel
from seal_jax.core.delta import DeltaSpec
from seal_jax.core.model.config import ModelConfig
from seal_jax.loop import train
from seal_jax.loop.session import Session
from seal_jax.runs import checkpoints, ledger
from seal_jax.settings import Settings, SettingsError


@pytest.fixture(scope="module", autouse=True)
def few_devices():
    """All eight, here."""


@pytest.fixture
def run(tiny_settings, change, tmp_path, monkeypatch):
    """(data, model) -> the ledger's segments of a run of one round on so many devices."""
    short = {
        "restem.rounds": 1,
        "evaluation.arms": ("base", "edit_after"),
        "inner.buckets": (128,),
    }
    settings = change(tiny_settings, short)

    def start(data, model):
        workdir = tmp_path / f"{data}x{model}"
        devices = tuple(jax.devices()[: data * model])
        with monkeypatch.context() as patch:
            patch.setattr(parallel, "all_devices", functools.partial(parallel.DeviceMesh, devices))
            given = change(settings, {"devices.model_axis": model})
            train.train(given, str(workdir), quiet=True)
        with ledger.Ledger(workdir / "ledger", read_only=True) as records:
            return records.segments()

    return start


def _likelihoods(segments):
    """Log-likelihoods of the gold answers under the base model: texts that no run changes."""
    return [
        value
        for segment in segments
        if segment.kind == "answers" and segment.key in ("round 1/0", "eval base/0")
        for said in segment.record["of"]
        for value in said["gold_log_likelihoods"].values()
    ]


def _tokens(segments):
    return {
        (segment.key, edit["context"], edit["index"]): edit["tokens"]
        for segment in segments
        if segment.kind == "edits"
        for edit in segment.record["edits"]
    }


@pytest.mark.slow
def test_a_run_on_two_times_two_devices_has_the_records_of_one(run, record_property):
    on_one, on_mesh = run(1, 1), run(2, 2)
    assert [(s.kind, s.key) for s in on_mesh] == [(s.kind, s.key) for s in on_one]
    for found, expected in zip(on_mesh, on_one, strict=True):
        assert found.record.keys() == expected.record.keys()
    expected = _likelihoods(on_one)
    assert len(expected) == 8 and len(set(expected)) == 8
    np.testing.assert_allclose(_likelihoods(on_mesh), expected, rtol=1e-4)
    found, expected = _tokens(on_mesh), _tokens(on_one)
    assert found.keys() == expected.keys() and len(expected) == 8 + 2
    pairs = [
        pair for name in expected for pair in itertools.zip_longest(expected[name], found[name])
    ]
    differ, total = sum(a != b for a, b in pairs), len(pairs)
    record_property("share of sampled tokens that differ", differ / total)
    print(f"sampled tokens that differ: {differ} of {total}")
    assert differ < total / 2


def test_a_checkpoint_is_restored_into_the_sharding_of_the_run(tmp_path, random_params):
    """One that was written on 2 x 4 devices is read on 4 x 2; nothing is put on one device."""
    config = ModelConfig(
        family="llama",
        vocab_size=64,
        hidden_size=20,
        intermediate_size=48,
        num_layers=2,
        num_heads=4,
        num_kv_heads=4,
        head_dim=4,
    )
    params, spec = random_params(config, 0), DeltaSpec(("q_proj", "down_proj"), rank=2)

    def opened(model):
        devices = parallel.all_devices(model)
        return Session(
            settings=Settings(),
            task=None,
            model=config,
            tokenizer=None,
            source="",
            devices=devices,
            base=devices.place(config, params),
            stop_ids=(),
        )

    tree = delta_lib.init(jax.random.key(0), params, spec).tree
    like = opened(2).delta_shapes(spec)
    with checkpoints.Checkpoints(tmp_path) as saved:
        saved.save(1, opened(4).place(tree))
        restored = saved.restore(1, like)
    jax.tree.map(np.testing.assert_array_equal, restored, tree)
    for leaf in jax.tree.leaves(restored):
        assert len(leaf.addressable_shards) == 8
    assert restored["layers"]["attn"]["q_proj"]["b"].addressable_shards[0].data.shape == (2, 2, 8)


def test_a_model_axis_that_does_not_divide_is_refused_before_the_weights_are_read(
    tiny_settings, change, tmp_path
):
    settings = change(tiny_settings, {"devices.model_axis": 3, "model.path": "no/such-model"})
    message = r"devices\.model_axis=3 does not divide .* \(8\): set it to 1 or 2 or 4 or 8"
    with pytest.raises(SettingsError, match=message):
        train.train(settings, str(tmp_path), quiet=True)
    with pytest.raises(SettingsError, match=message):
        adapt.adapt(settings, "A mill.", [("What?", "")], title="Mills")
