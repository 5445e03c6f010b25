"""Continual self-edits: sequences of passages, mitigations for forgetting, bounds."""

import dataclasses
from typing import Literal

from seal_jax.settings.checks import require

MITIGATIONS = (
    "none",
    "kl",
    "distill",
    "replay",
    "rehearsal",
    "null_space",
    "average",
    "low_rank",
    "norm_cap",
)
BOUNDS = ("joint", "separate")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Continual:
    """One passage after another: self-edit, update, merge, and all passages so far asked again.

    A self-edit's recipe is `inner`'s; `edits.samples`, `reward`, `restem`, `evaluation.contexts`
    and evaluation.arms are not used. A mitigation's own settings are used where it is on.

    Attributes:
      sequences: independent sequences of passages; inner.candidates of them are trained together.
      passages: length of a sequence; they are drawn from the evaluation split by the seed.
      writer: who writes the self-edits: the "current" model, with all earlier updates (as in SEAL),
        or the one at the "start".
      answers: also decode and grade answers; otherwise gold log-likelihoods alone are measured.
      mitigations: what is run, side by side on the same sequences; "none" is SEAL's. Several at
        once are joined by "+", as in "kl+average":
        "kl": a penalty on KL(before || after) of the next token along the prompt that asked for
        the self-edit;
        "distill": the same penalty along texts that the model writes before the update without
        being asked for anything;
        "replay": training sequences of earlier self-edits are learned again with each new one (it
        keeps old data);
        "rehearsal": texts on subjects of the model's own are learned with each self-edit;
        "null_space": the update reads nothing from the input directions that earlier ones use;
        "average": the merged weights are those before plus a share of the update;
        "low_rank": the update is merged as its best approximation of a low rank;
        "norm_cap": each kernel's update is merged with a limited norm.
      kl_weight: what the penalty of "kl" and "distill" is multiplied by.
      kl_tokens: tokens of the prompt, from its beginning, that "kl" looks at.
      replay_sequences: sequences that "replay" learns again with each self-edit.
      rehearsal_texts: how many texts the model writes for "distill" and for "rehearsal".
      rehearsal_tokens: length of each of these texts.
      null_space_energy: how much of earlier inputs' squared norm lies in the directions that
        "null_space" leaves alone, as a share.
      average_weight: share of the update that "average" adds.
      merge_rank: rank of the approximation of "low_rank".
      norm_cap: the most that "norm_cap" merges, as a share of the kernel's own norm.
      bounds: for comparison: "joint" trains one delta on the self-edits of all passages together,
        "separate" keeps one delta a passage, which answers for that passage alone.
      unrelated: passages of the training split whose loss shows what else is lost.
      unrelated_tokens: tokens of each of these passages, from its beginning.
    """

    sequences: int = 64
    passages: int = 8
    writer: Literal["current", "start"] = "current"
    answers: bool = True
    mitigations: tuple[str, ...] = ("none",)
    kl_weight: float = 1.0
    kl_tokens: int = 128
    replay_sequences: int = 4
    rehearsal_texts: int = 4
    rehearsal_tokens: int = 48
    null_space_energy: float = 0.9
    average_weight: float = 0.5
    merge_rank: int = 8
    norm_cap: float = 0.02
    bounds: tuple[str, ...] = BOUNDS
    unrelated: int = 32
    unrelated_tokens: int = 64

    def __post_init__(self):
        require(self.passages >= 2, "passages must be at least 2: nothing is forgotten with one.")
        for entry in self.mitigations:
            unknown = set(entry.split("+")) - set(MITIGATIONS)
            require(
                not unknown,
                f"mitigations must be of {', '.join(MITIGATIONS)}, or several joined by '+', "
                f"not {entry!r}.",
            )
        require(
            bool(self.mitigations),
            "mitigations needs at least one entry; 'none' is SEAL's own update.",
        )
        require(
            len(set(self.mitigations)) == len(self.mitigations),
            "mitigations names one entry twice.",
        )
        require(set(self.bounds) <= set(BOUNDS), f"bounds must be of {', '.join(BOUNDS)}.")
        require(
            self.kl_weight > 0, "kl_weight must be above 0: leave 'kl' out of mitigations instead."
        )
        require(self.norm_cap > 0, "norm_cap must be above 0.")
        for name in ("null_space_energy", "average_weight"):
            require(0 < getattr(self, name) <= 1, f"{name} must be in (0, 1].")
        counts = ("sequences", "replay_sequences", "rehearsal_texts", "merge_rank", "unrelated")
        for name in (*counts, "kl_tokens", "rehearsal_tokens", "unrelated_tokens"):
            least = 1 if name in counts else 2  # of one token nothing is predicted
            require(getattr(self, name) >= least, f"{name} must be at least {least}.")
