"""The state of the training that is under way, kept every so many steps.

An M-step, or continued pretraining, is one unit of the ledger that may take hours. Its delta,
optimizer state and metrics so far lie in the run's `steps/` until it is done; one training at a
time, as a run has.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from seal_jax.core import restem
from seal_jax.runs import storage
from seal_jax.runs.checkpoints import CheckpointError, Checkpoints
from seal_jax.runtime import interruption
from seal_jax.settings import Sft

Metrics = list[dict[str, Any]]


class StepCheckpoints:
    """A directory that holds the state of one training, or nothing."""

    def __init__(
        self,
        path: storage.Location,
        say: Callable[[str], None],
        check: Callable[[], None] = lambda: None,
    ):
        """Makes nothing yet.

        Args:
          path: the directory.
          say: tells the person at the terminal.
          check: see `Checkpoints`; also called before what is kept is deleted.
        """
        self.path = path
        self.say = say
        self._check = check
        self._opened: Checkpoints | None = None

    def training(
        self,
        recipe: Sft,
        rows: Sequence[restem.SftExample],
        stage: str,
        total: int,
        metrics: Sequence[str],
    ) -> "Training":
        """A training of `total` steps; what is kept of another one is deleted when it starts.

        Args:
          metrics: the names of a step's.
        """
        digest = hashlib.sha256(repr((stage, total, recipe)).encode())
        for row in rows:
            digest.update(repr(row).encode())
        fingerprint = np.frombuffer(digest.digest(), np.uint8)
        return Training(self, recipe, stage, total, metrics, fingerprint)

    def open(self, keep: int) -> Checkpoints:
        """The checkpoints, of which the newest `keep` stay."""
        if self._opened is None:
            self._opened = Checkpoints(self.path, keep=keep, check=self._check)
        return self._opened

    def clear(self) -> None:
        """Deletes what is kept, once the training's result is recorded."""
        self.close()
        self._check()
        if storage.exists(self.path):
            storage.remove(self.path)

    def close(self) -> None:
        """Finishes what is being written."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()


@dataclasses.dataclass(frozen=True)
class Training:
    """One training, whose state is kept; see `StepCheckpoints.training`."""

    _kept: StepCheckpoints
    _recipe: Sft
    _stage: str
    _total: int
    _metrics: Sequence[str]
    _fingerprint: np.ndarray

    def resume(self, state: restem.MStepState) -> tuple[restem.MStepState, Metrics]:
        """The state that was kept last, and the metrics of the steps up to it.

        Args:
          state: the one before the first step, on its devices; returned where none was kept.
        """
        if not storage.exists(self._kept.path):
            return state, []
        try:
            found = self._checkpoints().restore_latest(self._tree(state, []))
        except CheckpointError:  # its arrays are of other shapes: another training's
            found = None
        if found is None or not np.array_equal(found[1]["training"], self._fingerprint):
            self._kept.clear()
            return state, []
        step, tree = found
        self._kept.say(f"{self._stage}: goes on after step {step} of {self._total}")
        state = state.replace(
            delta=state.delta.replace(tree=tree["delta"]),
            opt_state=tree["opt_state"],
            step=tree["step"],
        )
        columns = tree["metrics"][:, :step]
        return state, [dict(zip(self._metrics, column, strict=True)) for column in columns.T]

    def after_step(self, state: restem.MStepState, metrics: Metrics) -> None:
        """Keeps the state where it is time to, or where the run is about to end."""
        step = len(metrics)
        due = step % self._recipe.checkpoint_steps == 0
        last = step == self._total >= self._recipe.checkpoint_steps
        if due or last or interruption.is_asked():
            self._checkpoints().save(step, self._tree(state, jax.device_get(metrics)))

    def _checkpoints(self) -> Checkpoints:
        return self._kept.open(self._recipe.keep_checkpoints)

    def _tree(self, state: restem.MStepState, metrics: Metrics) -> dict[str, Any]:
        """What is written; its shapes are the same at every step."""
        columns = np.zeros((len(self._metrics), self._total), np.float32)
        for i, name in enumerate(self._metrics):
            columns[i, : len(metrics)] = [step[name] for step in metrics]
        return {
            "training": self._fingerprint,
            "delta": state.delta.tree,
            "opt_state": state.opt_state,
            "step": state.step,
            "metrics": columns,
        }
