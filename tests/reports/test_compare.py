"""Finished runs compared: pairing by id, refusals, seeds pooled, corrected intervals, compute."""

import dataclasses
import json
import math
import pathlib
import re

import numpy as np
import pytest
from scipy import special

from seal_jax import cli
from seal_jax.loop import arms, results
from seal_jax.loop.results import Outcome
from seal_jax.reports import compare, compare_table
from seal_jax.reports.finished_run import CompareError
from seal_jax.runs import results_file, run_dir
from seal_jax.settings import Settings
from seal_jax.stats import intervals
from seal_jax.stats.components import OverSeeds
from seal_jax.tasks.base import Task
from seal_jax.tasks.protocol import Metric

from .conftest import CONFIG, outcome, some_answers, some_contexts

_BASE = [[-5.0, -6.0], [-4.0, -0.5], [-7.0], [-3.0, -2.0]]
_BETTER = [[-4.0, -6.0], [-2.0, -0.5], [-6.0], [-3.0, -0.5]]


def test_per_context_results_keep_ungraded_apart_from_wrong_and_average_edits():
    def answer(question, correct, ll, empty=False):
        ungraded = "no judge" if correct is None else None
        told = {"question": question, "correct": correct, "empty": empty, "ungraded": ungraded}
        return told | {"gold_log_likelihood": ll}

    edits = [
        [answer("q0", True, -1.0), answer("q1", None, -2.0), answer("q2", False, None, True)],
        [answer("q0", False, -3.0), answer("q1", None, -4.0), answer("q2", None, -6.0)],
    ]
    task = Task(Settings())
    one = outcome(task, "edit_before", [edits])
    found = results.of([one], task, some_contexts(1), seed=0, draws=10)
    assert found["contexts"] == {
        "c0": {
            "title": "article 0",
            "group": "article 0",
            "arms": {
                "edit_before": {
                    "questions": ["q0", "q1", "q2"],
                    "accuracy": [0.5, None, 0.0],
                    "gold_log_likelihood": [-2.0, -3.0, -6.0],
                    "empty": 1,
                    "ungraded": 3,
                }
            },
        }
    }


def test_runs_pair_by_id_whatever_their_order(write_run):
    one = write_run("one", {"base": some_answers(_BASE)})
    # The other run lists contexts and questions backwards.
    reversed_answers = [[edit[::-1] for edit in of] for of in some_answers(_BETTER)][::-1]
    other = write_run("other", {"base": reversed_answers}, contexts=some_contexts()[::-1])
    found = compare.compare([one, other], draws=500)
    accuracy, nats = found["between"]["intervals"]
    # 7 questions; gains 1, 0, 2, 0, 1, 0, 1.5; of the answers above -1 there are 1 and 2.
    assert nats["difference"] == pytest.approx(5.5 / 7)
    assert accuracy["difference"] == pytest.approx(1 / 7)
    assert (nats["second"], nats["first"]) == (
        {"setting": other, "arm": "base"},
        {"setting": one, "arm": "base"},
    )
    assert (found["contexts"], found["articles"], found["questions"]) == (4, 2, 7)
    assert found["arms"][one]["base"]["gold_log_likelihood"] == pytest.approx(-27.5 / 7)
    assert found["within"]["intervals"] == []


def test_intervals_are_those_of_the_statistics_and_correction_is_over_all(write_run):
    one = write_run("one", {"base": some_answers(_BASE), "passage": some_answers(_BETTER)})
    other = write_run("other", {"base": some_answers(_BETTER), "passage": some_answers(_BETTER)})
    found = compare.compare([one, other], draws=800, seed=3, level=0.9)
    shown = found["between"]["intervals"]
    assert [(of["second"]["arm"], of["metric"]) for of in shown] == [
        ("base", "accuracy"),
        ("base", "gold_log_likelihood"),
        ("passage", "accuracy"),
        ("passage", "gold_log_likelihood"),
    ]
    alone = intervals.paired_bootstrap(_BETTER, _BASE, seed=3, draws=800, level=0.9)
    assert shown[1]["interval"] == [alone.low, alone.high]
    corrected = found["between"]["corrected_level"]
    assert 0.9 < corrected <= 0.975  # Bonferroni's for four, of which two vary
    at_corrected = intervals.paired_bootstrap(_BETTER, _BASE, seed=3, draws=800, level=corrected)
    assert shown[1]["corrected_interval"] == [at_corrected.low, at_corrected.high]
    assert shown[3]["difference"] == 0 and shown[3]["corrected_interval"] is None


