"""The reward analysis of a run's ledger, made by hand, and what the terminal shows of it."""

import json
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seal_jax import cli
from seal_jax.loop.stage import Stage
from seal_jax.reports import analysis_table, analyze, run_records, scores
from seal_jax.reports.html import learning
from seal_jax.runs import ledger
from seal_jax.stats import reliability

from . import made_runs
from .made_runs import Recorder, marked

CONTEXTS, EDITS, QUESTIONS, REPLICATES = 4, 3, 2, 2


def _answers(c, m, r, questions=QUESTIONS):
    rng = np.random.default_rng([c, m, r])
    return [
        {
            "question": f"c{c}-q{q}",
            "text": "x",
            "correct": bool(rng.random() < 0.3 + 0.2 * m),
            "empty": q == 0 and m == 0,
            "gold_log_likelihood": float(-5 + m + rng.normal()),
        }
        for q in range(questions)
    ]


def _trial(c, m, r, answers=None, reason=None):
    answers = _answers(c, m, r) if answers is None else answers
    return {"context": f"c{c}", "index": m, "replicate": r, "reason": reason} | marked(answers)


def _marked_anew(trial, answers, **named):
    return trial | marked(answers) | named


ROUND = Stage(kind="round", round=1)


def _write(folder, trials, *, stage=ROUND, planned=1, texts=None, rubric=None):
    """A run's ledger with one stage, its self-edits in two segments."""
    texts = texts or {}
    with ledger.Ledger(folder / "ledger") as opened:
        records = Recorder(opened)
        for half in range(2):
            edits = [
                {"context": f"c{c}", "index": m, "text": texts.get((c, m), "text" * (m + 1))}
                for c in range(2 * half, 2 * half + 2)
                for m in range(EDITS)
            ]
            records.add("edits", {"edits": edits}, stage, half)
        records.answers({f"c{c}": marked(_answers(c, 9, 9)) for c in range(CONTEXTS)}, stage)
        records.add("plan", {"groups": [[0]] * planned}, stage)
        if trials is not None:
            records.trials(trials, stage, tokens=(60, 80))
        if rubric:
            records.add("rubric", {"scores": rubric}, stage)
    return str(folder)


def test_the_self_edits_of_an_evaluation_are_those_of_its_arms(tmp_path):
    """An editor writes once for several arms, under a stage of its own."""
    one = _all_trials()
    other = [_marked_anew(t, _answers(7, 7, 7)) for t in _all_trials()]
    _write(tmp_path, None, stage=Stage(kind="edits", split="eval", what="base"))
    with ledger.Ledger(tmp_path / "ledger") as opened:
        records = Recorder(opened)
        plain = {f"c{c}": marked(_answers(c, 9, 9)) for c in range(4)}
        records.answers(plain, Stage(kind="unadapted", split="eval", what="base"))
        for arm, trials in (("edit_before", one), ("edit_before_policy", other)):
            stage = Stage(kind="arm", split="eval", what=arm)
            records.add("plan", {"groups": [[0]]}, stage)
            records.trials(trials, stage, tokens=(1, 1))
    found = {s["stage"]: s for s in analyze.analyze(str(tmp_path), draws=20)["stages"]}
    assert list(found) == ["eval edit_before", "eval edit_before_policy"]
    own = found["eval edit_before"]["rewards"]["gold_log_likelihood"]
    every = [a["gold_log_likelihood"] for t in one for a in t["answers"]]
    assert own["mean"] == pytest.approx(np.mean(every))
    assert own["unadapted"] is not None
    assert found["eval edit_before"]["rewards"]["length"]["mean"] == 8.0


