"""The ARC domain end to end on a tiny random model: arms, counts, resume, leaks, refusals."""

import dataclasses
import json
import re
import shutil

import jax
import numpy as np
import pytest
from tiny_puzzles import TEST_WIDTH

from seal_jax.loop import (
    answering,
    arms,
    attempt,
    curate,
    evaluate,
    inner_loop,
    m_step,
    results,
    sample,
)
from seal_jax.loop import session as session_lib
from seal_jax.loop.continual import run as continual_run
from seal_jax.loop.train import train
from seal_jax.reports import analysis_table, analyze, compare, compare_table, draw
from seal_jax.runs.ledger import Ledger
from seal_jax.settings import Continual, SettingsError
from seal_jax.tasks import registry
from seal_jax.tasks.arc import recipe
from seal_jax.tasks.protocol import Refusal
from seal_jax.tasks.splits import DataError

ARMS = (
    "base",
    "random",
    "fixed",
    "oracle",
    "edit_before",
    "edit_before_policy",
    "edit_after_base",
    "edit_after",
    "edit_random",
    "edit_longest",
)
UNADAPTED = {"base", "policy", "policy_random", "policy_longest"}


@pytest.fixture(scope="module")
def settings(few_shot_settings, change):
    return change(few_shot_settings, {"evaluation.arms": ARMS})


@pytest.fixture(scope="module")
def lessons():
    """What every inner loop of the module's first run was given."""
    return []


@pytest.fixture(scope="module")
def kept():
    """The examples of every M-step of the module's first run, by the stage."""
    return {}


@pytest.fixture(scope="module")
def read():
    """What the module's first run read of its settings."""
    return []


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory, lessons, kept, read, watch_settings):
    """An undisturbed run."""
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    train_inner, train_examples = inner_loop.train, m_step.train

    def spy(opened, params, given, *rest, **arguments):
        lessons.extend((opened.tokenizer, lesson) for lesson in given)
        return train_inner(opened, params, given, *rest, **arguments)

    def spy_on_examples(run, params, examples, recipe, *, stage, **arguments):
        kept[stage.name] = list(examples)
        return train_examples(run, params, examples, recipe, stage=stage, **arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inner_loop, "train", spy)
        patch.setattr(m_step, "train", spy_on_examples)
        read.append(watch_settings(patch))
        found = train(settings, str(workdir), quiet=True)
    return workdir, found


def test_results_hold_every_arm_with_the_same_denominator(finished):
    workdir, found = finished
    assert json.loads((workdir / "results.json").read_text()) == json.loads(json.dumps(found))
    assert set(found["arms"]) == {*ARMS, *UNADAPTED}
    for name, arm in found["arms"].items():
        assert arm["contexts"] == arm["n_questions"] == 2, name
        if name in UNADAPTED:
            assert "trials" not in arm and arm["n_answers"] == 2
        else:
            assert arm["trials"] == arm["n_answers"] == 4, name
            assert arm["invalid_edits"] == arm["unadapted_fallbacks"] == 0
        assert arm["gold_log_likelihood"] < 0
        of_arm = [of["arms"][name] for of in found["contexts"].values()]
        assert all(of["questions"] == ["test 1"] for of in of_arm)
        values = [of["gold_log_likelihood"] for of in of_arm]
        assert np.shape(values) == (2, 1)
        assert np.mean(values) == pytest.approx(arm["gold_log_likelihood"])
        assert [len(of["solved"]) for of in of_arm] == [1, 1]  # of the task, not of its tests
    assert len(found["pairs"]) == 3 * 13 * 12 // 2
    by_names = {(*pair["names"], pair["metric"]): pair for pair in found["pairs"]}
    gain = by_names["edit_after", "base", "gold_log_likelihood"]
    expected = (
        found["arms"]["edit_after"]["gold_log_likelihood"]
        - found["arms"]["base"]["gold_log_likelihood"]
    )
    assert gain["difference"] == pytest.approx(expected)
    assert found["words"] == {"context": "task", "question": "test"}
    assert found["grader"] == "exact grids"
    assert found["arms"]["base"]["label"] == "in-context learning"