def test_a_corrected_interval_by_hand(write_run):
    # Two contexts, differences 0 and 1 in nats, none in accuracy. Standard error: residuals -0.5
    # and 0.5, sqrt(2 / 1 * 0.5) / 2 = 0.5. Half of the resamples have t 0, the others have no
    # spread, so a third of 0.5 counts: t is -3 or 3, less than Student's with one degree of
    # freedom, which is Cauchy's quantile tan(pi (p - 1/2)).
    contexts = some_contexts(2)
    one = write_run("one", {"base": some_answers([[-3.0], [-3.0]])}, contexts=contexts)
    other = write_run("other", {"base": some_answers([[-3.0], [-2.0]])}, contexts=contexts)
    found = compare.compare([one, other], draws=400)
    accuracy, nats = found["between"]["intervals"]
    reach = 0.5 * math.tan(math.pi * (0.975 - 0.5))
    assert nats["interval"] == pytest.approx([0.5 - reach, 0.5 + reach])
    # Accuracy never varies, so it has no interval and costs the other nothing.
    assert accuracy["interval"] is accuracy["corrected_interval"] is None
    assert found["between"]["corrected_level"] == 0.95
    assert nats["corrected_interval"] == nats["interval"]


def test_ungraded_answers_are_left_out_pairwise(write_run):
    one = write_run(
        "one", {"base": some_answers(_BASE, [[None, True], [False, False], [True], [True, False]])}
    )
    other = write_run(
        "other", {"base": some_answers(_BASE, [[True, False], [True, False], [None], [True, True]])}
    )
    # The other run lists its questions backwards.
    written = json.loads((pathlib.Path(other) / "results.json").read_text())
    for context in written["contexts"].values():
        for name in ("questions", "accuracy", "gold_log_likelihood"):
            context["arms"]["base"][name].reverse()
    run_dir.write_json(pathlib.Path(other) / "results.json", written)
    found = compare.compare([one, other], draws=300)
    accuracy, nats = found["between"]["intervals"]
    # Left: c0-q1 (1, 0), c1 (0, 1) and (0, 0), c3 (1, 1) and (0, 1).
    assert accuracy["difference"] == pytest.approx((-1 + 1 + 0 + 0 + 1) / 5)
    assert (accuracy["questions"], accuracy["left_out"]) == (5, 2)
    assert (nats["questions"], nats["left_out"]) == (7, 0)
    # Each run's own accuracy is over what it graded.
    base = found["arms"][one]["base"]
    assert base["accuracy"] == pytest.approx(3 / 6)
    assert (base["ungraded"], found["arms"][other]["base"]["ungraded"]) == (1, 1)
    assert "2 questions left out" in compare_table.table(found)


def test_nothing_graded_leaves_the_other_metric(write_run):
    none = [[None] * len(of) for of in _BASE]
    given = {"one": _BASE, "other": _BETTER}
    runs = [write_run(name, {"base": some_answers(of, none)}) for name, of in given.items()]
    found = compare.compare(runs, draws=300)
    accuracy, nats = found["between"]["intervals"]
    assert (accuracy["metric"], accuracy["difference"]) == ("accuracy", None)
    assert accuracy["interval"] is accuracy["corrected_interval"] is None
    assert (accuracy["questions"], accuracy["left_out"]) == (0, 7)
    assert nats["interval"] == nats["corrected_interval"] is not None
    assert found["arms"][runs[0]]["base"]["accuracy"] is None
    text = compare_table.table(found)
    assert re.search(r"^base +R1 +- +-3\.929", text, re.MULTILINE)
    assert "then corrected for 1 comparisons (95.00% each)" in text
    assert "R2 base - R1 base, accuracy: - [-], corrected [-] (7 questions left out" in text
    assert "  -: no interval: fewer than two contexts have a value in both, or all that" in text


