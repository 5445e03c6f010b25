"""The small files of a checkpoint directory: what is wrong with one is said with its name."""

from typing import Any

from etils import epath

from seal_jax.core.model.config import ModelConfig
from seal_jax.runs import json_file, text_file
from seal_jax.weights import config_json
from seal_jax.weights.names import WeightsError

_POINTER = b"version https://git-lfs.github.com/"


def is_remote(path: epath.PathLike) -> bool:
    """Whether a path is on an object store."""
    return "://" in str(path)


def json_object(file: epath.Path, advice: str = "fetch it again.") -> dict[str, Any]:
    """The object that a JSON file holds.

    Args:
      advice: what to do where it holds anything else.

    Raises:
      FileNotFoundError: there is no such file.
      WeightsError: it holds anything else.
    """
    refuse_pointer(file)
    data = text_file.read_bytes(file, error=WeightsError)
    try:
        return dict(json_file.decode(data, "it", error=ValueError))
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{file} is not a JSON object ({error}): {advice}") from None


def model_config(directory: epath.PathLike) -> tuple[ModelConfig, dict[str, Any]]:
    """The architecture that a directory's config.json says, and all that it says.

    Raises:
      WeightsError: it cannot be read, or is not of a model that is supported.
    """
    file = epath.Path(directory) / "config.json"
    settings = json_object(file)
    try:
        return config_json.model_config(settings), settings
    except ValueError as error:
        raise WeightsError(f"{file}: {error}") from None


def refuse_pointer(file: epath.Path) -> None:
    """Refuses what Git leaves in place of a large file that it did not fetch.

    Raises:
      FileNotFoundError: there is no such file.
      WeightsError: it is such a pointer.
    """
    with file.open("rb") as opened:
        start = opened.read(len(_POINTER))
    if start == _POINTER:
        raise WeightsError(
            f"{file} is a pointer of Git LFS and not the file itself: run `git lfs pull` in its "
            "directory, or fetch the model with `hf download`."
        )
