"""The architecture of a model, without its weights."""

import importlib.resources
import json
import os
import pathlib

from seal_jax.core.model.config import ModelConfig
from seal_jax.weights import files


def known() -> dict[str, dict]:
    """What the config.json of some published models says, by name."""
    text = (importlib.resources.files("seal_jax.planning") / "architectures.json").read_text()
    return json.loads(text)


def architecture(path: str | os.PathLike) -> ModelConfig:
    """The architecture of the model at a path, or of a published one of that name.

    Args:
      path: as in model.path: a directory with config.json, a .gguf file; or a name in
        architectures.json, with or without its owner, "-Instruct" and "-it".

    Raises:
      ValueError: neither; the message lists the names.
    """
    local = pathlib.Path(path).expanduser()
    if local.is_dir() and (local / "config.json").exists():
        return files.model_config(local)[0]
    if local.suffix == ".gguf" and local.exists():
        from seal_jax.weights import gguf

        return gguf.model_config(gguf.open_file(local))
    models = known()
    name = str(path).rpartition("/")[-1].removesuffix("-Instruct").removesuffix("-it")
    name = name.removesuffix("-instruct")
    if name not in models:
        raise ValueError(
            f"model.path={path} is neither a directory with config.json, nor a .gguf file, nor a "
            f"model whose architecture is known here ({', '.join(models)})."
        )
    return ModelConfig.from_hf(models[name])