def test_a_single_context_with_a_value_has_a_difference_without_an_interval(write_run):
    right = [[True, None], [None, None], [None], [None, None]]
    one = write_run("one", {"base": some_answers(_BASE)})
    other = write_run("other", {"base": some_answers(_BETTER, right)})
    accuracy, nats = compare.compare([one, other], draws=300)["between"]["intervals"]
    assert (accuracy["difference"], accuracy["interval"]) == (1, None)
    assert nats["interval"] is not None
    contexts = some_contexts(1)
    answers = [some_answers(of[:1]) for of in (_BASE, _BETTER)]
    runs = [
        write_run(f"run{i}", {"base": of}, contexts=contexts, config={"seed": i // 2})
        for i, of in enumerate([*answers, *answers])
    ]
    for given in (runs[:2], [",".join(runs[::2]), ",".join(runs[1::2])]):
        found = compare.compare(given, draws=300)
        assert found["between"]["corrected_level"] is None
        assert [of["difference"] for of in found["between"]["intervals"]] == [0, 0.5]
        text = compare_table.table(found)
        assert "gold log-likelihood: +0.500 [-], corrected [-]" in text
        assert "then corrected" not in text
    assert "fewer than two groups have a value in both" in text


def test_arms_that_only_one_run_has_are_compared_with_the_others(write_run):
    one = write_run("one", {"base": some_answers(_BASE), "passage": some_answers(_BASE)})
    other = write_run("other", {"base": some_answers(_BASE), "edit_after": some_answers(_BETTER)})
    pairs = [
        (of["second"]["arm"], of["first"]["arm"])
        for of in compare.compare([one, other], draws=300)["between"]["intervals"]
    ]
    assert pairs == [("base", "base")] * 2 + [("edit_after", "passage")] * 2


def _seeds(write_run, name, gains, seeds, **config):
    runs = []
    for seed, gain in zip(seeds, gains, strict=True):
        values = [[ll + gain for ll in of] for of in _BASE]
        answers = {"base": some_answers(_BASE), "edit_after": some_answers(values)}
        runs.append(write_run(f"{name}{seed}", answers, config={"seed": seed, **config}))
    return ",".join(runs)


def test_seeds_of_a_setting_are_pooled_and_paired(write_run):
    low = _seeds(write_run, "a", (0.0, 0.25, 0.5), (1, 2, 3), inner={"epochs": 3})
    # Given in another order: pairing is by seed.
    high = _seeds(write_run, "b", (2.5, 1.0, 1.25), (3, 1, 2), inner={"epochs": 4})
    found = compare.compare([low, high], draws=500)
    assert found["paired_seeds"] is True
    assert [of["seeds"] for of in found["settings"]] == [[1, 2, 3], [1, 2, 3]]
    # By seed the gains are 1 - 0, 1.25 - 0.25 and 2.5 - 0.5.
    between = {(of["second"]["arm"], of["metric"]): of for of in found["between"]["intervals"]}
    nats = between["edit_after", "gold_log_likelihood"]
    assert nats["difference"] == pytest.approx(4 / 3)
    # All contexts gain alike, so only seeds vary: 1, 1, 2 has the standard error 1/3, and Student's
    # t with 2 degrees of freedom is at least what counts.
    student = special.stdtrit(2, 0.975) / 3
    assert nats["interval"][0] <= 4 / 3 - student + 1e-9
    assert nats["interval"][1] >= 4 / 3 + student - 1e-9
    own = [of for of in found["within"]["intervals"] if of["metric"] == "gold_log_likelihood"]
    assert [of["difference"] for of in own] == [pytest.approx(0.25), pytest.approx(4.75 / 3)]
    assert found["config_differences"] == {
        "inner.epochs": {low: 3, high: 4},
        "seed": {low: [1, 2, 3], high: [1, 2, 3]},
    }
    assert found["arms"][high]["edit_after"]["gold_log_likelihood_of_seeds"] == pytest.approx(
        [-27.5 / 7 + gain for gain in (1.0, 1.25, 2.5)]
    )
    assert "over seeds, groups and contexts, seeds paired" in compare_table.table(found)


def test_other_seeds_are_drawn_apart(write_run):
    low = _seeds(write_run, "a", (0.0, 0.25, 0.5), (1, 2, 3))
    high = _seeds(write_run, "b", (2.5, 1.0), (4, 5), inner={"epochs": 4})
    found = compare.compare([low, high], draws=300)
    assert found["paired_seeds"] is False
    nats = found["between"]["intervals"][3]
    assert nats["difference"] == pytest.approx(1.75 - 0.25)
    assert "seeds drawn apart" in compare_table.table(found)


def test_arms_keep_the_order_of_the_runs_table(write_run):
    answers = {name: some_answers(_BASE) for name in ("base", "passage", "edit_before")}
    pairs = [{"names": ["passage", "base"]}, {"names": ["edit_before", "base"]}]
    runs = [write_run(name, answers, pairs=pairs) for name in ("one", "other")]
    found = compare.compare(runs, draws=300)
    assert list(found["arms"][runs[0]]) == ["base", "passage", "edit_before"]


def test_long_names_of_arms_stand_apart_from_their_run(write_run):
    answers = {name: some_answers(_BASE) for name in ("base", "edit_before_policy")}
    runs = [write_run(name, answers) for name in ("one", "other")]
    table = compare_table.table(compare.compare(runs, draws=300))
    assert "edit_before_policy  R1" in table


def test_one_setting_of_several_seeds_compares_its_arms(write_run):
    runs = []
    for seed, shift in enumerate((0.0, -2.0, -4.0)):  # of both arms: a seed is drawn for both
        base, edit = ([[ll + shift + gain for ll in of] for of in _BASE] for gain in (0.0, 0.5))
        answers = {"base": some_answers(base), "edit_after": some_answers(edit)}
        runs.append(write_run(f"a{seed}", answers, config={"seed": seed}))
    found = compare.compare([",".join(runs)], draws=300)
    assert found["between"]["intervals"] == []
    nats = found["within"]["intervals"][1]
    assert (nats["second"]["arm"], nats["first"]["arm"]) == ("edit_after", "base")
    # Every context gains the same with every seed: nothing says how far others would differ.
    assert nats["difference"] == pytest.approx(0.5) and nats["interval"] is None


@pytest.mark.fault("18")
def test_equal_gains_on_two_contexts_are_told_apart_from_certain_ones(write_run):
    contexts = some_contexts(2)
    one = write_run("one", {"base": some_answers([[-3.0], [-4.0]])}, contexts=contexts)
    other = write_run("other", {"base": some_answers([[-2.5], [-3.5]])}, contexts=contexts)
    found = compare.compare([one, other], draws=200)
    accuracy, nats = found["between"]["intervals"]
    assert (nats["difference"], nats["interval"], nats["corrected_interval"]) == (0.5, None, None)
    assert (accuracy["difference"], accuracy["interval"]) == (0.0, None)
    text = compare_table.table(found)
    assert "gold log-likelihood: +0.500 [-], corrected [-]" in text
    assert "all that have one differ by the same" in text


def test_config_compute_and_empty_answers_are_told(write_run):
    config = {"inner": {"epochs": 3, "lora": {"rank": 16}}, "extra": None}
    empty = [[-10.0, -6.0], *_BASE[1:]]
    one = write_run("one", {"base": some_answers(_BASE)})
    other = write_run(
        "other", {"base": some_answers(empty)}, config=config, batches=2, grader="local-1"
    )
    found = compare.compare([one, other], draws=300)
    assert found["config_differences"] == {
        "extra": {other: None},
        "inner.lora.rank": {one: 32, other: 16},
    }
    assert found["compute"][other] == {
        "inner_loops": 6,
        "real_tokens": 100,
        "computed_tokens": 160,
        "seconds": 12.5,
        "resumed": False,
    }
    assert [found["arms"][run]["base"]["empty"] for run in (one, other)] == [0, 1]
    text = compare_table.table(found)
    for part in (
        "inner.lora.rank: 32 | 16",
        "extra: nothing | null",
        "6 inner loops, 100 tokens (160 computed), 12 s",
        f"R2: {other} (seed 0)",
        "R2 base - R1 base, gold log-likelihood: -0.714 [",
        "grader local-1",
    ):
        assert part in text


def test_differing_contexts_name_ids_and_the_setting(write_run):
    one = write_run("one", {"base": some_answers(_BASE)})
    config = {"data": {"eval_path": "other.json", "max_questions": 2}, "seed": 7}
    other = write_run(
        "other", {"base": some_answers(_BASE[:3])}, contexts=some_contexts(3), config=config
    )
    with pytest.raises(CompareError) as refused:
        compare.compare([one, other])
    message = str(refused.value)
    assert f"contexts only in {one}: c3" in message
    assert message.splitlines()[-1] == (
        "Settings that choose contexts and differ: data.eval_path: eval.json and other.json. "
        "Set them alike."
    )


def test_differing_questions_name_ids(write_run):
    one = write_run("one", {"base": some_answers(_BASE)})
    longer = [[*_BASE[0], -1.0], *_BASE[1:]]
    other = write_run("other", {"base": some_answers(longer)})
    with pytest.raises(CompareError) as refused:
        compare.compare([one, other])
    assert "questions of context c0, only in one: c0-q2" in str(refused.value)
    assert "the data files have changed" in str(refused.value)
    seeded = write_run("seeded", {"base": some_answers(longer)}, config={"seed": 7})
    with pytest.raises(CompareError, match="choose contexts and differ: seed: 0 and 7"):
        compare.compare([one, seeded])


def test_differing_graders_are_refused(write_run):
    one = write_run("one", {"base": some_answers(_BASE)})
    other = write_run("other", {"base": some_answers(_BASE)}, grader="judge-2")
    with pytest.raises(CompareError, match=r"one: local-1, .*other: judge-2"):
        compare.compare([one, other])


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"seed": 0}, "have the same seed \\(0\\)"),
        ({"seed": 1, "inner": {"epochs": 9}}, "differ by inner.epochs, inner.lora.rank"),
    ],
)
def test_runs_that_are_no_seeds_of_one_setting_are_refused(write_run, second, message):
    one = write_run("one", {"base": some_answers(_BASE)})
    other = write_run("other", {"base": some_answers(_BASE)}, config=second)
    with pytest.raises(CompareError, match=message):
        compare.compare([f"{one},{other}"])


