"""Every arm of the evaluation on a tiny model: who wrote what, who learned it, and how long."""

import json
import shutil

import numpy as np
import pytest
from knowledge_tasks import knowledge_task

from seal_jax.loop import arms, evaluate, m_step, preflight, train
from seal_jax.runs import ledger, run_dir
from seal_jax.settings import Settings, Tuning, config_files
from seal_jax.tasks import registry
from seal_jax.tasks.knowledge import entity_graph, instructed

ARMS = (
    "base",
    "prompt",
    "passage",
    "passage_steps",
    "teacher",
    "entity_graph",
    "edit_before",
    "edit_after",
    "edit_after_base",
    "edit_before_policy",
    "edit_random",
    "edit_longest",
)
ROWS = [
    "base",
    "prompt",
    "passage",
    "passage_steps",
    "teacher",
    "entity_graph",
    "edit_before",
    "policy",
    "edit_before_policy",
    "edit_after_base",
    "edit_after",
    "policy_random",
    "edit_random",
    "policy_longest",
    "edit_longest",
]
ADAPTED = [name for name in ROWS if name not in ("base", "prompt") and "policy_" not in name]


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory, tiny_settings):
    """Three lines of a teacher about every evaluation passage."""
    task = registry.open_task(tiny_settings)
    path = tmp_path_factory.mktemp("teacher") / "texts.jsonl"
    rows = [
        {"context": context.id, "completion": "It has mills.\nIt has a tower.\nIt is red."}
        for context in task.contexts("eval")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def settings(tiny_settings, change, teacher_file):
    return change(
        tiny_settings,
        {
            "data.eval_part": "test",
            "teacher.file": str(teacher_file),
            "answers.prompt_buckets": (128, 256),
            "evaluation.arms": ARMS,
            "evaluation.entity_pairs": 1,
        },
    )


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("arms") / "run"
    check = preflight.check

    def checked(run, **how):
        ready = check(run, **how)
        _PLANNED.update(run.whole.planned)
        return ready

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preflight, "check", checked)
        return workdir, train.train(settings, str(workdir), quiet=True)


_PLANNED = {}  # of that run, by preflight


@pytest.fixture(scope="module")
def records(finished):
    with ledger.Ledger(finished[0] / "ledger", read_only=True) as opened:
        yield opened


def _trials(records, stage):
    """The trials of a stage by (context, index)."""
    found = {}
    for segment in records.segments("trials"):
        if segment.key.rpartition("/")[0] == stage:
            found |= {(t["context"], t["index"]): t for t in segment.record["trials"]}
    return found


def test_every_arm_and_each_learners_unadapted_row_is_reported(finished):
    _, results = finished
    assert list(results["arms"]) == ROWS
    assert len(results["pairs"]) == 2 * len(ROWS) * (len(ROWS) - 1) // 2
    assert set(results["matched_minus_mismatched"]) == set(ADAPTED) - {"policy"}
    assert results["grader"].startswith("local")
    beliefs = {name: arm["gold_log_likelihood"] for name, arm in results["arms"].items()}
    assert beliefs["prompt"] != beliefs["base"], "the passage stands in the prompt"


def test_the_stages_are_those_that_were_planned(finished, records):
    seconds = json.loads((finished[0] / "timing.json").read_text())["seconds"]
    ran = [name for name in seconds if name != "total"]
    # What sources ask for is not known before.
    assert set(ran) - set(_PLANNED) == {"eval entities: sample"} and set(_PLANNED) <= set(ran)
    for name, (unit, count) in _PLANNED.items():
        if unit == "edit":
            assert len(_trials(records, name.removesuffix(": adapt"))) == count, name


def test_editors_and_learners_are_told_apart(finished, records):
    answers = {
        arm: [
            (trial["texts"], trial["gold_log_likelihoods"])
            for trial in _trials(records, f"eval {arm}").values()
        ]
        for arm in ("edit_before", "edit_before_policy", "edit_after_base", "edit_after")
    }
    assert all(len(of) == 2 for of in answers.values())
    for one, other in (
        ("edit_before", "edit_before_policy"),  # other learner
        ("edit_before", "edit_after_base"),  # other editor
        ("edit_after", "edit_after_base"),
        ("edit_after", "edit_before_policy"),
    ):
        assert answers[one] != answers[other]
    losses = {
        arm: [trial["first_loss"] for trial in _trials(records, f"eval {arm}").values()]
        for arm in answers
    }
    # A new delta changes nothing, so the first loss is the learner's own on the editor's text.
    assert losses["edit_before"] != losses["edit_before_policy"]
    written = [s.key for s in records.segments("edits") if s.key.startswith("eval edits ")]
    assert sorted(written) == [
        f"eval edits {editor}/0" for editor in ("base", "longest", "policy", "random")
    ]


