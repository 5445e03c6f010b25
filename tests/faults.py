"""Runs the tests of mended faults on the code as it was before, and prints which fail there.

    python tests/faults.py OLD_COMMIT

A script, not a test: every test marked `fault(row)` has to pass on this checkout and to fail on
OLD_COMMIT, whose package is checked out into a worktree beside today's tests. A test that passes
on both is a control (marked `fault(row, control=True)`) or shows nothing.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LONGEST_S = 300  # a test that says nothing for so long hangs, and has failed
MEMORY_BYTES = 12 << 30
PLUGIN = """
import json, os, resource
import pytest

resource.setrlimit(resource.RLIMIT_DATA, (int(os.environ["FAULTS_MEMORY"]),) * 2)

def write(row):
    with open(os.environ["FAULTS"], "a") as file:
        file.write(json.dumps(row) + "\\n")

def pytest_collection_modifyitems(config, items):
    with open(os.environ["FAULTS"]) as file:
        known = {json.loads(line)["test"] for line in file}
    kept = [i for i in items if i.get_closest_marker("fault") and i.nodeid not in known]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept

def row(item, outcome):
    marks = list(item.iter_markers("fault"))
    return {
        "rows": [str(mark.args[0]) for mark in marks],
        "control": any(mark.kwargs.get("control") for mark in marks),
        "test": item.nodeid,
        "outcome": outcome,
    }

def pytest_runtest_setup(item):
    write(row(item, "failed"))  # what holds if it never ends

@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call" or report.outcome != "passed":
        write(row(item, report.outcome))
"""


def main() -> int:
    """Runs the marked tests on both commits; 1 where one of them does not tell them apart."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("old", help="the commit before the mends")
    parser.add_argument("tests", nargs="*", help="files of tests; all by default")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        (folder / "plugin").mkdir()
        (folder / "plugin" / "marked_faults.py").write_text(PLUGIN)
        tree = folder / "old"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", str(tree), given.old], check=True)
        try:
            for name in ("tests", "pyproject.toml"):
                target = tree / name
                shutil.rmtree(target) if target.is_dir() else target.unlink()
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
                copy(ROOT / name, target)
            before = outcomes(tree, folder, given.tests)
            now = outcomes(ROOT, folder, given.tests)
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)
    return show(before, now)


def outcomes(tree: pathlib.Path, folder: pathlib.Path, tests: list[str]) -> dict[str, dict]:
    """What each marked test did with the package of one checkout.

    A module that cannot be imported on the old commit has no test there that passes, and a test
    that hangs there is killed; the others go on.
    """
    found = folder / f"{tree.name}.jsonl"
    found.touch()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "marked_faults", "--no-header"]
    command += [
        "--tb=no",
        "--continue-on-collection-errors",
        "-n",
        "0",
        "-m",
        "fault and not long",
        *tests,
    ]
    while True:
        known = found.stat().st_size
        process = subprocess.Popen(
            command,
            cwd=tree,
            env={
                **os.environ,
                "PYTHONPATH": f"{tree}{os.pathsep}{folder / 'plugin'}",
                "FAULTS": str(found),
                "FAULTS_MEMORY": str(MEMORY_BYTES),
            },
            start_new_session=True,  # so that its children end with it
        )
        if _ends(process, found) or found.stat().st_size == known:
            break
    rows = map(json.loads, found.read_text().splitlines())
    return {row["test"]: row for row in rows}


def _ends(process: subprocess.Popen, found: pathlib.Path) -> bool:
    """Whether the tests came to their end: False where one had to be killed."""
    started = time.time()
    while process.poll() is None:
        time.sleep(1)
        silent = time.time() - found.stat().st_mtime
        if silent > LONGEST_S and found.stat().st_mtime > started:  # not while it collects
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return False
    return process.returncode >= 0  # a test that brought the process down is known by now


def show(before: dict[str, dict], now: dict[str, dict]) -> int:
    """Prints a line a row of the faults' table, and the tests that say nothing."""
    silent = 0
    by_row: dict[str, list[str]] = {}
    for test, row in sorted(now.items()):
        old = before.get(test, {"outcome": "failed"})["outcome"]
        kind = "control" if row["control"] else f"{old} before, {row['outcome']} now"
        for name in row["rows"]:
            by_row.setdefault(name, []).append(kind)
        told = row["control"] or "skipped" in (old, row["outcome"]) or old == "failed"
        if row["outcome"] == "failed" or not told:
            silent += 1
            print(f"  {test}: {old} before, {row['outcome']} now")
    for name in sorted(by_row, key=lambda row: (row[0] == "S", int(row.lstrip("S")))):
        kinds = by_row[name]
        print(f"row {name}: " + ", ".join(f"{kinds.count(k)} {k}" for k in sorted(set(kinds))))
    return min(silent, 1)


if __name__ == "__main__":
    sys.exit(main())