def test_seeds_beside_a_single_run_are_refused(write_run):
    several = _seeds(write_run, "a", (0.0, 0.25), (1, 2))
    one = write_run("one", {"base": some_answers(_BASE)})
    with pytest.raises(CompareError, match="is one run, others are several seeds"):
        compare.compare([several, one])


def test_runs_that_cannot_be_read_are_refused(write_run, tmp_path):
    one = write_run("one", {"base": some_answers(_BASE)})
    (tmp_path / "folder").mkdir()
    planted = write_run("planted", {"base": some_answers(_BASE)})
    written = tmp_path / "planted" / "results.json"
    written.write_text(json.dumps({"planted_reward": {}}))
    ungraded = write_run("ungraded", {"base": some_answers(_BASE)}, incomplete="2 exams have none")
    curated = tmp_path / "curated"
    with run_dir.open_run(curated, CONFIG | {"on": "tests"}) as directory:
        found = {"tasks": {"a": {"solved": 1.0}}, "solved": []}
        run_dir.write_json(directory.results_path, found)
    started = tmp_path / "started"
    run_dir.open_run(started, CONFIG).close()
    for runs, message in (
        ([one], "give two runs or more"),
        ([one, one], "was given twice"),
        ([one, str(tmp_path / "folder")], "folder is not the directory of a run"),
        ([one, str(started)], r"started holds an unfinished run \(no results.json\)"),
        ([one, ungraded], r"ungraded holds an unfinished run \(2 exams have none\)"),
        ([one, str(curated)], r"is a run of `curate`, which has no arms.*`report"),
        ([one, planted], "has no per-context results"),
        ([one, ","], "names no run"),
    ):
        with pytest.raises(CompareError, match=message):
            compare.compare(runs)
    written.write_text("{")
    with pytest.raises(results_file.DamagedError, match=r"planted/results\.json is damaged"):
        compare.compare([one, planted])


