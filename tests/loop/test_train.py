"""The main job end to end on a tiny random model: results, resume, leaks, controls."""

import json
import os
import pathlib
import shutil
import traceback

import jax
import numpy as np
import pytest

import seal_jax
from seal_jax import settings as settings_lib
from seal_jax.core import evaluate as evaluate_lib
from seal_jax.core import inner, parallel, restem, sampling
from seal_jax.loop import evaluate, train
from seal_jax.reports import analyze, finished_run
from seal_jax.runs import ledger, run_dir
from seal_jax.weights import tokenizer as tokenizers

ARMS = ["base", "passage", "edit_before", "policy", "edit_after"]


@pytest.fixture(scope="module")
def finished(tiny_settings, tmp_path_factory):
    """An undisturbed run."""
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    results = train.train(tiny_settings, str(workdir), quiet=True)
    return workdir, results


def test_results_hold_every_arm_pair_and_round(finished, tiny_settings):
    workdir, results = finished
    assert json.loads((workdir / "results.json").read_text()) == json.loads(json.dumps(results))
    assert list(results["arms"]) == ARMS
    for arm in results["arms"].values():
        assert arm["n_questions"] == 4
        assert 0 <= arm["accuracy"] <= 1
        assert arm["gold_log_likelihood"] < 0
    names = {tuple(pair["names"]) for pair in results["pairs"]}
    assert len(results["pairs"]) == 2 * 10 and len(names) == 10
    for pair in results["pairs"]:
        # The tiny model is right nowhere: equal differences have no interval.
        assert (pair["interval"] is None) == (pair["metric"] == "accuracy")
        if pair["interval"]:
            low, high = pair["interval"]
            assert low <= pair["difference"] <= high
        first, second = (results["arms"][name][pair["metric"]] for name in pair["names"])
        assert pair["difference"] == pytest.approx(first - second, abs=1e-9)
    assert len(results["contexts"]) == 2
    for name, arm in results["arms"].items():
        of_arm = [context["arms"][name] for context in results["contexts"].values()]
        lls = [ll for of in of_arm for ll in of["gold_log_likelihood"]]
        assert np.mean(lls) == pytest.approx(arm["gold_log_likelihood"])
        assert sum(of["empty"] for of in of_arm) == arm["empty_answers"]
    assert set(results["matched_minus_mismatched"]) == {"passage", "edit_before", "edit_after"}
    assert [summary["kept"] for summary in results["rounds"]] == [2, 2]
    assert results["config"]["inner"]["epochs"] == tiny_settings.inner.epochs
    assert "seconds" in json.loads((workdir / "timing.json").read_text())
    assert "seconds" not in results


def test_its_rewards_can_be_analysed(finished):
    workdir, results = finished
    stages = {stage["stage"]: stage for stage in analyze.analyze(str(workdir), draws=20)["stages"]}
    assert list(stages) == ["round 1", "round 2"]
    for number, summary in enumerate(results["rounds"], start=1):
        stage = stages[f"round {number}"]
        assert (stage["contexts"], stage["self_edits"], stage["replicates"]) == (2, 8, 1)
        assert sum(stage["without_reward"].values()) == summary["without_reward"]
        found = stage["rewards"]["gold_log_likelihood"]
        assert found["unadapted"] == pytest.approx(summary["mean_unadapted"])
        assert stage["cost"]["inner_loop_tokens"] > 0 and stage["cost"]["seconds"]["adapt"] > 0


def test_rounds_use_fresh_contexts_and_other_articles_than_the_evaluation(finished):
    _, results = finished
    first, second = (set(summary["contexts"]) for summary in results["rounds"])
    assert len(first) == len(second) == 2 and not first & second
    assert all(name.startswith("train") for name in first | second)


def test_a_round_adapts_and_trains_the_policy_of_the_round_before(finished):
    workdir, _ = finished
    with ledger.Ledger(workdir / "ledger", read_only=True) as records:
        answers = [
            records.find("answers", f"{stage}/0")["of"] for stage in ("eval base", "eval policy")
        ]
        policies = [segment.record["version"] for segment in records.segments("policy")]
    assert policies == [1, 2]
    assert answers[0] != answers[1]


