"""How far a stage is: one bar on a terminal, a plain line every few seconds in a log, or
nothing."""

import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Self, TextIO

import tqdm

from seal_jax.runtime import terminal

_SECONDS_BETWEEN_LINES = 5.0


@dataclasses.dataclass
class Progress:
    """Counts units of work on standard error while its `with` block runs.

    Example:

        with Progress(54, "round 1, candidates", unit="candidate") as progress:
            for batch in batches:
                progress.update(len(batch), reward=mean_reward)

    In a log this prints lines such as
    `round 1, candidates: 18/54 candidates, 0.33 a second, 1 min 48 s left, reward 0.41`.

    Attributes:
      total: units in all.
      label: what is done, a few words.
      unit: what is counted, in the singular.
      done: units that are done; those of an earlier process do not enter the rate.
      quiet: show nothing.
      stream: where to show it; standard error if None.
      beat: called whenever more is done.
      clock: seconds from any origin, never running backwards.
    """

    total: int
    label: str
    _: dataclasses.KW_ONLY
    unit: str = "step"
    done: int = 0
    quiet: bool = False
    stream: TextIO | None = None
    beat: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.monotonic

    def __enter__(self) -> Self:
        self._stream = self.stream or sys.stderr
        self._start_done = self.done
        self._start = self._last_line = self.clock()
        self._line_is_current = self.quiet
        self._figures: dict[str, float | int | str] = {}
        self._bar: tqdm.tqdm[None] | None = None
        if not self.quiet and self._stream.isatty():
            self._bar = tqdm.tqdm(
                total=self.total,
                initial=self.done,
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

    def update(self, units: int = 1, **figures: float | int | str) -> None:
        """Counts `units` more as done, and shows the latest of each figure beside them."""
        self.beat()
        self.done += units
        self._figures.update(figures)
        self._line_is_current = self.quiet
        if self._bar is not None:
            self._bar.set_postfix_str(self._figures_text(), refresh=False)
            self._bar.update(units)
        elif not self.quiet and self.clock() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._print_line()

    def _print_line(self) -> None:
        self._last_line = self.clock()
        self._line_is_current = True
        elapsed = self._last_line - self._start
        counted = self.done - self._start_done
        parts = [f"{self.done}/{self.total} {self.unit}s"]
        if counted > 0 and elapsed > 0:
            rate = counted / elapsed
            parts.append(f"{rate:.3g} a second")
            left = max(0, self.total - self.done) / rate
            parts.append(f"{_duration(left)} left" if left else f"took {_duration(elapsed)}")
        if self._figures:
            parts.append(self._figures_text())
        terminal.say(f"{self.label}: {', '.join(parts)}", file=self._stream)

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