def test_the_command_prints_and_writes_json(write_run, tmp_path, capsys):
    one = write_run("one", {"base": some_answers(_BASE)})
    other = write_run("other", {"base": some_answers(_BETTER)})
    file = tmp_path / "found.json"
    arguments = ["compare", one, "--draws=300", other, f"--json={file}", "--seed=2"]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    found = json.loads(file.read_text())
    assert found == json.loads(json.dumps(compare.compare([one, other], draws=300, seed=2)))
    assert printed == compare_table.table(found) + "\n"
    assert cli.main(["compare", one]) == 2
    assert capsys.readouterr().err.startswith("error: give two runs or more")


class Puzzles(Task):
    """A task whose contexts have a metric as a whole."""

    name, context_word, question_word = "puzzles", "puzzle", "part"
    metrics = (
        Metric(name="solved", label="solved", share=True, per="context", failed=0.0),
        Metric(name="parts", label="parts"),
    )


def _puzzles(write_run, name, gain=0.0, ids="abc", **config):
    """A run of three puzzles of two parts in two arms, of which the second depends on the gain."""
    task = Puzzles(Settings())

    def mark(solved, parts, ll):
        answers = [
            {"question": f"part {k}", "parts": parts, "gold_log_likelihood": ll} for k in range(2)
        ]
        return {"answers": answers, "scores": {"solved": solved, "parts": None}}

    every = arms.table(task)
    found = [
        Outcome("base", every["base"], [[mark(0.0, 0.0, -9.0 - i)] for i in range(len(ids))]),
        Outcome("edit_before", every["edit_before"], [
            [
                mark(float(gain > 0 and m == 0), 0.25 * (i + m), -5.0 - i - m + gain)
                for m in range(2)
            ]
            for i in range(len(ids))
        ]),
    ]  # fmt: skip
    contexts = [dataclasses.replace(c, id=id, title=id) for c, id in zip(
        some_contexts(len(ids)), ids, strict=True)]  # fmt: skip
    config = {"task": "few_shot", **config}
    return write_run(name, contexts=contexts, config=config, task=task, outcomes=found)


