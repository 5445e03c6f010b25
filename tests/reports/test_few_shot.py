"""Runs of few-shot learning in `compare` and `analyze`: tasks are contexts, tests are questions."""

import json

import numpy as np
import pytest

from seal_jax import cli
from seal_jax.loop.few_shot import arms
from seal_jax.reports import analyze, compare, scores
from seal_jax.reports.finished_run import CompareError
from seal_jax.runs import ledger, run_dir

_CONFIG = {"seed": 0, "task": "few_shot", "few_shot": {"eval": "tasks", "eval_tasks": ["a", "b"]}}
_EDITS = 2


def _record(task, solved, belief, graded, reason=None, **named):
    found = {"context": task, "reason": reason, "solved": all(solved), "graded": graded}
    found |= {"solved_tests": solved, "gold_log_likelihoods": [belief] * len(solved)}
    return found | {"attempts": [[] for _ in solved]} | named


@pytest.fixture
def write_run(tmp_path):
    """(name, gain, config={}, **results) -> a finished few-shot run, with the real arms' values."""

    def write(name, gain=0.0, config=(), **results):
        plain = {id: _record(id, [False], -9.0 - i, 0.0) for i, id in enumerate("abc")}
        tried = [
            [
                _record(id, [gain > 0 and m == 0], -5.0 - i - m + gain, 0.25 * (i + m) * (1 + gain))
                for m in range(_EDITS)
            ]
            for i, id in enumerate("abc")
        ]
        found = [
            arms.Arm(
                name="in_context", records=[[of] * _EDITS for of in plain.values()], unadapted=plain
            ),
            arms.Arm(name="edit_before", records=tried, unadapted=plain),
        ]
        written = {
            "arms": {arm.name: arm.summary() for arm in found},
            "pairs": arms.pairs(found, seed=0, draws=200),
            "tasks": {
                id: {arm.name: {m: arm.values(m)[c] for m in arms.METRICS} for arm in found}
                for c, id in enumerate("abc")
            },
        }
        with run_dir.open_run(tmp_path / name, _CONFIG | dict(config)) as directory:
            ledger.Ledger(directory.ledger_path).close()
            run_dir.write_json(directory.results_path, written | results)
        return str(tmp_path / name)

    return write


def test_compare_pairs_tasks(write_run, capsys):
    one = write_run("one", 0.0, {"seed": 1})
    other = write_run("other", 2.0, {"seed": 2})
    found = compare.compare([f"{one},{other}"], draws=200)
    assert (found["task"], found["contexts"], found["grader"]) == ("few_shot", 3, "exact grids")
    assert found["metrics"] == ["solved", "graded", "gold_log_likelihood"]

    found = compare.compare([one, other], draws=200, seed=0)
    assert found["arms"][other]["edit_before"]["solved"] == 0.5
    assert found["arms"][one]["edit_before"]["gold_log_likelihood"] == pytest.approx(-6.5)
    between = {(of["second"]["arm"], of["metric"]): of for of in found["between"]["intervals"]}
    assert len(between) == 6
    gained = between["edit_before", "gold_log_likelihood"]
    assert (gained["difference"], gained["questions"]) == (2.0, 3)
    assert cli.main(["compare", one, other, "--draws=200"]) == 0
    printed = capsys.readouterr().out
    assert "3 tasks, grader exact grids" in printed and "intervals over tasks" in printed
    assert "edit_before, solved: +50.0 [" in printed
    assert "empty" not in printed and "articles" not in printed


def test_runs_of_two_domains_and_curate_are_refused(write_run, tmp_path):
    one = write_run("one")
    knowledge = write_run("knowledge", config={"task": "knowledge"}, contexts={"a": {}})
    with pytest.raises(CompareError, match=r"one: few_shot, .*knowledge: knowledge"):
        compare.compare([one, knowledge])
    with run_dir.open_run(tmp_path / "curated", _CONFIG | {"on": "tests"}) as directory:
        run_dir.write_json(directory.results_path, {"tasks": {"a": {"solved": 1.0}}, "solved": []})
    with pytest.raises(CompareError, match=r"is a run of `curate`, which has no arms.*`report"):
        compare.compare([one, str(tmp_path / "curated")])