def test_reading_and_repeating_the_passage_are_compared_by_default():
    rows = arms.rows(knowledge_task(), Settings().evaluation.arms, ["base", "policy"])
    assert rows["prompt"].view == "reading" and rows["passage"].source == "passage"
    without = config_files.made("knowledge:squad").evaluation.arms
    assert "prompt" not in without, "a published experiment has the arms that it had"


def test_the_sweep_of_tokens_is_of_the_largest_text_in_every_arm(tiny_settings, change, tmp_path):
    [equal], sizes = config_files.load(config_files.find("knowledge")[0]).SWEEPS["tokens"].values()
    trained = {}
    for times in sizes:
        names = ("passage", "edit_before")
        how = {"inner.epochs": times, "evaluation.equal": equal, "evaluation.arms": names}
        workdir = str(tmp_path / str(times))
        of = evaluate.evaluate(change(tiny_settings, how), workdir, quiet=True)["arms"]
        trained[times] = [of[name]["trained_tokens"] for name in names]
    for times, (passage, edit) in trained.items():
        assert edit == times * trained[1][1]  # it has the passage in it, so it is the larger one
        assert passage == pytest.approx(edit, rel=0.5 if times == 1 else 0.1)  # whole epochs


def test_passage_steps_takes_the_steps_of_the_self_edit(records):
    own = _trials(records, "eval edit_before")
    passage = _trials(records, "eval passage_steps")
    assert own.keys() == passage.keys()
    assert [own[key]["steps"] for key in own] == [passage[key]["steps"] for key in own]
    assert any(trial["steps"] > 3 for trial in own.values()), "more than the passage's 3 epochs"


def test_the_teachers_lines_and_the_passage_are_trained_on(records):
    trials = _trials(records, "eval teacher")
    assert [trial["sequences"] for trial in trials.values()] == [4, 4]


def test_controls_select_without_a_reward_and_train_policies_of_their_own(finished, records):
    workdir, results = finished
    texts = {}
    for segment in records.segments("edits"):
        for edit in segment.record["edits"]:
            texts[segment.key.rpartition("/")[0], edit["context"], edit["index"]] = edit["text"]
    for number, own in ((1, "round 1"), (2, "longest round 2")):
        selection = records.find("selection", f"longest round {number}")
        for context, weights in zip(selection["contexts"], selection["weights"], strict=True):
            lengths = [len(texts[own, context, m]) for m in range(4)]
            assert sum(weights) == 1 and lengths[np.argmax(weights)] == max(lengths)
    # The first round selects from SEAL's own self-edits, so nothing is sampled for it.
    assert not any(stage in ("random round 1", "longest round 1") for stage, *_ in texts)
    assert any(stage == "random round 2" for stage, *_ in texts)
    for line in ("random", "longest"):  # no reward is known, and none is recorded
        with ledger.Ledger(workdir / "ledger", read_only=True) as found:
            selection = found.find("selection", f"{line} round 1")
        assert {reward for of in selection["rewards"] for reward in of} == {None}
        assert sum(map(sum, selection["weights"])) > 0
    for line in ("checkpoints", "checkpoints-random", "checkpoints-longest"):
        assert sorted(p.name for p in (workdir / line).iterdir() if p.is_dir()) == ["1", "2"]
    likelihoods = {results["arms"][arm]["gold_log_likelihood"] for arm in ROWS if "polic" in arm}
    assert len(likelihoods) == 4


def test_a_controls_self_edits_may_be_learned_by_the_base_model(settings):
    assert arms.controls(["base", "edit_random_base", "edit_after"]) == ["random"]
    task = registry.open_task(settings)
    found = arms.rows(task, ["base", "edit_random_base"], ["base", "policy", "random"])
    assert list(found) == ["base", "edit_random_base"]  # no learner but the base
    assert (found["edit_random_base"].editor, found["edit_random_base"].learner) == (
        "random",
        "base",
    )
    assert list(arms.rows(task, ["base", "edit_random_base"], ["base", "policy"])) == ["base"]


def test_a_restored_policy_is_seals_and_not_a_controls(finished, settings, change, tmp_path):
    workdir, results = finished
    kept = change(settings, {"evaluation.arms": ("edit_after", "edit_after_base", "edit_random")})
    again = evaluate.evaluate(kept, str(tmp_path), policy_from=str(workdir), quiet=True)
    assert list(again["arms"]) == ["policy", "edit_after_base", "edit_after"]
    assert all(again["arms"][name] == results["arms"][name] for name in again["arms"])


