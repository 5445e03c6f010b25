"""Runs one commit's experiments beside another's, and compares what they recorded.

    python tests/golden.py OLD_COMMIT [--only=NAME,...] [--keep=DIR]

A script, not a test: it checks OLD_COMMIT and HEAD out into worktrees, runs the smoke configs with
each on this machine, and compares `results.json` and the ledgers value for value. Keys that were
renamed since are mapped by `RENAMED` and `of_ledger`; every other difference is printed, and the
exit code is 1. Results of a commit are kept in DIR and not computed again.
"""

import argparse
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
KNOWLEDGE, FEW_SHOT = "configs/knowledge.py", "configs/few_shot.py"
# name -> (command, flags); {of:NAME} is the directory of another run of the same commit.
RUNS = {
    "knowledge": ("train", [f"--config={KNOWLEDGE}:smoke"]),
    "squad": ("train", [f"--config={KNOWLEDGE}:squad-smoke"]),
    "cpt": ("train", [f"--config={KNOWLEDGE}:cpt-smoke"]),
    "few_shot": ("train", [f"--config={FEW_SHOT}:smoke"]),
    "continual": ("continual", ["--config=configs/continual.py:smoke"]),
    "evaluate": ("evaluate", [f"--config={KNOWLEDGE}:smoke", "--policy_from={of:knowledge}"]),
    "evaluate_few_shot": (
        "evaluate",
        [f"--config={FEW_SHOT}:smoke", "--policy_from={of:few_shot}"],
    ),
}


def main() -> int:
    """Runs both commits and compares them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("old", help="the commit to compare with")
    parser.add_argument("--new", default="HEAD")
    parser.add_argument("--only", default=",".join(RUNS))
    parser.add_argument("--keep", default=os.path.join(tempfile.gettempdir(), "seal_jax-golden"))
    given = parser.parse_args()
    names = given.only.split(",")
    old, new = (
        run_all(commit, names, pathlib.Path(given.keep)) for commit in (given.old, given.new)
    )
    different = 0
    for name in names:
        lines = differences(read(old / name), read(new / name))
        print(f"{name}: {len(lines) or 'no'} differences")
        print("".join(f"  {line}\n" for line in lines[:40]), end="")
        different += bool(lines)
    return min(different, 1)


def run_all(commit: str, names: list[str], keep: pathlib.Path) -> pathlib.Path:
    """The directory with the finished runs of a commit."""
    git = ["git", "-C", str(ROOT)]
    digest = subprocess.run(
        [*git, "rev-parse", "--short=12", commit], check=True, capture_output=True, text=True
    ).stdout.strip()
    tree, out = keep / f"tree-{digest}", keep / digest
    if not tree.exists():
        subprocess.run([*git, "worktree", "add", "--detach", str(tree), digest], check=True)
    for name in names:
        folder = out / name
        if (folder / "results.json").exists():
            continue
        command, flags = RUNS[name]
        flags = [flag.replace("{of:", f"{out}/").replace("}", "") for flag in flags]
        print(f"{digest}: {command} {' '.join(flags)}", flush=True)
        subprocess.run(
            [sys.executable, "-m", "seal_jax", command, *flags, f"--workdir={folder}", "--quiet"],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree), "JAX_PLATFORMS": "cpu"},
            check=True,
        )
    return out


def read(folder: pathlib.Path) -> dict:
    """What a run recorded, by path: results and ledger, in a form that both commits have."""
    results = json.loads((folder / "results.json").read_text())
    for name in ("config", "versions", "model"):
        results.pop(name, None)
    segments = [json.loads(path.read_text()) for path in sorted((folder / "ledger").glob("*.json"))]
    results = by_name(renamed(results))
    return dict(flat(results, "results")) | of_ledger(segments)


def by_name(results: dict) -> dict:
    """Results with pairs by their arms and metric, and the tasks of few-shot learning as contexts.

    Pairs were listed in another order once, and a task's outcomes were not grouped by arms.
    """
    pairs: dict = {}
    for pair in results.pop("pairs", ()):
        one, other = (RENAMED.get(name, name) for name in pair.pop("names"))
        if other < one:  # the other way round
            one, other, low_high = other, one, pair.pop("interval")
            turned = low_high and [-x for x in low_high[::-1]]
            pair |= {"difference": -pair["difference"], "interval": turned}
        pairs[f"{one} to {other}: {pair.pop('metric')}"] = pair
    tasks = results.pop("tasks", {})
    if not isinstance(tasks, dict):
        return results | {"pairs": pairs, "tasks": tasks}
    if tasks:
        results["contexts"] = {id: {"arms": of} for id, of in tasks.items()}
        written = results["directives"]
        editors = {name: f"edits {name}" for name in ("base", "policy")}
        results["directives"] = {editors.get(name, name): of for name, of in written.items()}
        if best := results.pop("best_fixed", None):
            results["best_fixed"] = {"fixed": {"head": best.pop("recipe"), **best}}
    return results | {"pairs": pairs}


def flat(value, path: str):
    """(path, value) of all leaves."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else None
    )
    if items is None:
        yield path, value
        return
    for key, item in items:
        yield from flat(item, f"{path}/{key}")