def test_metrics_and_words_are_the_tasks_own(write_run, capsys):
    one = _puzzles(write_run, "one", 0.0, seed=1)
    other = _puzzles(write_run, "other", 2.0, seed=2)
    found = compare.compare([f"{one},{other}"], draws=200)
    assert (found["task"], found["contexts"], found["grader"]) == ("few_shot", 3, "local-1")
    names = ["solved", "parts", "gold_log_likelihood"]
    assert [metric["name"] for metric in found["metrics"]] == names
    found = compare.compare([one, other], draws=200, seed=0)
    assert found["arms"][other]["edit_before"]["solved"] == 0.5
    assert found["arms"][one]["edit_before"]["gold_log_likelihood"] == pytest.approx(-6.5)
    between = {(of["second"]["arm"], of["metric"]): of for of in found["between"]["intervals"]}
    assert len(between) == 6
    gained = between["edit_before", "gold_log_likelihood"]
    assert (gained["difference"], gained["questions"]) == (2.0, 6)
    assert between["edit_before", "solved"]["questions"] == 3  # of a puzzle as a whole
    assert cli.main(["compare", one, other, "--draws=200"]) == 0
    printed = capsys.readouterr().out
    assert "3 puzzles, 6 parts, grader local-1" in printed and "intervals over puzzles" in printed
    assert "edit_before, solved: +50.0 [" in printed
    assert "groups" not in printed and "contexts" not in printed


def test_runs_of_two_domains_are_refused_and_other_tasks_name_the_setting(write_run):
    one = _puzzles(write_run, "one")
    knowledge = write_run("knowledge", {"base": some_answers(_BASE)}, config={"task": "knowledge"})
    with pytest.raises(CompareError, match=r"one: few_shot, .*knowledge: knowledge"):
        compare.compare([one, knowledge])
    other = _puzzles(write_run, "other", ids="xyz", few_shot={"eval_tasks": ["x", "y", "z"]})
    with pytest.raises(CompareError, match=r"that choose contexts and differ: few_shot.eval_tasks"):
        compare.compare([one, other])


def _planted(write_run, seeds, *, of_seed, of_context):
    """Runs whose second arm gains what its seed and its contexts say, and noise beside."""
    rng = np.random.default_rng(5)
    gain_S, gain_C = rng.normal(0, of_seed, seeds), rng.normal(0, of_context, 12)
    contexts, runs = some_contexts(12, lambda c: f"article {c}"), []
    for seed in range(seeds):
        base = rng.normal(-6, 1, (12, 3))
        gained = base + gain_S[seed] + gain_C[:, None] + rng.normal(0, 0.5, base.shape)
        answers = {"base": some_answers(base.tolist()), "passage": some_answers(gained.tolist())}
        runs.append(write_run(f"{of_seed}{seed}", answers, contexts, config={"seed": seed}))
    return ",".join(runs)


