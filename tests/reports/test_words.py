"""What is said of a run: paragraphs written by hand, for every way a run can come out."""

import pathlib
import types

from seal_jax.cli import ending
from seal_jax.loop.stage import Stage
from seal_jax.reports import run_records, words
from seal_jax.reports.records import StageRecords
from seal_jax.settings import config_dict
from seal_jax.tasks.protocol import Metric

from . import made_runs

_ACCURACY = {"name": "accuracy", "label": "accuracy", "share": True, "per": "question"}
_LIKELIHOOD = {"name": "gold_log_likelihood", "label": "gold log-likelihood", "share": False}
_LABELS = {
    "base": "base model",
    "passage": "passage only",
    "edit_before": "self-edit before RL",
    "edit_after": "self-edit after RL",
    "edit_random": "self-edit, M-step on random ones",
    "edit_after_base": "RL's self-edit, base learner",
    "edit_random_base": "random-selection self-edit, base learner",
    "policy": "RL policy, unadapted",
}


def _results(values, pairs, *, metrics=(_ACCURACY, _LIKELIHOOD), **changes):
    """results.json of contexts with one question each.

    Args:
      values: by arm, for each metric a value a context.
      pairs: by (second, first), for each metric a difference and an interval.
    """
    names = [metric["name"] for metric in metrics]
    count = len(next(iter(values.values()))[0])

    def mean(of):
        known = [value for value in of if value is not None]
        return sum(known) / len(known) if known else None

    learned = {"trained_tokens": 90, "learning_rate": 0.003, "epochs": 10}
    return {
        "metrics": [dict(metric, failed=None) | {"per": "question"} for metric in metrics],
        "words": {"context": "context", "question": "question"},
        "arms": {
            arm: {"label": _LABELS[arm], "ungraded_answers": of[0].count(None)}
            | dict(zip(names, map(mean, of), strict=True))
            | (learned if arm != "base" else {})
            for arm, of in values.items()
        },
        "pairs": [
            {"names": list(arms), "metric": name, "difference": difference, "interval": interval}
            for arms, of in pairs.items()
            for name, (difference, interval) in zip(names, of, strict=True)
        ],
        "contexts": {
            str(c): {
                "arms": {
                    arm: {name: [row[c]] for name, row in zip(names, of, strict=True)}
                    for arm, of in values.items()
                }
            }
            for c in range(count)
        },
        "rounds": [{}, {}],
        "config": {"edits": {"samples": 5}, "evaluation": {"edits": 2}},
    } | changes


_BASE = ([0.0, 0.0, 1.0, 0.0], [-9.0, -8.0, -7.0, -8.0])
_BEFORE = ([1.0, 0.0, 1.0, 1.0], [-6.0, -5.0, -4.0, -5.5])
_AFTER = ([1.0, 1.0, 1.0, 1.0], [-4.0, -3.0, -2.0, -3.0])


def test_a_clear_gain_with_a_control():
    found = _results(
        {"base": _BASE, "edit_before": _BEFORE, "edit_after": _AFTER, "edit_random": _BEFORE},
        {
            ("edit_after", "base"): [(0.75, [0.25, 1.0]), (5.0, [4.5, 5.5])],
            ("edit_after", "edit_before"): [(0.25, [-0.25, 0.75]), (2.125, [1.5, 2.75])],
            # The other way round: the control stands after SEAL's own in the table.
            ("edit_random", "edit_after"): [(-0.25, [-0.75, 0.25]), (-2.125, [-2.75, -1.5])],
        },
    )
    # The differences 0, 1, 0, 0 have a standard error of 0.5 / sqrt(4); with 3 degrees of freedom
    # 4.256 times as much is found in four of five runs: 106 points, more than there can be.
    changes = (
        "accuracy +25.0 points, 95 % interval [-25.0, +75.0], which includes zero, so it may be "
        "chance: no difference there can be is found in 4 of 5 such runs; log-likelihood of the "
        "right answers +2.12 nats, 95 % interval [+1.50, +2.75], which excludes zero: a gain."
    )
    assert words.of_results(found) == [
        "Adapting the model (self-edit after RL), on 4 contexts: "
        "accuracy rose from 25.0 % to 100.0 % (+75.0 "
        "points, 95 % interval [+25.0, +100.0], which excludes zero: a gain); the right answers "
        "became likelier (log-likelihood -8.00 nats to -3.00 nats: +5.00 nats, 95 % interval "
        "[+4.50, +5.50], which excludes zero: a gain).",
        "RL (2 rounds), self-edits and learner after RL against both before it, on 4 contexts: "
        f"{changes}",
        "RL (2 rounds), self-edits and learner after RL against the same training with chance in "
        f"the place of the reward, on 4 contexts: {changes}",
    ]
    assert words.next_step(found) == (
        "Next: other seeds: --config.seed=1 in another --workdir, then `seal compare`."
    )