def test_every_few_shot_setting_is_read(finished, read):
    (watched,) = read
    of_few_shot = {pair for pair in watched.declared if pair[0] == "FewShot"}
    assert len(of_few_shot) > 15 and of_few_shot <= watched.pairs


def test_under_the_constraint_every_self_edit_is_a_recipe(finished, settings):
    workdir, found = finished
    limits = settings.few_shot.limits()
    pattern = re.compile(recipe.regex(limits))
    with Ledger(workdir / "ledger", read_only=True) as records:
        texts = [e["text"] for s in records.segments("edits") for e in s.record["edits"]]
    assert len(texts) == 4 + 4 * 4  # of round 1, and of the four editors on evaluation tasks
    for text in texts:
        assert pattern.fullmatch(text), text
        recipe.parse(text, limits)
    for editor in ("base", "policy", "random", "longest"):
        assert found["directives"][f"edits {editor}"]["valid"] == 4
    assert found["rounds"][0]["kept"] == 2


def test_the_m_step_knows_what_the_sampler_chose_from(finished, kept):
    """One row of allowed tokens for each token of a recipe, the token among them."""
    assert kept.keys() == {"round 1", "random round 1", "longest round 1"}
    for examples in kept.values():
        assert len(examples) == 2
        for example in examples:
            written = example.tokens[example.prompt_length :]
            assert len(example.allowed) == len(written) > 80
            assert all(
                token in allowed for token, allowed in zip(written, example.allowed, strict=True)
            )
            # Most tokens of a recipe leave no choice, and some do.
            choices = [sum(token >= 0 for token in allowed) for allowed in example.allowed]
            assert min(choices) == 1 < max(choices)


def test_controls_select_from_the_same_recipes_without_a_reward(finished):
    """ "longest" keeps each task's longest recipe of round 1, whatever it earned."""
    workdir, _ = finished
    with Ledger(workdir / "ledger", read_only=True) as records:
        edits = [e for s in records.segments("edits") for e in s.record["edits"]]
        selections = {s.key: s.record for s in records.segments("selection")}
        trained = [s.key for s in records.segments("trials")]
    assert not any("round" in key and not key.startswith("round 1/") for key in trained)
    for control in ("random", "longest"):
        selection = selections[f"{control} round 1"]
        assert selection["rewards"] == [[None, None]] * 2
        assert [sorted(row) for row in selection["weights"]] == [[0.0, 1.0]] * 2
    longest = selections["longest round 1"]
    for context, weights in zip(longest["contexts"], longest["weights"], strict=True):
        lengths = [len(e["text"]) for e in edits if e["context"] == context]
        assert lengths[int(np.argmax(weights))] == max(lengths)


