"""What the operations are told: frozen, hashable values without arrays, which import no jax.

The modules that do what they say offer them as their own, such as `restem.SelectionRule`.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np

DECAYS = ("constant", "linear", "cosine")
Remat = Literal["none", "dots", "full"]
Rule = Literal[
    "best_of_m",
    "top_k",
    "threshold",
    "positive_only",
    "weighted",
    "random",
    "longest",
    "all",
]
RULES: tuple[Rule, ...] = get_args(Rule)
Update = Literal["restem", "rloo", "grpo", "dpo"]


@dataclasses.dataclass(frozen=True)
class AdamW:
    """AdamW (Loshchilov and Hutter, 2019) after clipping to a global gradient norm.

    The learning rate is left out, so that it can be an array that differs between candidates.

    Attributes:
      b1: how much of the gradients' running mean is kept at each step.
      b2: how much of the squared gradients' running mean is kept at each step.
      eps: is added to the root of the squared gradients' mean, so that nothing is divided by 0.
      weight_decay: share of the weights that a step takes off, times the learning rate.
      max_grad_norm: gradients are clipped to this norm, over all parameters together.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0

    def __post_init__(self):
        if not (0 <= self.b1 < 1 and 0 <= self.b2 < 1):
            raise ValueError(f"b1 and b2 must be in [0, 1), not {self.b1} and {self.b2}.")
        for name in ("eps", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}.")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be 0 or more, not {self.weight_decay}.")


@dataclasses.dataclass(frozen=True)
class DeltaSpec:
    """Which parameters a delta changes, and how.

    Attributes:
      targets: ordered regular expressions, searched in parameter paths such as
        "layers/attn/q_proj/kernel"; each must match something.
      kind: "low_rank" (kernels of the layers only) or "dense" (any parameter).
      rank, alpha: of a low-rank delta, which is scaled by alpha / rank.
    """

    targets: tuple[str, ...]
    kind: Literal["low_rank", "dense"] = "low_rank"
    rank: int = 32
    alpha: float = 64.0

    def __post_init__(self):
        if self.kind not in ("low_rank", "dense"):
            raise ValueError(f"delta kind must be 'low_rank' or 'dense', not {self.kind!r}.")
        if self.rank < 1:
            raise ValueError(f"delta rank must be at least 1, not {self.rank}.")
        if not 0 < self.alpha < math.inf:
            raise ValueError(
                f"delta alpha must be a finite number above 0, not {self.alpha}: alpha / rank "
                "scales what is learned."
            )
        if not self.targets:
            raise ValueError("delta targets are empty: name at least one, such as 'q_proj'.")

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


@dataclasses.dataclass(frozen=True)
class SampleSettings:
    """How to decode.

    Attributes:
      max_new_tokens: N.
      temperature: 0 is greedy.
      top_p: nucleus mass (Holtzman et al., 2020), over the whole vocabulary, or over the allowed
        tokens where there is an automaton; 1 keeps everything.
      top_k: number of tokens kept before top_p; 0 keeps everything.
      stop_ids: tokens that end a row; they count into its length.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop_ids: tuple[int, ...] = ()

    def __post_init__(self):
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, not {self.max_new_tokens}.")
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature must be 0 (greedy) or more, not {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], not {self.top_p}.")
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 (off) or more, not {self.top_k}.")


@dataclasses.dataclass(frozen=True)
class SelectionRule:
    """Which self-edits the M-step is trained on.

    Attributes:
      name: "best_of_m" keeps the best of each context; "top_k" its k best; "threshold" every one
        whose reward exceeds its context's baseline by more than `threshold`, "positive_only" every
        one that exceeds it at all; "weighted" all, each with its share of the softmax of the
        context's rewards over `temperature`; "random" one of each context, whatever its reward,
        and "longest" the longest, whatever its reward (controls); "all" every one that has a
        reward.
      k: for "top_k".
      threshold: for "threshold", in units of the reward.
      temperature: for "weighted", in units of the reward: one that is better by `temperature`
        weighs e times as much.
    """

    name: Rule = "best_of_m"
    k: int = 1
    threshold: float = 0.0
    temperature: float = 0.1

    def __post_init__(self):
        if self.name not in RULES:
            raise ValueError(
                f"selection rule must be one of {', '.join(RULES)}, not {self.name!r}."
            )
        if self.k < 1:
            raise ValueError(f"selection k must be at least 1, not {self.k}.")
        if not math.isfinite(self.threshold):
            raise ValueError(f"selection threshold must be a finite number, not {self.threshold}.")
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ValueError(
                f"selection temperature must be a finite number above 0, not {self.temperature}."
            )


# (rewards_CxM, baselines_C, lengths_CxM) -> weights [C, M]: a selection rule as a function. Each is
# an array of its own, float64; see `select` for what they hold. Weights are finite, 0 or more, and
# 0 where the reward is NaN.
Selector = Callable[[np.ndarray, np.ndarray, np.ndarray], Any]


@dataclasses.dataclass(frozen=True)
class PolicyGradient:
    """An M-step by advantages; see `policy_gradient.loss`.

    Attributes:
      update: "rloo", "grpo" or "dpo".
      clip_low, clip_high: a token is learned while its ratio is from 1 - clip_low to 1 + clip_high;
        of "rloo" and "grpo".
      kl: the weight of the KL divergence from the start, in advantages a nat; of "rloo" and "grpo".
      beta: advantages a nat of log-ratio; of "dpo".
    """

    update: Update
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl: float = 0.0
    beta: float = 0.1

    @property
    def rows(self) -> int:
        """The rows of a term of the loss, which one device has to hold together."""
        return 2 if self.update == "dpo" else 1

    @property
    def measured(self) -> tuple[str, ...]:
        """The names of what is measured beside the loss."""
        return ("ratio", "kl", "preferred" if self.update == "dpo" else "clip_fraction")


@dataclasses.dataclass(frozen=True)
class MStepSettings:
    """What is compiled into the M-step.

    Attributes:
      learning_rate, warmup_steps, decay, optimizer: as in `optim`; decay is a name of optim.DECAYS.
      microbatch: rows of one shard that go through the model at once; gradients are summed.
      remat: what the backward pass computes anew; see `decoder.hidden_states`.
      gradient: None maximises the likelihood (ReST-EM).
    """

    learning_rate: float = 3e-4
    warmup_steps: int = 0
    decay: str = "linear"
    optimizer: AdamW = AdamW()
    microbatch: int = 1
    remat: Remat = "none"
    gradient: PolicyGradient | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of a step's metrics."""
        others = self.gradient.measured if self.gradient else ()
        return ("loss", "grad_norm", "learning_rate", *others)