def test_self_edits_stand_before_learners_and_say_where_their_chance_is():
    pairs = {
        ("edit_after_base", "base"): [(0.75, [0.25, 1.0]), (5.0, [4.5, 5.5])],
        ("edit_after_base", "edit_before"): [(0.25, [-0.25, 0.75]), (0.5, [-1.5, 2.75])],
        ("edit_after_base", "edit_random_base"): [(0.25, [0.25, 0.75]), (2.1, [1.5, 2.75])],
        ("edit_after", "edit_before"): [(0.25, [0.25, 0.75]), (2.1, [1.5, 2.75])],
        ("policy", "base"): [(-0.25, [-0.5, -0.25]), (-1.0, [-1.5, -0.5])],
    }
    names = ("edit_before", "edit_after_base", "edit_after", "edit_random_base", "policy")
    values = {"base": _BASE} | dict.fromkeys(names, _BEFORE) | {"edit_after_base": _AFTER}
    found = _results(values, pairs)
    # Of a context's mean: contexts 1, self-edits 6 / 2, questions 2 / 1, the rest 4 / (2 * 1).
    parts = {"context": 1.0, "edit": 6.0, "question": 2.0, "rest": 4.0, "edits": 2}
    for pair in found["pairs"]:
        if pair["metric"] == "gold_log_likelihood":
            pair["components"] = parts | {"questions": 1.0}
    adapting, editor, control, both, learner = words.of_results(found)
    assert adapting.startswith("Adapting the model (RL's self-edit, base learner), on 4 contexts")
    assert editor.startswith(
        "RL (2 rounds), RL's self-edits against the base model's, both learned by the base model, "
        "on 4 contexts: accuracy +25.0 points"
    )
    # 4.256 standard errors of sqrt((1 + 6/8 + 2 + 4/8) / 4), 2.997 of sqrt((1 + 3 + 2 + 2) / 16).
    assert editor.endswith(
        "Of the variance of that log-likelihood of the right answers, 12 % differences between "
        "contexts, 38 % the chance of one self-edit and its update, 25 % the choice of questions, "
        "25 % what is left: with 8 self-edits a context (now 2) 4.39 nats would be found, with 16 "
        "contexts 2.12 nats."
    )
    assert "with chance in the place of the reward, both learned by the base model" in control
    assert both.startswith("RL (2 rounds), self-edits and learner after RL against both before it")
    assert "Of the variance" not in control + both + learner
    assert learner == (
        "RL (2 rounds), the policy after RL against the base model, neither adapted, on 4 "
        "contexts: accuracy -25.0 points, 95 % interval [-50.0, -25.0], which excludes zero: a "
        "loss; log-likelihood of the right answers -1.00 nats, 95 % interval [-1.50, -0.50], which "
        "excludes zero: a loss."
    )
    assert words.next_step(found) == (
        "Next: measure finer: --config.evaluation.edits=8 (it was 2) and four times as many "
        "contexts; or more self-edits to choose from, --config.edits.samples=10."
    )


