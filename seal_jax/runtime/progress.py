"""How far a stage is: one bar on a terminal, a plain line every few seconds in a log, or
nothing."""

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping
from typing import Self, TextIO

import tqdm

from seal_jax.runtime import terminal

_SECONDS_BETWEEN_LINES = 5.0


@dataclasses.dataclass
class Whole:
    """What a whole run has before it, for the time left.

    Units of one name are taken to take as long in every stage as in the last one that had some.

    Attributes:
      planned: the stages in order, by label: the unit of each, and how many there are; empty where
        that is not known.
    """

    planned: Mapping[str, tuple[str, int]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self._at = 0  # the last of the planned stages that has begun
        self._seconds: dict[str, float] = {}

    def finish(self, unit: str, seconds: float | None) -> None:
        """A stage is over, in which each unit took so long; None where none was done now."""
        if seconds is not None:
            self._seconds[unit] = seconds

    def left(self, label: str, unit: str, units: int, seconds: float | None) -> str:
        """How far the run is while a stage has so many units left; "" where nothing is planned."""
        if not self.planned:
            return ""
        names = list(self.planned)
        self._at = names.index(label) if label in names else self._at
        known = self._seconds | ({} if seconds is None else {unit: seconds})
        waiting = [(unit, units), *(self.planned[name] for name in names[self._at + 1 :])]
        left = sum(known.get(of, 0.0) * count for of, count in waiting)
        text = f"whole run: stage {self._at + 1} of {len(names)}"
        if left:
            least = "about" if all(of in known for of, count in waiting if count) else "at least"
            text += f", {least} {_duration(left)} left"
        return text


@dataclasses.dataclass
class Progress:
    """Counts units of work on standard error while its `with` block runs.

    Example:

        with Progress(54, "round 1, candidates", unit="candidate") as progress:
            for batch in batches:
                progress.update(len(batch), reward=mean_reward)

    In a log this prints lines such as
    `round 1, candidates: 18/54 candidates, 3.03 s each, 1 min 48 s left, reward 0.41; whole run:
    stage 3 of 14, at least 12 min 5 s left`.

    Attributes:
      total: units in all.
      label: what is done, a few words.
      unit: what is counted, in the singular.
      whole: the run that this is a stage of.
      done: units that are done.
      replayed: those of them that took no time, being recorded by an earlier process; they do not
        enter the rate.
      quiet: show nothing.
      stream: where to show it; standard error if None.
      beat: called whenever more is done.
      clock: seconds from any origin, never running backwards.
    """

    total: int
    label: str
    _: dataclasses.KW_ONLY
    unit: str = "step"
    whole: Whole = dataclasses.field(default_factory=Whole)
    quiet: bool = False
    stream: TextIO | None = None
    beat: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.monotonic
    done: int = dataclasses.field(default=0, init=False)
    replayed: int = dataclasses.field(default=0, init=False)

    def __enter__(self) -> Self:
        self._stream = self.stream or sys.stderr
        self._start = self._last_line = self.clock()
        self._line_is_current = self.quiet
        self._first: tuple[int, float] | None = None
        self._figures: dict[str, float | int | str] = {}
        self._bar: tqdm.tqdm[None] | None = None
        if not self.quiet and self._stream.isatty():
            self._bar = tqdm.tqdm(
                total=self.total,
                desc=terminal.visible(self.label),
                unit=f" {self.unit}",
                file=self._stream,
                dynamic_ncols=True,
            )
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif not self._line_is_current:
            self._print_line()
        self.whole.finish(self.unit, self.seconds_each)

    @property
    def seconds_each(self) -> float | None:
        """Seconds for a unit that was done now; None where none was.

        The first ones, while programs are compiled, do not count once there are others.
        """
        first, begun = self._first or (0, self._start)
        counted, now = self.done - self.replayed, self.clock()
        if counted == first:
            first, begun = 0, self._start
        return (now - begun) / (counted - first) if counted > first and now > begun else None

    def update(
        self, units: int = 1, *, replayed: bool = False, **figures: float | int | str
    ) -> None:
        """Counts `units` more as done, and shows the latest of each figure beside them.

        Args:
          replayed: whether they were read from what is recorded.
        """
        self.beat()
        self.done += units
        self._figures.update(figures)
        self._line_is_current = self.quiet
        if replayed:
            self.replayed += units
        elif self._first is None:
            self._first = (units, self.clock())
        if self._bar is not None:
            if replayed:  # so that the bar's rate is without them
                self._bar.initial += units
                self._bar.n += units
            shown = (self._figures_text(), self._replayed_text(), self._whole_text())
            self._bar.set_postfix_str("; ".join(filter(None, shown)), refresh=replayed)
            self._bar.update(0 if replayed else units)
        elif not self.quiet and self.clock() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._print_line()

    def _print_line(self) -> None:
        self._last_line = self.clock()
        self._line_is_current = True
        parts = [f"{self.done}/{self.total} {self.unit}s", self._replayed_text()]
        if each := self.seconds_each:
            left, elapsed = max(0, self.total - self.done) * each, self._last_line - self._start
            parts.append(f"{each:.3g} s each")
            parts.append(f"{_duration(left)} left" if left else f"took {_duration(elapsed)}")
        parts.append(self._figures_text())
        line = f"{self.label}: {', '.join(filter(None, parts))}"
        terminal.say("; ".join(filter(None, (line, self._whole_text()))), file=self._stream)

    def _replayed_text(self) -> str:
        count = "all" if self.replayed == self.done else self.replayed
        return f"{count} of them from the ledger" if self.replayed else ""

    def _whole_text(self) -> str:
        units = max(0, self.total - self.done)
        return self.whole.left(self.label, self.unit, units, self.seconds_each)

    def _figures_text(self) -> str:
        return terminal.visible(
            ", ".join(
                f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
                for name, value in self._figures.items()
            )
        )


def _duration(seconds: float) -> str:
    """Whole units only: "48 s", "1 min 48 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
