"""Every setting of a run: frozen dataclasses with the paper's values as defaults.

`config_dict` turns them into the ConfigDict that a config file changes, and back. Nothing below the
programs sees a ConfigDict.

Defaults are those of SEAL's knowledge-incorporation experiment (arXiv 2506.10943, section 4 and
appendix B), unless a docstring says otherwise.
"""

import dataclasses
from typing import Literal

from seal_jax.settings.checks import Checked, SettingsError, require
from seal_jax.settings.continual import Continual
from seal_jax.settings.directives import DirectiveSettings
from seal_jax.settings.few_shot import FewShot
from seal_jax.settings.learning import (
    ALL_PROJECTIONS,
    ATTENTION,
    Corpus,
    Devices,
    Inner,
    Lora,
    Model,
    Recipe,
    Sft,
)
from seal_jax.settings.metrics import Metrics
from seal_jax.settings.outcomes import Evaluation, Grading, Restem, Reward, Teacher, Tuning
from seal_jax.settings.texts import Answers, Data, Edits, Prompts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Checked):
    """All settings of a run.

    Attributes:
      task: the task domain: "knowledge" incorporation, or "few_shot" learning on ARC, which uses
        `few_shot` and does not use `data`, `prompts`, `grading`, `corpus` and `teacher`; or
        "module:Class", another package's tasks.base.Task, which is made with these settings
        (docs/extending.md).
      seed: the only source of randomness, in [0, 2**32).
    """

    task: Literal["knowledge", "few_shot"] | str = "knowledge"
    seed: int = 0
    model: Model = Model()
    devices: Devices = Devices()
    data: Data = Data()
    prompts: Prompts = Prompts()
    edits: Edits = Edits()
    directives: DirectiveSettings = DirectiveSettings()
    inner: Inner = Inner()
    answers: Answers = Answers()
    grading: Grading = Grading()
    reward: Reward = Reward()
    restem: Restem = Restem()
    corpus: Corpus = Corpus()
    tuning: Tuning = Tuning()
    teacher: Teacher = Teacher()
    evaluation: Evaluation = Evaluation()
    few_shot: FewShot = FewShot()
    continual: Continual = Continual()
    metrics: Metrics = Metrics()

    def validate(self):
        require(0 <= self.seed < 2**32, "seed must be in [0, 2**32).")
        require(
            self.restem.rule != "top_k" or self.restem.top_k <= self.edits.samples,
            f"restem.top_k ({self.restem.top_k}) exceeds edits.samples ({self.edits.samples}).",
        )
        update = self.restem.update
        require(
            update == "restem" or self.edits.samples >= 2,
            f"restem.update={update!r} compares the self-edits of a context: set edits.samples to "
            "at least 2.",
        )
        require(
            update not in ("rloo", "grpo") or not self.edits.from_run or self.restem.rounds <= 1,
            f"restem.update={update!r} learns from what its own policy wrote, and "
            "edits.from_run is another policy's after round 1: set restem.rounds to 1, or "
            "edits.from_run to ''.",
        )
        require(
            not self.reward.retention or self.restem.contexts_per_round >= 2,
            "reward.retention asks about other contexts of a round: set "
            "restem.contexts_per_round to at least 2.",
        )
        require(
            self.reward.kind != "rubric" or self.grading.kind != "local",
            "the reward 'rubric' needs a judge: set grading.kind to 'policy', 'model' or "
            "'endpoint'.",
        )
        require(
            "teacher" not in self.evaluation.arms
            or bool(self.teacher.file or self.teacher.endpoint.base_url),
            "the arm 'teacher' needs teacher.file or teacher.endpoint.base_url.",
        )
        require(
            not self.tuning.epochs or self.task != "knowledge" or self.data.eval_part == "test",
            "tuning uses the development half of the evaluation file's articles, so "
            "data.eval_part must be 'test'.",
        )
        require(
            not self.edits.directives or self.evaluation.form == "single",
            "edits.directives are those of one context: set evaluation.form to 'single'.",
        )
        require(
            not self.edits.directives or self.evaluation.equal == "none",
            "edits.directives say how many epochs there are: set evaluation.equal to 'none'.",
        )
        require(
            not self.data.edits or self.prompts.edit_format != "none",
            "data.edits has texts to learn: set prompts.edit_format to one that reads them.",
        )

    @property
    def max_epochs(self) -> int:
        """The most epochs of an inner loop of this run: its program is made for so many."""
        return max(self.inner.epochs, *self.tuning.epochs, 1)