def test_the_policy_of_an_earlier_round_can_be_evaluated(
    finished, settings, change, tmp_path, records
):
    workdir, results = finished
    kept = change(settings, {"evaluation.arms": ("edit_after",)})
    first = evaluate.evaluate(
        kept, str(tmp_path / "1"), policy_from=str(workdir), policy_version=1, quiet=True
    )
    assert first["arms"]["policy"] != results["arms"]["policy"]
    with pytest.raises(ValueError, match="holds 2 policies"):
        evaluate.evaluate(
            kept, str(tmp_path / "3"), policy_from=str(workdir), policy_version=3, quiet=True
        )


def test_self_edits_of_another_run_are_used_again(finished, settings, change, tmp_path, records):
    workdir, results = finished
    changed = change(
        settings,
        {
            "edits.from_run": str(workdir),
            "inner.epochs": 2,
            "restem.rounds": 1,
            "evaluation.arms": ("edit_before", "edit_after"),
        },
    )
    other = train.train(changed, str(tmp_path / "other"), quiet=True)
    with ledger.Ledger(tmp_path / "other" / "ledger", read_only=True) as found:
        for segment in found.segments("edits"):
            assert segment.record["edits"] == records.find("edits", segment.key)["edits"]
    assert other["arms"]["edit_before"] != results["arms"]["edit_before"]
    with pytest.raises(ValueError, match=r"has no text .* in its stage 'round 1'"):
        train.train(change(changed, {"seed": 5}), str(tmp_path / "seed"), quiet=True)
    shutil.copytree(workdir / "ledger", tmp_path / "foreign" / "ledger")
    config = json.loads((workdir / "config.json").read_text())
    config["config"]["model"]["path"] = "another-model"
    (tmp_path / "foreign" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"are by model\.path='another-model'"):
        foreign = change(changed, {"edits.from_run": str(tmp_path / "foreign")})
        train.train(foreign, str(tmp_path / "by another"), quiet=True)
    with pytest.raises(ValueError, match="is not the directory of a run"):
        nowhere = change(changed, {"edits.from_run": str(tmp_path / "nowhere")})
        train.train(nowhere, str(tmp_path / "none"), quiet=True)


def test_the_entity_graph_writes_about_pairs_and_triples(settings, change, tmp_path, monkeypatch):
    """With the entities that the tiny model cannot name."""
    names = ["river", "mills", "red tower"]
    monkeypatch.setattr(entity_graph, "parse_entities", lambda *_, **__: names)
    few = {
        "evaluation.arms": ("entity_graph",),
        "evaluation.entity_pairs": 2,
        "evaluation.entity_triples": 1,
        "edits.prompt_buckets": (512,),
        "restem.rounds": 0,
        "inner.max_sequences": 6,
    }
    train.train(change(settings, few), str(tmp_path), quiet=True)
    with ledger.Ledger(tmp_path / "ledger", read_only=True) as found:
        written = [
            edit["context"]
            for segment in found.segments("edits")
            if segment.key.startswith("eval relations/")
            for edit in segment.record["edits"]
        ]
        trials = _trials(found, "eval entity_graph")
    assert len(written) == len(set(written)) == 2 * 3
    assert all(any(name in one for name in names) for one in written)
    assert sum("river, mills and red tower" in one for one in written) == 2
    # Three texts and the passage; a text of white space only is none.
    assert [trial["sequences"] for trial in trials.values()] == [4, 4]


def test_texts_are_written_to_instructions(settings, change, tmp_path, monkeypatch):
    """With instructions that the tiny model cannot give."""
    listed = ["Ask about the mills.", "Tell it backwards."]
    monkeypatch.setattr(instructed, "instructions", lambda _: listed)
    arms = ("sentences", "several_prompts", "study_strategies", "own_prompts")
    few = {
        "evaluation.arms": arms,
        "evaluation.edits": 3,
        "edits.prompt_buckets": (768,),
        "restem.rounds": 0,
    }
    results = train.train(change(settings, few), str(tmp_path), quiet=True)
    with ledger.Ledger(tmp_path / "ledger", read_only=True) as found:
        texts = {}
        for segment in found.segments("edits"):
            stage = segment.key.partition("/")[0]
            texts.setdefault(stage, []).extend(e["context"] for e in segment.record["edits"])
        trials = {arm: _trials(found, f"eval {arm}") for arm in arms}
    assert {stage: len(of) for stage, of in texts.items()} == {
        "eval several_prompts": 2 * 3,
        "eval strategies": 2,
        "eval study_strategies": 2 * 3,
        "eval instructions": 1,
        "eval own_prompts": 2 * 3,
    }
    assert {arm: len(of) for arm, of in trials.items()} == dict.fromkeys(arms[1:], 6) | {
        "sentences": 2
    }
    assert all(results["arms"][arm]["accuracy"] is not None for arm in arms)