# Old names of keys in results.json, anywhere in it, and what they are called now.
RENAMED: dict[str, str] = {
    "in_context": "base",
    "in_context_policy": "policy",
    "invalid_recipes": "invalid_edits",
    "recipes": "directives",
    "own_gain_of_uncured": "own_gain_of_unmitigated",
    "share_over_uncured": "share_over_unmitigated",
}
# Keys of results.json that only one layout has: what was added, and what is said otherwise now.
ADDED = (
    r"/(metrics|words|label|group|title|invalid_edits|trials|best_fixed|directives)(/|$)"
    r"|^results/(differs_from_paper_split|grader|sha256|matched_minus_mismatched/.*)$"
    r"|/arms/\w+/(contexts|computed_tokens|(n|empty|ungraded)_answers|n_questions"
    r"|empty|questions/\d+|ungraded|unadapted_fallbacks)$"
)
GONE = (
    r"/(other_failures|tasks|trials|invalid_edits|recipes)(/|$)"
    r"|/arms/\w+/(unadapted_fallbacks|trained_tokens)$"
)


def renamed(value):
    """Results under today's names."""
    if isinstance(value, dict):
        return {RENAMED.get(key, key): renamed(item) for key, item in value.items()}
    return [renamed(item) for item in value] if isinstance(value, list) else value


def of_ledger(segments: list[dict]) -> dict:
    """Self-edits, trials, answers, selections and policies by stage, whatever record holds them."""
    marks = {s["key"]: s["record"]["marks"] for s in segments if s["kind"] == "marks"}
    found: dict = {}
    for segment in segments:
        kind, key, record = segment["kind"], segment["key"], segment["record"]
        record = {name: of for name, of in record.items() if name not in ("stage", "content")}
        if kind == "memory" or kind == "marks":
            continue
        if kind in ("batch", "trials"):
            of = iter(marks.get(f"trials {key}", ()))
            for trial in record["trials"]:
                where = f"trial {key.split('/')[0]}/{trial['context']}/{trial['index']}"
                where += f"/{trial['replicate']}"
                if kind == "trials" and trial["reason"] is None:
                    trial |= _likelihoods(next(of), trial)
                found |= dict(flat(_trial(trial), where))
        elif kind in ("unadapted", "answers"):
            of = iter(marks.get(f"answers {key}", ()))
            if kind == "answers":
                record = {one["context"]: _likelihoods(next(of), one) for one in record["of"]}
            for id, said in record.items():
                said = said if kind == "answers" else {"answers": said}
                found |= dict(flat(_trial(said), f"unadapted {key.split('/')[0]}/{id}"))
        else:
            if kind in ("retest", "learned"):
                record = _continual(record)
            found |= dict(flat(record, f"{kind} {key}"))
    return found


def _continual(record: dict) -> dict:
    """What a step of the continual experiment learned, or what was asked after it."""
    if "updates" in record:
        updates = [{k: v for k, v in of.items() if k != "head"} for of in record["updates"]]
        return record | {"updates": updates}
    rows = record["rows"]
    if rows and rows[0] and isinstance(rows[0][0], dict):
        rows = [[of["answers"] for of in row] for row in rows]
    return record | {"rows": rows}


def _likelihoods(mark: dict, said: dict) -> dict:
    """A mark with the gold answers' likelihoods."""
    known = said["gold_log_likelihoods"]
    return mark | {
        "answers": [a | {"gold_log_likelihood": known[a["question"]]} for a in mark["answers"]]
    }


def _trial(record: dict) -> dict:
    """What a trial measured, of either layout."""
    of = record.get("answers")
    if isinstance(of, dict):  # of few-shot learning, unadapted, before
        record, of = of, None
    kept = {name: record[name] for name in ("steps", "first_loss", "last_loss") if name in record}
    if of is None or "solved" in record or (of and "solved" in of[0]):
        answers = of or [
            {"solved": solved, "gold_log_likelihood": belief, "attempts": attempts}
            for solved, belief, attempts in zip(
                record.get("solved_tests", ()),
                record.get("gold_log_likelihoods", ()),
                record.get("attempts", ()),
                strict=True,
            )
        ]
        names = ("solved", "gold_log_likelihood", "attempts")
    else:
        answers, names = of, ("question", "text", "correct", "empty", "gold_log_likelihood")
    return kept | {"answers": [{name: a.get(name) for name in names} for a in answers]}


def differences(old: dict, new: dict) -> list[str]:
    """A line for each value that only one has, or that differs by more than rounding."""
    lines = []
    for path in sorted(old.keys() | new.keys()):
        if path not in new or path not in old:
            if re.search(ADDED if path in new else GONE, path):
                continue
            lines.append(f"{path}: only in the {'old' if path in old else 'new'} one")
        elif not same(old[path], new[path]):
            lines.append(f"{path}: {old[path]!r} and {new[path]!r}")
    return lines


def same(one, other) -> bool:
    """Equal, or floats within a rounding of a mean."""
    if isinstance(one, float) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return one == other


if __name__ == "__main__":
    sys.exit(main())
