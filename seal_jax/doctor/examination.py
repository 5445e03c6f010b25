"""An examination: rows one after another, each in its time, written down as soon as it is found."""

import pathlib
import time
from collections.abc import Callable
from typing import Any

from seal_jax.doctor import report, rows
from seal_jax.doctor.rows import CHIP, Record, Skipped
from seal_jax.doctor.worker import Worker, WorkerError
from seal_jax.runs import json_file
from seal_jax.runtime import interruption

# The CPU's results are compared, not its speed: it need not optimise what it compiles.
_CPU = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
_LEAST = 30.0  # seconds that a row is given, if there are so many left; else half of what is left


def examine(
    *, minutes: float, out: str, tiny: bool = False, say: Callable[[str], None] = print
) -> Record:
    """Examines the device that is here, and writes what it finds.

    Args:
      minutes: after which no row is begun, or gone on with.
      out: JSON file. What it holds of the same machine and versions is not measured again.
      tiny: with a tiny model: results are checked, and times mean nothing.
      say: is told each row.

    Returns:
      {"tiny", "rows": {name: figures}, "verdict": {"word", "lines"}}. A row has a "status": "ok",
      "wrong", "failed", "skipped" or "not reached", with the reason under "reason".

    Raises:
      ValueError: the file is another one.
    """
    return _Examining(minutes, out, tiny, say).all()


class _Examining:
    """One examination; see `rows.Examination`."""

    def __init__(self, minutes: float, out: str, tiny: bool, say: Callable[[str], None]):
        self.tiny, self._out, self._say = tiny, out, say
        self._deadline = time.monotonic() + 60 * minutes
        self._until = self._deadline
        self._side: tuple[str, Any] | None = None
        self._worker: Worker | None = None
        self._cpu: Worker | None = None
        self.rows: dict[str, Record] = {}
        self._before = self._read()

    def all(self) -> Record:
        """Every row; nothing of what fails gets out."""
        wanted = rows.rows(tiny=self.tiny)
        try:
            for row in wanted:
                interruption.check()
                known = self._known(row.name)
                self.rows[row.name] = known or self._measured(row)
                if row is wanted[0] and not _same(self._before.get(row.name), self.rows[row.name]):
                    if self._before:
                        self._say(f"{self._out} was of another machine or versions: all is new.")
                    self._before = {}
                self._say(report.line(row.name, self.rows[row.name]))
                self._write()
        finally:
            for worker in (self._worker, self._cpu):
                if worker:
                    worker.close()
        return self._write()

    def ask(self, module: str, spec: Any, method: str, *args: Any, **named: Any) -> Record:
        """What a method of a worker returns that has the device; another one ends before."""
        if self._side != (module, spec):
            self._end()
            self._worker, self._side = Worker(module, spec, self._left()), (module, spec)
        assert self._worker
        try:
            return self._worker.call(method, *args, within=self._left(), **named)
        except WorkerError:
            if not self._worker.alive:
                self._end()
            raise

    def ask_cpu(self, method: str, *args: Any) -> Record:
        """What a method of `chip.Chip` returns on the CPU."""
        if self._cpu is None:
            self._cpu = Worker(CHIP, None, self._left(), _CPU)
        try:
            return self._cpu.call(method, *args, within=self._left())
        except WorkerError:
            if not self._cpu.alive:
                self._cpu = None
            raise

    def _end(self) -> None:
        if self._worker:
            self._worker.close()
        self._worker = self._side = None

    def _left(self) -> float:
        return max(0.1, self._until - time.monotonic())

    def _known(self, name: str) -> Record | None:
        """What was found before, of a row that needs not be measured again."""
        found = self._before.get(name, {"status": "not reached"})
        return found if self.rows and found["status"] in ("ok", "wrong") else None

    def _measured(self, row: rows.Row) -> Record:
        """A row's figures, with its status."""
        start = time.monotonic()
        left = self._deadline - start
        if left < 5 and self.rows:
            return {"status": "not reached", "reason": "no time was left"}
        self._until = min(self._deadline, start + max(_LEAST, left / 2))
        try:
            found = row.measure(self)
            json_file.encode(found)
        except Skipped as why:
            return {"status": "skipped", "reason": str(why)}
        except Exception as error:  # whatever it is, the other rows are worth having
            # The last line of a traceback is the error; a KeyError is what an earlier row lacks.
            absent = isinstance(error, KeyError)
            text = f"an earlier row has not found {error}" if absent else str(error)
            reason = text.strip().splitlines()[-1][:300]
            found = {"status": "failed", "reason": reason, "traceback": text[-4000:]}
        wrong = found.get("wrong", [])
        status = {"status": "wrong", "reason": "; ".join(wrong)} if wrong else {"status": "ok"}
        return status | found | {"took_seconds": time.monotonic() - start}

    def _read(self) -> dict[str, Record]:
        """The rows of an earlier examination."""
        if not pathlib.Path(self._out).exists():
            return {}
        found = json_file.read(self._out)
        if not isinstance(found, dict) or found.keys() != {"tiny", "rows", "verdict"}:
            raise ValueError(f"--out={self._out} is no file of `seal doctor`: give another name.")
        return found["rows"] if found["tiny"] == self.tiny else {}

    def _write(self) -> Record:
        """The record, with what is to come as not reached."""
        later = {row.name: {"status": "not reached"} for row in rows.rows(tiny=self.tiny)}
        every = later | {k: v for k, v in self._before.items() if k in later} | self.rows
        found = {"tiny": self.tiny, "rows": every, "verdict": report.verdict(every)}
        json_file.write_json(self._out, found)
        return found


def _same(before: Record | None, now: Record) -> bool:
    """Whether two are the same machine with the same versions."""
    keys = "seal_jax", "packages", "variables", "device", "devices", "memory_bytes"
    return before is not None and all(before.get(key) == now.get(key) for key in keys)
