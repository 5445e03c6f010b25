"""The few-shot job end to end on a tiny random model: arms, counts, resume, leaks, refusals."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

from seal_jax.loop import inner_loop, learning
from seal_jax.loop.few_shot import arms, curate, draw, session, trials
from seal_jax.loop.few_shot import train as train_lib
from seal_jax.runs.ledger import Ledger
from seal_jax.settings import FEW_SHOT_ARMS, SettingsError
from seal_jax.tasks.arc import recipe
from seal_jax.tasks.arc.arc import ArcError

from .conftest import TEST_WIDTH


@pytest.fixture(scope="module")
def lessons():
    """What every inner loop of the module's runs was given."""
    return []


@pytest.fixture(scope="module")
def kept():
    """The rows of every M-step of the module's first run."""
    return []


@pytest.fixture(scope="module")
def read():
    """What the module's first run read of its settings."""
    return []


@pytest.fixture(scope="module")
def finished(few_shot_settings, tmp_path_factory, lessons, kept, read, watch_settings):
    """An undisturbed run."""
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    train = inner_loop.train

    def spy(opened, params, given, **arguments):
        lessons.extend((opened.tokenizer, lesson) for lesson in given)
        return train(opened, params, given, **arguments)

    train_rows = learning.train_rows

    def spy_on_rows(opened, params, rows, recipe, **arguments):
        kept.extend(rows)
        return train_rows(opened, params, rows, recipe, **arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inner_loop, "train", spy)
        patch.setattr(learning, "train_rows", spy_on_rows)
        read.append(watch_settings(patch))
        results = train_lib.train(few_shot_settings, str(workdir), quiet=True)
    return workdir, results


def test_results_hold_every_arm_with_the_same_denominator(finished):
    workdir, results = finished
    assert json.loads((workdir / "results.json").read_text()) == json.loads(json.dumps(results))
    assert set(results["arms"]) == {*FEW_SHOT_ARMS, "in_context_policy"}
    for name, arm in results["arms"].items():
        assert arm["tasks"] == 2 and arm["trials"] == 4, name
        assert arm["invalid_recipes"] == 0
        assert arm["gold_log_likelihood"] < 0
        values = [of[name]["gold_log_likelihood"] for of in results["tasks"].values()]
        assert np.shape(values) == (2, 2)
        assert np.mean(values) == pytest.approx(arm["gold_log_likelihood"])
    assert len(results["pairs"]) == 3 * 9 * 8 // 2
    by_names = {(*pair["names"], pair["metric"]): pair for pair in results["pairs"]}
    gain = by_names["edit_after", "in_context", "gold_log_likelihood"]
    expected = (
        results["arms"]["edit_after"]["gold_log_likelihood"]
        - results["arms"]["in_context"]["gold_log_likelihood"]
    )
    assert gain["difference"] == pytest.approx(expected)


def test_every_few_shot_setting_is_read(finished, read):
    (watched,) = read
    of_few_shot = {pair for pair in watched.declared if pair[0] == "FewShot"}
    assert len(of_few_shot) > 15 and of_few_shot <= watched.pairs


def test_under_the_constraint_every_self_edit_is_a_recipe(finished, few_shot_settings):
    workdir, results = finished
    limits = few_shot_settings.few_shot.limits()
    pattern = re.compile(recipe.regex(limits))
    with Ledger(workdir / "ledger", read_only=True) as records:
        texts = [e["text"] for s in records.segments("edits") for e in s.record["edits"]]
    assert len(texts) == 4 + 4 + 4  # of round 1, and of both editors on evaluation tasks
    for text in texts:
        assert pattern.fullmatch(text), text
        recipe.parse(text, limits)
    for editor in ("base", "policy"):
        assert results["recipes"][editor]["valid"] == 4
    assert results["rounds"][0]["kept"] == 2


def test_the_m_step_knows_what_the_sampler_chose_from(finished, kept):
    """One row of allowed tokens for each token of a recipe, the token among them."""
    assert len(kept) == 2
    for row in kept:
        written = row.tokens[row.prompt_length :]
        assert len(row.allowed) == len(written) > 80
        assert all(token in allowed for token, allowed in zip(written, row.allowed, strict=True))
        # Most tokens of a recipe leave no choice, and some do.
        choices = [sum(token >= 0 for token in allowed) for allowed in row.allowed]
        assert min(choices) == 1 < max(choices)


