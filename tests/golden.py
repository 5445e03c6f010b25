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
    return dict(flat(renamed(results), "results")) | of_ledger(segments)


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
RENAMED: dict[str, str] = {}


def renamed(value):
    """Results under today's names."""
    if isinstance(value, dict):
        return {RENAMED.get(key, key): renamed(item) for key, item in value.items()}
    return [renamed(item) for item in value] if isinstance(value, list) else value


def of_ledger(segments: list[dict]) -> dict:
    """Self-edits, trials, answers, selections and policies by stage, whatever record holds them."""
    found: dict = {}
    for segment in segments:
        found |= dict(flat(segment["record"], f"{segment['kind']}/{segment['key']}"))
    return found


def differences(old: dict, new: dict) -> list[str]:
    """A line for each value that only one has, or that differs by more than rounding."""
    lines = []
    for path in sorted(old.keys() | new.keys()):
        if path not in new or path not in old:
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