@pytest.mark.parametrize(("of_seed", "of_context"), [(3.0, 0.2), (0.0, 3.0)])
def test_the_share_of_outer_seeds_is_told(write_run, of_seed, of_context):
    runs = _planted(write_run, 3, of_seed=of_seed, of_context=of_context)
    found = compare.compare([runs], draws=300)
    nats = found["within"]["intervals"][1]
    parts = OverSeeds(**nats["components"])
    shares = parts.shares()
    assert parts.detectable(3, 12) == pytest.approx(nats["detectable"], rel=0.05)
    assert (shares["seeds"] > 0.9, shares["contexts"] > 0.9) == (of_seed > 0, of_seed == 0)
    low, high = nats["interval"]
    assert low <= 0 <= high and nats["detectable"] > 0
    text = compare_table.table(found)
    assert f"of {nats['detectable']:.3f} nats is found in 4 of 5" in text
    assert f"variance: outer seeds {shares['seeds']:.0%}, contexts" in text
    more = "6 seeds" if of_seed else "24 contexts"
    assert re.search(rf"with {more} \d+\.\d{{3}} nats is found", text)


def test_self_edits_are_told_from_what_is_left(write_run):
    rng = np.random.default_rng(6)
    contexts, runs = some_contexts(12, lambda c: f"article {c}"), []
    for seed in range(3):
        edits = rng.normal(-6, 2, (12, 2, 1)) + rng.normal(0, 0.1, (12, 2, 3))
        base = some_answers(rng.normal(-6, 0.1, (12, 3)).tolist())
        each = [some_answers(edits[:, e].tolist()) for e in range(2)]
        several = [[a, b] for [a], [b] in zip(*each, strict=True)]
        answers = {"base": base, "edit_before": several}
        runs.append(write_run(f"e{seed}", answers, contexts, config={"seed": seed}))
    found = compare.compare([",".join(runs)], draws=300)
    parts = OverSeeds(**found["within"]["intervals"][1]["components"])
    assert parts.edit == pytest.approx(2.0, rel=0.4)  # 4 by two self-edits
    assert parts.rest < 0.3 * parts.edit


def test_single_runs_tell_what_would_be_found(write_run):
    one = write_run("one", {"base": some_answers(_BASE)})
    worse = [[-4.0, -6.0], [-5.0, -0.5], [-8.0], [-3.0, -1.0]]
    other = write_run("other", {"base": some_answers(worse)})
    found = compare.compare([one, other], draws=300)
    nats = found["between"]["intervals"][1]
    assert nats["detectable"] == intervals.detectable(worse, _BASE)
    assert nats["components"] is None
    text = compare_table.table(found)
    assert f"not resolved: a true difference of {nats['detectable']:.3f} nats is found" in text


def test_what_arms_cost_stands_beside_them(write_run):
    """12 and 24 s; of 7 answers 1 and then 2 are right: one more than in the base model."""
    runs = []
    for seed, seconds in enumerate((12.0, 24.0)):
        task = Task(Settings())
        outcomes = [outcome(task, "base", some_answers(_BASE))]
        adapted = outcome(task, "edit_after", some_answers(_BETTER))
        spent = {"trained_tokens": 1000 * (seed + 1), "steps": 10}
        outcomes.append(dataclasses.replace(adapted, recipe=spent))
        run = write_run(f"c{seed}", outcomes=outcomes, config={"seed": seed})
        timing = {"seconds": {"eval edit_after: adapt": seconds}, "replayed": []}
        (pathlib.Path(run) / "timing.json").write_text(json.dumps(timing))
        runs.append(run)
    found = compare.compare([",".join(runs)], draws=200)
    [arms_found] = found["arms"].values()
    assert arms_found["base"]["cost"] is None
    facts = (1 / 12 + 1 / 24) / 2 * 60
    assert arms_found["edit_after"]["cost"] == pytest.approx([1500, 10, 18, facts])
    text = compare_table.table(found)
    assert re.search(rf"^edit_after +R1 .* 1,500 +10 +18 +{facts:.2f}$", text, re.MULTILINE)
    assert re.search(r"^arm +run .* tokens +steps +seconds +facts a minute$", text, re.MULTILINE)


def test_an_arm_that_learns_all_contexts_together_has_trained_and_answered():
    metric = {"name": "accuracy", "label": "accuracy", "share": True, "per": "question"}
    arm = {"trained_tokens": 90, "sequences": 3, "accuracy": 0.5, "n_answers": 8}
    found = {"metrics": [metric], "arms": {"base": {"accuracy": 0.25}, "passage": arm}}
    seconds = {"eval passage: pretraining": 20.0, "eval passage: answers": 10.0}
    assert results.spent(found, seconds) == {"passage": results.Cost(90, None, 30.0, 4.0)}
    del seconds["eval passage: answers"]
    assert results.spent(found, seconds) == {"passage": results.Cost(90, None, None, None)}
