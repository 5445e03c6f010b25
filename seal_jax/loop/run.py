"""A run of a session: its ledger, checkpoints, clock, terminal and metrics."""

import itertools
import operator
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, TypeVar

from seal_jax.core import parallel
from seal_jax.loop.reuse import Known
from seal_jax.loop.session import Session
from seal_jax.loop.stage import Stage
from seal_jax.runs import storage
from seal_jax.runs.checkpoints import Checkpoints
from seal_jax.runs.ledger import Ledger
from seal_jax.runs.step_checkpoints import StepCheckpoints
from seal_jax.runs.storage import Location
from seal_jax.runtime import interruption, terminal
from seal_jax.runtime.hosts import Hosts
from seal_jax.runtime.metrics import Compiles, Writers
from seal_jax.runtime.progress import Progress, Whole

Record = dict[str, Any]
_Item = TypeVar("_Item")


class Ungraded(NamedTuple):
    """A unit that no judge could mark whole.

    Attributes:
      stage: that it is part of.
      exams: how many of it have an answer without a verdict.
      reason: why, of the first of them.
      record: what there is.
      content: see `Run.record`, of a unit that may be recorded as it is; None if it may be graded
        later.
    """

    stage: str
    exams: int
    reason: str
    record: Record
    content: Any = None


def batches(stage: Stage, items: Sequence[_Item], size: int) -> dict[str, Sequence[_Item]]:
    """Units of work of at most `size` items, by their keys in the ledger."""
    firsts = range(0, len(items), size)
    return {f"{stage}/{n}": items[first : first + size] for n, first in enumerate(firsts)}


