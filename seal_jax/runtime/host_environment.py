"""What a process is told about the other hosts of its run, by environment variables."""

import os
from collections.abc import Mapping
from typing import Any


class HostsError(ValueError):
    """The hosts cannot work together; the message says what to change."""


def given(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """What `jax.distributed.initialize` is given; None for a process that is alone.

    >>> given({"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"})
    ... # doctest: +NORMALIZE_WHITESPACE
    {'coordinator_address': 'a:1', 'num_processes': 2, 'process_id': 1,
     'cluster_detection_method': 'deactivate'}
    """
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    missing = [name for name in names if not environment.get(name)]
    if not missing:
        address, *numbers = (environment[name] for name in names)
        if not all(number.isdecimal() for number in numbers) or int(numbers[1]) >= int(numbers[0]):
            raise HostsError(
                f"JAX_NUM_PROCESSES={numbers[0]!r} and JAX_PROCESS_ID={numbers[1]!r}: expected the "
                "number of processes, and this one's from 0 on."
            )
        return {
            "coordinator_address": address,
            "num_processes": int(numbers[0]),
            "process_id": int(numbers[1]),
            "cluster_detection_method": "deactivate",
        }
    if environment.get("SEAL_JAX_MULTI_HOST", "0") not in ("", "0"):
        return {}
    if len(missing) < len(names):
        raise HostsError(
            f"{' and '.join(missing)} not set: a run on several hosts needs {', '.join(names)} on "
            "each, or SEAL_JAX_MULTI_HOST=1 where JAX finds them by itself."
        )
    return None


def absent_seconds() -> float:
    """How long a host may not be heard of."""
    return _number("SEAL_JAX_ABSENT_SECONDS", 30.0)


def stall_minutes() -> float:
    """How long a host may finish nothing."""
    return _number("SEAL_JAX_STALL_MINUTES", 60.0)


def _number(name: str, default: float) -> float:
    text = os.environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = 0.0
    if value <= 0:
        raise HostsError(f"{name}={text!r}: expected a number above 0, such as {default:g}.")
    return value
