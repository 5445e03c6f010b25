"""The processes of one run, one a host: who they are, what they tell each other, who is missing.

Each host computes on its own devices alone, with its own copy of the model. What crosses hosts are
records and deltas, over the devices' network (gloo on CPUs), and, through the coordination service
of `jax.distributed`, which runs on host 0, the names of the places that hosts have come to and
their signs of life.

That service ends all processes when it has not heard of one for SEAL_JAX_ABSENT_SECONDS (30), in
threads that need no Python; `_explain_aborts` makes a message of it that names the host. A thread
of our own ends a process when another host has said that it ended, and when the host itself
finished nothing for SEAL_JAX_STALL_MINUTES (60), with the stacks of all threads after half of that.
Nothing is lost by any of it but the units of work in hand, and the same command on every host
continues the run.
"""

import atexit
import contextlib
import ctypes
import faulthandler
import json
import math
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import numpy as np
from etils import epy

from seal_jax.runtime import terminal
from seal_jax.runtime.interruption import EXIT_CODE

with epy.lazy_imports():  # what only reads files starts without it
    import jax
    from jax.experimental import multihost_utils

_PLACES, _ALIVE, _ENDED = "seal_jax/at", "seal_jax/alive/", "seal_jax/ended/"
_PERIOD = 2.0  # seconds between two signs of life
_JOIN_SECONDS = 300
_SMALLEST, _LARGEST = 1 << 16, 1 << 26  # bytes that go over the network at once
_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_CONTINUES = "What is recorded is safe, and the same command on every host continues the run."


class HostsError(ValueError):
    """The hosts cannot work together; the message says what to change."""


