"""Checkpoints of the policy and optimizer state: Orbax files, and checksums that say they are
whole.

Orbax reads a flipped bit in an array without complaint, casts to whatever dtype it is asked for,
and calls a step the latest whose files are damaged. So a step counts here from the moment that its
`checksums.json` (SHA-256 of every file; shape and dtype of every leaf) lies beside its arrays.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from seal_jax.runs import json_file, storage

CHECKSUMS = "checksums.json"
_TEMPORARY = re.compile(r"\d+\.orbax-checkpoint-tmp")
_MAX_DIFFERENCES = 12

Tree = TypeVar("Tree")


class CheckpointError(ValueError):
    """A step is absent, damaged or of another structure; the message says what to do."""


class Checkpoints:
    """The numbered checkpoints in a directory, with this object as their only writer.

    Layout: `<path>/<step>/` holds a step's arrays and its checksums. In a run on several hosts one
    of them alone uses it.
    """

    def __init__(
        self, path: str | os.PathLike[str], keep: int | None = 2, *, read_only: bool = False
    ):
        """Opens the checkpoints in `path`, making the directory if need be.

        Steps that a killed writer left unfinished are deleted.

        Args:
          path: a directory on a local disk.
          keep: how many of the newest steps to keep, at least 1; None keeps all. With 1 there is
            nothing to fall back on.
          read_only: change nothing: no `save`, and damaged steps stay where they are.

        Raises:
          CheckpointError: `keep` is below 1, or `path` is absent and was to be read only.
        """
        if keep is not None and keep < 1:
            raise CheckpointError(
                f"keep={keep}: expected at least 1 checkpoint, or None to keep all."
            )
        if storage.is_remote(path):
            raise CheckpointError(f"{path}: open it with remote_checkpoints.open_at.")
        self.path = Path(path).absolute()
        self.shown: storage.Location = self.path  # in messages
        self._read_only = read_only
        self._unsealed: tuple[int, dict[str, str]] | None = None
        if read_only and not self.path.is_dir():
            raise CheckpointError(f"{path}: there are no checkpoints here.")
        if not read_only:
            self.path.mkdir(parents=True, exist_ok=True)
            self._remove_unfinished()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if read_only else keep,
            create=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=jax.process_index(),
                active_processes={jax.process_index()} if jax.process_count() > 1 else None,
            ),
        )
        self._manager = ocp.CheckpointManager(self.path, options=options)

    def save(self, step: int, tree: Any) -> None:
        """Starts writing `tree` as `step`, once the save before it is finished.

        The arrays are copied before this returns, so they may be donated or changed. The step is on
        the disk, and in `steps`, after `wait`, `close` or the next `save`, or a `poll` that comes
        late enough; a kill before that leaves no trace of it. A step of that number is replaced.

        Args:
          step: its number, from 0.
          tree: a pytree of arrays and numbers.

        Raises:
          CheckpointError: the checkpoints were opened to be read only.
        """
        if self._read_only:
            raise CheckpointError(
                f"{self.shown} was opened to be read only: step {step} is not saved."
            )
        self.wait()
        if step in self._directories():
            self._manager.delete(step)
        leaves = _describe(tree)
        if jax.process_count() > 1:  # Orbax takes no arrays of one process's devices
            tree = jax.device_get(tree)
        self._manager.save(step, args=ocp.args.StandardSave(tree), force=True)
        self._unsealed = step, leaves

    def wait(self) -> None:
        """Returns when every save is on the disk; raises what a save in the background met."""
        unsealed, self._unsealed = self._unsealed, None
        self._manager.wait_until_finished()
        if unsealed is not None:
            step, leaves = unsealed
            folder = self.path / str(step)
            checksums = {"files": dict(_digests(folder)), "leaves": leaves}
            json_file.write_json(folder / CHECKSUMS, checksums)

    def poll(self) -> None:
        """Like `wait` if the save in the background is written; else it returns at once."""
        if self._unsealed is not None and not self._manager.is_saving_in_progress():
            self.wait()

    def steps(self) -> list[int]:
        """The numbers of the finished steps, ascending. Damage shows only when one is restored."""
        return [s for s in self._directories() if (self.path / str(s) / CHECKSUMS).exists()]

    def restore(self, step: int, like: Tree) -> Tree:
        """The tree saved as `step`.

        Args:
          step: one of `steps`.
          like: a tree of the same structure, shapes and dtypes: arrays, or `jax.ShapeDtypeStruct`s
            where nothing is to be allocated. A jax leaf comes back on its sharding (the default
            device where it has none), a numpy leaf as numpy.

        Raises:
          CheckpointError: there is no such step, its files are damaged, or `like` differs from what
            was saved (the message names the leaves).
        """
        self.wait()
        if step not in self.steps():
            raise CheckpointError(
                f"{self.shown}: there is no step {step}; there are {self.steps() or 'none'}."
            )
        damage = self._damage(step)
        if damage:
            raise CheckpointError(
                f"{self.shown / str(step)} is damaged ({damage}): put a copy of it back, or "
                f"restore another step of {self.steps()}."
            )
        return self._read(step, like)

    def restore_latest(self, like: Tree) -> tuple[int, Tree] | None:
        """The newest step that is whole, and its tree; None where there is none.

        A damaged step is renamed to `<step>.damaged` with a warning, and the one before it taken:
        the caller must do again what came after the step that is returned.

        Raises:
          CheckpointError: `like` differs from what was saved (that is not taken for damage).
        """
        self.wait()
        for step in reversed(self.steps()):
            damage = self._damage(step)
            if not damage:
                return step, self._read(step, like)
            logging.warning("checkpoint %s is damaged (%s)", self.shown / str(step), damage)
            if not self._read_only:
                self._set_aside(step)
        return None

    def close(self) -> None:
        """Finishes every save."""
        try:
            self.wait()
        finally:
            self._manager.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _read(self, step: int, like: Tree) -> Tree:
        """The tree of a step whose files are whole."""
        stored, asked = self._checksums(step)["leaves"], _describe(like)
        if stored != asked:
            raise CheckpointError(_mismatch(self.shown / str(step), stored, asked))
        several = jax.process_count() > 1
        template = jax.tree.map(_on_host, like) if several else like
        restored: Tree = self._manager.restore(step, args=ocp.args.StandardRestore(template))
        return jax.tree.map(_placed, restored, like) if several else restored

    def _directories(self) -> list[int]:
        """Steps that have a directory, finished or not."""
        return sorted(int(p.name) for p in self.path.iterdir() if p.name.isdecimal() and p.is_dir())

    def _remove_unfinished(self) -> None:
        """Deletes what a killed writer left: Orbax's temporary directories, steps not sealed."""
        for path in self.path.iterdir():
            unsealed = path.name.isdecimal() and not (path / CHECKSUMS).exists()
            if path.is_dir() and (unsealed or _TEMPORARY.match(path.name)):
                shutil.rmtree(path)

    def _checksums(self, step: int) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.path / str(step) / CHECKSUMS).read_text("ascii"))
        return content

    def _damage(self, step: int) -> str | None:
        """What is wrong with the files of a step."""
        try:
            stored = self._checksums(step)["files"]
        except (ValueError, KeyError):
            return f"{CHECKSUMS} cannot be read"
        found = dict(_digests(self.path / str(step)))
        for name in sorted(stored):
            if name not in found:
                return f"{name} is missing"
            if found[name] != stored[name]:
                return f"the content of {name} has changed"
        return None

    def _set_aside(self, step: int) -> None:
        target, number = self.path / f"{step}.damaged", 2
        while target.exists():
            target, number = self.path / f"{step}.{number}.damaged", number + 1
        (self.path / str(step)).rename(target)
        self._manager.reload()
        logging.warning("renamed it to %s; the step before it is taken", target.name)