def test_no_difference_and_a_better_way():
    found = _results(
        {"base": _BASE, "passage": _AFTER, "edit_before": _BASE},
        {("edit_before", "base"): [(0.0, None), (0.0, None)]},
    )
    assert words.of_results(found) == [
        "Adapting the model (self-edit before RL), on 4 contexts: "
        "accuracy stayed at 25.0 % (+0.0 points, no "
        "interval: the same in every context); the right answers are as likely (log-likelihood "
        "-8.00 nats to -8.00 nats: +0.00 nats, no interval: the same in every context). Of all "
        "ways to adapt, this did best: passage only, 100.0 %.",
        "RL: no policy after RL was evaluated.",
    ]
    assert words.next_step(found) == (
        "Next: evaluate on four times as many contexts, which halves the intervals, or "
        "--config.inner.epochs=20 (it was 10)."
    )


def test_harm():
    found = _results(
        {"base": _AFTER, "edit_before": _BASE},
        {("edit_before", "base"): [(-0.75, [-1.0, -0.25]), (-5.0, [-5.5, -4.5])]},
    )
    [adapting, _] = words.of_results(found)
    assert adapting == (
        "Adapting the model (self-edit before RL), on 4 contexts: "
        "accuracy fell from 100.0 % to 25.0 % (-75.0 "
        "points, 95 % interval [-100.0, -25.0], which excludes zero: a loss); the right answers "
        "became less likely (log-likelihood -3.00 nats to -8.00 nats: -5.00 nats, 95 % interval "
        "[-5.50, -4.50], which excludes zero: a loss)."
    )
    assert words.next_step(found) == (
        "Next: a gentler update: --config.inner.learning_rate=0.001 (it was 0.003)."
    )
    directed = found["arms"]["edit_before"]
    del directed["learning_rate"]  # each self-edit says its own
    assert words.next_step(found).startswith("Next: evaluate on four times as many contexts")


def test_a_single_context():
    found = _results(
        {"base": ([0.0], [-9.0]), "edit_after": ([1.0], [-4.0]), "edit_before": ([1.0], [-4.5])},
        {
            ("edit_after", "base"): [(1.0, None), (5.0, None)],
            ("edit_after", "edit_before"): [(0.0, None), (0.5, None)],
        },
        rounds=[{}],
    )
    assert words.of_results(found) == [
        "Adapting the model (self-edit after RL), on 1 context: "
        "accuracy rose from 0.0 % to 100.0 % (+100.0 "
        "points, no interval: one context alone); the right answers became likelier "
        "(log-likelihood -9.00 nats to -4.00 nats: +5.00 nats, no interval: one context alone).",
        "RL (1 round), self-edits and learner after RL against both before it, on 1 context: "
        "accuracy +0.0 points, no interval: one context alone; log-likelihood of the right answers "
        "+0.50 nats, no interval: one context alone.",
        "No control was run: training on any of the self-edits might do the same.",
    ]
    assert words.next_step(found) == (
        "Next: evaluate on more contexts: one says nothing about others."
    )


def test_answers_that_nobody_graded():
    nothing = [None, None]
    found = _results(
        {"base": (nothing, [-9.0, -8.0]), "edit_before": (nothing, [-6.0, -4.0])},
        {("edit_before", "base"): [(None, None), (3.5, [-2.9, 9.9])]},
        incomplete="4 exams could not be graded for want of a judge",
    )
    [adapting, _] = words.of_results(found)
    assert adapting == (
        "Adapting the model (self-edit before RL), on 2 contexts: "
        "accuracy is not graded; the right answers "
        "became likelier (log-likelihood -8.50 nats to -5.00 nats: +3.50 nats, 95 % interval "
        "[-2.90, +9.90], which includes zero, so it may be chance: a true difference of at least "
        "8.17 nats is found in 4 of 5 such runs). 4 answers of the two are not "
        "graded, and do not count."
    )
    assert words.next_step(found) == (
        "Next: mend what the judge needs; the same command grades what is left, and trains nothing."
    )


