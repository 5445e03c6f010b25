"""Directives of self-edits: how far they may go, and which ones they are compared with."""

import dataclasses

from seal_jax.tasks.directives import Limits


@dataclasses.dataclass(frozen=True, kw_only=True)
class DirectiveSettings:
    """What `edits.directives` may ask for, where a self-edit says how it is to be learned.

    Attributes:
      constrained: sample heads that are valid only, and take the M-step's likelihood of them under
        the same constraint; otherwise invalid ones are counted and refused.
      min_learning_rate, max_learning_rate, min_epochs, max_epochs: limits.
      fixed: heads of which the arm "fixed" takes the one with the best mean reward on the training
        contexts, such as '{"learning_rate": 1e-3, "epochs": 4}'.
      oracle: the head of the arm "oracle".
    """

    constrained: bool = True
    min_learning_rate: float = 1e-5
    max_learning_rate: float = 1e-2
    min_epochs: int = 1
    max_epochs: int = 10
    fixed: tuple[str, ...] = ()
    oracle: str = ""

    def __post_init__(self):
        self.limits()

    def limits(self) -> Limits:
        """The limits; ValueError where they are impossible."""
        return Limits(
            min_learning_rate=self.min_learning_rate,
            max_learning_rate=self.max_learning_rate,
            min_epochs=self.min_epochs,
            max_epochs=self.max_epochs,
        )