def _on_host(leaf: Any) -> Any:
    return np.zeros(leaf.shape, leaf.dtype) if hasattr(leaf, "sharding") else leaf


def _placed(leaf: Any, like: Any) -> Any:
    return jax.device_put(leaf, like.sharding) if hasattr(like, "sharding") else leaf


def _digests(folder: Path) -> Iterator[tuple[str, str]]:
    """Relative name and SHA-256 of every file of a step but its checksums."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != CHECKSUMS:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            yield path.relative_to(folder).as_posix(), digest


def _describe(tree: Any) -> dict[str, str]:
    """Place → dtype and shape of every leaf, as in {"['w']": "float32[2, 3]"}."""
    described = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        typed = leaf if hasattr(leaf, "dtype") and hasattr(leaf, "shape") else np.asarray(leaf)
        described[jax.tree_util.keystr(path)] = f"{typed.dtype}{list(typed.shape)}"
    return described


def _mismatch(folder: storage.Location, stored: dict[str, str], asked: dict[str, str]) -> str:
    places = [p for p in sorted(stored.keys() | asked.keys()) if stored.get(p) != asked.get(p)]
    lines = [
        f"{place}: stored {stored.get(place, 'nothing')}, asked for {asked.get(place, 'nothing')}"
        for place in places[:_MAX_DIFFERENCES]
    ]
    if len(places) > len(lines):
        lines.append(f"and {len(places) - len(lines)} more")
    return (
        f"{folder} holds another tree:\n  " + "\n  ".join(lines) + "\nGive the model and optimizer "
        "settings that it was saved with, or another --workdir."
    )
