"""Stored texts as arms, on the tiny model: as `evaluate` has them, tuned, at equal compute."""

import json
import pathlib
import types

import pytest

from seal_jax import api
from seal_jax.loop import bench, comparison, evaluate, tuning
from seal_jax.loop import results as outcomes
from seal_jax.runs import ledger
from seal_jax.runs.run_dir import RunDirError
from seal_jax.settings import SettingsError, Tuning
from seal_jax.tasks import registry

SHORT, LONG = "It has a tower.", "It has mills.\nThe tower is red.\nIt lies by a river.\nIt is old."
_DOSE = Tuning(learning_rates=(1e-4, 3e-2), epochs=(1, 2), contexts=0)


def _rows(count, sources):
    return [
        {
            "passage": f"Place {i} lies by a river. It has {i + 3} mills and a red tower.",
            "title": f"place {i}",
            "questions": [
                {"question": f"What number {q} has place {i}?", "answer": f"tower {q}"}
                for q in range(2)
            ],
            "source": source,
            "edit": text,
        }
        for i in range(count)
        for source, text in sources.items()
    ]


def _written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def own(tiny_settings, change):
    """The tiny run's settings for stored texts."""
    return change(tiny_settings, {"data.eval_path": "", "evaluation.contexts": 0})


@pytest.fixture(scope="module")
def both(tiny_settings, change, tmp_path_factory):
    """An evaluation of the model's own self-edits, two of each passage; and a bench of these."""
    folder = tmp_path_factory.mktemp("both")
    arms = {"evaluation.arms": ("base", "passage", "edit_before")}
    settings = change(tiny_settings, {"evaluation.contexts": 4, "evaluation.edits": 2} | arms)
    results = evaluate.evaluate(settings, str(folder / "evaluate"), quiet=True)
    with ledger.Ledger(folder / "evaluate" / "ledger", read_only=True) as records:
        written = [e for s in records.segments("edits") for e in s.record["edits"]]
    rows = [
        {
            "passage": context.text,
            "title": context.title,
            "questions": [
                {"id": one.id, "question": one.text, "answer": one.answer}
                for one in context.questions
            ],
            "source": "own",
            "edit": [edit["text"] for edit in written if edit["context"] == context.id],
        }
        for context in registry.open_task(settings).contexts("eval")
    ]
    assert [len(row["edit"]) for row in rows] == [2] * 4
    stored = change(
        settings,
        {
            "data.eval_path": "",
            "data.edits": _written(folder / "own.jsonl", rows),
            "evaluation.arms": ("base", "passage"),
        },
    )
    return results, bench.bench(stored, str(folder / "bench"), tune=False, quiet=True)


def test_stored_edits_have_the_arms_that_evaluate_gives_them(both):
    evaluated, benched = both
    assert list(benched["arms"]) == ["base", "passage", "own"]
    assert evaluated["contexts"].keys() == benched["contexts"].keys()
    compared = 0
    for id, of in evaluated["contexts"].items():
        for name, other in (("base", "base"), ("passage", "passage"), ("edit_before", "own")):
            mine = benched["contexts"][id]["arms"][other]
            for metric in ("questions", "accuracy", "gold_log_likelihood", "empty"):
                assert mine[metric] == of["arms"][name][metric]
            compared += len(mine["gold_log_likelihood"])
    assert compared == 4 * 3 * 2
    matched = (evaluated["matched_minus_mismatched"]["edit_before"],
               benched["matched_minus_mismatched"]["own"])  # fmt: skip
    assert matched[0] == matched[1] and matched[0]["n_contexts"] == 4
    for key in ("trained_tokens", "steps", "trials", "unadapted_fallbacks"):
        assert evaluated["arms"]["edit_before"][key] == benched["arms"]["own"][key]


def test_words_that_answers_share_with_gold_ones_are_a_metric_of_stored_texts_alone(both):
    evaluated, benched = both
    assert [of["name"] for of in evaluated["metrics"]] == ["accuracy", "gold_log_likelihood"]
    assert [of["name"] for of in benched["metrics"]] == ["accuracy", "f1", "gold_log_likelihood"]
    assert all(0 <= of["f1"] <= 1 for of in benched["arms"].values())


