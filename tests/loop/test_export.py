"""Exports of a run whose rounds are made up, read back with our own loaders."""

import json

import jax
import ml_dtypes
import numpy as np
import pytest

from seal_jax.cli import adapt
from seal_jax.core import delta as delta_lib
from seal_jax.core.delta import Delta, DeltaSpec
from seal_jax.core.model import decoder
from seal_jax.loop import evaluate, export, opened_model, policies, session
from seal_jax.loop.run import Run
from seal_jax.runs.ledger import Ledger
from seal_jax.settings import SettingsError, config_dict
from seal_jax.weights import encoding, exported, peft, tokenizer
from seal_jax.weights.exported import Addition, ExportError
from seal_jax.weights.load import load_model, with_adapter
from seal_jax.weights.names import WeightsError

TOKENS = np.random.default_rng(0).integers(0, 384, (2, 9)).astype(np.int32)


@pytest.fixture(scope="module")
def deltas(checkpoint, tiny_settings, random_delta):
    """Those of rounds 1 and 3; round 2 kept nothing."""
    params = load_model(checkpoint, np.float32).params
    spec = tiny_settings.restem.sft.spec()
    return [random_delta(params, spec, seed, size=0.2) for seed in (1, 3)]


@pytest.fixture(scope="module")
def workdir(tiny_settings, stored_run, deltas, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "made"
    return str(stored_run(path, tiny_settings, [deltas[0], None, deltas[1]]))


@pytest.fixture(scope="module")
def merged(checkpoint, deltas):
    """The policies' parameters by version, by the definition."""
    base = load_model(checkpoint, np.float32).params
    first = delta_lib.merge(base, deltas[0])
    return {0: base, 1: first, 2: first, 3: delta_lib.merge(base, deltas)}


def assert_same(params, expected):
    jax.tree.map(np.testing.assert_array_equal, params, expected)


@pytest.fixture(scope="module")
def logits(checkpoint):
    config = load_model(checkpoint, np.float32).config
    compiled = jax.jit(
        lambda params: decoder.logits(config, params, decoder.hidden_states(config, params, TOKENS))
    )
    return lambda params: np.asarray(compiled(params))


@pytest.mark.parametrize(("version", "number"), [(None, 3), (3, 3), (2, 2), (1, 1), (0, 0)])
def test_a_policy_is_read_back_exactly(version, number, workdir, merged, deltas, tmp_path):
    line = export.export(workdir, str(tmp_path / "out"), version=version)
    assert line == f"policy {number} of made: a Hugging Face directory in float32"
    found = load_model(tmp_path / "out", np.float32)
    assert_same(found.params, merged[number])
    steps = {0: [], 1: deltas[:1], 2: deltas[:1], 3: deltas}[number]
    assert list(found.merged) == list(map(exported.digest, steps))


def test_config_and_tokenizer_come_along(workdir, checkpoint, tmp_path):
    export.export(workdir, str(tmp_path / "out"))
    before, after = (load_model(path, np.float32) for path in (checkpoint, tmp_path / "out"))
    assert after.config == before.config
    assert after.hf_config == before.hf_config
    text = "Ullen has 12 mills.\n\nIts tower is red."
    assert after.tokenizer(text)["input_ids"] == before.tokenizer(text)["input_ids"]
    prompts = [encoding.encode_prompt(model.tokenizer, text) for model in (before, after)]
    assert prompts[0] == prompts[1] != list(before.tokenizer(text)["input_ids"])
    written = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert written["tokenizer_class"] == "PreTrainedTokenizerFast"
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert generation == {"eos_token_id": list(tokenizer.stop_token_ids(before.tokenizer))}


def test_a_generation_config_and_foreign_keys_of_the_original(checkpoint, tmp_path):
    """The former is copied; what names files that are not there is left out."""
    given = tmp_path / "given"
    given.mkdir()
    for file in checkpoint.iterdir():
        (given / file.name).write_bytes(file.read_bytes())
    (given / "generation_config.json").write_text('{"temperature": 0.7}')
    config = json.loads((given / "config.json").read_text())
    (given / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "x.py"}}))
    model = load_model(given, np.float32)
    export.write_policy(str(tmp_path / "out"), model, [], dtype=np.float32, origin="x")
    found = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert found == {"temperature": 0.7}
    assert load_model(tmp_path / "out", np.float32).hf_config == config


