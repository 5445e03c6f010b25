"""Sizes of published models, by hand; what is refused, and what is named instead."""

import dataclasses

import pytest

from seal_jax.core.delta import DeltaSpec
from seal_jax.loop import opened_model
from seal_jax.planning import architectures, arithmetic, local, machines, planner, roofline
from seal_jax.planning.workload import Workload, counts
from seal_jax.settings import (
    Corpus,
    Edits,
    Evaluation,
    Model,
    Restem,
    Reward,
    Settings,
    SettingsError,
)
from seal_jax.tasks.base import Task

GIB = machines.GIB
QWEN = architectures.architecture("Qwen2.5-7B")
SETTINGS = Settings(model=Model(path="Qwen2.5-7B", dtype="bfloat16", remat="full"))
DENSE = dataclasses.replace(
    SETTINGS, corpus=Corpus(kind="dense"), evaluation=Evaluation(form="corpus")
)


@pytest.mark.parametrize(
    "name, millions",
    [
        ("Qwen2.5-7B", 7615.6),
        ("Qwen/Qwen2.5-3B", 3085.9),
        ("Llama-3.2-1B-Instruct", 1235.8),
        ("HuggingFaceTB/SmolLM3-3B", 3075.1),
        ("allenai/OLMo-2-1124-7B-Instruct", 7298.6),
        ("microsoft/Phi-4-mini-instruct", 3836.0),
        ("google/gemma-2-2b-it", 2614.3),
        ("google/gemma-3-1b-it", 999.9),
        ("google/gemma-3-4b-it", 3880.3),  # without what reads images
        ("google/gemma-3-12b-it", 11766.0),
    ],
)
def test_architectures_have_the_published_number_of_parameters(name, millions):
    found = arithmetic.weights(architectures.architecture(name), 1)
    assert round(found / 1e6, 1) == millions


def test_weights_and_deltas_are_split_over_the_model_axis():
    # Only norms (57 of 3,584) are whole on each of four devices; Qwen has biases on q, k and v.
    whole, quarter = (arithmetic.weights(QWEN, axis) for axis in (1, 4))
    assert 4 * quarter == whole + 3 * 57 * 3584
    spec = DeltaSpec(("q_proj", "v_proj"), rank=32)
    # 28 layers: q is 3584 x 3584, v 3584 x 512; the b factors are split, a is not.
    assert arithmetic.delta_size(QWEN, spec, 1) == 28 * 32 * (3584 + 3584 + 3584 + 512)
    assert arithmetic.delta_size(QWEN, spec, 4) == 28 * 32 * (3584 + 896 + 3584 + 128)


def test_dense_deltas_of_7b_with_adam_need_over_110_gib():
    needs = arithmetic.programs(DENSE, QWEN, machines.GPU, least=True)
    # Per parameter: a float32 delta, two moments and a gradient.
    assert needs["corpus training"] > 16 * arithmetic.weights(QWEN, 1) > 110 * GIB
    with pytest.raises(SettingsError, match=r"corpus training takes over .* v5p:2x2x1"):
        arithmetic.check_fits(DENSE, QWEN, machines.GPU, machines.slices(""))
    arithmetic.check_fits(SETTINGS, QWEN, machines.GPU, machines.slices(""))


def test_250_rows_of_8192_tokens_do_not_fit_so_sampling_is_split():
    machine, a_token = machines.GPU, 2 * 28 * 4 * 128 * 2  # layers x heads x 128 in bf16
    assert arithmetic.cache(SETTINGS, QWEN, machine) == 50 * (512 + 8192) * a_token
    together = dataclasses.replace(SETTINGS, edits=Edits(contexts_per_batch=50))
    assert arithmetic.programs(together, QWEN, machine)["sampling"] > machine.memory
    split = arithmetic.split_sampling(together, QWEN, machine)
    assert split.edits.contexts_per_batch == 12  # halved twice, as a run does
    assert arithmetic.programs(split, QWEN, machine)["sampling"] <= machine.memory
    assert arithmetic.split_sampling(SETTINGS, QWEN, machine) == SETTINGS
    arithmetic.check_fits(together, QWEN, machine, machines.slices(""))


def test_a_cache_of_one_context_that_does_not_fit_is_refused():
    settings = dataclasses.replace(SETTINGS, edits=Edits(samples=200))
    assert arithmetic.split_sampling(settings, QWEN, machines.GPU).edits.contexts_per_batch == 1
    with pytest.raises(SettingsError, match=r"sampling takes over .* edits.max_new_tokens"):
        arithmetic.check_fits(settings, QWEN, machines.GPU, machines.slices(""))


def test_the_smallest_machine_is_the_first_that_fits():
    def smallest(settings, kind):
        return arithmetic.smallest(settings, QWEN, machines.slices(kind))

    assert smallest(SETTINGS, "v5p") == "v5p:2x2x1 (devices.model_axis=1)"
    assert smallest(DENSE, "v5p") == "v5p:2x2x1 (devices.model_axis=2)"
    assert smallest(SETTINGS, "gpu") == "gpu:80gb" and not smallest(DENSE, "gpu")


