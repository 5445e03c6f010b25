"""PEFT adapter directories without PyTorch: layout, identity, errors that name what is wrong."""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from seal_jax.core import delta as delta_lib
from seal_jax.core.delta import Delta, DeltaSpec
from seal_jax.core.model.config import ModelConfig
from seal_jax.weights import peft
from seal_jax.weights.names import WeightsError

SPEC = DeltaSpec(targets=("q_proj", "v_proj"), rank=3, alpha=4.5)
MODEL = ModelConfig(
    family="llama",
    vocab_size=11,
    hidden_size=8,
    intermediate_size=12,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
)
SHAPES = {"q_proj": (8, 8), "v_proj": (8, 4), "gate_proj": (8, 12), "down_proj": (12, 8)}
# What PEFT 0.21 writes, less the keys that are null, empty or false.
PEFT_CONFIG = {
    "base_model_name_or_path": "some/base",
    "bias": "none",
    "inference_mode": True,
    "init_lora_weights": True,
    "lora_alpha": 4.5,
    "lora_dropout": 0.05,
    "megatron_core": "megatron.core",
    "peft_type": "LORA",
    "peft_version": "0.21.2",
    "qalora_group_size": 16,
    "r": 3,
    "target_modules": ["v_proj", "q_proj"],
    "task_type": "CAUSAL_LM",
    "fan_in_fan_out": False,
    "layers_to_transform": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "use_dora": False,
    "use_rslora": False,
}


def make_delta(spec=SPEC, modules=("q_proj", "v_proj"), layers=2):
    rng = np.random.default_rng(5)
    tree: dict = {}
    for module in modules:
        rows, columns = SHAPES[module]
        group = tree.setdefault("attn" if module in ("q_proj", "v_proj") else "mlp", {})
        group[module] = {
            "a": rng.normal(size=(layers, rows, spec.rank)).astype(np.float32),
            "b": rng.normal(size=(layers, spec.rank, columns)).astype(np.float32),
        }
    return Delta({"layers": tree}, spec)


def hf_name(layer, module, factor):
    return f"base_model.model.model.layers.{layer}.{module}.lora_{factor}.weight"


def peft_tensors(dtype=np.float32):
    """An adapter as PEFT lays it out; entry (i, j) of A is i + j/100, of B minus that."""
    tensors = {}
    for layer in range(2):
        for module, (features_in, features_out) in (("q_proj", (8, 8)), ("v_proj", (8, 4))):
            for factor, shape, sign in (("A", (3, features_in), 1), ("B", (features_out, 3), -1)):
                rows, columns = np.indices(shape)
                matrix = sign * (rows + columns / 100) + 10 * layer
                tensors[hf_name(layer, f"self_attn.{module}", factor)] = matrix.astype(dtype)
    return tensors