def test_what_noise_swamps_is_not_estimable():
    def figure(value, low=None, high=None):
        return {"value": value, "low": low, "high": high}

    found = {
        "within_contexts": figure(-1.01, -9.0, 0.2),
        "other_replicates": figure(0.25, -3.0, 0.75),
        "other_questions": figure(0.0, -1.0, 0.5),
        "other_both": None,
        "pooled_over_contexts": -2.0,
    }
    reward = {"mean": 0.5, "unadapted": None, "reliability": found}
    [_, row] = analysis_table.reliabilities({"rewards": {"own": reward}})
    assert row[3:] == [
        "not estimable", "0.25 [< -1, 0.75]", "0.00 [-1.00, 0.50]", "-", "not estimable",
    ]  # fmt: skip
    found["pooled_over_contexts"] = 0.0
    assert analysis_table.reliabilities({"rewards": {"own": reward}})[1][-1] == "0.00"


def test_the_report_has_the_commands_figures(tmp_path, capsys):
    folder = made_runs.knowledge(tmp_path / "run", contexts=4, edits=3, replicates=2)
    assert cli.main(["analyze", str(folder)]) == 0
    printed = capsys.readouterr().out
    [stage] = learning.reliability(run_records.read(str(folder)))["stages"]
    for table in stage["tables"]:
        for [_, *cells] in table[1:]:
            assert all(cell in printed for cell in cells[1:]), cells