def test_arms_that_were_left_out():
    pairs = {("edit_after", "edit_before"): [(0.25, [0.1, 0.4]), (2.125, [1.5, 2.75])]}
    without_base = _results({"edit_before": _BEFORE, "edit_after": _AFTER}, pairs)
    assert words.of_results(without_base)[0] == (
        "What adapting (self-edit after RL) gained is not known: the unadapted model was not asked."
    )
    only_after = _results(
        {"base": _BASE, "edit_after": _AFTER},
        {("edit_after", "base"): [(0.75, [0.25, 1.0]), (5.0, [4.5, 5.5])]},
    )
    assert words.of_results(only_after)[1] == (
        "Self-edits before RL were not evaluated, so what RL added is not known."
    )
    assert words.of_results(_results({"base": _BASE}, {})) == [
        "No adapted model was evaluated.",
        "RL: no policy after RL was evaluated.",
    ]
    assert words.of_results({"config": {}}) == ["Nothing was evaluated."]


def test_a_planted_reward_and_curate():
    planted = {"before": 0.01, "after": 0.05, "difference": 0.04, "interval": [0.03, 0.05]}
    assert words.of_results({"planted_reward": planted}) == [
        "RL: planted reward rose from 0.0100 to 0.0500 (+0.0400, 95 % interval [+0.0300, +0.0500], "
        "which excludes zero: a gain)."
    ]
    curated = {"filter": "tests", "solved": ["a"], "tasks": {"a": {}, "b": {}}, "recipe": "{}"}
    assert words.of_results(curated) == ["1 of 2 are solved after training as {} says."]


def test_the_continual_experiment():
    def kept(value, interval):
        return {"value": value, "interval": interval}

    found = {
        "sequences": [["a", "b"]] * 3,
        "continual": {
            "none": {
                "summary": {
                    "accuracy": {
                        "start": None, "own": None, "end": None, "retained_share": kept(None, None)
                    },
                    "gold_log_likelihood": {
                        "start": -9.0, "own": -4.0, "end": -6.0,
                        "own_gain": kept(5.0, [3.0, 7.0]),
                        "retained_share": kept(0.6, [0.5, 0.75]),
                    },
                }
            }
        },
    }  # fmt: skip
    assert words.of_results(found) == [
        "Learning a passage (mitigation none): accuracy is not graded; the right answers became "
        "likelier (log-likelihood -9.00 nats to -4.00 nats: +5.00 nats, 95 % interval [+3.00, "
        "+7.00], which excludes zero: a gain); at the end of the sequence -6.00 nats, which keeps "
        "0.60 [0.50, 0.75] of the gain."
    ]


def test_arc_has_words_of_its_own():
    solved = {"name": "solved", "label": "solved", "share": True}
    graded = {"name": "graded", "label": "graded", "share": False}
    found = _results(
        {
            "base": ([0.0, 0.0], [0.5, 0.5], [-9.0, -8.0]),
            "edit_after": ([1.0, 0.0], [1.0, 0.5], [-4.0, -5.0]),
            "edit_before": ([0.0, 0.0], [0.5, 0.5], [-5.0, -5.0]),
        },
        {
            ("edit_after", "base"): [(0.5, [-5.9, 6.9]), (0.25, None), (4.0, [-8.7, 16.7])],
            ("edit_after", "edit_before"): [(0.5, [-5.9, 6.9]), (0.25, None), (0.5, [-5.9, 6.9])],
        },
        metrics=(solved, graded, _LIKELIHOOD),
        words={"context": "task", "question": "test"},
    )
    assert words.of_results(found)[:2] == [
        "Adapting the model (self-edit after RL), on 2 tasks: "
        "solved rose from 0.0 % to 50.0 % (+50.0 points, "
        "95 % interval [-590.0, +690.0], which includes zero, so it may be chance: no difference "
        "there can be is found in 4 of 5 such runs); the right answers became likelier "
        "(log-likelihood -8.50 nats to -4.50 nats: +4.00 nats, 95 % interval [-8.70, +16.70], "
        "which includes zero, so it may be chance: a true difference of at least 16.33 nats is "
        "found in 4 of 5 such runs).",
        "RL (2 rounds), self-edits and learner after RL against both before it, on 2 tasks: solved "
        "+50.0 points, 95 % interval [-590.0, +690.0], which includes zero, so it may be chance: "
        "no difference there can be is found in 4 of 5 such runs; log-likelihood of the right "
        "answers +0.50 nats, 95 % interval [-5.90, +6.90], which includes zero, so it may be "
        "chance: a true difference of at least 8.17 nats is found in 4 of 5 such runs.",
    ]


