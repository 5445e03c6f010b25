"""What a stage of a run is: data that its records carry, and the name that people and draws see."""

import dataclasses
from typing import Any, Literal

Kind = Literal[
    "round",
    "edits",
    "arm",
    "unadapted",
    "written",
    "tuning",
    "best_fixed",
    "curate",
    "continual",
    "lines",
]

Line = Literal["", "random", "longest"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of a run.

    Attributes:
      kind: "round", an E-step and its M-step; "edits", an editor's self-edits for arms; "arm", its
        inner loops; "unadapted", what a learner answers as it is; "written", what else the base
        model writes for a source; "tuning", an arm under one recipe; "best_fixed", the choice among
        fixed lessons; "curate"; "continual", one mitigation's updates; "lines",
        self-edits without some of theirs.
      split: whose contexts: "eval", or "dev" for those that settings are tuned on.
      round: number of a round, from 1.
      line: the control that a round belongs to; "" is SEAL's own.
      what: the arm, editor, learner or text.
    """

    kind: Kind
    split: str = ""
    round: int = 0
    line: Line = ""
    what: str = ""

    @property
    def name(self) -> str:
        """Names its units in the ledger and, if nothing else does, its draws."""
        words = {
            "round": f"{self.line} round {self.round}",
            "edits": f"{self.split} edits {self.what}",
            "tuning": f"tune {self.what}",
            "best_fixed": "fixed recipes",
            "curate": "curate",
            "continual": f"continual {self.what}",
            "lines": f"lines: {self.what}",
        }
        return words.get(self.kind, f"{self.split} {self.what}").strip()

    def __str__(self) -> str:
        return self.name

    def record(self) -> dict[str, Any]:
        """What identifies it, for records; fields that say nothing are left out."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value}


def of_record(record: dict[str, Any]) -> Stage | None:
    """The stage that a record of the ledger is of; None for records without one."""
    return Stage(**record["stage"]) if "stage" in record else None
