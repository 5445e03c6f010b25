"""What a run has left on the disk, finished or not: all that a report is made from."""

import dataclasses
import functools
from collections.abc import Mapping

from seal_jax.loop import arms, policies, rewards
from seal_jax.loop.arms import Arm
from seal_jax.reports import formats, records
from seal_jax.reports.records import StageRecords
from seal_jax.reports.run_files import Record as Record  # what the sections are made of
from seal_jax.reports.run_files import RunFiles
from seal_jax.runs import run_dir, storage
from seal_jax.settings import Settings
from seal_jax.tasks import registry
from seal_jax.tasks.base import Task
from seal_jax.tasks.protocol import Context, Metric


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecords(RunFiles):
    """A run's files, and what can be found of its data.

    Attributes:
      stages: by name.
      task: its task; one without contexts where the data are not found.
      contexts: by id.
      note: what is missing of the data, and why; "" for nothing.
    """

    stages: Mapping[str, StageRecords]
    task: Task
    contexts: Mapping[str, Context]
    note: str = ""

    @property
    def name(self) -> str:
        """The run's name: its directory's."""
        return self.path.resolve().name

    @property
    def state(self) -> str:
        """Whether it is finished, and why not where its results say so."""
        if run_dir.is_finished(self.path):
            return "finished"
        return f"not finished: {self.results.get('incomplete', 'what is recorded so far')}"

    @property
    def continual(self) -> bool:
        """Whether it is of the continual experiment."""
        return any(of.stage.kind == "continual" for of in self.stages.values())

    @property
    def kind(self) -> str:
        """What kind of run it is, for people."""
        if self.config.get("on"):
            return "curate"
        if self.continual:
            return "continual self-edits"
        return self.task.name or str(self.config.get("task", "")).rpartition(":")[2]

    @property
    def words(self) -> Mapping[str, str]:
        """What its "context" and its "question" are called."""
        own = {"context": self.task.context_word, "question": self.task.question_word}
        return self.results.get("words", own)

    @functools.cached_property
    def arms(self) -> Mapping[str, Arm]:
        """Every arm of its task, in the order of tables."""
        return arms.table(self.task)

    def arm_label(self, name: str) -> str:
        """An arm's name for people."""
        known = self.arms[name].label if name in self.arms else name
        return self.results.get("arms", {}).get(name, {}).get("label", known)

    @functools.cached_property
    def metrics(self) -> list[Metric]:
        """What its arms are measured by, the main one first."""
        return self.own_metrics or rewards.metrics(self.task)

    def metric(self, name: str) -> Metric | str:
        """A metric of its task by name; the name of any other."""
        return next((metric for metric in self.metrics if metric.name == name), name)

    def metric_label(self, name: str) -> str:
        """A metric's name for people."""
        return formats.metric(self.metric(name))


def read(workdir: str) -> RunRecords:
    """Reads a run; nothing in it is changed, and it may be in progress.

    Raises:
      RunDirError: there is no run.
      DamagedError, LedgerError: a file of it is damaged.
    """
    path = storage.locate(workdir)
    if not storage.is_folder(path):
        raise run_dir.RunDirError(f"--workdir={workdir}: there is no such directory.")
    ledger = path / "ledger"
    stages = records.read(ledger) if storage.is_folder(ledger) else {}
    task, contexts, note = Task(Settings()), {}, ""
    try:
        task = registry.open_task(policies.run_settings(workdir))
        contexts = records.contexts_of(task, ledger)
    except (ValueError, OSError, ImportError) as error:
        note = f"The texts of contexts are not shown, since they were not found: {error}"
    return RunRecords.read(workdir, stages=stages, task=task, contexts=contexts, note=note)