class Run(AbstractContextManager):
    """A session with its ledger, checkpoints and clock; what the stages share.

    Attributes:
      steps: the state of the training that is under way.
      known: what is recorded here and in the runs to reuse, by its content.
      ungraded: by unit, what could not be marked for want of a judge.
      whole: what the run has before it.
      seconds: of each part of a stage, by name.
      replayed: the parts of which something was done before, so that their seconds say little.
    """

    def __init__(
        self,
        session: Session,
        ledger: Ledger,
        checkpoints_path: Location,
        quiet: bool,
        metrics: Writers | None = None,
        hosts: Hosts | None = None,
        reuse: Sequence[str] = (),
    ):
        self.session = session
        self.ledger = ledger
        self.quiet = quiet
        self.hosts = hosts or Hosts()
        self._metrics = metrics or Writers([])
        self._compiles = Compiles()
        self.seconds: dict[str, float] = {}
        self.replayed: set[str] = set()
        self._path = checkpoints_path
        self._checkpoints: dict[str, Checkpoints] = {}
        self.steps = StepCheckpoints(checkpoints_path.parent / "steps", self.say, ledger.check)
        self._kept_for: tuple = ()
        self._kept: Any = None
        self.known = Known(session, ledger, reuse)
        self.ungraded: dict[str, Ungraded] = {}
        self.whole = Whole()

    def checkpoints(self, line: str) -> Checkpoints:
        """The checkpoints of a line of policies: "" is SEAL's own, others are controls."""
        if line not in self._checkpoints:
            path = self._path_of(line)
            self._checkpoints[line] = Checkpoints(path, keep=None, check=self.ledger.check)
        return self._checkpoints[line]

    def discard_checkpoints(self, line: str) -> None:
        """Deletes the checkpoints of a line that nothing needs any more, if there are any."""
        if line in self._checkpoints:
            self._checkpoints.pop(line).close()
        if storage.exists(self._path_of(line)):
            self.ledger.check()
            storage.remove(self._path_of(line))

    def _path_of(self, line: str) -> Location:
        return self._path.parent / f"{self._path.name}-{line}" if line else self._path

    def keep_one(self, key: tuple, make: Callable[[], Any]) -> Any:
        """What `make` gives for this tuple of objects; made anew after another one was asked for.

        Objects are compared by identity and held on to, so that no later one can pass for them.
        """
        if not (len(self._kept_for) == len(key) and all(map(operator.is_, self._kept_for, key))):
            self._kept_for, self._kept = (), None  # freed before the next one is made
            self._kept, self._kept_for = make(), key
        return self._kept

    def __exit__(self, *exception: object) -> None:
        """Finishes what is being written."""
        for opened in self._checkpoints.values():
            opened.close()
        self.steps.close()

    def once(
        self,
        kind: str,
        key: str,
        work: Callable[[], Record],
        *,
        stage: Stage | None = None,
        together: bool = False,
    ) -> Record:
        """The record of a unit of work, from the ledger or done now, by host 0.

        Args:
          stage: that it is part of.
          together: every host does it: there are other units of work in it.

        Raises:
          Interrupted: it is not done, and a signal asked for the end of the run.
        """
        found = self.ledger.find(kind, key)
        if found is not None:
            return found
        interruption.check()
        if together or self.hosts.rank == 0:
            made = work()
            if self.hosts.rank == 0:
                self.record(kind, key, made, stage)
        return self._recorded(kind, key)

    def missing(
        self,
        kind: str,
        units: Mapping[str, Any],
        stage: Stage,
        content: Callable[[Any], Any],
        progress: Progress,
        show: Callable[[], dict[str, float]] = dict,
    ) -> Iterator[str]:
        """The keys of units of work of one kind that this host has to do, in order.

        Units that are not in the ledger are divided over the hosts: as many as there are hosts are
        done at a time, one by each, and recorded in order before the next ones. One whose content
        is known, of this run or of those to reuse, is recorded without being done. When the
        iteration ends, all are recorded (`records`).

        Args:
          units: what each consists of, by key; its size is told to `progress`, beside what `show`
            gives.
          stage: that they are part of.
          content: what the outcome of a unit follows from; see `record`.

        Raises:
          Interrupted: some are not done, and a signal asked for the end of the run.
        """
        keys = list(units)
        replayed = {key for key in keys if self.ledger.find(kind, key) is not None}
        for first, key in enumerate(keys):
            if self.ledger.find(kind, key) is None:
                interruption.check()
                left = (other for other in keys[first:] if self.ledger.find(kind, other) is None)
                share = list(itertools.islice(left, self.hosts.count))
                for mine in share[self.hosts.rank : self.hosts.rank + 1]:
                    found = self.known.find(kind, content(units[mine]))
                    if found is None:
                        yield mine
                    else:
                        self.ledger.append(kind, mine, {**found, "stage": stage.record()})
                        replayed.add(mine)
                self._recorded(kind, key)
            progress.update(len(units[key]), replayed=key in replayed, **show())

    def records(self, kind: str, keys: Iterable[str]) -> list[Record]:
        """The records of units that are done."""
        found = [self.ledger.find(kind, key) for key in keys]
        return [record for record in found if record is not None]

    def record(
        self, kind: str, key: str, record: Record, stage: Stage | None, content: Any = None
    ) -> None:
        """Records a unit of work that this host has done.

        Args:
          stage: that it is part of.
          content: all that its outcome follows from, with a `repr` that says it; None where it is
            not to be used again.
        """
        if stage is not None:
            record = {**record, "stage": stage.record()}
        if content is not None:
            digest = self.known.digest(kind, content)
            record = {**record, "content": digest}
            self.known.add(kind, digest, record)
        self.ledger.append(kind, key, record)

    def gathered(self, kind: str, key: str) -> Record | None:
        """The record of a unit of work that one of the hosts may have done now."""
        self.hosts.beat()
        self.ledger.sync()
        return self.ledger.find(kind, key)

    def _recorded(self, kind: str, key: str) -> Record:
        found = self.gathered(kind, key)
        assert found is not None, "every host takes the same units in the same order"
        return found

    def forget_steps(self) -> None:
        """Deletes the state of the last training, once its result is recorded."""
        if self.hosts.rank == 0:
            self.steps.clear()

    def measure(
        self,
        stage: Stage,
        values: Mapping[str, float | None],
        *,
        what: str = "",
        step: int | None = None,
    ) -> None:
        """Writes figures for charts: those of rounds under one name, with the round as the step.

        Args:
          stage: a round of a control, and any other stage, also names its figures.
          what: the part of the stage that they are of.
          step: another place on the horizontal axis.
        """
        parts = (stage.line if stage.kind == "round" else stage.name, what)
        prefix = "".join(f"{part}/" for part in parts if part)
        named = {f"{prefix}{name}": value for name, value in values.items()}
        self._metrics.write(stage.round if step is None else step, named)

    @contextmanager
    def stage(self, stage: Stage, what: str, total: int, unit: str) -> Iterator[Progress]:
        """Times a part of a stage, shows its progress, and measures its speed, compiles and memory.

        Args:
          what: the part; "" for all of it.
          total: units of work in it.
          unit: what they are.
        """
        name = f"{stage}: {what}" if what else str(stage)
        start, compiles, units = time.perf_counter(), self._compiles.count, len(self.ledger)
        with Progress(
            total, name, unit=unit, whole=self.whole, quiet=self.quiet, beat=self.hosts.beat
        ) as progress:
            yield progress
        seconds = time.perf_counter() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        if progress.replayed:
            self.replayed.add(name)
        if len(self.ledger) > units:  # otherwise all of it was done before
            self.measure(
                stage,
                {
                    "seconds": seconds,
                    f"{unit}s an hour": 3600 * (total - progress.replayed) / max(seconds, 1e-9),
                    "compiles": self._compiles.count - compiles,
                    "peak bytes of a device": parallel.peak_memory(),
                },
                what=what,
            )

    @property
    def incomplete(self) -> str:
        """What could not be marked for want of a judge; "" for nothing."""
        if not self.ungraded:
            return ""
        every = list(self.ungraded.values())
        count, where = sum(of.exams for of in every), dict.fromkeys(of.stage for of in every)
        return (
            f"{count} exams could not be graded for want of a judge ({', '.join(where)}; "
            f"{every[0].reason}): mend what the judge needs, and the same command asks it again."
        )

    def say(self, line: str) -> None:
        if not self.quiet:
            terminal.say(line)