def test_runs_of_other_tasks_name_the_setting(write_run):
    one = write_run("one")
    few_shot = {"eval": "tasks", "eval_tasks": ["z"]}
    tasks = {"z": {"in_context": {m: [0.0] for m in arms.METRICS}}}
    other = write_run("other", config={"few_shot": few_shot}, tasks=tasks)
    with pytest.raises(CompareError, match=r"that choose contexts and differ: few_shot.eval_tasks"):
        compare.compare([one, other])


def _write_stage(folder, trials, edits=3, stage="round 1"):
    with ledger.Ledger(folder / "ledger") as records:
        texts = [
            {"context": id, "index": m, "text": "recipe" * (m + 1)}
            for id in "ab"
            for m in range(edits)
        ]
        records.append("edits", f"{stage}/0", {"edits": texts})
        records.append("plan", stage, {"groups": [[0]]})
        batch = {"trials": trials, "real_tokens": 6, "computed_tokens": 8}
        records.append("batch", f"{stage}/0", batch)
        plain = {id: _record(id, [False, False], -9.0, 0.5) for id in "ab"}
        records.append("unadapted", f"{stage}/0", plain)
    return str(folder)


def test_analyze_takes_tests_as_questions_and_graded_as_of_the_task(tmp_path):
    rng = np.random.default_rng(0)
    trials = [
        _record(id, [m == 1, True], float(rng.normal()), 0.5 + 0.1 * m, index=m, replicate=r)
        for id in "ab"
        for m in range(3)
        for r in range(2)
        if (id, m) != ("b", 2)
    ]
    failed = {"context": "b", "index": 2, "replicate": 0, "reason": "the loss is not finite"}
    trials.append(failed)
    found = analyze.analyze(_write_stage(tmp_path, trials), draws=20)
    json.dumps(found, allow_nan=False)
    [stage] = found["stages"]
    assert (stage["contexts"], stage["self_edits"], stage["replicates"]) == (2, 6, 2)
    assert stage["without_reward"] == {"the loss is not finite": 1}
    rewards = stage["rewards"]
    assert list(rewards) == ["solved", "graded", "gold_log_likelihood", "length"]
    # a: (1/2 + 1 + 1/2) / 3, b: (1/2 + 1) / 2, then the mean of the two
    assert rewards["solved"]["mean"] == pytest.approx((2 / 3 + 3 / 4) / 2)
    assert rewards["graded"]["unadapted"] == 0.5
    [graded] = [of.cells["graded"] for of in scores.of_run(tmp_path)[0]]
    assert [of.shape for of in graded] == [(3, 1, 2), (3, 1, 2)]


def test_seeds_of_self_edits_that_were_tried_once_are_no_replicates(tmp_path):
    trials = [
        _record(id, [m == 1], -1.0 - m, 0.1 * m, index=m, replicate=m)
        for id in "ab"
        for m in range(2)
    ]
    found = analyze.analyze(_write_stage(tmp_path, trials), draws=20)
    [stage] = found["stages"]
    assert stage["replicates"] == 1
    assert stage["without_reward"] == {scores.NO_RECIPE: 2}
    assert stage["left_out"]["self_edits"] == 2
    assert stage["rewards"]["gold_log_likelihood"]["mean"] == -1.5


def test_analyze_says_what_to_use_for_curate(tmp_path):
    with ledger.Ledger(tmp_path / "ledger") as records:
        records.append("plan", "curate", {"groups": [[0]]})
    with pytest.raises(ValueError, match=r"curate tries one recipe on each task .*`report` shows"):
        analyze.analyze(str(tmp_path))
