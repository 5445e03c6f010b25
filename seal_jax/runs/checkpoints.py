"""Checkpoints of the policy and optimizer state: Orbax files, and checksums that say they are
whole.

Orbax reads a flipped bit in an array without complaint, casts to whatever dtype it is asked for,
and calls a step the latest whose files are damaged. So a step counts here from the moment that its
`checksums.json` (SHA-256 of every file; shape and dtype of every leaf) lies beside its arrays. One
at `gs://` is written and checked on the local disk (TMPDIR), by the same code, and copied from and
to there, its checksums last.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from seal_jax.runs import json_file, storage
from seal_jax.runs.closing import Closing

CHECKSUMS = "checksums.json"
_MAX_DIFFERENCES = 12
_SPARE_BYTES = 1 << 20  # what a step takes beside its arrays
_PATTERN = re.compile(r"[][*?\\]")  # Orbax looks for files by patterns that begin with the path

Tree = TypeVar("Tree")


class CheckpointError(ValueError):
    """A step is absent, damaged or of another structure; the message says what to do."""


class LostStepError(CheckpointError):
    """A step is absent, or its files are not what was written."""


class Checkpoints(Closing):
    """The numbered checkpoints in a directory, with this object as their only writer.

    Layout: `<path>/<step>/` holds a step's arrays and its checksums. In a run on several hosts one
    of them alone uses it.

    Attributes:
      path: the directory.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        keep: int | None = 2,
        *,
        read_only: bool = False,
        check: Callable[[], None] = lambda: None,
    ):
        """Opens the checkpoints in `path`, making the directory if need be.

        Steps that a killed writer left unfinished are deleted.

        Args:
          path: a directory on a local disk, or at gs://.
          keep: how many of the newest steps to keep, at least 1; None keeps all. With 1 there is
            nothing to fall back on.
          read_only: change nothing: no `save`, and damaged steps stay where they are.
          check: raises where the directory is no longer this process's; called before each step
            is written and before it counts.

        Raises:
          CheckpointError: `path` is absent and was to be read only.
          StorageError: the object store cannot be used.
        """
        place = storage.locate(path)
        self.path = place.absolute() if isinstance(place, Path) else place
        if read_only and not storage.is_folder(self.path):
            raise CheckpointError(f"{self.path}: there are no checkpoints here.")
        self._keep = keep
        self._read_only = read_only
        self._check = check
        if not read_only:
            storage.make_folder(self.path)
            for folder in self._folders():  # the checksums of a damaged step have another name
                if not any(c.name.startswith("checksums.") for c in storage.children(folder)):
                    storage.remove(folder)
        self._scratch: tempfile.TemporaryDirectory | None = None
        if isinstance(self.path, Path) and not _PATTERN.search(str(self.path)):
            self._local = self.path
        else:
            self._scratch = tempfile.TemporaryDirectory(prefix="seal_jax-checkpoints-")
            self._local = Path(self._scratch.name) / "steps"
            if isinstance(self.path, Path):
                self._local.symlink_to(self.path)
            else:
                self._local.mkdir()
        alone = ocp.options.MultiprocessingOptions(
            primary_host=jax.process_index(),
            active_processes={jax.process_index()} if jax.process_count() > 1 else None,
        )
        self._orbax = ocp.Checkpointer(
            ocp.StandardCheckpointHandler(multiprocessing_options=alone),
            multiprocessing_options=alone,
        )
        self._thread = ThreadPoolExecutor(1)
        self._saving: Future[None] | None = None

    def save(self, step: int, tree: Any) -> None:
        """Starts writing `tree` as `step`, once the save before it is finished.

        The arrays are copied before this returns, so they may be donated or changed. The step is
        certain to be on the disk, and in `steps`, after `wait`, `close` or the next `save`; a kill
        before that leaves no trace of it. A step of that number is replaced.

        Args:
          step: its number, from 0.
          tree: a pytree of arrays and numbers.

        Raises:
          CheckpointError: the checkpoints were opened to be read only.
        """
        if self._read_only:
            raise CheckpointError(
                f"{self.path} was opened to be read only: step {step} is not saved."
            )
        self.wait()
        copied = jax.tree.map(np.array, jax.device_get(tree))
        self._saving = self._thread.submit(self._write_here, step, copied)

    def wait(self) -> None:
        """Returns when every save is on the disk; raises what a save in the background met."""
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def steps(self) -> list[int]:
        """The numbers of the finished steps, ascending. Damage shows only when one is restored."""
        return [int(f.name) for f in self._folders() if storage.exists(f / CHECKSUMS)]

    def restore(self, step: int, like: Tree) -> Tree:
        """The tree saved as `step`.

        Args:
          step: one of `steps`.
          like: a tree of the same structure, shapes and dtypes: arrays, or `jax.ShapeDtypeStruct`s
            where nothing is to be allocated. A jax leaf comes back on its sharding (the default
            device where it has none), a numpy leaf as numpy.

        Raises:
          LostStepError: there is no such step, or its files are damaged.
          CheckpointError: `like` differs from what was saved (the message names the leaves).
        """
        self.wait()
        if step not in self.steps():
            raise LostStepError(
                f"{self.path}: there is no step {step}; there are {self.steps() or 'none'}."
            )
        with self._fetched(step) as folder:
            if damage := _damage(folder):
                raise LostStepError(
                    f"{self.path / str(step)} is damaged ({damage}); the steps there are "
                    f"{self.steps()}."
                )
            return self._read(step, folder, like)

    def restore_latest(self, like: Tree) -> tuple[int, Tree] | None:
        """The newest step that is whole, and its tree; None where there is none.

        A damaged step is set aside with a warning, and the one before it taken: the caller must do
        again what came after the step that is returned.

        Raises:
          CheckpointError: `like` differs from what was saved (that is not taken for damage).
        """
        self.wait()
        for step in reversed(self.steps()):
            place = self.path / str(step)
            with self._fetched(step) as folder:
                damage = _damage(folder)
                if not damage:
                    return step, self._read(step, folder, like)
            logging.warning("checkpoint %s is damaged (%s)", place, damage)
            if not self._read_only:  # an object store does not rename whole folders
                aside = storage.set_aside(place if isinstance(place, Path) else place / CHECKSUMS)
                logging.warning("renamed it to %s; the step before it is taken", aside.name)
        return None

    def close(self) -> None:
        """Finishes every save."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            self._orbax.close()
            if self._scratch:
                self._scratch.cleanup()

    def _write_here(self, step: int, tree: Any) -> None:
        """Writes a step; where the directory was taken from under it, that is the error."""
        self._check()
        try:
            self._write(step, tree)
        except Exception:
            self._check()
            raise

    def _write(self, step: int, tree: Any) -> None:
        """Writes a step, in place of one of that number, and removes those that are too many."""
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) + _SPARE_BYTES
        if shutil.disk_usage(self._local).free < size:  # which Orbax's threads tell one by one
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._local))
        self._remove(step)
        folder, target = self._local / str(step), self.path / str(step)
        folder.mkdir()
        self._orbax.save(folder / "default", args=ocp.args.StandardSave(tree))
        try:
            equal = jax.tree.all(jax.tree.map(_is_equal, self._stored(folder, tree), tree))
            why = "" if equal else "other values"
        except Exception as error:
            why = str(error)
        if why:
            raise CheckpointError(
                f"{target} does not read back as it was written ({why}): the disk, or the file "
                "system, is not to be trusted. Give another --workdir."
            )
        seal = {"files": _digests(folder), "leaves": _describe(tree)}
        if not isinstance(target, Path):
            storage.upload(folder, target)
            storage.remove(folder)
        self._check()
        json_file.write_json(target / CHECKSUMS, seal)
        for old in self.steps()[: -self._keep] if self._keep else ():
            self._remove(old)

    def _remove(self, step: int) -> None:
        """Deletes a step, if there is one; its checksums first, so that it counts no longer."""
        folder = self.path / str(step)
        for place in (folder / CHECKSUMS, folder):
            if storage.exists(place):
                storage.remove(place)

    @contextlib.contextmanager
    def _fetched(self, step: int) -> Iterator[Path]:
        """The local folder of a step; of one at gs://, a copy while it is read."""
        folder, source = self._local / str(step), self.path / str(step)
        if isinstance(source, Path):
            yield folder
            return
        try:
            storage.download(source, folder)
            yield folder
        finally:
            storage.remove(folder)

    def _read(self, step: int, folder: Path, like: Tree) -> Tree:
        """The tree of a step whose files are whole."""
        stored, asked = _checksums(folder)["leaves"], _describe(like)
        if stored != asked:
            raise CheckpointError(_mismatch(self.path / str(step), stored, asked))
        return jax.tree.map(_placed, self._stored(folder, like), like)

    def _stored(self, folder: Path, like: Tree) -> Tree:
        """The arrays in a folder, on the host."""
        template = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
        arrays: Tree = self._orbax.restore(
            folder / "default", args=ocp.args.StandardRestore(template)
        )
        return arrays

    def _folders(self) -> list[storage.Location]:
        """Those of all steps, finished or not, ascending."""
        numbered = [c for c in storage.children(self.path) if c.name.isdecimal()]
        return sorted(numbered, key=lambda folder: int(folder.name))


def _placed(leaf: Any, like: Any) -> Any:
    return jax.device_put(leaf, like.sharding) if hasattr(like, "sharding") else leaf


def _is_equal(stored: np.ndarray, written: np.ndarray) -> bool:
    """Whether two arrays are the same bit for bit, those that are no numbers among them."""
    return stored.dtype == written.dtype and stored.tobytes() == written.tobytes()


def _checksums(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / CHECKSUMS).read_text("ascii"))
    return content


def _damage(folder: Path) -> str | None:
    """What is wrong with the files of a step."""
    try:
        stored = _checksums(folder)["files"]
    except (ValueError, KeyError):
        return f"{CHECKSUMS} cannot be read"
    found = _digests(folder)
    for name in sorted(stored):
        if name not in found:
            return f"{name} is missing"
        if found[name] != stored[name]:
            return f"the content of {name} has changed"
    return None


def _digests(folder: Path) -> dict[str, str]:
    """Relative name and SHA-256 of every file of a step but its checksums."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != CHECKSUMS:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            digests[path.relative_to(folder).as_posix()] = digest
    return digests


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
