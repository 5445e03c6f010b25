"""What a run writes at its end: results.json, which carries a checksum, and timing.json."""

import hashlib
import json
from typing import Any

from seal_jax.runs import json_file, storage
from seal_jax.runs.storage import Location

_REPAIR = {
    "results.json": "Delete it and repeat the command that made the run: it writes the results "
    "again, from what is recorded.",
    "timing.json": "Delete it: it holds nothing but times.",
}


class DamagedError(ValueError):
    """A file of a run is not what was written; the message says which, and what repairs it."""


def write(path: Location, results: dict[str, Any]) -> dict[str, Any]:
    """Writes results with their checksum, "sha256"; returns both."""
    sealed = {**results, "sha256": _digest(results)}
    json_file.write_json(path, sealed)
    return sealed


def read(path: Location) -> dict[str, Any]:
    """The JSON object in such a file; empty where there is none.

    Results of a version that wrote no checksum are taken as they are.

    Raises:
      DamagedError: the file holds something else than was written.
    """
    try:
        found = json.loads(storage.read_bytes(path)) if storage.exists(path) else {}
        why = "" if isinstance(found, dict) else "expected a JSON object"
        if not why and "sha256" in found and found["sha256"] != _digest(found):
            why = "its checksum does not match"
    except RecursionError:
        why = "nested too deeply"
    except ValueError as error:
        why = str(error)
    if why:
        raise DamagedError(f"{path} is damaged: {why}. {_REPAIR.get(path.name, '')}".rstrip())
    return found


def _digest(results: dict[str, Any]) -> str:
    """Of everything but the checksum."""
    content = {key: value for key, value in results.items() if key != "sha256"}
    return hashlib.sha256(json_file.encode(content).encode()).hexdigest()