@pytest.fixture(scope="module")
def tuned(own, change, tmp_path_factory):
    """(settings, workdir, results, printed) of two sources, with a dose and equal tokens."""
    folder = tmp_path_factory.mktemp("tuned")
    settings = change(
        own,
        {
            "data.edits": _written(
                folder / "edits.jsonl", _rows(8, {"short": SHORT, "long": LONG})
            ),
            "data.eval_part": "test",
            "data.development": 0.25,
            "tuning": _DOSE,
            "inner.max_sequences": 8,
            "evaluation.arms": ("base", "prompt", "passage"),
            "evaluation.equal": "tokens",
            "evaluation.unrelated": 2,
        },
    )
    return settings, folder / "run", bench.bench(settings, str(folder / "run"), quiet=True)


def _trials(workdir, stage):
    with ledger.Ledger(workdir / "ledger", read_only=True) as records:
        return [
            trial
            for segment in records.segments("trials")
            if segment.key.rpartition("/")[0] == stage
            for trial in segment.record["trials"]
        ]


def test_the_dose_is_tuned_on_articles_that_are_not_tested(tuned):
    _, workdir, results = tuned
    tested = set(results["contexts"])
    assert len(tested) == 6 and results["bench"]["development"] == 2
    with ledger.Ledger(workdir / "ledger", read_only=True) as records:
        tuning = {s.key: s.record["tried"] for s in records.segments("tuning")}
        stages = {s.key.rpartition("/")[0] for s in records.segments("trials")}
    assert set(tuning) == {"passage", "short", "long"}
    assert all(len(tried) == 4 for tried in tuning.values())
    for stage in stages:
        contexts = {trial["context"] for trial in _trials(workdir, stage)}
        assert contexts == tested if stage.startswith("eval") else contexts.isdisjoint(tested)
    for name, tried in tuning.items():
        arm = results["arms"][name]
        chosen = [t for t in tried if t["epochs"] == arm["epochs"]]
        assert max(chosen, key=lambda t: t["score"])["learning_rate"] == arm["learning_rate"]


def test_arms_at_equal_compute_share_the_epochs_that_are_best_on_average(own, change, monkeypatch):
    """Alone "a" is best at 1 epoch; the sums are -1 - 9 at 1 epoch and -1.5 - 5 at 2."""
    tries = {
        "a": {(1e-4, 1): -1.0, (3e-2, 1): -4.0, (1e-4, 2): -2.0, (3e-2, 2): -1.5},
        "b": {(1e-4, 1): -9.0, (3e-2, 1): None, (1e-4, 2): -5.0, (3e-2, 2): -6.0},
    }
    monkeypatch.setattr(
        tuning.Recipes,
        "_inner_tries",
        lambda self, name, arm: [
            {"learning_rate": rate, "epochs": epochs, "score": score}
            for (rate, epochs), score in tries[name].items()
        ],
    )
    chosen = {}
    for equal in ("tokens", "none"):
        changes = {"data.eval_part": "test", "tuning": _DOSE, "evaluation.equal": equal}
        session = types.SimpleNamespace(settings=change(own, changes))
        run = types.SimpleNamespace(session=session, say=lambda line: None)
        recipes = tuning.Recipes(run, {}, dict.fromkeys(tries))
        chosen[equal] = [recipes.inner(name, None) for name in tries]
    assert chosen == {"tokens": [(3e-2, 2), (1e-4, 2)], "none": [(1e-4, 1), (1e-4, 2)]}


def test_every_arm_spends_as_many_tokens_on_a_passage(tuned):
    _, workdir, results = tuned
    epochs = results["arms"]["long"]["epochs"]
    spent = {
        name: {t["context"]: t for t in _trials(workdir, f"eval {name}")}
        for name in ("passage", "short", "long")
    }
    for context, largest in spent["long"].items():
        assert largest["steps"] == 5 * epochs  # four lines and the passage
        for name, sequences in (("short", 2), ("passage", 1)):
            trial = spent[name][context]
            each = trial["trained_tokens"] * sequences // trial["steps"]  # of a pass
            assert trial["steps"] > sequences * epochs
            assert abs(trial["trained_tokens"] - largest["trained_tokens"]) <= each / 2
    total = results["arms"]["long"]["trained_tokens"]
    assert results["arms"]["short"]["trained_tokens"] == pytest.approx(total, rel=0.1)


