"""What an examination found: rows and a verdict as text, and a table for docs/performance.md."""

from typing import Any

from seal_jax.doctor import rows

Record = dict[str, Any]


def verdict(found: dict[str, Record]) -> Record:
    """A word for what was found, and what to know."""
    by = {
        status: [name for name, row in found.items() if row["status"] == status]
        for status in ("ok", "wrong", "failed", "skipped", "not reached")
    }
    compared = [name for name in by["ok"] if name.startswith("parity")]
    if by["wrong"]:
        word = "WRONG RESULTS: do not train on this machine"
    elif not compared:
        word = "no verdict: nothing was compared with the CPU"
    elif by["failed"]:
        word = "works, but for what failed"
    else:
        word = "works" + " as far as it was examined" * bool(by["not reached"])
    lines = [f"{len(compared)} comparisons with the CPU hold"]
    lines += [f"{name}: {found[name]['reason']}" for name in by["wrong"] + by["failed"]]
    if by["not reached"]:
        lines.append(
            f"{len(by['not reached'])} rows were not reached: the same command goes on with them"
        )
    return {"word": word, "lines": lines}


def is_wrong(found: Record) -> bool:
    """Whether a row's results are not what they should be."""
    return any(row["status"] == "wrong" for row in found["rows"].values())


def text(found: Record) -> str:
    """The verdict."""
    said = found["verdict"]
    return "\n".join([f"verdict: {said['word']}", *(f"  {line}" for line in said["lines"])])


def line(name: str, row: Record) -> str:
    """A row as it is printed."""
    result, plan, note = _cells(row)
    return f"{name:<32} " + "; ".join(filter(None, (result, plan and f"plan {plan}", note)))


def markdown(found: Record) -> str:
    """The table of docs/performance.md, with the machine and versions above it."""
    machine = found["rows"]["machine"]
    packages = ", ".join(f"{name} {of}" for name, of in machine.get("packages", {}).items())
    lines = [
        f"{machine.get('result', 'unknown')}; Python {machine.get('python')}, {packages}. "
        f"Verdict: {found['verdict']['word']}.",
        "",
        "| what | found | plan of the same programs (share of measured) | |",
        "|---|---|---|---|",
    ]
    names = [row.name for row in rows.rows(tiny=found["tiny"])]  # JSON has them by the alphabet
    lines += [
        f"| {name} | {' | '.join(cell.replace('|', '/') for cell in _cells(found['rows'][name]))} |"
        for name in names
        if name in found["rows"]
    ]
    return "\n".join(lines)


def _cells(row: Record) -> tuple[str, str, str]:
    """Result, plan and note."""
    marks = {"wrong": "WRONG: ", "failed": "FAILED: ", "skipped": "skipped: "}
    reason = f"{marks.get(row['status'], '')}{row.get('reason', '')}"
    result = row.get("result", "not measured")
    return result, row.get("plan", ""), "; ".join(filter(None, (reason, row.get("note", ""))))