def test_trials_did_what_their_recipes_say(finished, lessons):
    """Examples, steps and learning rates in the ledger are those that were trained with."""
    workdir, _ = finished
    with Ledger(workdir / "ledger", read_only=True) as records:
        found = [t for s in records.segments("batch") for t in s.record["trials"]]
    tried = [t for t in found if t["reason"] is None]
    assert len(tried) == len(lessons) > 20
    for trial, (_, lesson) in zip(tried, lessons, strict=True):
        wanted = json.loads(trial["recipe"])["training"]
        assert lesson.learning_rate == wanted["learning_rate"]
        assert lesson.epochs == wanted["num_train_epochs"]
        assert trial["examples"] == len(lesson.sequences) <= 4
        assert trial["steps"] == wanted["num_train_epochs"] * -(-trial["examples"] // 2)
        shares = [np.mean(mask) for mask in lesson.masks]
        if wanted["strategy"] == "train_using_output_tokens":
            assert max(shares) < 0.5
        else:
            assert min(shares) > 0.9


def test_no_test_output_is_trained_on(lessons):
    """Rows as long as the tests' outputs are nowhere in the inner loops' texts."""
    row = re.compile(rf"(?<![0-9])[0-9]{{{TEST_WIDTH}}}(?![0-9])")
    assert row.search("1234567\n")
    for tokenizer, lesson in lessons:
        for tokens in lesson.sequences:
            assert not row.search(tokenizer.decode(tokens))


@pytest.mark.parametrize("units", [pytest.param(2, marks=pytest.mark.long), 9])
def test_a_run_that_was_stopped_ends_with_the_same_results(
    finished, few_shot_settings, tmp_path, units
):
    workdir, results = finished
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    (copy / "results.json").unlink()
    for segment in sorted((copy / "ledger").glob("[0-9]*.json"))[units:]:
        segment.unlink()
    assert train_lib.train(few_shot_settings, str(copy), quiet=True) == results
    assert (copy / "results.json").read_bytes() == (workdir / "results.json").read_bytes()


def test_evaluate_gives_the_arms_of_train(finished, few_shot_settings, change, tmp_path):
    workdir, results = finished
    names = ("in_context", "edit_after")
    found = train_lib.evaluate(
        change(few_shot_settings, {"few_shot.arms": names}),
        str(tmp_path / "evaluation"),
        policy_from=str(workdir),
        quiet=True,
    )
    for name in names:
        assert found["arms"][name] == results["arms"][name]


def test_free_sampling_counts_what_is_no_recipe(few_shot_settings, change, tmp_path):
    """A random model writes none: nothing is rewarded or kept, and all counts as failed."""
    free = change(
        few_shot_settings,
        {
            "few_shot.constrained": False,
            "few_shot.arms": ("in_context", "edit_before", "edit_after"),
            "edits.max_new_tokens": 8,
        },
    )
    results = train_lib.train(free, str(tmp_path / "run"), quiet=True)
    (summary,) = results["rounds"]
    assert summary["without_reward"] == summary["self_edits"] == 4
    assert summary["kept"] == 0 and summary["recipes"] == {"valid": 0, "invalid": 4}
    plain = results["arms"]["in_context"]
    for name in ("edit_before", "edit_after"):
        arm = results["arms"][name]
        assert arm["invalid_recipes"] == arm["trials"] == 4
        assert arm["solved"] == arm["graded"] == 0
        # Nothing was learned, so the log-likelihood is the unadapted model's.
        assert arm["gold_log_likelihood"] == plain["gold_log_likelihood"]
    with Ledger(tmp_path / "run" / "ledger", read_only=True) as records:
        assert not list(records.segments("batch"))


@pytest.fixture(scope="module")
def opened(few_shot_settings):
    return session.open_session(few_shot_settings)


def _wanted(few_shot_settings, **changes):
    oracle = recipe.parse(few_shot_settings.few_shot.oracle, few_shot_settings.few_shot.limits())
    return oracle if not changes else type(oracle)(**{**vars(oracle), **changes})


def test_recipes_trained_together_are_trained_as_alone(opened, few_shot_settings):
    """Other rates, epochs, masks and numbers of examples; tasks of their own."""
    examples = trials.Examples(opened)
    first, second = opened.tasks["train"]
    group = [
        examples.candidate(first, _wanted(few_shot_settings), index=0, replicate=0),
        examples.candidate(
            first,
            _wanted(few_shot_settings, outputs_only=False, epochs=1, learning_rate=5e-2),
            index=1,
            replicate=0,
        ),
        examples.candidate(
            second, _wanted(few_shot_settings, basic=False, epochs=1), index=0, replicate=0
        ),
    ]
    few = group[2]
    few = type(few)(**{**vars(few), "encoded": few.encoded[:1], "steps": 1})
    group[2] = few

    def train(candidates):
        deltas, results, _ = inner_loop.train(
            opened,
            opened.base,
            [trials._lesson(candidate, "draw") for candidate in candidates],
            order=("draw", 0),
            settings=trials._inner(opened.settings),
            max_epochs=2,
            max_steps=4,
        )
        return jax.device_get((deltas.tree, results))

    together, results = train(group)
    assert results.taken_S.sum(axis=1).tolist() == [4, 2, 1, 0]
    for k, candidate in enumerate(group):
        alone, result = train([candidate])
        for mine, own in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(mine[k], own[0], rtol=2e-3, atol=2e-5)
        losses = results.losses_S[k][results.taken_S[k]]
        np.testing.assert_allclose(losses, result.losses_S[0][result.taken_S[0]], rtol=1e-4)


def test_a_recipe_of_too_many_steps_is_refused_with_its_reason(opened, few_shot_settings):
    task = opened.tasks["train"][0]
    long = trials.Examples(opened).candidate(
        task, _wanted(few_shot_settings, epochs=9), index=0, replicate=0
    )
    assert long.reason == "it takes 18 steps, more than few_shot.max_steps"


def test_examples_that_no_bucket_holds_are_counted(few_shot_settings, change):
    """Enlarged grids make examples of other lengths."""
    narrow = session.open_session(change(few_shot_settings, {"few_shot.max_examples": 40}))
    task, wanted = narrow.tasks["train"][0], _wanted(few_shot_settings)
    everything = trials.Examples(narrow).candidate(task, wanted, index=0, replicate=0)
    lengths = sorted(len(encoded.tokens) for encoded in everything.encoded)
    limit = lengths[len(lengths) // 2]
    object.__setattr__(narrow, "settings", change(narrow.settings, {"inner.buckets": (limit,)}))
    some = trials.Examples(narrow).candidate(task, wanted, index=0, replicate=0)
    assert some.too_long == sum(length > limit for length in lengths) > 0
    assert len(some.encoded) == len(lengths) - some.too_long
    object.__setattr__(narrow, "settings", change(narrow.settings, {"inner.buckets": (8,)}))
    none = trials.Examples(narrow).candidate(task, wanted, index=0, replicate=0)
    assert none.reason == "no training example fits the largest of inner.buckets"


def test_tasks_that_do_not_fit_are_left_out_and_said(few_shot_settings, change, tmp_path, capsys):
    settings = change(few_shot_settings, {"answers.prompt_buckets": (64,)})
    with pytest.raises(SettingsError, match=r"no task of few_shot\.train fits"):
        train_lib.train(settings, str(tmp_path / "run"))
    said = capsys.readouterr().out
    assert "2 tasks to train are left out, such as t0: it takes" in said
    assert "more than answers.prompt_buckets hold (64)" in said


def test_refusals(few_shot_settings, change, tasks, tmp_path):
    shared = change(few_shot_settings, {"few_shot.eval": str(tasks["train"])})
    with pytest.raises(SettingsError, match="t0 is both trained on and evaluated"):
        train_lib.train(shared, str(tmp_path / "shared"), quiet=True)
    unknown = change(few_shot_settings, {"few_shot.eval_tasks": ("e0", "x9")})
    with pytest.raises(SettingsError, match=r"few_shot\.eval_tasks names 'x9'"):
        session.open_session(unknown)
    with pytest.raises(ArcError, match="nowhere"):
        session.open_session(change(few_shot_settings, {"few_shot.train": "nowhere"}))
    with pytest.raises(ValueError, match="at least 2"):
        session.open_session(change(few_shot_settings, {"edits.max_new_tokens": 20}))


def test_curate_on_demonstrations_looks_at_no_test(few_shot_settings, change, tmp_path):
    few = change(few_shot_settings, {"few_shot.train_tasks": ("t0",)})
    asked = []
    attempt = trials.attempt

    def spy(opened, params, deltas, questions, **arguments):
        asked.extend(questions)
        return attempt(opened, params, deltas, questions, **arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "attempt", spy)
        results = curate.curate(few, str(tmp_path / "loo"), quiet=True)
    assert results["filter"] == "leave-one-out demonstrations"
    assert sorted(task.id for task in asked) == ["t0/0", "t0/1", "t0/2"]
    for task in asked:
        (test,) = task.tests
        assert len(task.demonstrations) == 2 and test not in task.demonstrations
        assert test.output.shape == (2, 2)
    assert results["tasks"]["t0"]["questions"] == 3 and results["solved"] == []
    labelled = curate.curate(few, str(tmp_path / "tests"), split="eval", on="tests", quiet=True)
    assert labelled["filter"] == "oracle-filtered, as in the paper"
    assert set(labelled["tasks"]) == {"e0", "e1"}


def test_a_picture_of_a_trial(finished, tmp_path):
    workdir, _ = finished
    out = tmp_path / "e0.png"
    said = draw.draw(str(workdir), "e0", str(out), stage="edit_after", edit=1)
    assert out.read_bytes()[:4] == b"\x89PNG"
    assert "task e0, eval edit_after, " in said and "use_basic_augmentations" in said
    assert "in context" in draw.draw(str(workdir), "e1", str(out), stage="in_context")
    with pytest.raises(SettingsError, match=r"no trial 7 of task 'e0' in 'eval edit_after'"):
        draw.draw(str(workdir), "e0", str(out), stage="edit_after", edit=7)
    with pytest.raises(SettingsError, match="never tried"):
        draw.draw(str(workdir), "x9", str(out))


def _record(context, **values):
    return {"context": context, "reason": None, **values}


def test_a_failed_trial_counts_in_every_mean():
    """One of four trials solves its task, two failed: 1/4, and nats of the unadapted model."""
    plain = {"a": {"gold_log_likelihoods": [-8.0]}, "b": {"gold_log_likelihoods": [-4.0, -2.0]}}
    good = _record("a", solved=True, graded=1.0, gold_log_likelihoods=[-1.0])
    poor = _record("b", solved=False, graded=0.5, gold_log_likelihoods=[-2.0, -4.0])
    invalid = {"context": "a", "reason": "not a recipe: the text holds no JSON object"}
    refused = {"context": "b", "reason": "it takes 18 steps, more than few_shot.max_steps"}
    arm = arms.Arm(name="edit_before", records=[[good, invalid], [poor, refused]], unadapted=plain)
    assert arm.values("solved") == [[1.0, 0.0], [0.0, 0.0]]
    assert arm.values("gold_log_likelihood") == [[-1.0, -8.0], [-3.0, -3.0]]
    summary = arm.summary()
    assert summary["solved"] == 0.25 and summary["graded"] == 1.5 / 4
    assert summary["gold_log_likelihood"] == -15 / 4
    assert (summary["invalid_recipes"], summary["other_failures"]) == (1, 1)


def test_arms_without_their_policy_are_left_out():
    assert arms.rows(FEW_SHOT_ARMS, ["base"]) == [
        "in_context", "random", "fixed", "oracle", "edit_before"
    ]  # fmt: skip
    assert arms.rows(("edit_after",), ["base", "policy"]) == ["in_context_policy", "edit_after"]