def write(path, tensors, **settings):
    """An adapter directory; a setting of None is left out."""
    config = {k: v for k, v in (PEFT_CONFIG | settings).items() if k not in settings or v}
    (path / "adapter_config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(tensors, path / "adapter_model.safetensors", {"format": "pt"})
    return path


def assert_same(found: Delta, expected: Delta):
    assert found.spec == expected.spec
    flat, flat_expected = (
        {(g, m, f): leaf for g, ms in d.tree["layers"].items() for m, fs in ms.items()
         for f, leaf in fs.items()}
        for d in (found, expected)
    )  # fmt: skip
    assert flat.keys() == flat_expected.keys()
    for key, leaf in flat.items():
        np.testing.assert_array_equal(leaf, flat_expected[key], strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_factors_are_transposed_and_stacked(dtype, tmp_path):
    delta = peft.load(write(tmp_path, peft_tensors(dtype)), MODEL)
    assert delta.spec == SPEC
    v_proj = delta.tree["layers"]["attn"]["v_proj"]
    assert v_proj["a"].shape == (2, 8, 3) and v_proj["b"].shape == (2, 3, 4)
    assert v_proj["a"].dtype == v_proj["b"].dtype == np.float32
    # A[2, 7] of layer 1 is 2 + 0.07 + 10; B[3, 1] of layer 0 is -(3 + 0.01).
    tolerance = 1e-6 if dtype == np.float32 else 0.05
    assert v_proj["a"][1, 7, 2] == pytest.approx(12.07, abs=tolerance)
    assert v_proj["b"][0, 1, 3] == pytest.approx(-3.01, abs=tolerance)


@pytest.mark.parametrize(
    ("spec", "modules"),
    [
        (SPEC, ("q_proj", "v_proj")),
        (DeltaSpec(("v_proj", "q_proj"), rank=1, alpha=64.0), ("q_proj", "v_proj")),
        (DeltaSpec((r"attn/[qv]_proj", "mlp/(gate|down)"), rank=2, alpha=0.5), tuple(SHAPES)),
    ],
)
def test_delta_to_peft_to_delta_is_the_identity(spec, modules, tmp_path):
    """Every number, and the spec with its own expressions in their own order."""
    delta = make_delta(spec, modules)
    peft.save(tmp_path / "new" / "adapter", delta, "base")
    assert_same(peft.load(tmp_path / "new" / "adapter", MODEL), delta)


def test_expressions_that_no_longer_fit_give_way_to_names(tmp_path):
    """Targets among the metadata are used only where they select the modules that are there."""
    delta = make_delta(DeltaSpec(("mlp/.*_proj",), rank=3, alpha=4.5))
    peft.save(tmp_path, delta, "base")
    assert peft.load(tmp_path, MODEL).spec.targets == ("q_proj", "v_proj")


def test_peft_to_delta_to_peft_is_the_identity(tmp_path):
    """Tensors bit for bit, with rank, alpha and modules."""
    (tmp_path / "in").mkdir()
    write(tmp_path / "in", peft_tensors())
    peft.save(tmp_path / "out", peft.load(tmp_path / "in", MODEL), "some/base")
    found = safetensors.numpy.load_file(tmp_path / "out" / "adapter_model.safetensors")
    expected = peft_tensors()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor, strict=True)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert set(config.pop("target_modules")) == {"q_proj", "v_proj"}
    assert config.pop("lora_dropout") == 0.0 and config.pop("modules_to_save") is None
    assert config == {key: PEFT_CONFIG[key] for key in config}


def test_save_replaces_and_leaves_nothing_else(tmp_path):
    peft.save(tmp_path, make_delta(layers=1), "base")
    peft.save(tmp_path, make_delta(), "base")
    assert sorted(file.name for file in tmp_path.iterdir()) == [peft.CONFIG, peft.TENSORS]
    assert_same(peft.load(tmp_path, MODEL), make_delta())


def test_a_targets_expression_needs_no_list(tmp_path):
    write(tmp_path, peft_tensors(), target_modules=r".*\.(q|v)_proj")
    assert peft.load(tmp_path, MODEL).spec.targets == ("q_proj", "v_proj")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_dora": True}, "use_dora=True.*merge_and_unload"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save=\['lm_head'\]"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern="),
        ({"alpha_pattern": {"q_proj": 8}}, "alpha_pattern="),
        ({"bias": "lora_only"}, "bias='lora_only'.*expected"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights='pissa_niter_4'"),
        ({"a_later_invention": 1}, "a_later_invention=1"),
        ({"peft_type": "IA3"}, "peft_type 'IA3'.*'LORA'"),
        ({"r": None}, "r = None"),
        ({"lora_alpha": None}, "lora_alpha = None"),
        ({"target_modules": None}, "target_modules = None"),
        ({"r": 4}, r"an adapter of rank 4 .*lora_A.weight \(found \[3, 8\], expected \[4, 8\]\)"),
        ({"target_modules": ["q_proj", "k_proj"]}, r"lacks .*k_proj\.lora_A\.weight \[3, 8\]"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(settings, message, tmp_path):
    with pytest.raises(WeightsError, match=message):
        peft.load(write(tmp_path, peft_tensors(), **settings), MODEL)


@pytest.mark.fault("7")
@pytest.mark.parametrize(
    ("settings", "alpha"),
    [
        ({"use_rslora": True}, 4.5 * 3**0.5),
        ({"layers_to_transform": [0, 1], "layers_pattern": "layers"}, 4.5),
        ({"layers_to_transform": [1, 0]}, 4.5),
        ({"rank_pattern": {"k_proj": 8, "layers.7.self_attn.q_proj": 5}}, 4.5),
        ({"rank_pattern": {"q_proj": 3}, "alpha_pattern": {"v_proj": 4.5}}, 4.5),
        ({"alpha_pattern": {"mlp.up_proj": 9, "proj": 2}, "use_rslora": True}, 4.5 * 3**0.5),
        pytest.param(
            {"target_modules": ["q_proj", "v_proj", "query_key_value"]},
            4.5,
            marks=pytest.mark.fault("7", control=True),
        ),
    ],
)
def test_an_adapter_that_says_so_in_other_words_is_exact(settings, alpha, tmp_path):
    delta = peft.load(write(tmp_path, peft_tensors(), **settings), MODEL)
    assert (delta.spec.rank, delta.spec.alpha) == (3, pytest.approx(alpha))
    assert delta.spec.targets == SPEC.targets
    kernel = delta.tree["layers"]["attn"]["v_proj"]["a"]
    assert kernel[1, 7, 2] == pytest.approx(12.07, abs=1e-6)


@pytest.mark.fault("7", control=True)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank_pattern": {r".*\.1\.self_attn\.q_proj": 8}}, "rank_pattern="),
        ({"alpha_pattern": {"self_attn.v_proj": 1}, "use_rslora": True}, "alpha_pattern="),
        ({"layers_to_transform": [0]}, r"layers_to_transform=|lacks .*layers\.1\."),
    ],
)
def test_a_pattern_that_matches_is_refused(settings, message, tmp_path):
    tensors = peft_tensors()
    if "layers_to_transform" in settings:
        tensors = {name: tensor for name, tensor in tensors.items() if ".1." not in name}
    with pytest.raises(WeightsError, match=message):
        peft.load(write(tmp_path, tensors, **settings), MODEL)


def drop(name):
    return lambda tensors: tensors.pop(name)


def put(name, shape):
    return lambda tensors: tensors.__setitem__(name, np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop(hf_name(1, "self_attn.v_proj", "B")), r"lacks .*layers\.1\..*v_proj\.lora_B"),
        (drop(hf_name(0, "self_attn.q_proj", "A")), r"lacks .*layers\.0\..*q_proj\.lora_A"),
        (
            put(hf_name(1, "self_attn.q_proj", "A"), (3, 9)),
            r"q_proj\.lora_A\.weight \(found \[3, 9\], expected \[3, 8\]\)",
        ),
        (
            put(hf_name(1, "self_attn.q_proj", "B"), (8, 2)),
            r"q_proj\.lora_B\.weight \(found \[8, 2\], expected \[8, 3\]\)",
        ),
        (put(hf_name(1, "self_attn.rotary", "A"), (3, 8)), r"no place for: .*rotary.*\[3, 8\]"),
        (put("base_model.model.lm_head.weight", (11, 8)), "no place for: base_model.model.lm_head"),
        (dict.clear, r"lacks .*layers\.0\..*q_proj\.lora_A"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change, message, tmp_path):
    tensors = peft_tensors()
    change(tensors)
    with pytest.raises(WeightsError, match=message):
        peft.load(write(tmp_path, tensors), MODEL)


def test_modules_adapted_in_different_layers_are_refused(tmp_path):
    tensors = peft_tensors()
    for factor in "AB":
        del tensors[hf_name(1, "self_attn.v_proj", factor)]
    with pytest.raises(
        WeightsError, match=r"lacks .*layers\.1\.self_attn\.v_proj\.lora_A.* \[4, 3\]"
    ):
        peft.load(write(tmp_path, tensors), MODEL)


def test_an_adapter_of_another_model_is_refused(tmp_path):
    """The adapter's v_proj gives 4 features; with two key/value heads the model has 8."""
    wider = ModelConfig(**{**vars(MODEL), "num_kv_heads": 2})
    write(tmp_path, peft_tensors())
    with pytest.raises(WeightsError, match=r"v_proj\.lora_B.*\[4, 3\], expected \[8, 3\]"):
        peft.load(tmp_path, wider)


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r"holds no adapter_config\.json"):
        peft.load(tmp_path, MODEL)
    write(tmp_path, peft_tensors())
    file = tmp_path / peft.TENSORS
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(WeightsError, match="not a complete safetensors file"):
        peft.load(tmp_path, MODEL)
    file.rename(tmp_path / "adapter_model.bin")
    with pytest.raises(WeightsError, match=r"holds no adapter_model\.safetensors.*save_pretrained"):
        peft.load(tmp_path, MODEL)
    (tmp_path / peft.CONFIG).write_text("[1, 2")
    with pytest.raises(WeightsError, match="is not a JSON object"):
        peft.load(tmp_path, MODEL)


@pytest.mark.parametrize(
    ("delta", "message"),
    [
        (Delta({"layers": {}}, DeltaSpec(("q_proj",), kind="dense")), "dense delta is no LoRA"),
        (delta_lib.stack([make_delta(), make_delta()]), "one candidate.*delta.take"),
    ],
)
def test_deltas_that_are_no_adapter_are_refused(delta, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        peft.save(tmp_path / "out", delta, "base")
    assert not (tmp_path / "out").exists()