def test_the_mix_is_the_runs_own_or_the_one_asked_for(tmp_path):
    source = _write(tmp_path, _all_trials())
    accuracy, belief = (
        [np.mean([a[key] for a in t["answers"]]) for t in _all_trials()]
        for key in ("correct", "gold_log_likelihood")
    )

    def mean(**named):
        [stage] = analyze.analyze(source, draws=20, **named)["stages"]
        return stage["rewards"]["mix"]["mean"]

    assert mean() == pytest.approx(np.mean(accuracy) + 0.1 * np.mean(belief))  # no config: default
    assert mean(mix=2.0) == pytest.approx(np.mean(accuracy) + 2 * np.mean(belief))
    config = {"seal_jax_run": 2, "config": {"reward": {"mix": 0.5}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert mean() == pytest.approx(np.mean(accuracy) + 0.5 * np.mean(belief))


def _all_trials():
    return [
        _trial(c, m, r)
        for r in range(REPLICATES)
        for c in range(CONTEXTS)
        for m in reversed(range(EDITS))  # a batch's order is its own
    ]


@given(
    st.lists(st.tuples(*[st.integers(1, 3)] * 2), min_size=1, max_size=3),
    st.integers(1, 2),
    st.sampled_from([0.0, 0.4, 0.9, 1.0]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_whatever_is_missing_there_is_a_report(shapes, replicates, missing, seed):
    rng = np.random.default_rng(seed)

    def values(*shape):
        return np.where(rng.random(shape) < missing, np.nan, rng.integers(0, 3, shape))

    names = ("accuracy", "gold_log_likelihood")
    stage = scores.Scored(
        name="round 1",
        contexts=tuple(f"c{c}" for c in range(len(shapes))),
        texts=tuple(("x",) * edits for edits, _ in shapes),
        cells={name: [values(*shape, replicates) for shape in shapes] for name in names},
        fixed={"rubric": [values(edits) for edits, _ in shapes]},
        unadapted={name: [values(questions) for _, questions in shapes] for name in names},
    )
    with mock.patch.object(scores, "of_scored_file", return_value=[stage]):
        found = analyze.analyze(__file__, draws=20)
    json.dumps(found, allow_nan=False)
    assert analysis_table.table(found)
    [shown] = found["stages"]
    there = [
        [[edit[~np.isnan(edit)] for edit in of_context] for of_context in stage.cells[name]]
        for name in names
    ]
    for name, of_name in zip(names, there, strict=True):
        means = [[edit.mean() for edit in of if edit.size] for of in of_name]
        means = [np.mean(of) for of in means if of]
        expected = pytest.approx(np.mean(means)) if means else None
        assert shown["rewards"][name]["mean"] == expected


def test_every_reward_of_a_run(tmp_path):
    source = _write(tmp_path, _all_trials(), rubric=[[1.0, 2.0, None]] * CONTEXTS)
    (tmp_path / "timing.json").write_text('{"seconds": {"round 1: adapt": 7.5, "total": 9}}')
    before = sorted(path.name for path in tmp_path.rglob("*"))
    report = json.loads(json.dumps(analyze.analyze(source, draws=100), allow_nan=False))
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    [stage] = report["stages"]
    assert (stage["contexts"], stage["self_edits"], stage["questions"]) == (4, 12, 8)
    assert (stage["answers"], stage["empty_answers"], stage["ungraded_answers"]) == (48, 8, 0)
    assert stage["cost"]["seconds"] == {"adapt": 7.5}
    assert stage["cost"]["inner_loop_tokens_computed"] == 80
    rewards = stage["rewards"]
    names = ["accuracy", "gold_log_likelihood", "mix", "log_likelihood_gain", "rubric", "length"]
    assert list(rewards) == names

    every = np.array(
        [
            [
                [[a["gold_log_likelihood"] for a in _answers(c, m, r)] for r in range(REPLICATES)]
                for m in range(EDITS)
            ]
            for c in range(CONTEXTS)
        ]
    )  # [C, M, R, Q]
    beliefs = rewards["gold_log_likelihood"]
    assert beliefs["mean"] == pytest.approx(every.mean())
    plain = [a["gold_log_likelihood"] for c in range(CONTEXTS) for a in _answers(c, 9, 9)]
    assert beliefs["unadapted"] == pytest.approx(np.mean(plain))
    expected = reliability.across_seeds(list(every.mean(axis=3)), draws=100)
    assert beliefs["reliability"]["within_contexts"]["value"] == pytest.approx(expected.value)
    gained = rewards["log_likelihood_gain"]
    assert gained["mean"] == pytest.approx(every.mean() - np.mean(plain))
    for form in ("within_contexts", "other_both"):
        within, of_gain = beliefs["reliability"][form], gained["reliability"][form]
        assert of_gain["value"] == pytest.approx(within["value"])
    assert rewards["length"]["mean"] == 8.0
    assert rewards["length"]["reliability"] is None
    assert "1 by construction" in rewards["length"]["not_applicable"]
    # The third self-edit has no rubric score, so comparisons are of the two others.
    assert stage["left_out"] == {"self_edits": 4, "questions": 0}
    chosen = {(row["chosen_by"], row["measured"]): row for row in stage["best_of_m"]}
    by_length = chosen["length", "gold_log_likelihood"]["other_replicates"]
    assert by_length["chosen"] == pytest.approx(every[:, 1].mean())
    assert by_length["mean"] == pytest.approx(every[:, :2].mean())


def test_what_has_no_result_is_counted_by_reason_and_ungraded_is_not_wrong(tmp_path):
    trials = [t for t in _all_trials() if (t["context"], t["index"]) != ("c0", 0)]
    for trial in trials:
        if (trial["context"], trial["index"]) == ("c1", 2):
            trial |= _marked_anew(trial, [], reason="the inner update became non-finite")
        if (trial["context"], trial["index"], trial["replicate"]) == ("c2", 1, 0):
            trial["answers"][1] |= {"correct": None, "ungraded": "no judge"}
    [stage] = analyze.analyze(_write(tmp_path, trials), draws=50)["stages"]
    assert stage["without_reward"] == {
        scores.REFUSED: 1,
        "the inner update became non-finite": 1,
    }
    assert stage["ungraded_answers"] == 1
    assert stage["left_out"] == {"self_edits": 2, "questions": 1}
    right = [
        np.mean([np.mean([a["correct"] for a in t["answers"] if a["correct"] is not None])])
        for t in trials
        if t["answers"] and t["context"] == "c2" and t["index"] == 1
    ]
    [run], _ = scores.of_run(tmp_path)
    of_edit = run.cells["accuracy"][2][1]
    assert np.isnan(of_edit[1, 0]) and np.isnan(of_edit).sum() == 1
    [accuracy, *_] = analyze.rewards_of(run, 0.1)
    np.testing.assert_allclose(analyze._of_replicates(accuracy.cells[2])[1], right)
    shown = analysis_table.table(analyze.analyze(str(tmp_path), draws=50))
    assert "1 self-edits without a reward: the inner update became non-finite" in shown
    assert "1 ungraded" in shown
    # By the names that settings and the JSON have.
    assert "accuracy / gold_log_likelihood" in shown and "\ngold_log_likelihood  " in shown


def test_a_self_edit_that_failed_once_is_compared_with_none(tmp_path):
    """Its other replicate still counts as noise, but the choice needs every replicate."""
    trials = _all_trials()
    [failed] = [t for t in trials if (t["context"], t["index"], t["replicate"]) == ("c1", 2, 1)]
    failed |= _marked_anew(failed, [], reason="the inner update became non-finite")
    [stage] = analyze.analyze(_write(tmp_path, trials), draws=50)["stages"]
    assert stage["left_out"] == {"self_edits": 1, "questions": 0}
    assert stage["without_reward"] == {}
    by_length = next(row for row in stage["best_of_m"] if row["chosen_by"] == "length")
    assert by_length["other_replicates"]["chosen"] == pytest.approx(
        np.mean(
            [
                np.mean([[a["correct"] for a in _answers(c, m, r)] for r in range(REPLICATES)])
                for c, m in ((0, 2), (1, 1), (2, 2), (3, 2))  # the longest that are left
            ]
        )
    )


def test_one_replicate_says_that_seeds_cannot_be_judged(tmp_path):
    trials = [trial for trial in _all_trials() if trial["replicate"] == 0]
    report = analyze.analyze(_write(tmp_path, trials), draws=50)
    [stage] = report["stages"]
    found = stage["rewards"]["gold_log_likelihood"]["reliability"]
    assert found["within_contexts"] is found["other_replicates"] is found["other_both"] is None
    assert found["other_questions"]["value"] is not None
    gains = stage["best_of_m"][0]
    assert gains["other_replicates"] is None and gains["other_questions"] is not None
    assert "one replicate" in stage["notes"][0]
    assert "cannot be estimated from this stage" in analysis_table.table(report)


def test_a_run_in_progress(tmp_path):
    """One of two batches is done: what is missing was not tried yet, and is not blamed."""
    trials = [t for t in _all_trials() if t["context"] != "c3"]
    [stage] = analyze.analyze(_write(tmp_path, trials, planned=2), draws=50)["stages"]
    assert stage["without_reward"] == {scores.NOT_TRIED: 3}
    assert stage["left_out"]["self_edits"] == 3


def test_a_run_without_inner_loops_has_its_selection(tmp_path):
    with ledger.Ledger(tmp_path / "ledger") as opened:
        records = Recorder(opened)
        edits = [{"context": c, "index": m, "text": "a" * m} for c in "ab" for m in range(3)]
        records.add("edits", {"edits": edits}, ROUND, 0)
        records.add("selection", {"rewards": [[0.5, None, 1.0], [0.0, 0.1, 0.4]]}, ROUND)
        editor = Stage(kind="edits", split="eval", what="base")
        records.add("edits", {"edits": edits[::3]}, editor, 0)
        records.add("plan", {"groups": [[0]]}, Stage(kind="arm", split="eval", what="edit_before"))
    report = analyze.analyze(str(tmp_path), draws=50)
    [stage] = report["stages"]
    assert list(stage["rewards"]) == ["reward", "length"]
    [agreement] = stage["agreement"]
    assert agreement["same_best"]["value"] == 1.0
    assert report["notes"] == [
        "eval edit_before: one self-edit a context, so there is nothing to compare"
    ]
    assert analysis_table.table(report).startswith("note: eval edit_before")


def _attempts(solved, belief, graded):
    """Marks of puzzles: tests are solved or not, and the puzzle as a whole has a grade."""
    answers = [
        {"question": f"test {k}", "attempts": [], "solved": of, "gold_log_likelihood": belief}
        for k, of in enumerate(solved)
    ]
    return marked(answers, solved=float(all(solved)), graded=graded)


def _write_puzzles(folder, trials, edits=3):
    with ledger.Ledger(folder / "ledger") as opened:
        records = Recorder(opened)
        texts = [
            {"context": id, "index": m, "text": "recipe" * (m + 1)}
            for id in "ab"
            for m in range(edits)
        ]
        records.add("edits", {"edits": texts}, ROUND, 0)
        records.add("plan", {"groups": [[0]]}, ROUND)
        records.trials(trials, ROUND, tokens=(6, 8))
        records.answers({id: _attempts([False, False], -9.0, 0.5) for id in "ab"}, ROUND)
    return str(folder)


def test_metrics_are_of_questions_where_answers_have_them_and_else_of_the_context(tmp_path):
    rng = np.random.default_rng(0)
    trials = [
        {"context": id, "index": m, "replicate": r, "reason": None}
        | _attempts([m == 1, True], float(rng.normal()), 0.5 + 0.1 * m)
        for id in "ab"
        for m in range(3)
        for r in range(2)
        if (id, m) != ("b", 2)
    ]
    failed = {"context": "b", "index": 2, "replicate": 0, "reason": "the loss is not finite"}
    trials.append(failed | marked([], solved=None, graded=None))
    found = analyze.analyze(_write_puzzles(tmp_path, trials), draws=20)
    json.dumps(found, allow_nan=False)
    [stage] = found["stages"]
    assert (stage["contexts"], stage["self_edits"], stage["replicates"]) == (2, 6, 2)
    assert stage["without_reward"] == {"the loss is not finite": 1}
    rewards = stage["rewards"]
    assert set(rewards) == {"solved", "graded", "gold_log_likelihood", "length"}
    # a: (1/2 + 1 + 1/2) / 3, b: (1/2 + 1) / 2, then the mean of the two
    assert rewards["solved"]["mean"] == pytest.approx((2 / 3 + 3 / 4) / 2)
    assert rewards["graded"]["unadapted"] == 0.5
    [graded] = [of.cells["graded"] for of in scores.of_run(tmp_path)[0]]
    assert [of.shape for of in graded] == [(3, 1, 2), (3, 1, 2)]


def test_seeds_of_self_edits_that_were_tried_once_are_no_replicates(tmp_path):
    trials = [
        {"context": id, "index": m, "replicate": m, "reason": None}
        | _attempts([m == 1], -1.0 - m, 0.1 * m)
        for id in "ab"
        for m in range(2)
    ]
    found = analyze.analyze(_write_puzzles(tmp_path, trials), draws=20)
    [stage] = found["stages"]
    assert stage["replicates"] == 1
    assert stage["without_reward"] == {scores.REFUSED: 2}
    assert stage["left_out"]["self_edits"] == 2
    assert stage["rewards"]["gold_log_likelihood"]["mean"] == -1.5


def test_trials_whose_marks_are_missing_have_no_reward_yet(tmp_path):
    trials = _all_trials()
    _write(tmp_path, trials[:-3], planned=2)
    with ledger.Ledger(tmp_path / "ledger") as opened:
        Recorder(opened).trials(trials[-3:], ROUND, 1, marked=False)
    [stage] = analyze.analyze(str(tmp_path), draws=20)["stages"]
    # The last three are one replicate of each self-edit of the last context.
    assert (stage["answers"], stage["left_out"]["self_edits"]) == (2 * len(trials[:-3]), 3)
    assert stage["without_reward"] == {}


def test_analyze_says_what_to_use_for_curate(tmp_path):
    with ledger.Ledger(tmp_path / "ledger") as opened:
        Recorder(opened).add("plan", {"groups": [[0]]}, Stage(kind="curate"))
    with pytest.raises(ValueError, match=r"curate tries one lesson on each .*`report` shows"):
        analyze.analyze(str(tmp_path))


def test_what_cannot_be_analysed(tmp_path, capsys):
    (tmp_path / "ledger").mkdir()
    cases = [
        ([str(tmp_path)], "no self-edits are recorded there"),
        ([str(tmp_path / "none")], "no such run directory or scored file"),
        ([str(tmp_path / "ledger")], "there is no ledger here"),
        ([], "needs a run's directory or a file"),
        (["a", "b"], "unexpected argument"),
        ([str(tmp_path), "--draws=0"], "draws"),
        ([str(tmp_path), "--config=x"], "config"),
    ]
    for arguments, message in cases:
        assert cli.main(["analyze", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error and "Traceback" not in error
    _write(tmp_path / "run", _all_trials(), rubric=[[1.0]] * CONTEXTS)
    with pytest.raises(ledger.LedgerError, match="the scores of 'rubric' are not one a self-edit"):
        analyze.analyze(str(tmp_path / "run"))


def test_a_scored_file_from_the_command_line(tmp_path, capsys):
    """Runs are matched by their name and questions by their text, in whatever order they come."""

    def completion(text, verdicts):
        return {
            "text": text,
            "stats": {"adapter_mean": 0.5, "baseline_mean": 0.25},
            "correct": [[run, question, verdict] for run, question, verdict in verdicts],
        }

    rows = [("b", "one", True), ("a", "one", False), ("a", "two", None), ("b", "two", True)]
    entry = {
        "title": "T",
        "prompt": "p",
        "completions": [
            completion("x", rows),
            completion("yy", [(run, q, True) for run, q, _ in reversed(rows)]),
            completion("zz", []),
        ],
    }
    path = tmp_path / "scored.json"
    path.write_text(json.dumps([entry, {"prompt": "q", "completions": []}]))
    [stage] = scores.of_scored_file(path)
    np.testing.assert_array_equal(
        stage.cells["accuracy"][0],
        [[[0, 1], [np.nan, 1]], [[1, 1], [1, 1]], [[np.nan, np.nan]] * 2],
    )
    out = tmp_path / "report.json"
    assert cli.main(["analyze", str(path), f"--json={out}", "--draws=20"]) == 0
    printed = capsys.readouterr().out
    assert "8 answers: 1 ungraded" in printed
    assert "1 self-edits without a reward: no verdict of its answers" in printed
    report = json.loads(out.read_text())
    [found] = report["stages"]
    assert found["rewards"]["accuracy"]["unadapted"] == 0.25
    assert cli.main(["analyze", f"--source={path}", "--json=-", "--draws=20"]) == 0
    assert json.loads(capsys.readouterr().out) == report
    del entry["completions"][0]["correct"], entry["completions"][1]["correct"]
    path.write_text(json.dumps([entry]))
    assert cli.main(["analyze", str(path)]) == 2
    assert "no self-edit has verdicts" in capsys.readouterr().err


def test_the_diversity_of_self_edits_is_told_stage_by_stage(tmp_path):
    """In each context of round 1 two texts of three are the same; in round 2 all are."""
    one, other = "The red tower stands in Osk.", "A mill by a river grinds."
    with_other = {(c, m): other if m == 2 else one for c in range(4) for m in range(EDITS)}
    _write(tmp_path, _all_trials(), texts=with_other)
    again = Stage(kind="round", round=2)
    _write(tmp_path, _all_trials(), stage=again, texts=dict.fromkeys(with_other, one))
    report = analyze.analyze(str(tmp_path), draws=100)
    first, second = (stage["diversity"] for stage in report["stages"])
    # 5 pairs a text: 10 of 15 are different ones, and 5 of 15.
    assert first["distinct"]["value"] == pytest.approx(10 / 15)
    assert first["overlap"]["value"] == pytest.approx(2 / 3)
    assert (second["distinct"]["value"], second["overlap"]["value"]) == (pytest.approx(1 / 3), 1.0)
    assert second["words"] == 6
    text = analysis_table.table(report).partition("Diversity of the self-edits")[2]
    assert [line.split() for line in text.splitlines()[-2:]] == [
        ["round", "1", "6", "0.67", "0.67"],
        ["round", "2", "6", "0.33", "1.00"],
    ]