def test_inner_loops_learn_their_sequences(finished):
    workdir, _ = finished
    with ledger.Ledger(workdir / "ledger", read_only=True) as records:
        trials = [t for s in records.segments("trials") for t in s.record["trials"]]
    assert len(trials) == 2 * 8 + 3 * 2
    assert np.mean([trial["last_loss"] - trial["first_loss"] for trial in trials]) < -0.1


def test_a_finished_run_is_not_overwritten(finished, tiny_settings):
    workdir, _ = finished
    before = (workdir / "results.json").read_bytes()
    with pytest.raises(run_dir.RunDirError, match="--overwrite"):
        train.train(tiny_settings, str(workdir), quiet=True)
    assert (workdir / "results.json").read_bytes() == before


@pytest.mark.parametrize("appends", [0, 2, 5, 6, 7, 12, 15, 20, 28, 30])
def test_a_run_stopped_at_any_segment_ends_with_the_same_results(
    appends, finished, tiny_settings, tmp_path, monkeypatch
):
    workdir, _ = finished
    plain_append, count = ledger.Ledger.append, iter(range(1000))

    def append(self, *arguments):
        if next(count) >= appends:
            raise KeyboardInterrupt
        return plain_append(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(ledger.Ledger, "append", append)
        with pytest.raises(KeyboardInterrupt):
            train.train(tiny_settings, str(tmp_path), quiet=True)
    assert not (tmp_path / "results.json").exists()
    train.train(tiny_settings, str(tmp_path), quiet=True)
    assert (tmp_path / "results.json").read_bytes() == (workdir / "results.json").read_bytes()
    assert json.loads((tmp_path / "timing.json").read_text())["resumed"]


def test_a_run_in_an_object_store_is_continued_with_the_same_results(
    finished, tiny_settings, object_store, monkeypatch
):
    workdir, _ = finished
    plain_append, count = ledger.Ledger.append, iter(range(1000))

    def append(self, *arguments):
        if next(count) >= 11:
            raise KeyboardInterrupt
        return plain_append(self, *arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(ledger.Ledger, "append", append)
        train.train(tiny_settings, "gs://bucket/run", quiet=True)
    assert len([key for key in object_store.objects if key.startswith("bucket/run/ledger/0")]) == 11
    train.train(tiny_settings, "gs://bucket/run", quiet=True)
    local = (workdir / "results.json").read_bytes()
    assert object_store.objects["bucket/run/results.json"] == local
    assert any(key.startswith("bucket/run/checkpoints/") for key in object_store.objects)
    there, here = (
        analyze.analyze(path, draws=20)["stages"] for path in ("gs://bucket/run", str(workdir))
    )
    assert [stage["rewards"] for stage in there] == [stage["rewards"] for stage in here]
    one = finished_run.read_run("gs://bucket/run")
    assert one.results == json.loads(local)
    assert not os.path.exists("gs:")


def test_a_lost_checkpoint_is_made_again(finished, tiny_settings, tmp_path):
    workdir, _ = finished
    (tmp_path / "ledger").mkdir()
    for path in (workdir / "ledger").glob("*.json"):
        (tmp_path / "ledger" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_bytes((workdir / "config.json").read_bytes())
    train.train(tiny_settings, str(tmp_path), quiet=True)
    assert (tmp_path / "results.json").read_bytes() == (workdir / "results.json").read_bytes()


def test_canaries_in_questions_and_answers_never_reach_what_is_learned(
    tiny_settings, change, squad_file, tmp_path, monkeypatch
):
    """Looks at the very arrays: every prompt, every inner sequence, every row of the M-step."""
    settings = change(
        tiny_settings,
        {
            "data.train_path": squad_file("train", 8, canary="XYZZYQ"),
            "data.eval_path": squad_file("eval", 4, canary="XYZZYQ"),
            "reward.kind": "accuracy",
        },
    )
    text_of = tokenizers.load(settings.model.path)
    seen = {"prompts": [], "sequences": [], "rows": []}
    plain_generate, plain_update = sampling.generate_jit, parallel.inner_update
    plain_batches = train.restem.epoch_batches

    def generate(static, params, prompts, lengths, *rest, **named):
        seen["prompts"] += np.asarray(prompts).tolist()
        return plain_generate(static, params, prompts, lengths, *rest, **named)

    def update(devices, static, params, deltas, problems, *rest):
        tokens = np.asarray(problems.tokens_NxT)
        seen["sequences"] += tokens.reshape(-1, tokens.shape[-1]).tolist()
        return plain_update(devices, static, params, deltas, problems, *rest)

    def batches(rows, **named):
        seen["rows"] += [row.tokens for row in rows]
        return plain_batches(rows, **named)

    plain_answers, questions = evaluate_lib.answers_of_candidates, []

    def answers(static, params, deltas, prompts, lengths, *rest):
        questions.extend(np.asarray(prompts)[np.asarray(lengths) > 0].tolist())
        return plain_answers(static, params, deltas, prompts, lengths, *rest)

    monkeypatch.setattr(evaluate_lib, "answers_of_candidates", answers)
    monkeypatch.setattr(sampling, "generate_jit", generate)
    monkeypatch.setattr(parallel, "inner_update", update)
    monkeypatch.setattr(train.restem, "epoch_batches", batches)
    train.train(settings, str(tmp_path), quiet=True)
    assert len(seen["prompts"]) == 2 * 4 and len(seen["rows"]) == 2 * 2 * 2
    assert sum(any(row) for row in seen["sequences"]) > 30
    for place, rows in seen.items():
        texts = text_of.batch_decode(rows)
        assert any("river" in text for text in texts), place
        assert not any("XYZZYQ" in text for text in texts), place
    asked = text_of.batch_decode(questions)
    assert asked and all("XYZZYQ" in text for text in asked), "the canaries were never there"


def test_a_round_that_keeps_nothing_skips_the_m_step_and_says_so(
    tiny_settings, change, tmp_path, capsys
):
    settings = change(
        tiny_settings,
        {"restem.rule": "threshold", "restem.threshold": 1e9, "restem.rounds": 1},
    )
    results = train.train(settings, str(tmp_path))
    assert "M-step is skipped" in capsys.readouterr().out
    assert results["rounds"][0]["kept"] == 0
    policy, base = (results["arms"][name] for name in ("policy", "base"))
    assert {**policy, "label": ""} == {**base, "label": ""}


def test_replicates_and_all_rounds_data(tiny_settings, change, tmp_path, monkeypatch):
    plain_init, keys = inner.init_candidates, []

    def init(spec, params, keys_K):
        keys.extend(map(tuple, np.asarray(jax.random.key_data(keys_K)).tolist()))
        return plain_init(spec, params, keys_K)

    monkeypatch.setattr(inner, "init_candidates", init)
    settings = change(
        tiny_settings,
        {
            "reward.replicates": 2,
            "edits.samples": 2,
            "restem.keep_data": "all",
            "restem.start_from": "base",
            "evaluation.arms": ("base",),
        },
    )
    train.train(settings, str(tmp_path), quiet=True)
    with ledger.Ledger(tmp_path / "ledger", read_only=True) as records:
        kept = [segment.record["kept"] for segment in records.segments("policy")]
        trials = [t for s in records.segments("trials") for t in s.record["trials"]]
    assert kept == [2, 4]
    # Two rounds of two contexts, two replicates each: all self-edits of a context start alike.
    assert len(set(keys)) == 2 * 2 * 2 + 1, "and the padding's own"
    by_edit = {}
    for trial in trials:
        by_edit.setdefault((trial["context"], trial["index"]), []).append(trial)
    assert len(by_edit) == 8
    for first, second in by_edit.values():
        assert {first["replicate"], second["replicate"]} == {0, 1}
        assert first["gold_log_likelihoods"] != second["gold_log_likelihoods"]


def test_evaluate_gives_the_numbers_that_train_gave(finished, tiny_settings, tmp_path):
    workdir, results = finished
    again = evaluate.evaluate(
        tiny_settings, str(tmp_path / "with"), policy_from=str(workdir), quiet=True
    )
    assert again["arms"] == results["arms"]
    assert again["pairs"] == results["pairs"]
    alone = evaluate.evaluate(tiny_settings, str(tmp_path / "without"), quiet=True)
    assert list(alone["arms"]) == ["base", "passage", "edit_before"]
    assert all(alone["arms"][name] == results["arms"][name] for name in alone["arms"])


def test_the_policy_of_an_unfinished_run_is_evaluated_as_that_round_of_a_finished_one(
    finished, tiny_settings, change, tmp_path
):
    """A run that was stopped after the M-step of its first round."""
    shutil.copytree(finished[0], tmp_path / "stopped")
    (tmp_path / "stopped" / "results.json").unlink()
    segments = sorted((tmp_path / "stopped" / "ledger").glob("[0-9]*.json"))
    first = next(i for i, path in enumerate(segments) if "policy" in path.name)
    for path in segments[first + 1 :]:
        path.unlink()
    arms = change(tiny_settings, {"evaluation.arms": ("edit_after",)})
    results = [
        evaluate.evaluate(arms, str(tmp_path / str(i)), policy_from=str(of), quiet=True, **version)
        for i, (of, version) in enumerate(
            [(tmp_path / "stopped", {}), (finished[0], {"policy_version": 1})]
        )
    ]
    assert results[0]["arms"] == results[1]["arms"]
    assert results[0]["arms"]["policy"] != finished[1]["arms"]["policy"]


def _own_frames_below(verb):
    """Names of this package's functions on the stack, from the one after `verb` on."""
    package = str(pathlib.Path(seal_jax.__file__).parent)
    names = [f.name for f in traceback.extract_stack() if f.filename.startswith(package)]
    return names[len(names) - names[::-1].index(verb) :]


def test_four_frames_lie_between_a_verb_and_the_program(
    tiny_settings, change, tmp_path, monkeypatch
):
    """What a reader, or a traceback, goes through from the loop to the mathematics."""
    stacks = {}

    def watched(name, plain, verb):
        def update(*arguments, **named):
            stacks.setdefault(name, []).append(_own_frames_below(verb))
            return plain(*arguments, **named)

        return update

    monkeypatch.setattr(inner, "update", watched("inner", inner.update, "attempt"))
    monkeypatch.setattr(restem, "update", watched("restem", restem.update, "m_step"))
    for program in (parallel.inner_program, parallel.m_step):
        program.cache_clear()  # so that it is traced here
    few = {"restem.rounds": 1, "evaluation.arms": ("base",)}
    train.train(change(tiny_settings, few), str(tmp_path), quiet=True)
    for program in (parallel.inner_program, parallel.m_step):
        program.cache_clear()
    assert stacks.keys() == {"inner", "restem"}
    for name, of in stacks.items():
        assert all(0 < len(frames) <= 4 for frames in of), (name, of)


def test_a_run_of_another_config_is_refused_with_the_differing_keys(
    finished, tiny_settings, change, tmp_path
):
    workdir, _ = finished
    shutil.copytree(workdir, tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    with pytest.raises(run_dir.RunDirError, match=r"inner\.epochs: stored 3, now 4"):
        other = change(tiny_settings, {"inner.epochs": 4})
        train.train(other, str(tmp_path / "run"), quiet=True)


def test_evaluate_refuses_what_it_cannot_compare(finished, tiny_settings, change, tmp_path):
    only_after = change(tiny_settings, {"evaluation.arms": ("edit_after",)})
    with pytest.raises(ValueError, match="nothing to evaluate without a trained policy"):
        evaluate.evaluate(only_after, str(tmp_path / "a"), quiet=True)
    with pytest.raises(ValueError, match="nothing to evaluate without a trained policy"):
        untrained = change(only_after, {"restem.rounds": 0})
        train.train(untrained, str(tmp_path / "c"), quiet=True)
    with pytest.raises(ValueError, match=r"evaluation\.arms must be of"):
        unknown = change(tiny_settings, {"evaluation.arms": ("nothing",)})
        evaluate.evaluate(unknown, str(tmp_path / "d"), quiet=True)
    with pytest.raises(ValueError, match="not the directory of a run"):
        evaluate.evaluate(tiny_settings, str(tmp_path / "b"), policy_from="no/run", quiet=True)


def test_metrics_follow_the_run(finished):
    workdir, results = finished
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    found = {}
    for line in lines:
        for name in line.keys() - {"time", "step"}:
            found.setdefault(name, []).append((line["step"], line[name]))
    rounds = [1, 2]
    assert found["mean reward"] == [
        (number, pytest.approx(summary["mean_reward"]))
        for number, summary in zip(rounds, results["rounds"], strict=True)
    ]
    for name in ("adapt/edits an hour", "tokens of a text"):
        assert [step for step, value in found[name] if value > 0] == rounds
    assert [step for step, _ in found["M-step/loss"]] == [0, 1, 2, 3]  # of both rounds
    assert found["adapt/compiles"][1] == (2, 0)  # the first round compiled everything
    for arm, of in results["arms"].items():
        for metric in ("accuracy", "gold_log_likelihood"):
            assert found[f"eval {arm}/{metric}"] == [(2, pytest.approx(of[metric]))]
    arms = [line for line in lines if any(name.endswith("/accuracy") for name in line)]
    assert lines[-len(arms) :] == arms


def test_metrics_may_change_when_a_run_goes_on(finished):
    assert "metrics" not in finished[1]["config"]


def test_retention_takes_off_what_other_contexts_lose(finished, tiny_settings, change, tmp_path):
    """Of the same inner loops, rewards differ by what the other context's answers lose."""
    changed = change(tiny_settings, {"reward.retention": 2.0, "restem.rounds": 1})
    changed = change(changed, {"evaluation.arms": ("base",)})
    train.train(changed, str(tmp_path), quiet=True)
    found = {}
    for name, workdir in (("plain", finished[0]), ("retaining", tmp_path)):
        with ledger.Ledger(workdir / "ledger", read_only=True) as records:
            found[name] = records.find("selection", "round 1")["rewards"]
    with ledger.Ledger(tmp_path / "ledger", read_only=True) as records:
        plain = {one["context"]: one for one in records.find("answers", "round 1/0")["of"]}
        batches = [s.record for s in records.segments("trials") if s.key.startswith("round 1/")]
        contexts = records.find("selection", "round 1")["contexts"]
    other = dict(zip(contexts, reversed(contexts), strict=True))  # there are two
    lost = np.zeros((2, 4))
    for trial in (trial for batch in batches for trial in batch["trials"]):
        before = list(plain[other[trial["context"]]]["gold_log_likelihoods"].values())
        drops = np.maximum(0.0, np.subtract(before, trial["mismatched"]))
        lost[contexts.index(trial["context"]), trial["index"]] = drops.mean()
    assert lost.max() > 1e-4
    np.testing.assert_allclose(
        np.array(found["retaining"]), np.array(found["plain"]) - 2.0 * lost, atol=1e-6
    )


def test_every_setting_is_read(tiny_settings, change, tmp_path, monkeypatch, watch_settings):
    """A key that no run reads would be an ablation that silently does nothing."""
    read = watch_settings(monkeypatch)
    make = settings_lib
    train.train(tiny_settings, str(tmp_path / "single"), quiet=True)
    planted = make.Reward(kind="pattern", pattern="e", replicates=1)
    train.train(change(tiny_settings, {"reward": planted}), str(tmp_path / "planted"), quiet=True)
    corpus = {
        "data.eval_part": "test",
        "tuning": make.Tuning(learning_rates=(1e-3,), epochs=(1,), contexts=2),
        "restem.rounds": 0,
        "reward": make.Reward(kind="mix", replicates=1),
        "corpus": make.Corpus(batch_size=2, buckets=(64, 384)),
        "evaluation.form": "corpus",
        "evaluation.arms": ("base", "entity_graph"),
    }
    train.train(change(tiny_settings, corpus), str(tmp_path / "corpus"), quiet=True)
    directed = {
        "continual.bounds": ("separate",),
        "edits.directives": ("epochs",),
        "directives.fixed": ('{"epochs": 1}', '{"epochs": 2}'),
        "directives.oracle": '{"epochs": 2}',
        "reward": make.Reward(kind="agreement", questions="rule", replicates=1),
        "restem.rounds": 0,
        "evaluation.arms": ("fixed", "oracle"),
    }
    train.train(change(tiny_settings, directed), str(tmp_path / "directed"), quiet=True)
    # Read by endpoints and judges, which have tests of their own (test_grading.py).
    elsewhere = {("Reward", "mix"), ("Grading", "model"), ("Grading", "endpoint")}
    elsewhere |= {("Grading", "batch_size"), ("Grading", "buckets")}
    elsewhere |= {("Settings", "teacher"), ("Teacher", "file"), ("Teacher", "endpoint")}
    elsewhere |= {pair for pair in read.declared if pair[0] == "EndpointSettings"}
    elsewhere |= {("Data", "dir")}  # of TFDS
    # Read by other tasks and by other experiments' programs.
    elsewhere |= {("Settings", "few_shot"), ("Settings", "continual")}
    elsewhere |= {pair for pair in read.declared if pair[0] in ("FewShot", "Continual")}
    assert read.declared - read.pairs - elsewhere == set()
