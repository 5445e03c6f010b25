"""The arms of a run's domain."""

from collections.abc import Mapping

from seal_jax.loop import arm_kinds
from seal_jax.loop.arm_kinds import Kind
from seal_jax.reports.finished_run import METRICS
from seal_jax.reports.html.run_records import RunRecords

# name, scale, digits, unit
FORMS = {
    "accuracy": ("accuracy", 100, 1, " %"),
    "solved": ("solved", 100, 1, " %"),
    "graded": ("graded", 1, 3, ""),
    "gold_log_likelihood": ("gold log-likelihood", 1, 2, " nats"),
    "reward": ("reward", 1, 3, ""),
    "mix": ("mix", 1, 3, ""),
    "length": ("length", 1, 0, " characters"),
    "log_likelihood_gain": ("log-likelihood gain", 1, 2, " nats"),
}


def kinds(run: RunRecords) -> Mapping[str, Kind]:
    """What each arm is: label, learner and source."""
    return arm_kinds.FEW_SHOT if run.few_shot else arm_kinds.KNOWLEDGE


def metrics(run: RunRecords) -> tuple[str, ...]:
    """What arms are measured by."""
    return METRICS["few_shot" if run.few_shot else "knowledge"]


def metric(name: str) -> str:
    """A metric's name for people.

    >>> metric("gold_log_likelihood")
    'gold log-likelihood'
    """
    own = name.rpartition(":")[2]  # of another package's reward
    return FORMS.get(name, (own.replace("_", " "),))[0]


def number(name: str, value: float | None, *, sign: bool = False, unit: bool = False) -> str:
    """A value of a metric, in per cent where it is a share; a dash for None.

    >>> number("accuracy", 0.256, unit=True), number("reward", -1, sign=True), number("x", None)
    ('25.6 %', '−1.000', '–')
    """
    if value is None:
        return "–"
    _, scale, digits, of = FORMS.get(name, ("", 1, 3, ""))
    value = round(scale * value, digits) + 0.0  # no minus before a zero
    shown = f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")
    return shown + (of if unit else "")


def range_of(name: str, low: float | None, high: float | None, *, sign: bool = False) -> str:
    """An interval in brackets; "" for none.

    >>> range_of("accuracy", 0.1, 0.25)
    '[10.0, 25.0]'
    """
    if low is None or high is None:
        return ""
    return f"[{number(name, low, sign=sign)}, {number(name, high, sign=sign)}]"
