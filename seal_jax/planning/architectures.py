"""The architecture of a model, without its weights."""

import importlib.resources
import json
import os
import pathlib

from etils import epath

from seal_jax.core.model.config import ModelConfig
from seal_jax.weights.files import json_object


def known() -> dict[str, dict]:
    """What the config.json of some published models says, by name."""
    text = (importlib.resources.files("seal_jax.planning") / "architectures.json").read_text()
    return json.loads(text)


def architecture(path: str | os.PathLike) -> ModelConfig:
    """The architecture of the model at a path, or of a published one of that name.

    Args:
      path: as in model.path: a directory with config.json, a .gguf file; or a name in
        architectures.json, with or without its owner and "-Instruct".

    Raises:
      ValueError: neither; the message lists the names.
    """
    local = pathlib.Path(path).expanduser()
    if local.is_dir() and (local / "config.json").exists():
        return ModelConfig.from_hf(json_object(epath.Path(local) / "config.json"))
    if local.suffix == ".gguf" and local.exists():
        from seal_jax.weights import gguf

        return ModelConfig.from_hf(gguf.hf_config(gguf.open_file(local)))
    models = known()
    name = str(path).rpartition("/")[-1].removesuffix("-Instruct")
    if name not in models:
        raise ValueError(
            f"model.path={path} is neither a directory with config.json, nor a .gguf file, nor a "
            f"model whose architecture is known here ({', '.join(models)})."
        )
    return ModelConfig.from_hf(models[name])
