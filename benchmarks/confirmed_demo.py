"""The demo's confirming runs: the primary difference, and the secondary ones by Holm.

    python -m benchmarks.confirmed_demo --runs=docs/runs/demo

reads the finished runs confirm-S, confirm-passage-S and confirm-cool-S of
docs/preregistrations/demo.md, which says what is tested at which level.
"""

import json
import pathlib
import re
from typing import Any

from absl import app, flags

from seal_jax.stats import intervals
from seal_jax.tasks import knowledge

RUNS = flags.DEFINE_string("runs", "docs/runs/demo", "Directory of the runs.")
SEEDS = (0, 1, 2)
LEVEL = 0.975  # one of two looks
WORDS = 5
DATA = pathlib.Path(knowledge.__file__).parent / "data"
RL, BASE = ("confirm", "edit_after_base"), ("confirm", "edit_before")
PRIMARY = ("RL's self-edits - the base's", RL, BASE, "gold_log_likelihood")
SECONDARY = (
    ("RL's self-edits - the base's", RL, BASE, "accuracy"),
    ("… - random selection's", RL, ("confirm", "edit_random_base"), "gold_log_likelihood"),
    (
        "… - the base's at temperature 0.3",
        RL,
        ("confirm-cool", "edit_before"),
        "gold_log_likelihood",
    ),
    ("… - the passage repeated, tuned", RL, ("confirm-passage", "passage"), "gold_log_likelihood"),
    ("… - the passage repeated, same dose", RL, ("confirm", "passage"), "gold_log_likelihood"),
    ("… - the passage read", RL, ("confirm", "prompt"), "gold_log_likelihood"),
)


def main(_) -> None:
    label, difference, low, high, detectable = _tested(PRIMARY, LEVEL)
    print(f"primary, {LEVEL:.1%} interval over seeds and passages:")
    print(
        f"  {label}, gold log-likelihood: {difference:+.2f} [{low:+.2f}, {high:+.2f}]; a true "
        f"difference of {detectable:.2f} is found in 4 of 5 such runs"
    )
    print("secondary; p, and Holm's for their number:")
    found = sorted((_p_value(test), test) for test in SECONDARY)
    corrected = 0.0
    for place, (p, test) in enumerate(found):
        corrected = max(corrected, min(1.0, (len(found) - place) * p))
        label, difference, low, high, detectable = _tested(test, LEVEL)
        verdict = "resolved" if corrected < 1 - LEVEL else "not resolved"
        print(
            f"  {label}, {test[3]}: {difference:+.3f} [{low:+.3f}, {high:+.3f}] alone, "
            f"detectable {detectable:.3f}; p = {p:.4f}, Holm {corrected:.4f}: {verdict}"
        )

    print(f"of a self-edit's sequences of {WORDS} words, those that stand in its passage:")
    for editor in ("base", "random", "policy"):
        shares = [f"{_copied(seed, editor):.0%}" for seed in SEEDS]
        print(f"  {editor}, seeds {', '.join(map(str, SEEDS))}: {', '.join(shares)}")


def _copied(seed: int, editor: str) -> float:
    """The mean share over an editor's self-edits of the evaluation."""
    data = json.loads((DATA / "demo_confirm.json").read_text())["data"]
    passages = {of["title"]: of["paragraphs"][0]["context"] for of in data}
    titles = {id: of["title"] for id, of in _contexts("confirm", seed).items()}
    shares = []
    for path in sorted(pathlib.Path(RUNS.value, f"confirm-{seed}", "ledger").glob("*-edits.json")):
        unit = json.loads(path.read_text())
        if unit["key"].startswith(f"eval edits {editor}/"):
            for edit in unit["record"]["edits"]:
                own = _sequences(edit["text"])
                there = set(_sequences(passages[titles[edit["context"]]]))
                shares.append(sum(one in there for one in own) / max(1, len(own)))
    return sum(shares) / len(shares)


def _sequences(text: str) -> list[tuple[str, ...]]:
    words = re.findall(r"[a-z0-9']+", text.lower())
    return [tuple(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1)]


def _tested(test, level: float) -> tuple[str, float, float, float, float]:
    """A difference, its interval at the level, and the least true one that is mostly found."""
    label, second, first, metric = test
    groups = [of["group"] for of in _contexts("confirm", SEEDS[0]).values()]
    values = (_values(second, metric), _values(first, metric))
    family = intervals.paired_bootstraps([values], groups, seed=0, level=level)
    (single,), (detectable,) = family.single, family.detectable
    return label, single.value, *single.ends, detectable


def _p_value(test) -> float:
    """The level's complement at which the interval just reaches 0, by bisection."""
    low, high = 0.0, 1.0  # of levels: at the lower one 0 is outside
    for _ in range(16):
        level = (low + high) / 2
        _, _, below, above, _ = _tested(test, level)
        low, high = (low, level) if below <= 0 <= above else (level, high)
    return 1 - low


def _values(side: tuple[str, str], metric: str) -> list[list[list[float | None]]]:
    """For each seed and context, a value for each question."""
    run, arm = side
    ids = list(_contexts("confirm", SEEDS[0]))
    return [[_contexts(run, seed)[id]["arms"][arm][metric] for id in ids] for seed in SEEDS]


def _contexts(run: str, seed: int) -> dict[str, Any]:
    path = pathlib.Path(RUNS.value, f"{run}-{seed}", "results.json")
    return json.loads(path.read_text())["contexts"]


if __name__ == "__main__":
    app.run(main)
