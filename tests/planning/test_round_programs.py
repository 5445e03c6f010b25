"""Every program of a round, lowered for platforms that are not here."""

import dataclasses
import types

import jax
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from seal_jax.core import parallel
from seal_jax.planning import architectures
from seal_jax.planning.round_programs import Round
from seal_jax.planning.workload import Workload

WORK = Workload(longest_prompt=380, edit_tokens=8, longest_edit=16, lines=3, line_tokens=20)


@pytest.fixture(scope="module")
def lowered(tiny_settings):
    """(platform, attention, data, model) -> the text of each program by name, on so many devices.

    The devices' own platform plays no part.
    """
    model = dataclasses.replace(tiny_settings.model, dtype="bfloat16", remat="full")
    settings = dataclasses.replace(tiny_settings, model=model)
    config = architectures.architecture(settings.model.path)

    def lower(platform, attention, data=2, model=2):
        mesh = parallel.DeviceMesh(tuple(jax.devices()[: data * model]), model)
        planned = dataclasses.replace(config, attention=attention)
        texts = {}
        for program in Round(settings, planned, mesh, WORK).programs():
            call = program.call()
            function = call.func if hasattr(call.func, "trace") else jax.jit(call.func)  # a pmap
            traced = function.trace(*call.args, **call.keywords)
            texts[program.name] = traced.lower(lowering_platforms=(platform,)).as_text()
        return texts

    return lower


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_a_round_lowers_for_what_is_not_here(lowered, platform):
    texts = lowered(platform, "blockwise")
    assert list(texts)[:5] == ["sampling", "inner update", "answers", "log-likelihoods", "M-step"]
    assert not any("__cudnn" in text for text in texts.values())


def test_no_program_maps_cudnns_attention_over_its_gradient(lowered, monkeypatch):
    """That fails where it is lowered. On one device: on several the partitioner hides the calls."""
    there = types.SimpleNamespace(cudnn_get_version=lambda: 90800)
    monkeypatch.setattr(fused_attention_stablehlo, "cuda_versions", there)
    assert parallel.cudnn_version() == 90800
    texts = lowered("cuda", "cudnn", 1, 1)
    assert all("@__cudnn$fmhaSoftmax(" in text for text in texts.values())
    trained = {name for name, text in texts.items() if "@__cudnn$fmhaSoftmaxBackward(" in text}
    assert trained == {name for name in texts if name == "inner update" or "M-step" in name}


def test_without_cudnn_there_is_none(monkeypatch):
    monkeypatch.setattr(fused_attention_stablehlo, "cuda_versions", None)
    assert parallel.cudnn_version() == 0