def test_bfloat16_is_rounded_once(workdir, merged, tmp_path):
    export.export(workdir, str(tmp_path / "out"), dtype="bfloat16")
    found = load_model(tmp_path / "out", ml_dtypes.bfloat16)
    assert found.source == "out, bfloat16 safetensors"
    rounded = jax.tree.map(lambda leaf: np.asarray(leaf).astype(ml_dtypes.bfloat16), merged[3])
    assert_same(found.params, rounded)


def test_the_policy_as_one_adapter_on_the_original(workdir, merged, logits, checkpoint, tmp_path):
    out = tmp_path / "out"
    line = export.export(workdir, str(out), what="adapter")
    assert line == f"policy 3 of made: an adapter of rank 8 and alpha 16 on {checkpoint}"
    config = json.loads((out / peft.CONFIG).read_text())
    assert (config["r"], config["lora_alpha"]) == (8, 16)
    assert config["base_model_name_or_path"] == str(checkpoint)
    original = load_model(checkpoint, np.float32)
    found = with_adapter(original, out)
    expected = logits(merged[3])
    np.testing.assert_allclose(logits(found.params), expected, rtol=0, atol=1e-4)
    assert np.abs(expected - logits(merged[1])).max() > 0.1
    assert np.abs(expected - logits(original.params)).max() > 0.1


def test_the_last_delta_alone_names_the_policy_before(workdir, deltas, merged, tmp_path):
    first, out = tmp_path / "first", tmp_path / "out"
    export.export(workdir, str(first), version=1)
    with pytest.raises(ExportError, match=r"was trained on a policy.*--base-model=DIR"):
        export.export(workdir, str(out), what="adapter", onto="policy")
    export.export(workdir, str(out), what="adapter", onto="policy", base_model=str(first))
    config = json.loads((out / peft.CONFIG).read_text())
    assert (config["r"], config["base_model_name_or_path"]) == (4, str(first))
    assert exported.read(out).on == (exported.digest(deltas[0]),)
    assert_same(with_adapter(load_model(first, np.float32), out).params, merged[3])


@pytest.mark.parametrize(("onto", "number"), [("original", 0), ("policy", 1)])
def test_the_base_is_written_beside(onto, number, workdir, merged, tmp_path):
    out = str(tmp_path / "out")
    export.export(workdir, out, what="adapter", onto=onto, with_base=True)
    base = json.loads((tmp_path / "out" / peft.CONFIG).read_text())["base_model_name_or_path"]
    assert base == f"{out}-base"
    model = load_model(base, np.float32)
    assert_same(model.params, merged[number])
    assert exported.merged_into(base) == exported.read(out).on
    # An export that is there stays, unless told otherwise.
    with pytest.raises(ExportError, match="--overwrite"):
        export.export(workdir, out, what="adapter", onto=onto, with_base=True)
    export.export(workdir, out, what="adapter", onto=onto, with_base=True, overwrite=True)
    with pytest.raises(ExportError, match="leave --base-model out"):
        export.AdapterTarget(out=out, with_base=True, base_model="owner/name")


def test_an_adapter_is_refused_on_another_policy(workdir, checkpoint, tmp_path):
    first, last = tmp_path / "first", tmp_path / "last"
    export.export(workdir, str(first), version=1)
    export.export(workdir, str(last), what="adapter", onto="policy", base_model=str(first))
    with pytest.raises(
        WeightsError, match=r"adapter for another model \(policy 3 of made, on .*1 "
    ):
        with_adapter(load_model(checkpoint, np.float32), last)
    export.export(workdir, str(tmp_path / "whole"), what="adapter", version=1)
    with pytest.raises(WeightsError, match=r"it expects 0 deltas .* which hold 1"):
        with_adapter(load_model(first, np.float32), tmp_path / "whole")
    export.export(workdir, str(tmp_path / "third"))
    with pytest.raises(ExportError, match="is not the policy that this adapter is for"):
        export.export(
            workdir, str(last), what="adapter", onto="policy", base_model=str(tmp_path / "third"),
            overwrite=True,
        )  # fmt: skip


