"""Checkpoints at `gs://`, written and checked on the local disk and copied from and to there.

So the arrays are stored by the same code as locally, and a step is what its checksums say on either
side. They are uploaded last: a step without them is one that was never finished.
"""

import logging
import os
import tempfile
from pathlib import Path

from etils import epath

from seal_jax.runs import storage
from seal_jax.runs.checkpoints import CHECKSUMS, CheckpointError, Checkpoints, Tree

_DAMAGED = "checksums.damaged.json"


def open_at(
    path: str | os.PathLike[str], keep: int | None = 2, *, read_only: bool = False
) -> Checkpoints:
    """The checkpoints in a directory on a local disk or at `gs://`; see `Checkpoints`."""
    place = storage.locate(path)
    if isinstance(place, Path):
        return Checkpoints(place, keep, read_only=read_only)
    return RemoteCheckpoints(place, keep, read_only=read_only)


class RemoteCheckpoints(Checkpoints):
    """The numbered checkpoints in a folder of an object store, with this object as only writer.

    A step takes room on the local disk (TMPDIR) while it is saved or restored. A damaged step stays
    where it is; its checksums are renamed, so that it no longer counts.
    """

    def __init__(self, path: epath.Path, keep: int | None, *, read_only: bool):
        """See `Checkpoints`."""
        if read_only and not storage.is_folder(path):
            raise CheckpointError(f"{path}: there are no checkpoints here.")
        self._scratch = tempfile.TemporaryDirectory(prefix="seal_jax-checkpoints-")
        try:
            super().__init__(self._scratch.name, keep)
        except BaseException:
            self._scratch.cleanup()
            raise
        self.shown = path
        self._remote, self._keep, self._read_only = path, keep, read_only
        if not read_only:
            for step in self._remote_directories():
                if not any(storage.exists(self._at(step) / seal) for seal in (CHECKSUMS, _DAMAGED)):
                    storage.remove(self._at(step))

    def wait(self) -> None:
        """Returns when every save is in the store; raises what a save met."""
        unsealed = self._unsealed
        super().wait()
        if unsealed is None:
            return
        step = unsealed[0]
        self._remove(step)  # one that it replaces
        local = self.path / str(step)
        for file in sorted(local.rglob("*")):
            if file.is_file() and file.name != CHECKSUMS:
                storage.upload(file, self._at(step) / file.relative_to(local).as_posix())
        storage.upload(local / CHECKSUMS, self._at(step) / CHECKSUMS)
        self._manager.delete(step)
        for old in self.steps()[: -self._keep] if self._keep else ():
            self._remove(old)

    def steps(self) -> list[int]:
        """The numbers of the finished steps, ascending. Damage shows only when one is restored."""
        found = self._remote_directories()
        return [step for step in found if storage.exists(self._at(step) / CHECKSUMS)]

    def close(self) -> None:
        """Finishes every save."""
        try:
            super().close()
        finally:
            self._scratch.cleanup()

    def _damage(self, step: int) -> str | None:
        """Fetches a step; what is wrong with its files, or None where they are whole."""
        local = self.path / str(step)
        if local.exists():
            storage.remove(local)
        prefix = os.fspath(self._at(step)) + "/"
        for file in storage.files(self._at(step)):
            target = local / os.fspath(file).removeprefix(prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            storage.download(file, target)
        self._manager.reload()
        return super()._damage(step)

    def _read(self, step: int, like: Tree) -> Tree:
        try:
            return super()._read(step, like)
        finally:
            storage.remove(self.path / str(step))
            self._manager.reload()

    def _set_aside(self, step: int) -> None:
        storage.rename(self._at(step) / CHECKSUMS, self._at(step) / _DAMAGED)
        logging.warning("it no longer counts; the step before it is taken")

    def _remove(self, step: int) -> None:
        """Deletes a step; its checksums first, so that it counts no longer."""
        storage.remove(self._at(step) / CHECKSUMS)
        storage.remove(self._at(step))

    def _remote_directories(self) -> list[int]:
        return sorted(int(c.name) for c in storage.children(self._remote) if c.name.isdecimal())

    def _at(self, step: int) -> epath.Path:
        return self._remote / str(step)
