"""The page's first section: what the run was."""

from typing import Any

from seal_jax.reports.finished_run import GRIDS
from seal_jax.reports.html.markup import Html, details, section, table, tag
from seal_jax.reports.html.run_records import RunRecords
from seal_jax.runs import run_dir

Record = dict[str, Any]

_HIGHLIGHTS = (
    "task",
    "model.path",
    "model.adapter",
    "model.dtype",
    "prompts.edit_format",
    "edits.samples",
    "edits.temperature",
    "restem.rounds",
    "restem.contexts_per_round",
    "restem.rule",
    "reward.kind",
    "few_shot.reward",
    "reward.replicates",
    "inner.lora.rank",
    "inner.learning_rate",
    "inner.epochs",
    "continual.sequences",
    "continual.passages",
    "continual.writer",
    "continual.cures",
    "continual.bounds",
    "evaluation.contexts",
    "evaluation.edits",
    "data.train_path",
    "data.eval_path",
    "policy_from",
    "seed",
)
# Settings that are of one kind of run, and say nothing of another.
_ONLY_FEW_SHOT = ("few_shot.",)
_ONLY_CONTINUAL = ("continual.",)
_ONLY_ROUNDS = ("restem.", "reward.", "evaluation.", "edits.samples")
_ONLY_KNOWLEDGE = ("prompts.", "data.", "reward.kind", "restem.contexts", "evaluation.contexts")


def head(run: RunRecords) -> Html:
    """What the run was: settings that matter, model, versions."""
    others = _ONLY_KNOWLEDGE if run.few_shot else _ONLY_FEW_SHOT
    others += _ONLY_ROUNDS if run.continual else _ONLY_CONTINUAL
    shown = {
        key: run.setting(key)
        for key in _HIGHLIGHTS
        if run.setting(key) not in (None, "") and not key.startswith(others)
    }
    if run.few_shot:
        shown |= {
            f"few_shot.{split}_tasks": len(run.setting(f"few_shot.{split}_tasks") or []) or "all"
            for split in ("train", "eval")
        }
    facts: Record = {}
    if run.finished:
        grader = GRIDS if run.few_shot else run.results.get("grader")
        facts = {"model": run.results.get("model"), "grader": grader}
        facts |= run.results.get("versions", {})
    blocks = [_facts(shown)]
    if facts:
        blocks.append(details("Model, grader and versions", _facts(facts)))
    flat = [(key, tag("code", _value(value))) for key, value in run_dir.flatten(run.config)]
    blocks.append(
        details("Every setting", table("The resolved config", ["setting", "value"], flat, left=2))
    )
    left_out = run.results.get("left_out", {})
    rows = [
        (split, reason, count)
        for split, of in left_out.items()
        for reason, count in (of if isinstance(of, dict) else {}).items()
    ]
    if rows:
        last = "why" if run.few_shot else "number"
        what = "task" if run.few_shot else "why"
        blocks.append(
            details(
                "What was left out",
                table("Left out", ["split", what, last], rows, left=3 if run.few_shot else 2),
            )
        )
    return section("about", "The run", *blocks)


def _facts(shown: Record) -> Html:
    return tag(
        "dl",
        *(tag("div", tag("dt", key), tag("dd", _value(value))) for key, value in shown.items()),
        class_="facts",
    )


def _value(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value