def test_trials_did_what_their_recipes_say(finished, lessons):
    """Examples, steps and learning rates in the ledger are those that were trained with."""
    workdir, _ = finished
    with Ledger(workdir / "ledger", read_only=True) as records:
        segments = list(records.segments("trials"))
    # What an arm before has learned already is copied, and not learned again.
    made = {segment.record["content"]: segment for segment in reversed(segments)}
    own = [segment for segment in segments if made[segment.record["content"]] is segment]
    found = [trial for segment in own for trial in segment.record["trials"]]
    assert len(found) == len(lessons) > 20
    for trial, (_, lesson) in zip(found, lessons, strict=True):
        assert trial["reason"] is None
        wanted = json.loads(trial["head"])["training"]
        assert lesson.learning_rate == wanted["learning_rate"]
        assert lesson.epochs == wanted["num_train_epochs"]
        assert trial["sequences"] == len(lesson.sequences) <= 4
        assert trial["steps"] == wanted["num_train_epochs"] * -(-trial["sequences"] // 2)
        shares = [np.mean(mask) for mask in lesson.loss_masks]
        if wanted["strategy"] == "train_using_output_tokens":
            assert max(shares) < 0.5
        else:
            assert min(shares) > 0.9


def test_no_test_output_is_trained_on(finished, lessons):
    """Rows as long as the tests' outputs are nowhere in the inner loops' texts."""
    row = re.compile(rf"(?<![0-9])[0-9]{{{TEST_WIDTH}}}(?![0-9])")
    assert row.search("1234567\n") and lessons
    for tokenizer, lesson in lessons:
        for tokens in lesson.sequences:
            assert not row.search(tokenizer.decode(tokens))


@pytest.mark.parametrize("units", [pytest.param(2, marks=pytest.mark.long), 9])
def test_a_run_that_was_stopped_ends_with_the_same_results(finished, settings, tmp_path, units):
    workdir, found = finished
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    (copy / "results.json").unlink()
    for segment in sorted((copy / "ledger").glob("[0-9]*.json"))[units:]:
        segment.unlink()
    assert train(settings, str(copy), quiet=True) == found
    assert (copy / "results.json").read_bytes() == (workdir / "results.json").read_bytes()


def test_evaluate_gives_the_arms_of_train(finished, settings, change, tmp_path):
    found = evaluate.evaluate(
        change(settings, {"evaluation.arms": ("base", "edit_after")}),
        str(tmp_path / "run"),
        policy_from=str(finished[0]),
        quiet=True,
    )
    assert list(found["arms"]) == ["base", "policy", "edit_after"]
    for name, arm in found["arms"].items():
        assert arm == finished[1]["arms"][name]


def test_the_repr_of_what_is_asked_is_its_content(opened):
    """So that other processes find the answers by it: no object's address is in there."""
    exam = repr(opened.task.exam(opened.task.contexts("eval")[0], "adapted"))
    assert "Transform(name='transpose')" in exam and " at 0x" not in exam


def test_what_another_run_learned_is_not_learned_again(
    finished, settings, change, tmp_path, monkeypatch
):
    """Self-edits, inner loops and answers are found by their content in the run to reuse."""
    for module, name in ((inner_loop, "train"), (answering, "ask"), (sample, "_sample")):
        monkeypatch.setattr(module, name, None)
    found = evaluate.evaluate(
        change(settings, {"evaluation.arms": ("base", "oracle", "edit_before", "edit_after")}),
        str(tmp_path / "run"),
        policy_from=str(finished[0]),
        reuse=[str(finished[0])],
        quiet=True,
    )
    for name, arm in found["arms"].items():
        assert arm == finished[1]["arms"][name]


def test_runs_are_compared(finished, settings, change, tmp_path):
    """With a smaller delta the oracle teaches something else, and the base model is the same."""
    smaller = change(settings, {"evaluation.arms": ("base", "oracle"), "inner.lora.alpha": 1.0})
    workdir = str(tmp_path / "run")
    other = evaluate.evaluate(smaller, workdir, quiet=True)
    found = compare.compare([str(finished[0]), workdir], draws=200)
    assert (found["contexts"], found["questions"]) == (2, 2)
    assert found["metrics"][0]["name"] == "solved" and found["words"]["context"] == "task"
    gains = {
        of["second"]["arm"]: of["difference"]
        for of in found["between"]["intervals"]
        if of["metric"] == "gold_log_likelihood" and of["first"]["arm"] == of["second"]["arm"]
    }
    nats = {
        name: other["arms"][name]["gold_log_likelihood"]
        - finished[1]["arms"][name]["gold_log_likelihood"]
        for name in ("base", "oracle")
    }
    assert gains == pytest.approx(nats)
    assert nats["base"] == 0 and abs(nats["oracle"]) > 1e-3
    shown = compare_table.table(found)
    assert "oracle recipe" in shown or "oracle" in shown
    assert "2 tasks" in shown


def test_a_run_is_analysed(finished):
    found = analyze.analyze(str(finished[0]), draws=200)
    stages = {stage["stage"]: stage for stage in found["stages"]}
    first = stages["round 1"]
    assert (first["contexts"], first["self_edits"], first["questions"]) == (2, 4, 2)
    assert {"solved", "gold_log_likelihood", "length"} <= first["rewards"].keys()
    assert first["left_out"] == {"self_edits": 0, "questions": 0}
    assert "eval edit_after" in stages
    assert "round 1" in analysis_table.table(found)


def test_free_sampling_counts_what_is_no_recipe(settings, change, tmp_path):
    """A random model writes none: nothing is rewarded or kept, and all counts as failed."""
    free = change(
        settings,
        {
            "few_shot.constrained": False,
            "evaluation.arms": ("base", "edit_before", "edit_after"),
            "edits.max_new_tokens": 8,
        },
    )
    found = train(free, str(tmp_path / "run"), quiet=True)
    (summary,) = found["rounds"]
    assert summary["without_reward"] == summary["self_edits"] == 4
    assert summary["kept"] == 0 and summary["directives"] == {"valid": 0, "invalid": 4}
    plain = found["arms"]["base"]
    for name in ("edit_before", "edit_after"):
        arm = found["arms"][name]
        assert arm["invalid_edits"] == arm["unadapted_fallbacks"] == arm["trials"] == 4
        assert arm["solved"] == arm["graded"] == 0
        # Nothing was learned, so the log-likelihood is the unadapted model's.
        assert arm["gold_log_likelihood"] == plain["gold_log_likelihood"]
    with Ledger(tmp_path / "run" / "ledger", read_only=True) as records:
        assert not list(records.segments("trials"))


def test_one_sequence_of_two_tasks_is_learned_one_after_another(settings, change, tmp_path):
    one = change(
        settings,
        {
            "inner.candidates": 1,
            "continual": Continual(
                sequences=1, passages=2, unrelated=1, unrelated_tokens=8, bounds=("separate",)
            ),
        },
    )
    joint = change(one, {"continual.bounds": ("joint", "separate")})
    with pytest.raises(SettingsError, match="'joint' learns the self-edits of several contexts"):
        continual_run.continual(joint, str(tmp_path / "joint"), quiet=True)
    found = continual_run.continual(one, str(tmp_path / "run"), quiet=True)
    (sequence,) = found["sequences"]
    assert sorted(sequence) == ["e0", "e1"]
    none = found["continual"]["none"]
    assert none["matrices"].keys() == {"solved", "graded", "gold_log_likelihood"}
    matrix = none["matrices"]["gold_log_likelihood"]["matrix"]
    assert [[value is not None for value in row] for row in matrix] == [
        [True, True],
        [True, False],
        [True, True],
    ]
    assert none["failed_updates"] == 0 and none["trained_tokens"] > 0
    with Ledger(tmp_path / "run" / "ledger", read_only=True) as records:
        learned = [s.record for s in records.segments("learned")]
        texts = [t for s in records.segments("edits") for t in s.record["texts"]]
    heads = [update["head"] for record in learned for update in record["updates"]]
    limits = one.few_shot.limits()
    assert len(heads) == 2
    # The update does what the recipe says: as many steps as its epochs of 4 examples, 2 at once.
    for head, record in zip(heads, learned, strict=True):
        assert head in {recipe.write(recipe.parse(text, limits)) for text in texts}
        epochs = json.loads(head)["training"]["num_train_epochs"]
        assert record["updates"][0]["steps"] == 2 * epochs


@pytest.fixture(scope="module")
def opened(settings):
    return session_lib.open_session(settings)


def _reopened(opened, settings):
    """The session under other settings; nothing that it has encoded is kept."""
    task = registry.open_task(settings)
    return dataclasses.replace(opened, settings=settings, task=task, _exams={}, _sequences={})


def _lesson(opened, puzzle, draw=0, **changes):
    own = opened.settings.few_shot
    wanted = dataclasses.replace(recipe.parse(own.oracle, own.limits()), **changes)
    return opened.task.lesson(puzzle, wanted, draw)


def _candidate(opened, puzzle, **changes):
    lesson = _lesson(opened, puzzle, **changes)
    [found] = attempt.candidates(opened, [puzzle], [[lesson]])
    return found


def test_recipes_trained_together_are_trained_as_alone(opened):
    """Other rates, epochs, masks and numbers of examples; tasks of their own."""
    first, second = opened.task.contexts("train")
    group = [
        opened.lesson(lesson)
        for lesson in (
            _lesson(opened, first),
            _lesson(opened, first, outputs_only=False, epochs=1, learning_rate=5e-2),
            _lesson(opened, second, basic=False, epochs=1),
        )
    ]
    few = group[2]
    group[2] = dataclasses.replace(few, sequences=few.sequences[:1], loss_masks=few.loss_masks[:1])
    names = [("init", "draw", number) for number in range(3)]

    def trained(which):
        found = inner_loop.train(
            opened,
            opened.base,
            [group[k] for k in which],
            [names[k] for k in which],
            order=("draw", 0),
            count=4,
            bounds=opened.bounds,
        )
        return jax.device_get((found.deltas_K.tree, found.results_K))

    together, taken = trained(range(3))
    assert taken.taken_S.sum(axis=1).tolist() == [4, 2, 1, 0]
    for k in range(3):
        alone, result = trained([k])
        for mine, own in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(mine[k], own[0], rtol=2e-3, atol=2e-5)
        losses = taken.losses_S[k][taken.taken_S[k]]
        np.testing.assert_allclose(losses, result.losses_S[0][result.taken_S[0]], rtol=1e-4)


def test_a_recipe_of_too_many_steps_is_refused_with_its_reason(opened):
    long = _candidate(opened, opened.task.contexts("train")[0], epochs=9)
    reason = "it takes 18 steps, more than the 4 that are allowed"
    assert long.lesson == Refusal(reason, invalid=False)


def test_examples_that_no_bucket_holds_are_counted(settings, opened, change):
    """Enlarged grids make examples of other lengths."""

    def tried(bucket):
        changed = change(settings, {"few_shot.max_examples": 40, "inner.buckets": (bucket,)})
        narrow = _reopened(opened, changed)
        return _candidate(narrow, narrow.task.contexts("train")[0], epochs=1).lesson

    found = change(settings, {"few_shot.max_examples": 40, "few_shot.max_steps": 40})
    wide = _reopened(opened, found)
    everything = wide.lesson(_lesson(wide, wide.task.contexts("train")[0], epochs=1))
    lengths = sorted(map(len, everything.sequences))
    limit = lengths[len(lengths) // 2]
    settings = change(settings, {"few_shot.max_steps": 40})
    some = tried(limit)
    assert some.dropped_sequences == sum(length > limit for length in lengths) > 0
    assert len(some.sequences) == len(lengths) - some.dropped_sequences
    assert max(map(len, some.sequences)) <= limit  # whole examples, none of them cut
    assert some.dropped_tokens == 0
    none = tried(8)
    reason = "no training sequence fits the largest of inner.buckets"
    assert none == Refusal(reason, invalid=False)


def test_tasks_that_do_not_fit_are_left_out_and_said(settings, change, tmp_path, capsys):
    narrow = change(settings, {"answers.prompt_buckets": (64,)})
    with pytest.raises(SettingsError, match=r"no task to train on fits this run") as raised:
        train(narrow, str(tmp_path / "run"))
    said = str(raised.value) + capsys.readouterr().out
    assert "Left out: 2, such as t0: test 'test 1' takes" in said
    assert "more than the largest of answers.prompt_buckets (64)" in said


def test_refusals(settings, change, tasks, tmp_path):
    shared = change(settings, {"few_shot.eval": str(tasks["train"])})
    with pytest.raises(SettingsError, match="t0 is both trained on and evaluated"):
        train(shared, str(tmp_path / "shared"), quiet=True)
    unknown = change(settings, {"few_shot.eval_tasks": ("e0", "x9")})
    with pytest.raises(SettingsError, match=r"few_shot\.eval_tasks names 'x9'"):
        session_lib.open_session(unknown)
    with pytest.raises(DataError, match="nowhere"):
        session_lib.open_session(change(settings, {"few_shot.train": "nowhere"}))
    with pytest.raises(ValueError, match="at least 2"):
        session_lib.open_session(change(settings, {"edits.max_new_tokens": 20}))
    passage = change(settings, {"evaluation.arms": ("passage",)})
    known = "evaluation.arms must be of base, prompt, random, fixed, oracle"
    with pytest.raises(SettingsError, match=known):
        train(passage, str(tmp_path / "passage"), quiet=True)
    together = change(settings, {"evaluation.form": "corpus"})
    with pytest.raises(SettingsError, match="for self-edits without directives"):
        train(together, str(tmp_path / "together"), quiet=True)
    with pytest.raises(SettingsError, match="choose"):
        none = change(settings, {"few_shot.fixed": ()})
        train(none, str(tmp_path / "none"), quiet=True)


def test_curate_on_demonstrations_looks_at_no_test(settings, change, tmp_path):
    few = change(settings, {"few_shot.train_tasks": ("t0",)})
    asked = []
    ask = answering.ask

    def spy(session, params, deltas, exams, **arguments):
        asked.extend(exams)
        return ask(session, params, deltas, exams, **arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answering, "ask", spy)
        found = curate.curate(few, str(tmp_path / "loo"), quiet=True)
    assert found["filter"] == "leave-one-out demonstrations"
    assert found["recipe"] == few.few_shot.oracle
    task = registry.open_task(few)
    (puzzle,) = task.contexts("train")
    practised = task.practice(puzzle)
    assert sorted(one.id for one in practised) == ["t0/0", "t0/1", "t0/2"]
    exams = [task.exam(one, "adapted") for one in practised]
    assert sorted(repr(exam.exam) for exam in asked) == sorted(map(repr, exams))
    for one in practised:
        (test,) = one.task.tests
        assert len(one.task.demonstrations) == 2 and test not in one.task.demonstrations
        assert test.output.shape == (2, 2)
    assert found["tasks"]["t0"]["questions"] == 3 and found["solved"] == []
    labelled = curate.curate(few, str(tmp_path / "tests"), split="eval", on="tests", quiet=True)
    assert labelled["filter"] == "oracle-filtered, as in the paper"
    assert set(labelled["tasks"]) == {"e0", "e1"}


def test_a_picture_of_a_trial(finished, tmp_path):
    workdir, _ = finished
    out = tmp_path / "e0.png"
    said = draw.draw(str(workdir), "e0", str(out), stage="edit_after", edit=1)
    assert out.read_bytes()[:4] == b"\x89PNG"
    assert "e0, eval edit_after, " in said and "use_basic_augmentations" in said
    assert "unadapted" in draw.draw(str(workdir), "e1", str(out), stage="base")
    with pytest.raises(SettingsError, match=r"no trial 7 of 'e0' in 'eval edit_after'"):
        draw.draw(str(workdir), "e0", str(out), stage="edit_after", edit=7)
    with pytest.raises(SettingsError, match="never tried"):
        draw.draw(str(workdir), "x9", str(out))


def _marked(context, solved, graded, likelihood):
    answers = [{"question": "test 1", "solved": solved > 0, "gold_log_likelihood": likelihood}]
    scores = {"solved": solved, "graded": graded, "gold_log_likelihood": likelihood}
    return {"context": context, "reason": None, "answers": answers, "scores": scores}


def test_a_failed_trial_counts_in_every_mean(opened):
    """One of four trials solves its task, two failed: 1/4, and nats of the unadapted model."""
    one, other = (
        dataclasses.replace(context, id=id)
        for context, id in zip(opened.task.contexts("train"), "ab", strict=True)
    )
    # What the unadapted model solves is no credit to a recipe that cannot be followed.
    plain = {"a": _marked("a", 1.0, 1.0, -8.0), "b": _marked("b", 1.0, 1.0, -3.0)}
    good, poor = _marked("a", 1.0, 1.0, -1.0), _marked("b", 0.0, 0.5, -3.0)
    reason = "not a recipe: the text holds no JSON object"
    invalid = {"context": "a", "reason": reason, "invalid": True, "answers": []}
    reason = "it takes 18 steps, more than the 4 that are allowed"
    refused = {"context": "b", "reason": reason, "invalid": False, "answers": []}
    found = results.of_trials(
        "edit_before",
        arms.EDITED["edit_before"],
        [one, other],
        [[good, invalid], [poor, refused]],
        plain,
        {},
        opened.task,
    )
    solved, graded = opened.task.metrics
    assert found.values(solved) == [[0.5], [0.0]] and found.values(graded) == [[0.5], [0.25]]
    assert found.values(results.rewards.GOLD_LOG_LIKELIHOOD) == [[-4.5], [-3.0]]
    summary = found.summary(results.rewards.metrics(opened.task))
    assert summary["solved"] == 0.25 and summary["graded"] == 1.5 / 4
    assert summary["gold_log_likelihood"] == -15 / 4
    assert (summary["invalid_edits"], summary["unadapted_fallbacks"]) == (1, 2)


def test_arms_without_their_policy_are_left_out(opened):
    rows = arms.rows(opened.task, ARMS, ["base"])
    assert list(rows) == ["base", "random", "fixed", "oracle", "edit_before"]
    after = arms.rows(opened.task, ("edit_after",), ["base", "policy"])
    assert list(after) == ["policy", "edit_after"]