@pytest.mark.parametrize("planned, fits, expected", [
    ("v5e:1x1", True, "v5e:1x1"),  # the compiler says so, and arithmetic that it needs more
    ("v5e:1x1", False, "v5e:2x2 (devices.model_axis=4)"),
    ("v5e:4x4", True, "v5e:2x2 (devices.model_axis=4)"),
])  # fmt: skip
def test_the_planned_machine_is_the_smallest_if_it_does(planned, fits, expected):
    llama = architectures.architecture("Llama-3.2-1B")
    found = planner._smallest(SETTINGS, llama, machines.machine(planned), "v5e", fits, 1)
    assert found == expected


class _Device:
    platform = device_kind = "gpu"

    def __init__(self, limit):
        self.limit = limit

    def memory_stats(self):
        return {"bytes_limit": self.limit} if self.limit else None


@pytest.mark.parametrize("limit, platform, refused", [
    (24, "gpu", True), (80, "gpu", False), (0, "gpu", False),
    (24, "cpu", True), (80, "cpu", False),
])  # fmt: skip
def test_a_device_that_says_it_is_too_small_is_refused(limit, platform, refused, monkeypatch):
    monkeypatch.setattr(local, "available", lambda: limit * GIB)
    device = _Device(limit * GIB)
    device.platform = platform
    devices = opened_model.parallel.DeviceMesh((device,))
    if not refused:
        opened_model.check_memory(SETTINGS, devices)
        return
    with pytest.raises(
        SettingsError, match=r"does not fit on 1 x gpu.*24\.0\. .*the smallest that does"
    ):
        opened_model.check_memory(SETTINGS, devices)


def test_topologies_that_are_not_known_are_refused():
    for wrong in ("v9:2x2", "v5e", "v5e:8", "gpu:24", "h100", "h100:0", "h100:2x2"):
        with pytest.raises(ValueError, match=r"--topology=.*expected one of a100, h100.*gpu:80gb"):
            machines.machine(wrong)
    assert machines.machine("gpu:24gb").memory == 24e9
    assert [machine.name for machine in machines.slices("b200")] == [
        "b200:1", "b200:2", "b200:4", "b200:8",
    ]  # fmt: skip
    # Two cores of a v4 chip are two devices with half its memory each.
    v4 = machines.machine("v4:2x2x1")
    assert (v4.devices, v4.chips, v4.memory) == (8, 4, 16 * GIB)


def test_an_unknown_model_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"neither a directory .*Qwen2\.5-7B"):
        architectures.architecture("no-such-model")


def test_a_round_runs_its_programs_so_often():
    settings = dataclasses.replace(SETTINGS, edits=Edits(contexts_per_batch=20))
    found = counts(settings, Workload(lines=4, questions=9))
    # 50 contexts: 3 batches; 3 replicates x ceil(250 / 8) groups; 10 epochs x 5 sequences.
    assert (found["sampling"].calls, found["inner update"]) == (3, (96, 50))
    # 9 questions, 8 at once: two parts; 7 groups ask the model without a delta.
    assert found["answers"].calls == 2 * (96 + 7)
    assert found["M-step"].calls == 2 * 5
    for update, batches in (("rloo", 25), ("dpo", 5)):
        # The likelihoods at the start, and 2 epochs, of 250 self-edits or 50 pairs, 10 at once.
        changed = dataclasses.replace(settings, restem=Restem(update=update))
        assert counts(changed, Workload())["M-step"].calls == 3 * batches
    text_only = Reward(kind="length", replicates=1)
    found = counts(dataclasses.replace(settings, reward=text_only), Workload())
    assert list(found) == ["sampling", "M-step"]


def test_texts_are_cut_to_what_the_settings_let_through():
    settings = Settings(edits=Edits(max_new_tokens=100))
    found = Workload().within(Task(settings))
    assert (found.edit_tokens, found.longest_edit) == (100, 100)
    for name in ("lines", "questions"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1"):
            Workload(**{name: 0})


def test_decoding_is_as_fast_as_the_memory_and_training_as_the_arithmetic():
    work = Workload()
    found = roofline.programs(SETTINGS, QWEN, machines.GPU, work, counts(SETTINGS, work))
    numbers = arithmetic.weights(QWEN, 1) - 152064 * 3584  # the embedding is only looked up
    cache = arithmetic.cache(SETTINGS, QWEN, machines.GPU)
    steps = 1468 * (2 * numbers + cache) / 3.35e12
    assert steps < found["sampling"].seconds < 1.1 * steps
    # 8 candidates of 439 tokens, 10 times, at 6 FLOPs a weight (the layers are computed anew).
    assert found["inner update"].flops == pytest.approx(6 * numbers * 8 * 10 * (8 * 33 + 175))


def test_a_window_bounds_the_cache():
    """Gemma 3 1B: 4 of 26 layers keep 512 + 8,192 tokens, the others 512, of one head of 256."""
    gemma = architectures.architecture("gemma-3-1b")
    settings = dataclasses.replace(SETTINGS, edits=Edits(samples=1, contexts_per_batch=1))
    found = arithmetic.cache(settings, gemma, machines.GPU)
    assert found == (4 * 8704 + 22 * 512) * 2 * 256 * 2