def test_settings_that_are_named_exist():
    source = (words.__file__,)
    with open(*source, encoding="utf-8") as file:
        named = {text.split("=")[0].split()[0] for text in file.read().split("--config.")[1:]}
    assert len(named) > 5 and named <= set(config_dict.all_keys())


def test_a_run_as_it_is_recorded(tmp_path):
    run = run_records.read(str(made_runs.knowledge(tmp_path / "run")))
    [adapting, rl, question, following] = words.of_run(run)
    assert adapting.startswith(
        "Adapting the model (self-edit before RL), on 2 contexts: accuracy rose from "
    )
    mean = run.results["arms"]["edit_before"]["accuracy"]
    assert f"to {100 * mean:.1f} % (+12.5 points, 95 % interval [-5.0, +31.2]" in adapting
    assert rl == "RL: no policy after RL was evaluated."
    [which, asked, before, after, right] = question.splitlines()
    assert which.startswith("The question that gained most, of held out article ")
    questions = {one.text: one for of in run.contexts.values() for one in of.questions}
    assert right == f"  right:  {questions[asked.strip()].answer}"
    assert before.startswith("  before: ") and before.endswith("(wrong)")
    assert after.startswith("  after:  ") and after.endswith("(right)")
    assert following.startswith("Next: ")


def test_a_question_of_the_continual_experiment():
    def answers(text, correct):
        return {"context": "a", "answers": [{"question": "q", "text": text, "correct": correct}]}

    start = StageRecords(Stage(kind="continual", what="start"))
    learned = StageRecords(
        Stage(kind="continual", what="none"),
        trials=[answers("Ida  Thorne", True), answers("later", True)],
        answers={"a": answers("", None)},
    )
    stages = {of.name: of for of in (start, learned)}
    run = types.SimpleNamespace(
        continual=True, stages=stages, metrics=[Metric(**_ACCURACY)], contexts={}, results={}
    )
    assert words.one_question(run) == (
        "The question that gained most, of a:\n  q\n  before: (empty) (not graded)\n"
        "  after:  Ida Thorne (right)"
    )
    del stages[learned.name]
    assert words.one_question(run) == ""


def test_the_documented_paragraphs():
    docs = pathlib.Path(__file__).parents[2] / "docs"
    run = run_records.read(str(docs / "runs" / "directives"))
    shown = "\n\n".join(ending.wrapped(text, 100) for text in words.of_run(run)[:2])
    assert f"```\n{shown}\n```" in (docs / "report.md").read_text()


def test_a_run_without_results_says_nothing(tmp_path):
    folder = made_runs.knowledge(tmp_path / "run", finished=False)
    assert words.of_run(run_records.read(str(folder))) == []


def test_grids_are_rows_of_digits(tmp_path):
    folder = made_runs.few_shot(tmp_path / "run", adapted=[[5, 4], [0, 1]])
    assert words.one_question(run_records.read(str(folder))) == (
        "The question that gained most, of ee:\n  test 1\n  before: (empty) (wrong)\n"
        "  after:  54 01 (wrong)"
    )


