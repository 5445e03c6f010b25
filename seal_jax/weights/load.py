"""One call from a model's name or path to its config, parameters and tokenizer."""

import dataclasses
import json
import os
import pathlib
import re
from typing import Any

from seal_jax import delta as delta_lib
from seal_jax.model.config import ModelConfig
from seal_jax.weights import demo_model, exported, gguf, peft, safetensors, tokenizer
from seal_jax.weights.names import WeightsError

DEMO = "smollm2-135m"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model ready to be placed on devices.

    Attributes:
      config: its architecture.
      params: the parameter tree, numpy arrays.
      tokenizer: its tokenizer.
      source: one line for results: what the model is and how its weights were stored.
      hf_config: what its config.json says, or would say.
      merged: digests of the deltas that an exported policy has in its weights (not the adapter's).
      adapter: the adapter that is merged into `params`.
    """

    config: ModelConfig
    hf_config: dict[str, Any]
    params: dict[str, Any]
    tokenizer: Any
    source: str
    merged: tuple[str, ...] = ()
    adapter: exported.Addition | None = None


def load_model(path: str | os.PathLike, dtype: Any) -> LoadedModel:
    """Loads a model and its tokenizer.

    Args:
      path: "smollm2-135m" (the demo model, fetched if need be), a `.gguf` file, or a local Hugging
        Face directory (config.json, safetensors, tokenizer files).
      dtype: dtype of the parameters.

    Raises:
      FileNotFoundError: nothing is there; says how to make a local directory.
      WeightsError, ValueError: the checkpoint is not one that the model can use.
      demo_model.DemoModelError: the demo model cannot be fetched.
    """
    if str(path) == DEMO:
        return _from_gguf(demo_model.fetch(), dtype, "SmolLM2-135M-Instruct")
    local = pathlib.Path(path).expanduser()
    if local.suffix == ".gguf":
        return _from_gguf(local, dtype, local.stem)
    if local.is_dir():
        return _from_directory(local, dtype)
    raise FileNotFoundError(_not_there(str(path)))


def with_adapter(model: LoadedModel, path: str | os.PathLike) -> LoadedModel:
    """The model with a PEFT adapter merged into its parameters.

    Raises:
      WeightsError: the adapter is not one that a delta can hold (see `peft.load`), does not fit the
        model, or is an exported one for a model with other deltas merged.
    """
    delta = peft.load(path, model.config)
    mark = exported.read(path)
    if mark is not None and mark.on != model.merged:
        raise WeightsError(
            f"{path} is an adapter for another model ({mark.origin}): it expects {len(mark.on)} "
            f"deltas merged into the weights at model.path, which hold {len(model.merged)}, or "
            "others. Set model.path to the model that its adapter_config.json names."
        )
    adapter = exported.Addition.of(delta) if mark is None else exported.Addition(delta, mark.merged)
    spec = delta.spec
    return dataclasses.replace(
        model,
        params=delta_lib.merge(model.params, delta),
        adapter=adapter,
        source=f"{model.source}, with the adapter {pathlib.Path(path).resolve().name} "
        f"(rank {spec.rank}, alpha {spec.alpha:g}, {', '.join(spec.targets)})",
    )


def _from_gguf(path: pathlib.Path, dtype, name: str) -> LoadedModel:
    reader = gguf.open_file(path)
    config, params = gguf.load(reader, dtype)
    quantised = gguf.quantization(reader)
    read = tokenizer.from_gguf(reader)
    ids = {f"{role}_token_id": getattr(read, f"{role}_token_id") for role in ("bos", "eos", "pad")}
    return _checked(
        LoadedModel(
            config=config,
            hf_config=gguf.hf_config(reader) | ids,
            params=params,
            tokenizer=read,
            source=f"{name}, dequantised from {quantised} GGUF" if quantised else f"{name}, GGUF",
        )
    )


def _from_directory(path: pathlib.Path, dtype) -> LoadedModel:
    try:
        settings = json.loads((path / "config.json").read_text())
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path} holds no config.json: a Hugging Face model directory (config.json, "
            "*.safetensors, tokenizer.json) is expected, or a .gguf file."
        ) from error
    except ValueError as error:
        raise WeightsError(
            f"{path / 'config.json'} is not valid JSON ({error}): fetch it again."
        ) from error
    config = ModelConfig.from_hf(settings)
    stored = settings.get("dtype") or settings.get("torch_dtype") or "unnamed dtype"
    return _checked(
        LoadedModel(
            config=config,
            hf_config=settings,
            params=safetensors.load(path, config, dtype),
            tokenizer=tokenizer.load(path),
            source=f"{path.resolve().name}, {stored} safetensors",
            merged=exported.merged_into(path),
        )
    )


def _checked(model: LoadedModel) -> LoadedModel:
    """A tokenizer with more tokens than the embedding would read past its end."""
    tokens, rows = len(model.tokenizer), model.config.vocab_size
    if tokens > rows:
        raise WeightsError(
            f"The tokenizer of {model.source} has {tokens} tokens, but the embedding only {rows} "
            "rows: use the tokenizer that belongs to this checkpoint."
        )
    return model


def _not_there(path: str) -> str:
    """What to do about a path where nothing is, or a hub id."""
    expected = f'expected "{DEMO}", a .gguf file or a local Hugging Face model directory'
    if _HUB_ID.fullmatch(path):
        folder = path.split("/")[-1]
        return (
            f"There is no directory {path!r}. If it is a model of the Hugging Face hub, download "
            f"it first, as nothing is fetched by id: `hf download {path} --local-dir {folder}`, "
            f"then pass {folder!r} ({expected})."
        )
    return f"There is no model at {path!r}: {expected}."