class Hosts:
    """The processes of a run, of which this is one.

    Attributes:
      rank: of this process, from 0; host 0 alone writes.
      count: of all processes.
      is_at_work: whether a run is under way, which all have to end together.
    """

    def __init__(self, rank: int = 0, count: int = 1):
        """Args: see the attributes; without any, the only process of a run."""
        self.rank = rank
        self.count = count
        self.is_at_work = False
        self._places = 0
        self._waits = False
        self._beat = self._armed = time.monotonic()
        self._closed = threading.Event()
        self._heard: dict[int, tuple[str, float]] = {}  # the last sign of each host, and when

    @property
    def alone(self) -> bool:
        return self.count == 1

    def beat(self) -> None:
        """Says that something was finished; the watch waits for that, not for the whole."""
        self._beat = time.monotonic()
        if (self.is_at_work or not self.alone) and self._beat - self._armed > _PERIOD:
            self._arm()

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """A run, which all hosts begin and end together.

        Several hosts are watched from when they join; one alone only has its stacks printed.
        """
        self.is_at_work = True
        if self.alone:
            self._arm()
        try:
            yield
        finally:
            if self.alone:
                faulthandler.cancel_dump_traceback_later()
        self.barrier("the end of a run")
        self.is_at_work = False

    def barrier(self, name: str) -> None:
        """Returns when all hosts have come to the place of that name."""
        self._meet(name, 0)

    def exchange(self, name: str, data: bytes) -> list[bytes]:
        """What every host brings to a place, by rank."""
        if self.alone:
            return [data]
        sizes = self._meet(name, len(data))
        size = _padded(max(sizes))
        with self._together():
            rows = multihost_utils.process_allgather(_array(data, size))
        return [bytes(row[:size]) for row, size in zip(rows, sizes, strict=True)]

    def first(self, name: str, make: Callable[[], bytes]) -> bytes:
        """What host 0 makes at a place; the others wait for it."""
        data = make() if self.rank == 0 else b""
        if self.alone:
            return data
        total = self._meet(name, len(data))[0]
        parts = []
        for start in range(0, total, _LARGEST):
            size = min(_LARGEST, total - start)
            part = _array(data[start : start + size], _padded(size))
            with self._together():
                part = multihost_utils.broadcast_one_to_all(part)
            parts.append(bytes(part[:size]))
            self.beat()
        return b"".join(parts)

    def first_tree(self, name: str, make: Callable[[], Any], like: Any) -> Any:
        """The tree of arrays that host 0 makes, on every host's own devices.

        Args:
          like: the same tree of `jax.ShapeDtypeStruct` with the sharding of each leaf.
        """
        made: list[Any] = []

        def packed() -> bytes:
            made.append(make())
            return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(made[0]))

        if self.alone:
            return make()
        data = self.first(name, packed)
        return made[0] if made else _unpacked(data, like)

    def agree(self, what: Mapping[str, Any]) -> None:
        """Checks that these values, by name, are the same on all hosts.

        Raises:
          HostsError: they are not; the message names a host and what differs there.
        """
        if self.alone:
            return
        own = json.dumps(what, sort_keys=True, default=str).encode()
        values = [json.loads(data) for data in self.exchange("what a run is", own)]
        for rank, value in enumerate(values):
            keys = sorted(values[0].keys() | value.keys())
            differs = [key for key in keys if values[0].get(key) != value.get(key)]
            if differs:
                raise HostsError(
                    f"host {rank} differs from host 0 in {', '.join(differs)} "
                    f"({value.get(differs[0])!r}, not {values[0].get(differs[0])!r}): start the "
                    "same command with the same package on equal hosts."
                )

    def _meet(self, name: str, note: int) -> list[int]:
        """The notes of all hosts at a place, by rank."""
        if self.alone:
            return [note]
        self._places += 1
        here = f"{_PLACES}/{self._places}/"
        pause, self._waits = 0.01, True
        with self._together():
            _client().key_value_set(f"{here}{self.rank}", json.dumps([name, note]))
            while len(found := dict(_client().key_value_dir_get(here))) < self.count:
                time.sleep(pause)
                pause = min(1.5 * pause, 0.5)
            if self._places > 1:  # all have read what was at the place before
                _client().key_value_delete(f"{_PLACES}/{self._places - 1}/{self.rank}")
        self._waits = False
        self.beat()
        said = [json.loads(found[f"{here}{rank}"]) for rank in range(self.count)]
        for rank, (other, _) in enumerate(said):
            if other != name:
                raise HostsError(f"host {rank} is at {other!r}, host {self.rank} at {name!r}.")
        return [note for _, note in said]

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        """For what all hosts do; that fails where one is lost, and the watch says which."""
        try:
            yield
        except (jax.errors.JaxRuntimeError, ValueError):
            self._closed.wait(absent_seconds() + 5 * _PERIOD)
            raise

    def _watch(self) -> None:
        """Gives signs of life and looks for the others'; ends the process where one is missing."""
        self._heard = dict.fromkeys(range(self.count), ("", time.monotonic()))
        number = 0
        while not self._closed.wait(_PERIOD):
            number += 1
            try:
                _client().key_value_set(f"{_ALIVE}{self.rank}", f"{number}", allow_overwrite=True)
                alive = dict(_client().key_value_dir_get(_ALIVE))
                ended = dict(_client().key_value_dir_get(_ENDED))
            except jax.errors.JaxRuntimeError:
                continue  # host 0 is not there, so JAX ends this process
            now = time.monotonic()
            for rank, (known, _) in list(self._heard.items()):
                sign = alive.get(f"{_ALIVE}{rank}", "")
                if sign != known:
                    self._heard[rank] = sign, now
            if self._closed.is_set():
                return
            for key, value in ended.items():
                code, reason = json.loads(value)
                rank = int(key.removeprefix(_ENDED))
                if rank != self.rank:
                    self._end(f"host {rank} of {self.count} has ended ({reason})", code)
            if self._waits:
                self.beat()
            stalled = 60 * stall_minutes()
            stuck = self._unheard(stalled + 10 * absent_seconds())
            if stuck:  # its process is there, but runs no Python
                self._end(_absent(stuck, self.count))
            if now - self._beat > stalled:
                self._end(
                    f"host {self.rank} of {self.count} finished nothing for {stalled / 60:g} "
                    "minutes (SEAL_JAX_STALL_MINUTES; it has printed the stacks of its threads)"
                )

    def _unheard(self, seconds: float) -> list[int]:
        """The hosts that were last heard of so long before the others."""
        newest = max((last for _, last in self._heard.values()), default=0.0)
        return [rank for rank, (_, last) in self._heard.items() if newest - last > seconds]

    def _arm(self) -> None:
        """Has the stacks printed if nothing is finished for half the time that is allowed."""
        self._armed = time.monotonic()
        if sys.__stderr__:
            faulthandler.dump_traceback_later(30 * stall_minutes(), file=sys.__stderr__)

    def _end(self, text: str, code: int = EXIT_CODE) -> NoReturn:
        """Tells the others and ends this process wherever it is."""
        _say(f"{text}. {_CONTINUES}")
        self._leave(code, text)

    def _leave(self, code: int, reason: str) -> NoReturn:
        faulthandler.cancel_dump_traceback_later()
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            value = json.dumps([code, reason])
            _client().key_value_set(f"{_ENDED}{self.rank}", value, allow_overwrite=True)
        if self.rank == 0:  # the others hear of it from here
            time.sleep(3 * _PERIOD)
        os._exit(code)

    def _start(self) -> None:
        self._arm()
        threading.Thread(target=self._watch, daemon=True).start()

    def _close(self) -> None:
        """Ends together with all others."""
        self.barrier("the end")
        self._closed.set()
        faulthandler.cancel_dump_traceback_later()
        jax.distributed.shutdown()


