"""A model's finished completions on disk, so that none is asked and paid for twice.

One SQLite file, in its default journal mode (write-ahead logging does not work on network file
systems). A completion is on the disk when `put` returns, whatever happens to the process after
that; several threads and processes may hold the file open, each with a cache of its own.
"""

import contextlib
import hashlib
import logging
import os
import pathlib
import sqlite3

import filelock

from seal_jax.judges.chat_reply import Completion

FILE_NAME = "completions.sqlite3"

_SECONDS_TO_WAIT = 60.0  # for another writer; a write takes milliseconds
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_TABLE = """
    CREATE TABLE IF NOT EXISTS completions (
        key TEXT PRIMARY KEY,
        model TEXT NOT NULL,
        text TEXT NOT NULL,
        truncated INTEGER NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        sha256 TEXT NOT NULL DEFAULT ''
    ) WITHOUT ROWID
"""
_COLUMNS = "PRAGMA table_info(completions)"
_ADD_SHA256 = "ALTER TABLE completions ADD COLUMN sha256 TEXT NOT NULL DEFAULT ''"
_GET = (
    "SELECT text, truncated, prompt_tokens, completion_tokens, sha256 FROM completions "
    "WHERE key = ?"
)
_PUT = "INSERT OR IGNORE INTO completions VALUES (?, ?, ?, ?, ?, ?, ?)"
_DROP = "DELETE FROM completions WHERE key = ?"


class CacheError(OSError):
    """The cache's folder cannot be used; the message says what to change."""


class CompletionCache(contextlib.AbstractContextManager):
    """The completions in a folder, for use by one thread."""

    def __init__(self, folder: str | os.PathLike[str]):
        """Opens the cache, and makes the folder if need be.

        A damaged file is renamed, with a warning, and an empty one takes its place: at once where
        its beginning is damaged, else when the damage is met.

        Raises:
          CacheError: the folder cannot be made or written.
        """
        self.path = pathlib.Path(folder).expanduser() / FILE_NAME
        self._warned = False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = self._open(thorough=False)
        except (OSError, sqlite3.Error) as error:
            raise CacheError(
                f"the completion cache {self.path} cannot be used ({_why(error)}): make its folder "
                "writable, or set cache_dir to another one ('' for no cache)."
            ) from None

    def get(self, key: str) -> Completion | None:
        """What was put under `key`: its text, and what it cost when it was asked for.

        A row that its checksum does not fit is dropped with a warning; one from before rows had
        checksums is believed, unless it has no text.
        """
        row = self._execute(_GET, (key,))
        if row is None:
            return None
        text, truncated, *counts = found = row[:-1]
        if row[-1] not in ("", _sha256(key, found)) or not str(text).strip():
            logging.warning(
                "a row of the completion cache %s is damaged: its completion will be asked for "
                "again.",
                self.path,
            )
            self._execute(_DROP, (key,))
            return None
        return Completion(text, None, True, bool(truncated), 0, *counts)

    def put(self, key: str, model: str, new: Completion) -> Completion:
        """Keeps a completion; the one that is then under `key`, an earlier one if there is one.

        A disk that takes no more is warned of, and loses nothing that the caller holds.
        """
        found = (new.text, int(new.truncated), new.prompt_tokens, new.completion_tokens)
        self._execute(_PUT, (key, model, *found, _sha256(key, found)))
        return self.get(key) or new

    def __exit__(self, *exception: object) -> None:
        """Lets the file go."""
        self._connection.close()

    def _execute(self, statement: str, values: tuple) -> tuple | None:
        """The first row of a statement; None where there is none, or where the file fails."""
        try:
            try:
                return self._connection.execute(statement, values).fetchone()
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                self._connection.close()
                self._connection = self._open(thorough=True)
                return self._connection.execute(statement, values).fetchone()
        except (OSError, sqlite3.Error) as error:
            if not self._warned:
                self._warned = True
                logging.warning(
                    "the completion cache %s fails (%s): completions that it does not take will "
                    "be asked for again by a later run.",
                    self.path,
                    _why(error),
                )
            return None

    def _open(self, *, thorough: bool) -> sqlite3.Connection:
        """A connection to a sound file with the table in it."""
        # Of two processes that open a damaged file, one sets it aside.
        with filelock.FileLock(self.path.with_suffix(".lock")):
            try:
                return _connect(self.path, thorough)
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
            aside = _set_aside(self.path)
            logging.warning(
                "the completion cache %s is damaged: renamed to %s, its completions will be asked "
                "for again.",
                self.path,
                aside.name,
            )
            return _connect(self.path, False)


def _connect(path: pathlib.Path, thorough: bool) -> sqlite3.Connection:
    """Opens the file and, if asked, reads all of it; a statement is a transaction of its own."""
    connection = sqlite3.connect(path, timeout=_SECONDS_TO_WAIT, isolation_level=None)
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    try:
        connection.execute(_TABLE)
        if all(name != "sha256" for _, name, *_ in connection.execute(_COLUMNS)):
            connection.execute(_ADD_SHA256)
        connection.execute(_GET, ("",))
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone() if thorough else ("ok",)
        if found != "ok":
            error = sqlite3.DatabaseError(found)
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error
    except BaseException:
        connection.close()
        raise
    return connection


def _sha256(key: str, found: tuple) -> str:
    """A checksum of a row: what was asked, and what is read of it."""
    return hashlib.sha256(repr((key, *found)).encode()).hexdigest()


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file's content is at fault, and not the disk, a lock or a permission."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED  # the low byte is the kind


def _set_aside(path: pathlib.Path) -> pathlib.Path:
    """Renames a damaged file to a free name."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    path.rename(aside)
    return aside


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
