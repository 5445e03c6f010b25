"""Directives of self-edits: how far they may go, and which ones they are compared with."""

import dataclasses

from seal_jax.settings.checks import Checked
from seal_jax.tasks.directives import Limits


@dataclasses.dataclass(frozen=True, kw_only=True)
class DirectiveLimits(Checked, Limits):
    """What a self-edit may ask for, as settings."""

    def validate(self):
        self.limits()

    def limits(self) -> Limits:
        """The limits alone; ValueError where they are impossible."""
        return Limits(**{of.name: getattr(self, of.name) for of in dataclasses.fields(Limits)})


@dataclasses.dataclass(frozen=True, kw_only=True)
class DirectiveSettings(DirectiveLimits):
    """What `edits.directives` may ask for, where a self-edit says how it is to be learned.

    Attributes:
      constrained: sample heads that are valid only, and take the M-step's likelihood of them under
        the same constraint; otherwise invalid ones are counted and refused.
      min_learning_rate, max_learning_rate: limits of the learning rate that one may ask for.
      min_epochs, max_epochs: limits of the epochs that one may ask for.
      fixed: heads of which the arm "fixed" takes the one with the best mean reward on the training
        contexts, such as '{"learning_rate": 1e-3, "epochs": 4}'.
      oracle: the head of the arm "oracle".
    """

    constrained: bool = True
    fixed: tuple[str, ...] = ()
    oracle: str = ""
