"""Where the figures of a running job go."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metrics:
    """Charts of a running job; metrics.jsonl in its directory is always written.

    A quantity of rounds has one name, with the round as the step; those of arms follow at the end.

    A run may go on with other values of these settings.

    Attributes:
      tensorboard: also write event files for TensorBoard, to tensorboard/ in its directory.
      wandb: also log to this project of Weights & Biases; "" does not.
    """

    tensorboard: bool = False
    wandb: str = ""
