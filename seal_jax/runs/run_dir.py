"""Run directories: one run each, continued by the same config, never overwritten by accident."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from seal_jax.runs import json_file, lease, results_file, storage
from seal_jax.runs.closing import Closing
from seal_jax.runs.directory_lock import DirectoryLock
from seal_jax.runs.json_file import write_json as write_json  # part of this module's interface
from seal_jax.runs.storage import Location

_MARK = "seal_jax_run"
_FORMAT = 2
_MAX_DIFFERENCES = 12


class RunDirError(ValueError):
    """The directory cannot be used for this run; the message says why and what to change."""


@dataclass(frozen=True)
class RunDir(Closing):
    """An open run directory; this process is its only writer until `close`.

    Attributes:
      path: the directory.
      config: the resolved config, as stored in config.json.
      resumed: whether the directory held an unfinished run of this config.
    """

    path: Location
    config: dict[str, Any]
    resumed: bool
    lock: DirectoryLock | lease.Lease = field(repr=False)

    @property
    def results_path(self) -> Location:
        """results.json, which is written last; see `is_finished`."""
        return self.path / "results.json"

    @property
    def timing_path(self) -> Location:
        """timing.json: wall-clock figures, which may differ between equal runs."""
        return self.path / "timing.json"

    @property
    def ledger_path(self) -> Location:
        """The ledger's directory."""
        return self.path / "ledger"

    @property
    def checkpoints_path(self) -> Location:
        """The checkpoints' directory."""
        return self.path / "checkpoints"

    def write(self, path: Location, value: Any) -> None:
        """Writes a JSON file of the run; see `write_json`.

        Raises:
          DirectoryInUseError: the directory is no longer this process's.
        """
        self.lock.check()
        write_json(path, value)

    def close(self) -> None:
        """Lets other processes use the directory."""
        self.lock.close()


def open_run(
    workdir: str | os.PathLike[str], resolved_config: dict[str, Any], overwrite: bool = False
) -> RunDir:
    """Makes, continues or replaces the run in `workdir`.

    A directory that is new or empty gets a config.json. One with an unfinished run of an equal
    config (see `is_finished`) is continued, also with `overwrite`, so that a killed run goes on by
    the same command whatever its flags. One that has recorded nothing yet takes a new config. A
    finished run, or a run of another config, is refused, or deleted where `overwrite` is set. A
    directory with other content, or with a run of another layout, is refused always.

    Args:
      workdir: a path on a local disk, whose missing parents are made, or at gs://.
      resolved_config: every setting of the run as JSON values; tuples equal lists.
      overwrite: whether a run that cannot be continued may be deleted.

    Returns:
      The open directory. Use it in a `with` block, or call its `close`.

    Raises:
      RunDirError: `workdir` holds something else, a finished run, a run of another layout, or one
        of another config (the message names the differing keys, dotted).
      DamagedError: it holds a finished run whose results are damaged.
      DirectoryInUseError: another process has the run open.
      StorageError: the object store cannot be used.
    """
    path = storage.locate(workdir)
    config = json.loads(json_file.encode(resolved_config))
    if storage.exists(path) and not storage.is_folder(path):
        raise RunDirError(f"--workdir={path} is a file: give a directory.")
    storage.make_folder(path)
    if not _is_new(path):
        _read_mark(path)
    lock = lease.hold(path)
    try:
        return RunDir(path, config, _prepare(path, config, overwrite), lock)
    except BaseException:
        lock.close()
        raise


