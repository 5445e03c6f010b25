"""A plan as text."""

from typing import Any

from seal_jax.planning.machines import GIB

Record = dict[str, Any]


def text(plan: Record) -> str:
    """The plan for the person who is to pay."""
    limit = plan["device_memory_bytes"]
    per_chip = "device" if plan["devices"] != plan["chips"] else "chip"
    lines = [
        f"{plan['model']} on {plan['machine']}: {plan['chips']} chips, model axis "
        f"{plan['model_axis']}, {limit / GIB:.1f} GiB a {per_chip}",
        "",
        f"{'program':<17}{'GiB':>7}{'of HBM':>8}{'TFLOPs':>10}{'seconds':>10}{'calls':>7}"
        "  a call is",
    ]
    for program in plan["programs"]:
        size = program["memory_bytes"]
        share = "-" if size is None else f"{size / limit:.0%}"
        mark = "" if program["fits"] else "  DOES NOT FIT"
        lines.append(
            f"{program['name']:<17}{_number(size, GIB, 1):>7}{share:>8}"
            f"{_number(program['flops'], 1e12, 2):>10}{_number(program['seconds'], 1, 3):>10}"
            f"{program['calls'] or '-':>7}  {program['detail']}{mark}"
        )
    found = plan["round"]
    lines.append("")
    if found["seconds"] is not None:
        lines.append(
            f"a round: {_duration(found['seconds'])}, {found['chip_hours']:.2f} chip-hours"
        )
    if plan["smallest_machine"]:
        lines.append(f"smallest machine of the kind that does: {plan['smallest_machine']}")
    lines += [f"note: {note}" for note in plan["notes"]]
    return "\n".join(lines)


def largest(plan: Record) -> str:
    """The largest number of candidates; "" where it was not looked for."""
    if "largest_candidates" not in plan:
        return ""
    return f"largest inner.candidates that fits: {plan['largest_candidates'] or 'none'}"


def _number(value: float | None, unit: float, digits: int) -> str:
    return "-" if value is None else f"{value / unit:.{digits}f}"


def _duration(seconds: float) -> str:
    """
    >>> _duration(90), _duration(7200)
    ('90 s', '2.0 h')
    """
    if seconds < 300:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