def test_harm_is_how_much_less_likely_unrelated_texts_are(tuned):
    settings, workdir, results = tuned
    assert set(results["unrelated"]) == {"passage", "short", "long"}
    with ledger.Ledger(workdir / "ledger", read_only=True) as records:
        [before] = [s.record["loss"] for s in records.segments("unrelated")]
    after = [trial["unrelated"] for trial in _trials(workdir, "eval long")]
    rise = results["unrelated"]["long"]
    assert rise["difference"] == pytest.approx(sum(after) / len(after) - before)
    low, high = rise["interval"]
    assert low < rise["difference"] < high
    session = api.load(settings)
    [text, _] = session.unrelated(2)
    assert text == session.encode(session.task.contexts("train")[0].text)[: len(text)]


def test_sources_are_compared_with_each_other_and_with_the_passage(tuned):
    _, _, results = tuned
    found = results["bench"]
    first, second = found["sources"]
    likely = {name: results["arms"][name]["gold_log_likelihood"] for name in found["sources"]}
    assert likely[first] >= likely[second]
    pairs = [[first, second], [first, "passage"], [second, "passage"]]
    known = [one for one in found["comparisons"] if one["metric"] == "gold_log_likelihood"]
    assert [one["names"] for one in known] == pairs
    for one in known:
        a, b = (results["arms"][name]["gold_log_likelihood"] for name in one["names"])
        assert one["difference"] == pytest.approx(a - b)
        assert one["corrected"][0] <= one["interval"][0] < one["interval"][1] <= one["corrected"][1]
        assert one["detectable"] > 0
    costs = outcomes.costs(results, {"eval long: adapt": 12.4})
    rows = {line.split("  ")[0]: line for line in costs.splitlines()}
    arm = results["arms"]["long"]
    assert f"{arm['trained_tokens']:,}" in rows["long"] and "  12  " in rows["long"]
    facts = 60 / 12.4 * arm["n_answers"] * (arm["accuracy"] - results["arms"]["base"]["accuracy"])
    assert f"  {facts:.2f}  " in rows["long"] and "  12  " not in rows["short"]
    assert f"  {arm['learning_rate']:g} x {arm['epochs']}  " in rows["long"]
    said = comparison.said(results)
    assert said.startswith("dose: tuned on 2 other contexts; equal tokens\n")
    assert said.count("detectable: ") == 3


def test_the_same_command_goes_on_and_another_file_is_refused(tuned, tmp_path):
    settings, workdir, results = tuned
    (workdir / "results.json").unlink()
    segments = sorted((workdir / "ledger").iterdir())
    for segment in segments[-3:]:
        segment.unlink()
    file = pathlib.Path(settings.data.edits)
    content = file.read_text()
    file.write_text(content + "\n")
    with pytest.raises(RunDirError, match="edits_sha256"):
        bench.bench(settings, str(workdir), quiet=True)
    file.write_text(content)
    assert bench.bench(settings, str(workdir), quiet=True)["sha256"] == results["sha256"]


class TestPrepared:
    @pytest.fixture
    def settings(self, own, change, tmp_path):
        def make(rows, changes=()):
            tuning = {"data.eval_part": "test", "data.development": 0.25, "tuning": _DOSE}
            edits = {"data.edits": _written(tmp_path / "edits.jsonl", rows)}
            return change(own, edits | tuning | dict(changes))

        return make

    def test_sources_are_arms_beside_those_of_the_config(self, settings):
        given = settings(_rows(8, {"a": SHORT, "b": LONG}), {"evaluation.arms": ("base",)})
        found = bench.prepared(given)
        assert found.evaluation.arms == ("base", "a", "b")
        assert found.tuning == _DOSE and found.data.eval_part == "test"

    @pytest.mark.parametrize("count", [1, 5])
    def test_with_few_passages_the_dose_is_fixed(self, settings, count):
        found = bench.prepared(settings(_rows(count, {"a": SHORT})))
        assert not found.tuning.epochs and found.data.eval_part == "all"

    def test_passages_of_one_article_are_not_divided(self, settings):
        rows = [row | {"group": "one"} for row in _rows(8, {"a": SHORT})]
        assert not bench.prepared(settings(rows)).tuning.epochs

    def test_the_dose_can_be_fixed(self, settings):
        assert not bench.prepared(settings(_rows(8, {"a": SHORT})), tune=False).tuning.epochs


def test_one_passage_has_no_interval(own, change, tmp_path):
    path = _written(tmp_path / "edits.jsonl", _rows(1, {"a": SHORT}))
    with pytest.raises(SettingsError, match=r"at least 2 .* give a larger data\.edits"):
        bench.bench(change(own, {"data.edits": path}), str(tmp_path / "run"), quiet=True)