def read_config(workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """The resolved config of the run in `workdir`; RunDirError where there is no run."""
    config: dict[str, Any] = _read_mark(storage.locate(workdir))["config"]
    return config


def is_finished(workdir: str | os.PathLike[str]) -> bool:
    """Whether the run in a directory has results.json, and lacks nothing by its own account.

    A run whose results say why they are "incomplete", such as answers that no judge has graded yet,
    is one that the same command continues.
    """
    try:
        results = json.loads(storage.read_bytes(storage.locate(workdir) / "results.json"))
    except FileNotFoundError:
        return False
    except (ValueError, RecursionError):  # damaged: see `results_file.read`
        return True
    return not (isinstance(results, dict) and results.get("incomplete"))


def differing_keys(stored: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """What differs between two configs, a line each, in sorted order.

    >>> differing_keys({"seed": 0, "inner": {"rank": 32}}, {"seed": 0, "inner": {"rank": 16}})
    ['inner.rank: stored 32, now 16']
    """
    before, now = _shown(stored), _shown(given)
    return [
        f"{key}: stored {before.get(key, 'nothing')}, now {now.get(key, 'nothing')}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a nested config with their dotted keys.

    >>> dict(flatten({"seed": 0, "inner": {"rank": 32}}))
    {'seed': 0, 'inner.rank': 32}
    """
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from flatten(item, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value


def _prepare(path: Location, config: dict[str, Any], overwrite: bool) -> bool:
    """Brings the locked directory to where the run may go on; returns whether it resumes one."""
    if not _is_new(path):
        mark = _read_mark(path)
        if not mark.get("clearing"):
            differences = differing_keys(mark["config"], config)
            finished = is_finished(path)
            if not differences and not finished:
                json_file.remove_temporaries(path)
                return True
            if not overwrite and (finished or _has_segments(path / "ledger")):
                raise RunDirError(_refusal(path, finished, differences))
        _clear(path, mark)
    json_file.remove_temporaries(path)
    _write_mark(path, config)
    return False


def _refusal(path: Location, finished: bool, differences: list[str]) -> str:
    ways = "Give another --workdir, or --overwrite to delete that run and start anew."
    if finished:
        results_file.read(path / "results.json")  # a damaged one is to be written again
        return f"{path} holds a finished run ({path / 'results.json'}). {ways}"
    shown = differences[:_MAX_DIFFERENCES]
    if len(differences) > len(shown):
        shown.append(f"and {len(differences) - len(shown)} more")
    return (
        f"{path} holds an unfinished run of another config; these keys differ:\n  "
        + "\n  ".join(shown)
        + f"\nSet them back to continue that run. {ways}"
    )


def _has_segments(ledger: Location) -> bool:
    return any(c.name[0].isdigit() and c.suffix == ".json" for c in storage.children(ledger))


def _is_new(path: Location) -> bool:
    """Whether nothing but our own lock and unfinished files is there."""
    return all(
        lease.is_hold(child.name) or json_file.is_temporary(child.name)
        for child in storage.children(path)
    )


def _read_mark(path: Location) -> dict[str, Any]:
    """The content of config.json, which shows that `path` is a run directory."""
    try:
        mark = json.loads(storage.read_bytes(path / "config.json"))
    except storage.StorageError:
        raise
    except (OSError, ValueError, RecursionError):
        mark = None
    if not isinstance(mark, dict) or _MARK not in mark or not isinstance(mark.get("config"), dict):
        if _has_segments(path / "ledger"):
            raise RunDirError(
                f"{path / 'config.json'}, which says what the run there is, is missing or damaged. "
                "Nothing was changed. Put a copy of it back; or give another --workdir and "
                f"--reuse={path} to the run's command: it takes over what is recorded there."
            )
        raise RunDirError(
            f"{path} holds files but no seal_jax run (no config.json of one). Nothing in it was "
            "changed: give a --workdir that is new, empty or a run's."
        )
    if mark[_MARK] != _FORMAT:
        raise RunDirError(
            f"{path} holds a run in format {mark[_MARK]}, but this version of seal_jax reads and "
            f"writes format {_FORMAT}: use the version that made it, or another --workdir."
        )
    return mark


def _write_mark(path: Location, config: dict[str, Any]) -> None:
    json_file.write_json(path / "config.json", {_MARK: _FORMAT, "config": config})


def _clear(path: Location, mark: dict[str, Any]) -> None:
    """Deletes a run but for its mark, which says until the end that the rest is to go."""
    json_file.write_json(path / "config.json", {**mark, "clearing": True})
    for child in storage.children(path):
        if child.name != "config.json" and not lease.is_hold(child.name):
            storage.remove(child)


def _shown(config: dict[str, Any]) -> dict[str, str]:
    """The settings of a config as JSON texts, which tell 1 from true."""
    return {
        key: json.dumps(value, ensure_ascii=False, sort_keys=True) for key, value in flatten(config)
    }