_joined: list[Hosts] = []
_handlers: list[Any] = []  # of SIGABRT: C holds no reference to them


def join() -> Hosts:
    """The processes of this run, brought together the first time; before anything uses a device.

    They are those of JAX_COORDINATOR_ADDRESS (host:port of host 0), JAX_NUM_PROCESSES and
    JAX_PROCESS_ID, or with SEAL_JAX_MULTI_HOST=1 those that JAX finds by itself (Cloud TPU, GKE,
    Slurm). Without these variables it is this process alone.

    Raises:
      HostsError: some of the variables are missing or wrong.
      RuntimeError: a device is in use already.
    """
    if _joined:
        return _joined[0]
    if not jax.distributed.is_initialized():
        given = process_arguments(os.environ)
        if given is None:
            return Hosts()
        absent_seconds(), stall_minutes()
        address = given.get("coordinator_address")
        _explain_aborts(lambda: _why_not_joined(given))
        # Its handler of SIGTERM would take the place of ours.
        jax.config.update("jax_enable_preemption_service", False)
        jax.distributed.initialize(
            **given,
            initialization_timeout=_JOIN_SECONDS,
            heartbeat_timeout_seconds=math.ceil(absent_seconds()),
        )
        address = address or _state().coordinator_address
        _explain_aborts(lambda: _why_aborted(address))
    found = Hosts(jax.process_index(), jax.process_count())
    if found.alone:
        return found
    _joined.append(found)
    atexit.register(_at_exit)
    found._start()
    return found


def _at_exit() -> None:
    """For programs that end without `leave`: it would take JAX five minutes to notice."""
    if _joined:
        leave(1 if _joined[0].is_at_work else 0, "its program ended")


def leave(code: int, reason: str = "an error, which it has told") -> int:
    """Ends this process's part of the run, if there are other hosts.

    Args:
      code: the process's exit code. Unless it is 0, the process ends here, and so do the others,
        with the same code.
      reason: what the others say of it.

    Returns:
      The code.
    """
    if _joined and code:
        sys.stdout.flush()
        sys.stderr.flush()
        _joined[0]._leave(code, reason)
    if _joined:
        _joined.pop()._close()
    return code


def leave_after(error: BaseException) -> None:
    """Shows where an error was raised and ends the process, if there are other hosts."""
    if _joined:
        traceback.print_exception(error)
        leave(1, f"{type(error).__name__}: {error}")


