"""Directories that `export` writes: complete or not there, and marked with what they hold.

A policy is a checkpoint with deltas merged into it. All policies of a run have the same shapes, so
nothing in their weights says that an adapter is for another one: `seal_jax_export.json` does, by
the digests of the deltas. A directory without it is taken as it is.
"""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Literal

import flax.traverse_util
import numpy as np
from etils import epath

from seal_jax.core.delta import Delta
from seal_jax.core.model import decoder
from seal_jax.core.model.config import ModelConfig
from seal_jax.runs import directory_lock, json_file
from seal_jax.weights import hub
from seal_jax.weights.files import json_object, model_config
from seal_jax.weights.names import WeightsError

MARK = "seal_jax_export.json"
_KEY, _FORMAT = "seal_jax_export", 1


class ExportError(ValueError):
    """Nothing was exported; the message says why and what to change."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """What an exported directory holds.

    Attributes:
      kind: "policy", a checkpoint with deltas merged into it, or "adapter".
      on: digests of the deltas that are merged, in order, into the model that an adapter is for;
        none of a policy.
      merged: digests of the deltas in the directory itself: merged into its weights, or
        concatenated in its adapter.
      origin: one line for people.
    """

    kind: Literal["policy", "adapter"]
    on: tuple[str, ...] = ()
    merged: tuple[str, ...]
    origin: str


@dataclasses.dataclass(frozen=True)
class Addition:
    """A delta that is added to a model, and the digests of what it is made of."""

    delta: Delta
    digests: tuple[str, ...]

    @classmethod
    def of(cls, delta: Delta) -> "Addition":
        """A delta that is one piece."""
        return cls(delta, (digest(delta),))


def digest(delta: Delta) -> str:
    """SHA-256 of a delta: its scale, and every number with its place."""
    leaves = flax.traverse_util.flatten_dict(delta.tree, sep="/")
    scale = delta.spec.scale if delta.spec.kind == "low_rank" else None
    found = hashlib.sha256(json_file.encode([delta.spec.kind, scale]).encode())
    for path in sorted(leaves):
        leaf = np.asarray(leaves[path], "<f4")
        found.update(json_file.encode([path, list(leaf.shape)]).encode())
        found.update(leaf.tobytes())
    return found.hexdigest()


def read(path: str | os.PathLike) -> Mark | None:
    """The mark of an exported directory; None where there is none.

    Raises:
      WeightsError: it cannot be read.
    """
    file = epath.Path(path) / MARK
    if not file.exists():
        return None
    advice = "export again. Without that file the directory is taken as it is."
    content = json_object(file, advice)
    content = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    try:
        if content.pop(_KEY) != _FORMAT:
            raise ValueError(f"expected format {_FORMAT}")
        return Mark(**content)
    except (ValueError, TypeError, KeyError) as error:
        raise WeightsError(
            f"{file} is damaged, or of another version of seal_jax ({error}): {advice}"
        ) from None


def merged_into(path: str | os.PathLike) -> tuple[str, ...]:
    """Digests of the deltas that are known to be merged into the model at `path`."""
    mark = read(path)
    return mark.merged if mark is not None and mark.kind == "policy" else ()


def base_name(given: str, *, model_path: str, config: ModelConfig, merged: tuple[str, ...]) -> str:
    """The name of an adapter's base model; a wrong one is refused.

    Args:
      given: what the user calls it, or "" for `model_path`. A directory is checked; another name,
        such as that of a hub, is taken as it is.
      model_path: model.path of the run.
      config: its architecture.
      merged: digests of the deltas that the adapter expects to be merged into its base.

    Raises:
      ExportError: it is not the model that the adapter is for.
    """
    name = os.path.expanduser(given or model_path)
    is_directory = os.path.isdir(name)
    is_file = os.path.exists(name) or name.endswith(".gguf")
    if not is_directory and (is_file or hub.split(name) is None):
        raise ExportError(
            f"{name} is nothing that PEFT and transformers can open as the base of an adapter (a "
            "directory with config.json and safetensors, or a repository of the hub): name one "
            "with --base-model=NAME_OR_DIR, or have it written beside the adapter with --with-base."
        )
    if not given and merged != (merged_into(name) if is_directory else ()):
        raise ExportError(
            f"this delta was trained on a policy, not on {name}: export that policy (without "
            "--what=adapter) and give its directory as --base-model=DIR, or write the adapter with "
            "--onto=original."
        )
    if not is_directory:
        return name
    if merged_into(name) != merged:
        raise ExportError(
            f"--base-model={given} is not the policy that this adapter is for: export that one "
            "(without --what=adapter) and name its directory, or write the adapter with "
            "--onto=original."
        )
    try:
        fits = decoder.param_shapes(model_config(name)[0]) == decoder.param_shapes(config)
    except (OSError, ValueError) as error:
        raise ExportError(
            f"--base-model={name} is no model directory ({error}): name one with a config.json."
        ) from None
    if not fits:
        raise ExportError(
            f"--base-model={name} is a model of other shapes than {model_path}, which the delta "
            "changes."
        )
    return os.path.abspath(name)


def check_free(out: str | os.PathLike, overwrite: bool) -> None:
    """Refuses a directory that holds something, unless it is an export that may be replaced.

    Raises:
      ExportError: it holds something, or is a file.
    """
    if "://" in os.fspath(out):
        raise ExportError(
            f"--out={os.fspath(out)}: an export is written to a local directory; copy it from "
            "there, e.g. with `gcloud storage cp -r`."
        )
    path = pathlib.Path(out)
    if not os.path.lexists(path):
        return
    if not path.is_dir() or path.is_symlink():
        raise ExportError(f"--out={path} is not a directory: give a new one.")
    if not any(path.iterdir()):
        return
    if not (path / MARK).is_file():
        raise ExportError(
            f"--out={path} holds files that export did not write (there is no {MARK}): they are "
            "never deleted. Give a new directory."
        )
    if not overwrite:
        raise ExportError(
            f"--out={path} holds an export: give a new directory, or --overwrite to replace it."
        )


@contextlib.contextmanager
def directory(out: str | os.PathLike, mark: Mark, *, overwrite: bool) -> Iterator[pathlib.Path]:
    """A directory to fill, which becomes `out` at the end of the block, with its mark.

    Until then it lies beside `out` under another name; an error removes it, and what was at `out`
    stays as it was.

    Raises:
      ExportError: see `check_free`.
    """
    check_free(out, overwrite)
    path = pathlib.Path(out).absolute()
    part = path.parent / f".{path.name}.part"
    part.mkdir(parents=True, exist_ok=True)
    with directory_lock.DirectoryLock(part):
        try:
            _clear(part)  # of a killed export
            yield part
            json_file.write_json(part / MARK, {_KEY: _FORMAT, **dataclasses.asdict(mark)})
            _sync(part)
            check_free(path, overwrite)
            (part / directory_lock.LOCK_NAME).unlink()
            _put(part, path)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def _put(part: pathlib.Path, path: pathlib.Path) -> None:
    """Renames `part` to `path`; an old export there is deleted once the new one is in place."""
    old = path.parent / f".{path.name}.replaced"
    shutil.rmtree(old, ignore_errors=True)  # of a killed export: a newer one is at `path`
    if path.exists():
        path.rename(old)
    try:
        part.rename(path)
    except BaseException:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _clear(folder: pathlib.Path) -> None:
    """Deletes everything but the lock."""
    for file in folder.iterdir():
        if file.name != directory_lock.LOCK_NAME:
            file.unlink()


def _sync(folder: pathlib.Path) -> None:
    """Has every file on the disk before the rename says that the directory is complete.

    The safetensors package keeps what it writes from other users; here the directory's mode says.
    """
    for file in folder.iterdir():
        file.chmod(folder.stat().st_mode & 0o666)
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())
