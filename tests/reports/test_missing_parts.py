"""Reports of runs in which figures are missing: what there is, is shown, and nothing fails."""

import copy
import json
import shutil

import numpy as np
import pytest

from seal_jax import cli
from seal_jax.reports import analyze, run_records
from seal_jax.reports.html import continual
from seal_jax.runs import ledger, results_file
from seal_jax.stats import intervals

from . import made_runs

# Keys whose numbers are missing where nothing was graded, measured or finite.
MISSING = {
    "accuracy", "gold_log_likelihood", "solved", "graded", "correct", "scores", "difference",
    "interval", "mean_unadapted", "rewards", "gold_log_likelihoods", "first_loss", "last_loss",
    "loss", "grad_norm", "before", "after", "matched_minus_mismatched", "trained_tokens",
    "mean_rewards",
}  # fmt: skip


def _without(value, rng, share, within=False):
    """A JSON value of which some of the numbers that may be missing are null."""
    if isinstance(value, dict):
        found = {k: _without(v, rng, share, within or k in MISSING) for k, v in value.items()}
        # An interval is there whole, or not at all.
        if isinstance(value.get("interval"), list) and None in found["interval"]:
            found["interval"] = None
        return found
    if isinstance(value, list):
        return [_without(item, rng, share, within) for item in value]
    missing = within and isinstance(value, int | float) and rng.random() < share
    return None if missing else value


def _thin(folder, rng, share):
    """Takes figures away from the results and from the ledger of a run."""
    results = json.loads((folder / "results.json").read_text())
    results.pop("sha256", None)
    kept = {key: results.pop(key) for key in ("metrics", "config", "versions")}
    results_file.write(folder / "results.json", _without(results, rng, share) | kept)
    with ledger.Ledger(folder / "ledger", read_only=True) as opened:
        segments = opened.segments()
    shutil.rmtree(folder / "ledger")
    with ledger.Ledger(folder / "ledger") as opened:
        for segment in segments:
            opened.append(segment.kind, segment.key, _without(segment.record, rng, share))


@pytest.mark.fault("18", control=True)
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("make", [made_runs.knowledge, made_runs.few_shot])
def test_whatever_is_missing_reports_show_the_rest(make, share, tmp_path, capsys):
    whole = make(tmp_path / "whole")
    if "config" not in (found := json.loads((whole / "results.json").read_text())):
        found |= {"config": {}, "versions": {}}
        results_file.write(whole / "results.json", found)
    for seed in range(2):
        rng = np.random.default_rng([seed, int(10 * share)])
        one, two = tmp_path / f"one{seed}", tmp_path / f"two{seed}"
        for folder in (one, two):
            shutil.copytree(whole, folder)
            _thin(folder, rng, share)
        for command in (
            ["report", f"--workdir={one}"],
            ["compare", str(one), str(two), "--draws=20"],
        ):
            assert cli.main(command) == 0, capsys.readouterr().err
        page = (one / "report.html").read_text()
        assert "nan" not in page.lower().split("explorer", 1)[0].replace("finance", "")
        code = cli.main(["analyze", str(one), "--draws=20"])
        assert code == 0 or "no self-edit has been tried yet" in capsys.readouterr().err


@pytest.mark.fault("18", control=True)
def test_a_continual_experiment_in_which_nothing_was_graded(tmp_path):
    share = {"value": None, "interval": None}
    none = {
        "matrices": {"accuracy": {"matrix": [[None] * 2] * 3, "standard_errors": [[None] * 2] * 3}},
        "summary": {"accuracy": {"start": None, "own": None, "end": None, "retained_share": share}},
        "unrelated": {"loss": None, "rise": share},
        "keeps_old_data": False,
    }
    changes = {"continual": {"none": none}, "sequences": [["a", "b"]]}
    folder = made_runs.knowledge(tmp_path / "run", changes=copy.deepcopy(changes))
    found = continual.continual(run_records.read(str(folder)))
    assert found["metrics"][0]["summary"] == [["none", "-", "-", "-", "", "", "", ""]]


@pytest.mark.fault("18")
def test_a_continual_experiment_in_which_nothing_was_measured(tmp_path):
    none = {"matrices": {}, "summary": {}, "unrelated": None, "keeps_old_data": False}
    changes = {"continual": {"none": none}, "sequences": []}
    folder = made_runs.knowledge(tmp_path / "run", changes=changes)
    assert cli.main(["report", f"--workdir={folder}"]) == 0
    assert continual.continual(run_records.read(str(folder)))["metrics"] == []


@pytest.mark.fault("18", control=True)
def test_means_and_gains_of_stages_of_which_parts_are_missing(tmp_path):
    """The mean of a reward is of the self-edits that have one, context by context."""
    folder = made_runs.knowledge(tmp_path / "run", contexts=3, edits=2)
    with ledger.Ledger(folder / "ledger", read_only=True) as opened:
        segments = opened.segments()
    shutil.rmtree(folder / "ledger")
    with ledger.Ledger(folder / "ledger") as opened:
        for segment in segments:
            record = segment.record
            if segment.kind == "marks" and segment.key.startswith("trials round 1/1"):
                for mark in record["marks"]:
                    mark["scores"]["accuracy"] = None
                    for answer in mark["answers"]:
                        answer |= {"correct": None, "ungraded": "no judge"}
            opened.append(segment.kind, segment.key, record)
    [stage] = analyze.analyze(str(folder), draws=20)["stages"]
    right = {
        (segment.key, m): [answer["correct"] for answer in mark["answers"]]
        for segment in segments
        if segment.kind == "marks" and segment.key.startswith("trials round 1/")
        for m, mark in enumerate(segment.record["marks"])
    }
    graded = [np.mean([right[f"trials round 1/{c}", m] for m in range(2)]) for c in (0, 2)]
    assert stage["rewards"]["accuracy"]["mean"] == pytest.approx(intervals.mean(graded))
    assert (stage["ungraded_answers"], stage["left_out"]["self_edits"]) == (4, 2)
