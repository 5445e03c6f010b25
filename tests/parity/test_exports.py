"""Exports read by transformers and PEFT, and a run that starts from PEFT's adapter: our logits."""

import json

import numpy as np
import pytest
import tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from seal_jax import settings as settings_lib
from seal_jax.core import delta as delta_lib
from seal_jax.loop import export, session
from seal_jax.weights import safetensors
from seal_jax.weights.exported import Addition
from seal_jax.weights.load import load_model

from . import checkpoints, forward

NAMES = ("llama", "qwen2", "qwen3", "smollm3", "olmo2-tied", "gemma3-short")
WORDS = [f"w{n}" for n in range(79)]
SFT = settings_lib.Sft(
    lora=settings_lib.Lora(rank=3, alpha=6.0, targets=settings_lib.ALL_PROJECTIONS)
)


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def original(name, tmp_path_factory):
    """The tiny checkpoint as a directory, with a tokenizer of whole words."""
    folder = tmp_path_factory.mktemp(name)
    safetensors.save(folder, checkpoints.params(name), checkpoints.CONFIGS[name])
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: n for n, w in enumerate(["<end>", *WORDS])}, "<end>")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def deltas(name, random_delta):
    return [random_delta(checkpoints.params(name), SFT.spec(), seed, size=0.15) for seed in (1, 2)]


@pytest.fixture(scope="module")
def run(original, deltas, stored_run, tmp_path_factory):
    """A run's directory with two policies."""
    settings = settings_lib.Settings(
        model=settings_lib.Model(path=str(original)), restem=settings_lib.Restem(sft=SFT)
    )
    return str(stored_run(tmp_path_factory.mktemp("runs") / "run", settings, deltas))


def assert_logits(name, witness, theirs, deltas):
    """Theirs are ours with the deltas merged, and not those of fewer deltas."""
    sequences = checkpoints.prompts(name, forward.LENGTHS)
    ours, fewer = (
        forward.logits(name, sequences, params=delta_lib.merge(checkpoints.params(name), merged))
        for merged in (deltas, deltas[:-1])
    )
    for ours_TxV, sequence in zip(ours, sequences, strict=True):
        np.testing.assert_allclose(ours_TxV, witness.logits(theirs, sequence), rtol=0, atol=3e-4)
    assert np.abs(ours[-1] - fewer[-1]).max() > 0.1


def test_transformers_reads_a_policy(name, run, deltas, witness, tmp_path):
    out = tmp_path / "out"
    export.export(run, str(out))
    assert_logits(name, witness, witness.read_model(out), deltas)
    # To transformers 5 every qwen2 has Qwen2's own tokenizer, whatever its directory holds.
    if name != "qwen2":
        assert AutoTokenizer.from_pretrained(out)("w3 w0 w78")["input_ids"] == [4, 1, 79]
    assert witness.read_model(out).generation_config.eos_token_id == [0]


def test_peft_reads_a_policy_on_its_original(name, run, deltas, witness, tmp_path):
    out = tmp_path / "out"
    export.export(run, str(out), what="adapter", onto="original")
    assert json.loads((out / "adapter_config.json").read_text())["r"] == 6
    assert_logits(name, witness, witness.read_adapter_and_base(out), deltas)


def test_peft_reads_a_delta_on_the_policy_before(name, run, deltas, witness, tmp_path):
    first, out = tmp_path / "first", tmp_path / "out"
    export.export(run, str(first), version=1)
    export.export(run, str(out), what="adapter", onto="policy", base_model=str(first))
    assert_logits(name, witness, witness.read_adapter_and_base(out), deltas)


@pytest.mark.parametrize("onto", ["original", "policy"])
def test_peft_opens_an_adapter_with_the_base_beside_it(name, onto, run, deltas, witness, tmp_path):
    """Where the model at model.path is gone: our logits and greedy tokens."""
    out = tmp_path / "out"
    export.export(run, str(out), what="adapter", onto=onto, with_base=True)
    theirs = witness.read_adapter_and_base(out)
    assert_logits(name, witness, theirs, deltas)
    prompts = checkpoints.prompts(name)
    tokens = [witness.greedy(theirs, prompt, forward.MAX_NEW_TOKENS, (0,)) for prompt in prompts]
    params = delta_lib.merge(checkpoints.params(name), deltas)
    assert forward.cached_greedy(name, prompts, (0,), params=params) == tokens
    assert forward.cached_greedy(name, prompts, (0,)) != tokens


def test_peft_reads_an_inner_delta_of_other_rank_and_modules(
    name, original, deltas, random_delta, witness, tmp_path
):
    """Of q_proj and v_proj alone, on a policy of two rounds: one adapter on the original."""
    spec = delta_lib.DeltaSpec(("q_proj", "v_proj"), rank=2, alpha=1.0)
    inner = random_delta(checkpoints.params(name), spec, 3, size=0.5)
    trained = export.Trained(
        path=str(original),
        config=checkpoints.model_config(name),
        merged=(),
        earlier=tuple(map(Addition.of, deltas)),
    )
    target = export.AdapterTarget(out=str(tmp_path / "out"))
    trained.write(target, Addition.of(inner), "an inner loop")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (8, 8)
    theirs = witness.read_adapter_and_base(tmp_path / "out")
    assert_logits(name, witness, theirs, [*deltas, inner])


def test_a_run_starts_from_an_adapter_that_peft_wrote(name, original, witness, tmp_path):
    spec = delta_lib.DeltaSpec(("q_proj", "down_proj"), rank=4, alpha=6.0)
    factors = checkpoints.lora_tensors(name, spec.targets, spec.rank, seed=3, zero_b=False)
    theirs = witness.with_lora(witness.model(name), spec, factors)
    theirs.save_pretrained(tmp_path)
    opened = session.open_session(
        settings_lib.Settings(
            model=settings_lib.Model(path=str(original), adapter=str(tmp_path)),
            edits=settings_lib.Edits(prompt_style="plain"),
            answers=settings_lib.Answers(prompt_style="plain"),
        )
    )
    assert "(rank 4, alpha 6, q_proj, down_proj)" in opened.source
    sequences = checkpoints.prompts(name, forward.LENGTHS)
    base = load_model(original, np.float32).params
    ours, unadapted = (
        forward.logits(name, sequences, params=params) for params in (opened.base, base)
    )
    for ours_TxV, sequence in zip(ours, sequences, strict=True):
        np.testing.assert_allclose(ours_TxV, witness.logits(theirs, sequence), rtol=0, atol=3e-4)
    assert np.abs(ours[-1] - unadapted[-1]).max() > 0.1
