"""What every row of the benchmark is given."""

import dataclasses

from benchmarks.report import Report
from seal_jax.doctor.models import Spec
from seal_jax.doctor.problems import Problems
from seal_jax.doctor.worker import Worker

NO_TORCH = "PyTorch and PEFT are not installed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """One run of the benchmark.

    Attributes:
      spec, problems: the model and the work.
      ours: our worker; peft: that of PyTorch and PEFT, None where they are not installed.
      facts: what ours.facts returned.
      report: where results go.
      repeats: measurements of each contestant.
      candidates: numbers of candidates that our inner update is measured with.
      tiny: results are checked, and times mean nothing.
    """

    spec: Spec
    problems: Problems
    ours: Worker
    peft: Worker | None
    facts: dict
    report: Report
    repeats: int
    candidates: tuple[int, ...]
    tiny: bool

    @property
    def size(self) -> int:
        """Candidates of the group that all contestants train."""
        return 8 if 8 in self.candidates else max(self.candidates)

    @property
    def on_cpu(self) -> bool:
        return self.facts["platform"] == "cpu"

    def target(self, value: float) -> float | None:
        """A target that was set for SmolLM2 on CPU."""
        small = self.spec.model == "smollm2-135m" and self.spec.dtype == "float32"
        return value if small and self.on_cpu else None