def process_arguments(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Arguments of `jax.distributed.initialize`; None for a process that is alone.

    >>> values = ("a:1", "2", "1")
    >>> process_arguments(dict(zip(_VARIABLES, values)))  # doctest: +NORMALIZE_WHITESPACE
    {'coordinator_address': 'a:1', 'num_processes': 2, 'process_id': 1,
     'cluster_detection_method': 'deactivate'}

    Raises:
      HostsError: some of the variables are missing or wrong.
    """
    missing = [name for name in _VARIABLES if not environment.get(name)]
    if not missing:
        address, *numbers = (environment[name] for name in _VARIABLES)
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
    if len(missing) < len(_VARIABLES):
        raise HostsError(
            f"{' and '.join(missing)} not set: a run on several hosts needs "
            f"{', '.join(_VARIABLES)} on each, or SEAL_JAX_MULTI_HOST=1 where JAX finds them by "
            "itself."
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


def _absent(ranks: list[int], count: int) -> str:
    """What to say of hosts that are missing.

    >>> _absent([1, 3], 4)
    'hosts 1 and 3 of 4 are absent'
    """
    names = " and ".join(map(str, ranks))
    several = len(ranks) > 1
    return f"host{'s' * several} {names} of {count} {'are' if several else 'is'} absent"


def _state() -> Any:
    """What `jax.distributed` knows; its key-value store has no public name."""
    from jax._src import distributed

    return distributed.global_state


def _client() -> Any:
    return _state().client


def _why_not_joined(given: Mapping[str, Any]) -> str:
    return (
        f"the hosts did not all come to {given.get('coordinator_address', 'host 0')} within "
        f"{_JOIN_SECONDS} s (this is host {given.get('process_id', 'of a rank that JAX finds')}): "
        "start the same command on every host."
    )


def _why_aborted(address: str) -> str | None:
    """Whether JAX aborts because a host is missing, and which one it is."""
    if not _joined:
        return None
    me = _joined[0]
    absent = me._unheard(absent_seconds() / 2)
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
    except OSError:
        absent = absent or [0]
    if not absent:
        return None
    text = f"{_absent(absent, me.count)}. {_CONTINUES}"
    if me.rank == 0:  # the others find out from the service, which ends with this process
        _say(text)
        time.sleep(_PERIOD)
        os._exit(EXIT_CODE)
    return text


def _explain_aborts(why: Callable[[], str | None]) -> None:
    """Says why JAX aborts the process, and ends it with the code of an interruption.

    The client of the coordination service calls abort() in a thread of its own as soon as the
    service is gone, and offers Python no way to be asked first.

    Args:
      why: what to say; None leaves the abort alone.
    """

    def handle(_: int) -> None:
        setsig(signal.SIGABRT, kind(0))  # the default again
        text = why()
        if text:
            _say(text)
            os._exit(EXIT_CODE)

    kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
    setsig = ctypes.pythonapi.PyOS_setsig
    setsig.argtypes, setsig.restype = [ctypes.c_int, kind], ctypes.c_void_p
    _handlers.append(kind(handle))
    setsig(signal.SIGABRT, _handlers[-1])


def _say(text: str) -> None:
    """Writes a line past Python's buffers, whose locks another thread may hold."""
    os.write(2, terminal.visible(f"\nerror: {text}\n").encode())


def _padded(size: int) -> int:
    """A power of two, so that few sizes are compiled for.

    >>> _padded(0), _padded(65537)
    (65536, 131072)
    """
    return max(_SMALLEST, 1 << max(size - 1, 0).bit_length())


def _array(data: bytes, size: int) -> np.ndarray:
    """The bytes as `size` numbers, with zeros at the end."""
    found = np.zeros(size, np.uint8)
    found[: len(data)] = np.frombuffer(data, np.uint8)
    return found


def _unpacked(data: bytes, like: Any) -> Any:
    """The tree of which the leaves' bytes were put one after another."""
    leaves, treedef = jax.tree.flatten(like)
    offset, found = 0, []
    for leaf in leaves:
        count = int(np.prod(leaf.shape))
        host = np.frombuffer(data, leaf.dtype, count, offset).reshape(leaf.shape)
        offset += host.nbytes
        found.append(jax.device_put(host, leaf.sharding))
    return jax.tree.unflatten(treedef, found)
