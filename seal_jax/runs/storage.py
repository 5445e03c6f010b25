"""Where a run's files are: on a local disk, or in an object store (`gs://BUCKET/…`).

Paths of both kinds go through the functions here. An object store has whole objects under flat
names: no folders of its own, no rename, no append and no locks. What it has is an upload that
appears whole or not at all, one that fails where there is an object already (`create`), and lists
that are never behind. The ledger, the run directory and `lease` are built on these alone.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from etils import epath

SCHEME = "gs://"
_PATTERN = re.compile(r"[][*?]")

Location: TypeAlias = Path | epath.Path


class StorageError(OSError):
    """An object store cannot be reached or used; the message says what to check."""


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a URL."""
    return "://" in os.fspath(path)


def locate(path: str | os.PathLike[str]) -> Location:
    """The path as an object with `/`, `name` and `parent`.

    Raises:
      StorageError: a URL of another kind than gs://BUCKET/PATH, or the package for it is absent.
    """
    text = os.fspath(path)
    if not is_remote(text):
        return Path(text)
    if not text.startswith(SCHEME) or not text.removeprefix(SCHEME).strip("/").partition("/")[2]:
        raise StorageError(f"{text}: expected a local directory or {SCHEME}BUCKET/PATH.")
    if _PATTERN.search(text):
        raise StorageError(
            f"{text}: the clients of object stores take *, ?, [ and ] for patterns: give a path "
            "without them."
        )
    with _store(text):  # there is a client for it
        return epath.Path(text)


def exists(path: Location) -> bool:
    """Whether there is a file or a folder; in an object store a folder is what has objects."""
    if isinstance(path, Path):
        return path.exists()
    with _store(path) as store:
        return bool(store.exists(os.fspath(path)))


def is_folder(path: Location) -> bool:
    """Whether there is a folder."""
    if isinstance(path, Path):
        return path.is_dir()
    with _store(path) as store:
        return bool(store.isdir(os.fspath(path)))


def make_folder(path: Location) -> None:
    """Makes a local folder and its parents; an object store needs none."""
    if isinstance(path, Path):
        path.mkdir(parents=True, exist_ok=True)


def children(folder: Location) -> list[Location]:
    """What is in a folder, sorted; nothing where there is no such folder."""
    if isinstance(folder, Path):
        return sorted(folder.iterdir()) if folder.is_dir() else []
    with _store(folder) as store:
        try:
            found = store.ls(os.fspath(folder), detail=False)
        except FileNotFoundError:
            return []
    # The console makes a folder as an empty object NAME/, which is listed as well.
    own = os.fspath(folder).removeprefix(SCHEME).strip("/")
    paths = {name.strip("/") for name in found} - {own}
    return [folder / path.rsplit("/", 1)[-1] for path in sorted(paths)]


def read_bytes(path: Location) -> bytes:
    """The content of a file, as it is now; FileNotFoundError where there is none."""
    if isinstance(path, Path):
        return path.read_bytes()
    with _store(path) as store:
        return bytes(store.cat_file(os.fspath(path)))


def remove(path: Location) -> None:
    """Deletes a file, or a folder with all that is in it; links are not followed."""
    if not isinstance(path, Path):
        with _store(path) as store, contextlib.suppress(FileNotFoundError):
            store.rm(os.fspath(path), recursive=True)
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def set_aside(path: Location) -> Location:
    """Renames what is damaged to NAME.damaged (or NAME.2.damaged, …); its new path.

    An object store can do it to a file only; there the new object is whole before the old one goes.
    """
    target, number = path.with_name(f"{path.name}.damaged"), 2
    while exists(target):
        target, number = path.with_name(f"{path.name}.{number}.damaged"), number + 1
    if isinstance(path, Path):
        path.rename(target)
    else:
        create(target, read_bytes(path))
        remove(path)
    return target


def put(path: epath.Path, content: bytes) -> None:
    """Uploads an object, in place of one that is there."""
    with _store(path) as store:
        store.pipe_file(os.fspath(path), content)


def create(path: epath.Path, content: bytes) -> None:
    """Uploads an object where there is none.

    The store decides, so of several writers one succeeds. An upload is repeated when its answer is
    lost; so an object with the very content counts as this one.

    Raises:
      FileExistsError: there is an object with another content.
    """
    with _store(path) as store:
        try:
            store.pipe_file(os.fspath(path), content, mode="create")
        except FileExistsError:
            if bytes(store.cat_file(os.fspath(path))) != content:
                raise


def upload(source: Path, target: epath.Path) -> None:
    """Copies what is in a local folder, and in the folders in it, into a folder of the store."""
    with _store(target) as store:
        store.put(f"{source}/", os.fspath(target), recursive=True)


def download(source: epath.Path, target: Path) -> None:
    """Copies what is in a folder of the store into a local one."""
    with _store(source) as store:
        store.get(f"{os.fspath(source)}/", os.fspath(target), recursive=True)


@contextlib.contextmanager
def _store(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The client of the store that a path is in, the same for all paths and calls.

    Its many kinds of errors come as one that says what to check.
    """
    import fsspec  # here, so that commands that need no store start sooner

    try:
        # As epath makes it, so that both see one cache.
        store = fsspec.filesystem("gcs", finalize_on_close=True)
        store.invalidate_cache()  # of what other processes wrote since
        yield store
    except (FileNotFoundError, FileExistsError, StorageError):
        raise
    except ImportError as error:
        raise StorageError(
            f"{os.fspath(path)}: {SCHEME} paths need the package gcsfs: pip install "
            "'seal_jax[gcs]', or 'etils[epath-gcs]'."
        ) from error
    except Exception as error:
        raise StorageError(
            f"{os.fspath(path)}: the object store refused or cannot be reached "
            f"({type(error).__name__}: {error}). Check the bucket's name, the connection, and that "
            "this machine's account may read and write there (gcloud auth application-default "
            "login, or the VM's service account)."
        ) from error