def test_each_arm_is_tuned_on_development_articles(settings, change, tmp_path):
    rates, epochs = (1e-3, 3e-2), (1, 3)
    tuned = change(
        settings,
        {
            "tuning": Tuning(learning_rates=rates, epochs=epochs, contexts=2),
            "restem.rounds": 1,
            "evaluation.arms": ("passage", "edit_before", "edit_after"),
        },
    )
    results = train.train(tuned, str(tmp_path), quiet=True)
    with ledger.Ledger(tmp_path / "ledger", read_only=True) as found:
        for arm in tuned.evaluation.arms:
            tried = found.find("tuning", arm)["tried"]
            grid = [(t["learning_rate"], t["epochs"]) for t in tried]
            assert grid == [(rate, count) for rate in rates for count in epochs]
            best = max(tried, key=lambda t: t["score"])
            assert len({t["score"] for t in tried}) == 4
            for name in ("learning_rate", "epochs"):
                assert results["arms"][arm][name] == best[name]
        stages = {s.key.rpartition("/")[0]: s.record for s in found.segments("trials")}
    dev = {t["context"] for name, r in stages.items() if "tune" in name for t in r["trials"]}
    final = {t["context"] for name, r in stages.items() if "eval" in name for t in r["trials"]}
    assert len(dev) == len(final) == 2 and not dev & final


@pytest.mark.parametrize("kind", ["low_rank", "dense"])
def test_continued_pretraining_learns_all_passages_at_once(
    kind, settings, change, tmp_path, monkeypatch
):
    corpus = change(
        settings,
        {
            "evaluation.form": "corpus",
            "evaluation.edits": 2,
            "evaluation.arms": ("base", "passage", "passage_steps", "teacher", "edit_before"),
            "evaluation.entity_pairs": 1,
            "corpus.kind": kind,
            "corpus.epochs": 2,
            "corpus.learning_rate": 3e-3,
            "corpus.batch_size": 2,
            "corpus.buckets": (64, 256),
            "restem.rounds": 0,
        },
    )
    trained, plain = [], m_step.train

    def learn(run, params, rows, recipe, *, stage, **named):
        delta, metrics = plain(run, params, rows, recipe, stage=stage, **named)
        trained.append((stage.name, rows, [m["loss"] for m in metrics], delta))
        return delta, metrics

    monkeypatch.setattr(m_step, "train", learn)
    workdir = tmp_path / "run"
    results = train.train(corpus, str(workdir), quiet=True)
    found = {stage: (rows, losses, delta) for stage, rows, losses, delta in trained}
    assert list(found) == [f"eval {arm}" for arm in corpus.evaluation.arms[1:]]
    # Two passages: alone; with two self-edits each, and the passage once per self-edit (paper v1).
    counts = {stage: len(rows) for stage, (rows, *_) in found.items()}
    assert counts["eval passage"] == 2
    assert counts["eval edit_before"] == counts["eval passage_steps"] == 8
    for rows, losses, delta in found.values():
        assert losses[-1] < losses[0]
        assert all(row.prompt_length == 1 for row in rows)
        assert ("embed" in delta.tree) == (kind == "dense")
    arms = results["arms"]
    assert arms["passage"]["trained_tokens"] == 2 * sum(
        len(row.tokens) for row in found["eval passage"][0]
    )
    assert arms["passage"]["gold_log_likelihood"] != arms["base"]["gold_log_likelihood"]
    # A run whose answers are all known trains nothing anew.
    (workdir / "results.json").unlink()
    monkeypatch.setattr(m_step, "train", None)
    assert train.train(corpus, str(workdir), quiet=True) == results


def test_a_format_without_a_self_edit_has_none_to_sample(settings, change, tmp_path):
    none = change(settings, {"prompts.edit_format": "none", "restem.rounds": 0})
    with pytest.raises(ValueError, match=r"evaluation\.arms"):
        train.train(none, str(tmp_path / "a"), quiet=True)
    kept = change(none, {"evaluation.arms": ("base", "prompt", "passage")})
    results = train.train(kept, str(tmp_path / "b"), quiet=True)
    assert list(results["arms"]) == ["base", "prompt", "passage"]
    with pytest.raises(ValueError, match=r"restem\.rounds"):
        train.train(change(kept, {"restem.rounds": 1}), str(tmp_path / "c"), quiet=True)
    assert run_dir.read_config(str(tmp_path / "b"))["prompts"]["edit_format"] == "none"