def test_a_policy_from_the_base_is_its_last_delta(
    tiny_settings, change, stored_run, deltas, tmp_path
):
    settings = change(tiny_settings, {"restem.start_from": "base"})
    run = str(stored_run(tmp_path / "run", settings, deltas))
    export.export(run, str(tmp_path / "out"), what="adapter")
    config = load_model(tiny_settings.model.path, np.float32).config
    found = peft.load(tmp_path / "out", config)
    assert found.spec == deltas[1].spec
    assert_same(found.tree, deltas[1].tree)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(version=4), "there is no policy 4: .* holds 3 policies"),
        (dict(version=0, what="adapter"), "there is no delta to write"),
    ],
)
def test_what_is_not_there_cannot_be_exported(given, message, workdir, tmp_path):
    with pytest.raises(ValueError, match=message):
        export.export(workdir, str(tmp_path / "out"), **given)
    assert not list(tmp_path.iterdir())


def test_no_run_and_no_free_directory_are_refused_before_the_work(workdir, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no seal_jax run"):
        export.export(str(tmp_path), str(tmp_path / "out"))
    monkeypatch.setattr(opened_model, "load_base", None)
    (tmp_path / "mine").write_text("x")
    with pytest.raises(ExportError, match="never deleted"):
        export.export(workdir, str(tmp_path), overwrite=True)


def test_a_dense_delta_is_merged_and_never_an_adapter(checkpoint, random_delta, tmp_path):
    model = load_model(checkpoint, np.float32)
    dense = random_delta(model.params, DeltaSpec((".*",), kind="dense"), seed=2)
    export.write_policy(str(tmp_path / "out"), model, [dense], dtype=np.float32, origin="policy 1")
    found = load_model(tmp_path / "out", np.float32)
    assert_same(found.params, delta_lib.merge(model.params, dense))
    trained = export.Trained(path=str(checkpoint), config=model.config, merged=())
    for earlier, last in (((), dense), ((dense,), DELTA)):
        trained = export.Trained(
            path=str(checkpoint),
            config=model.config,
            merged=(),
            earlier=tuple(map(Addition.of, earlier)),
        )
        target = export.AdapterTarget(out=str(tmp_path / "adapter"))
        with pytest.raises(ExportError, match=r"holds a dense delta.*--what=policy"):
            trained.write(target, Addition.of(last), "policy 1")
    assert not (tmp_path / "adapter").exists()


DELTA = Delta(
    {
        "layers": {
            "attn": {
                "q_proj": {
                    "a": np.full((2, 32, 1), 0.1, np.float32),
                    "b": np.full((2, 1, 32), 0.1, np.float32),
                }
            }
        }
    },
    DeltaSpec(("q_proj",), rank=1, alpha=3.0),
)


@pytest.fixture
def adapter(tmp_path):
    """A PEFT adapter that no export marked."""
    peft.save(tmp_path / "elsewhere", DELTA, "somebody/model")
    return str(tmp_path / "elsewhere")


@pytest.fixture
def with_own(tiny_settings, change, adapter):
    return change(tiny_settings, {"model.adapter": adapter})


def test_a_run_starts_from_an_adapter(with_own, checkpoint):
    opened = session.open_session(with_own)
    expected = delta_lib.merge(load_model(checkpoint, np.float32).params, DELTA)
    assert_same(opened.base, expected)
    assert opened.source.endswith("with the adapter elsewhere (rank 1, alpha 3, q_proj)")
    assert config_dict.from_config(config_dict.to_config(with_own)) == with_own


def test_an_adapter_that_does_not_fit_is_refused(with_own, change, tmp_path):
    tree = jax.tree.map(lambda leaf: leaf[:1], DELTA.tree)
    peft.save(tmp_path / "short", Delta(tree, DELTA.spec), "somebody/model")
    with pytest.raises(WeightsError, match=r"lacks .*layers\.1\.self_attn\.q_proj\.lora_A"):
        session.open_session(change(with_own, {"model.adapter": str(tmp_path / "short")}))
    with pytest.raises(WeightsError, match=r"no adapter_config\.json"):
        session.open_session(change(with_own, {"model.adapter": str(tmp_path)}))


def test_exports_of_a_run_that_started_from_an_adapter(
    with_own, stored_run, deltas, checkpoint, logits, tmp_path
):
    run = str(stored_run(tmp_path / "run", with_own, deltas[:1]))
    outs = [str(tmp_path / name) for name in ("start", "policy", "whole", "last")]
    export.export(run, outs[0], version=0)
    export.export(run, outs[1])
    export.export(run, outs[2], what="adapter")
    export.export(run, outs[3], what="adapter", onto="policy", base_model=outs[0])
    original = load_model(checkpoint, np.float32)
    expected = delta_lib.merge(original.params, [DELTA, deltas[0]])
    assert_same(load_model(outs[1], np.float32).params, expected)
    whole = peft.load(outs[2], original.config)
    assert (whole.spec.rank, whole.spec.alpha) == (5, 5.0)  # ranks 1 and 4, scales 3 and 2
    found = logits(with_adapter(original, outs[2]).params)
    np.testing.assert_allclose(found, logits(expected), rtol=0, atol=1e-4)
    assert_same(with_adapter(load_model(outs[0], np.float32), outs[3]).params, expected)


def test_a_policy_is_not_taken_to_another_adapter(
    with_own, tiny_settings, stored_run, deltas, tmp_path
):
    run = stored_run(tmp_path / "run", with_own, deltas[:1])
    with pytest.raises(
        SettingsError, match=r"trained on model\.path='.* with .*elsewhere', not on"
    ):
        evaluate.evaluate(tiny_settings, str(tmp_path / "e"), policy_from=str(run), quiet=True)


def test_an_exported_policy_is_the_one_that_evaluate_restores(
    workdir, tiny_settings, tmp_path, merged
):
    """Merged on eight devices there, on none here; the run has not finished."""
    opened = session.open_session(tiny_settings)
    with Ledger(tmp_path / "ledger") as records, Run(opened, records, tmp_path, True) as run:
        policy = policies.restore_policy(run, workdir)
        assert policy.version == 3
        assert_same(policy.params, merged[3])


def test_adapt_writes_what_it_learned(with_own, change, checkpoint, logits, tmp_path):
    """On a base with an adapter: both concatenated on the original, or the delta on the policy."""
    settings = change(with_own, {"inner.epochs": 6})
    ask = dict(title="Ullen", edit=False)
    passage, questions = "Ullen is a town.", [("What is it?", "")]
    target = export.AdapterTarget(out=str(tmp_path / "refused"), onto="policy")
    with pytest.raises(ExportError, match="--base-model=DIR"):
        adapt.adapt(settings, passage, questions, **ask, target=target)
    whole = export.AdapterTarget(out=str(tmp_path / "whole"))
    adapted = adapt.adapt(settings, passage, questions, **ask, target=whole)
    assert adapted.text.endswith(
        f"'Ullen' with seed 0: an adapter of rank 3 and alpha 3 on {checkpoint}\n"
        f"written to {tmp_path / 'whole'}"
    )
    model = load_model(checkpoint, np.float32)
    start = with_adapter(model, settings.model.adapter)
    export.write_policy(str(tmp_path / "start"), start, [], dtype=np.float32, origin="start")
    beside = export.AdapterTarget(out=str(tmp_path / "beside"), with_base=True)
    assert (
        adapt.adapt(settings, passage, questions, **ask, target=beside)
        .text.partition("\nwritten to")[0]
        .endswith(f"on {beside.out}-base")
    )
    assert_same(load_model(f"{beside.out}-base", np.float32).params, model.params)
    last = export.AdapterTarget(
        out=str(tmp_path / "last"), onto="policy", base_model=str(tmp_path / "start")
    )
    again = adapt.adapt(settings, passage, questions, **ask, target=last)
    assert again.record["questions"] == adapted.record["questions"]
    spec = peft.load(tmp_path / "last", model.config).spec
    assert (spec.rank, spec.alpha) == (2, 4.0)
    expected = logits(with_adapter(load_model(tmp_path / "start", np.float32), last.out).params)
    found = logits(with_adapter(model, whole.out).params)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert np.abs(found - logits(start.params)).max() > 1e-2