def test_the_end_writes_the_report_and_fails_nothing(tmp_path, capsys):
    folder = made_runs.knowledge(tmp_path / "run")
    ending.tell(str(folder), quiet=False)
    printed = capsys.readouterr()
    assert printed.out.startswith(
        "\nWhat came of it\n\nAdapting the model (self-edit before RL), on "
    )
    assert printed.out.endswith(f"\n\nreport: {folder}/report.html\n") and not printed.err
    assert "What came of it" in (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    ending.tell(str(folder), quiet=True)
    assert (folder / "report.html").exists() and capsys.readouterr() == ("", "")
    (folder / "report.html").write_text("mine")
    ending.tell(str(folder), quiet=False)
    printed = capsys.readouterr()
    assert "is no report: it was not touched" in printed.err and not printed.out
    assert f"`seal report --workdir={folder}`" in printed.err
    assert (folder / "report.html").read_text() == "mine"


def _compared(names, difference, corrected, detectable=0.5):
    return {
        "names": list(names), "metric": "gold_log_likelihood", "difference": difference,
        "interval": corrected, "corrected": corrected, "detectable": detectable,
    }  # fmt: skip


def _benched(best_over_other, **changes):
    values = {"base": _BASE, "passage": _BEFORE, "gpt": _AFTER, "own": _BEFORE}
    found = _results(
        {"base": _BASE, "passage": _BEFORE},
        {("gpt", "base"): [(0.75, [0.25, 1.0]), (5.0, [4.5, 5.5])]},
        bench={
            "sources": ["gpt", "own"],
            "equal": "tokens",
            "development": 3,
            "comparisons": [
                _compared(("gpt", "own"), *best_over_other),
                _compared(("gpt", "passage"), 2.125, [1.0, 3.25], 0.75),
                _compared(("own", "passage"), 0.0, None, None),
                {**_compared(("gpt", "own"), 9.0, [8.0, 10.0]), "metric": "accuracy"},
            ],
        },
    )
    labels = _LABELS | {"gpt": "gpt", "own": "own"}
    for name in ("gpt", "own"):
        scores = zip(("accuracy", "gold_log_likelihood"), values[name], strict=True)
        found["arms"][name] = found["arms"]["passage"] | {
            "label": labels[name], **{metric: sum(of) / 4 for metric, of in scores},
        }  # fmt: skip
        for c, of in found["contexts"].items():
            both = (values[name][0][int(c)], values[name][1][int(c)])
            of["arms"][name] = {"accuracy": [both[0]], "gold_log_likelihood": [both[1]]}
    return found | changes


def test_sources_of_texts_that_differ():
    found = _benched((2.125, [1.5, 2.75]))
    assert words.headline(found) == "gpt"
    adapting, sources, passage, how = words.of_results(found)
    assert adapting.startswith("Adapting the model (gpt), on 4 contexts: accuracy rose from 25.0 %")
    assert sources == (
        "Of 2 sources 'gpt' teaches most (log-likelihood of the right answers: against 'own' +2.12 "
        "nats, 95 % interval [+1.50, +2.75], which excludes zero: a gain)."
    )
    assert passage == (
        "Against repeating the passage: 'gpt' +2.12 nats, 95 % interval [+1.00, +3.25], which "
        "excludes zero: a gain; 'own' +0.00 nats, no interval: the same in every context."
    )
    assert how == (
        "Every arm spent as many tokens on a passage, with its dose tuned on 3 other contexts. The "
        "intervals hold together for all 3 comparisons of the log-likelihood."
    )
    assert words.next_step(found) == (
        "Next: another model or seed in another --workdir, to see whether it holds there."
    )


def test_sources_of_texts_that_do_not_differ():
    found = _benched((0.125, [-1.5, 1.75]))
    found["bench"] |= {"equal": "none", "development": 0}
    _, sources, _, how = words.of_results(found)
    assert sources.startswith("Of 2 sources 'gpt' comes out best, and is not shown to teach more (")
    assert "so it may be chance: a true difference of at least 0.50 nats is found" in sources
    assert how.startswith("Every arm spent as many epochs on a passage, with its dose fixed.")
