"""The continual experiment on a tiny random model: three sequences of two passages."""

import dataclasses
import itertools
import json
import re
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from seal_jax import settings as settings_lib
from seal_jax.core import delta as delta_lib
from seal_jax.core import retention
from seal_jax.core.delta import DeltaSpec
from seal_jax.judges import graders
from seal_jax.loop import answering
from seal_jax.loop.continual import mitigations, run, updates
from seal_jax.loop.run import Run
from seal_jax.reports import run_records, words
from seal_jax.reports.html import explorer, report
from seal_jax.runs import ledger, run_dir
from seal_jax.settings import Continual, SettingsError
from seal_jax.tasks.protocol import Context, Question, Verdict

MIXED = "kl+distill+null_space+average+low_rank+norm_cap"


@pytest.fixture(scope="module")
def settings(tiny_settings, change):
    make = settings_lib
    return change(
        tiny_settings,
        {
            "inner": dataclasses.replace(
                tiny_settings.inner,
                lora=make.Lora(rank=2, alpha=4.0, targets=("q_proj", "v_proj")),
                candidates=2,
                epochs=1,
                buckets=(64,),
            ),
            "continual": Continual(
                sequences=3,
                passages=2,
                writer="start",
                answers=False,
                mitigations=("none", MIXED, "replay+rehearsal"),
                kl_tokens=8,
                replay_sequences=1,
                rehearsal_texts=1,
                rehearsal_tokens=4,
                merge_rank=1,
                unrelated=2,
                unrelated_tokens=8,
            ),
        },
    )


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    """(workdir, results) of a whole run."""
    workdir = tmp_path_factory.mktemp("continual") / "run"
    return workdir, run.continual(settings, str(workdir), quiet=True)


def records(workdir, kind):
    with ledger.Ledger(workdir / "ledger", read_only=True) as found:
        return {segment.key: segment.record for segment in found.segments(kind)}


def likelihoods(marked):
    return [answer["gold_log_likelihood"] for answer in marked["answers"]]


def test_everything_so_far_is_asked_again(finished):
    workdir, results = finished
    asked = records(workdir, "retest")
    for number, count in ((0, 2), (1, 1)):  # the second group has one sequence
        for step in range(2):
            rows = asked[f"none/{number}/{step}"]["rows"]
            assert [len(row) for row in rows] == [step + 1] * count
    matrix = results["continual"]["none"]["matrices"]["gold_log_likelihood"]["matrix"]
    assert [[value is not None for value in row] for row in matrix] == [
        [True, True],
        [True, False],
        [True, True],
    ]


def test_updates_teach_and_stay(finished):
    """The first passage's value changes with its own update and again with the second one."""
    workdir, _ = finished
    asked = records(workdir, "retest")
    first = [
        asked["start/0"]["rows"][0][0],
        asked["none/0/0"]["rows"][0][0],
        asked["none/0/1"]["rows"][0][0],
    ]
    values = [marked["answers"][0]["gold_log_likelihood"] for marked in first]
    assert len({round(value, 4) for value in values}) == 3


def test_the_first_update_is_a_separate_delta(finished):
    """With the start's self-edits, what a passage learns first is what it learns alone."""
    workdir, _ = finished
    asked = records(workdir, "retest")
    for number in (0, 1):
        for k, row in enumerate(asked[f"separate/{number}"]["rows"]):
            first = asked[f"none/{number}/0"]["rows"][k][0]
            np.testing.assert_allclose(likelihoods(row[0]), likelihoods(first), rtol=1e-5)


def test_mitigations_differ_and_are_labelled(finished):
    _, results = finished
    found = results["continual"]
    ends = {name: found[name]["summary"]["gold_log_likelihood"]["end"] for name in found}
    assert len(set(ends.values())) == 3
    assert {name: found[name]["keeps_old_data"] for name in found} == {
        "none": False,
        MIXED: False,
        "replay+rehearsal": True,
    }
    assert found["none"]["failed_updates"] == 0
    assert found["replay+rehearsal"]["trained_tokens"] > found["none"]["trained_tokens"]
    assert results["bounds"].keys() == {"joint", "separate"}


def test_replay_learns_earlier_sequences(finished):
    workdir, _ = finished
    learned = records(workdir, "learned")
    counts = {
        name: [learned[f"{name}/0/{step}"]["updates"][0]["sequences"] for step in range(2)]
        for name in ("none", "replay+rehearsal")
    }
    extra = [b - a for a, b in zip(counts["none"], counts["replay+rehearsal"], strict=True)]
    rehearsed = [
        bool(records(workdir, "edits")[f"continual replay+rehearsal/0/{s}"]["rehearsed"][0][0])
        for s in range(2)
    ]
    assert extra == [rehearsed[0], rehearsed[1] + 1]


def test_checkpoints_of_finished_groups_are_deleted(finished):
    workdir, _ = finished
    assert not list(workdir.glob("checkpoints-continual*"))


@pytest.mark.fault("S12")
def test_what_a_kill_left_of_finished_groups_is_deleted(settings, finished, tmp_path, monkeypatch):
    """Killed between the last record of a group and the deletion of its checkpoints, or in it."""
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    (workdir / "results.json").unlink()
    left = [
        workdir / f"checkpoints-continual-{name}"
        for name in ("none-0", "none-1", f"{MIXED}-0", "replay+rehearsal-1")
    ]
    (left[0] / "0").mkdir(parents=True)
    (left[0] / "0" / "checksums.json").write_text("{}")
    (left[1] / "1.orbax-checkpoint-tmp").mkdir(parents=True)
    (left[2] / "0" / "d").mkdir(parents=True)
    left[3].mkdir()
    monkeypatch.setattr(updates, "_update", None)  # nothing is trained again
    assert run.continual(settings, str(workdir), quiet=True) == finished[1]
    assert not list(workdir.glob("checkpoints-*"))


@pytest.mark.fault("S12")
@pytest.mark.parametrize("group", [0, 1])
def test_a_kill_at_the_deletion_leaves_nothing_after_the_next_start(
    settings, finished, tmp_path, monkeypatch, group
):
    deleted, discard = [], Run.discard_checkpoints

    def dies(self, line):
        deleted.append(line)
        if len(deleted) == 1 + group:
            raise Killed
        discard(self, line)

    changed = dataclasses.replace(settings.continual, mitigations=("none",), bounds=())
    changed = dataclasses.replace(settings, continual=changed)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "discard_checkpoints", dies)
        with pytest.raises(Killed):
            run.continual(changed, str(tmp_path / "run"), quiet=True)
    assert list((tmp_path / "run").glob("checkpoints-continual*"))
    results = run.continual(changed, str(tmp_path / "run"), quiet=True)
    assert results["continual"]["none"] == finished[1]["continual"]["none"]
    assert not list((tmp_path / "run").glob("checkpoints-continual*"))


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("after", [1, 4, 7])
def test_a_killed_run_goes_on(settings, finished, tmp_path, monkeypatch, after):
    """Ends at a question, after the update before it was saved; resumed, it has equal records."""
    score, calls = answering.gold_log_likelihoods, []

    def dies(*args, **kwargs):
        calls.append(1)
        if len(calls) == after + 4:
            raise Killed
        return score(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(answering, "gold_log_likelihoods", dies)
        with pytest.raises(Killed):
            run.continual(settings, str(tmp_path / "run"), quiet=True)
    results = run.continual(settings, str(tmp_path / "run"), quiet=True)
    assert results == finished[1]
    for kind in ("retest", "learned", "edits"):
        assert records(tmp_path / "run", kind) == records(finished[0], kind)


def test_a_lost_checkpoint_is_trained_again(settings, finished, tmp_path, monkeypatch):
    retest, calls = updates._retest, []

    def dies(*args):
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return retest(*args)

    workdir = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(updates, "_retest", dies)
        with pytest.raises(Killed):
            run.continual(settings, str(workdir), quiet=True)
    (lost,) = workdir.glob("checkpoints-continual*/0")
    (lost / "checksums.json").write_text("{}")
    results = run.continual(settings, str(workdir), quiet=True)
    assert results["continual"] == finished[1]["continual"]


def test_the_report_shows_who_wrote_what(finished, tmp_path):
    """Passages with the self-edits that each sequence wrote about them, under every mitigation."""
    workdir, results = finished
    written = records(workdir, "edits")
    page = report.write(str(workdir), str(tmp_path / "report.html")).read_text(encoding="utf-8")
    assert "Continual self-edits" in page
    assert "continual self-edits · " in page  # the head, with settings of this kind of run alone
    assert "<dt>continual.mitigations</dt>" in page and "<dt>restem.rounds</dt>" not in page
    places = [
        page.index(f"<caption>{mitigation}: ") for mitigation in ("none", MIXED, "replay+rehearsal")
    ]
    assert places == sorted(places)  # as the config has them
    learned = records(workdir, "learned").items()
    tokens = sum(one["real_tokens"] for key, one in learned if key.startswith("none/"))
    assert re.search(rf"continual none</th>.*?>{tokens:,}<", page)
    read = run_records.read(str(workdir))
    said = words.of_run(read)
    for name, of in read.results["continual"].items():
        [text] = [
            text for text in said if text.startswith(f"Learning a passage (mitigation {name})")
        ]
        gain = of["summary"]["gold_log_likelihood"]["own_gain"]["value"]
        assert f": {gain:+.2f} nats, " in text and "at the end of the sequence" in text
    assert said[-1].startswith("Next: compare mitigations: ")
    shown = explorer.data(read)
    stages = {stage["name"]: stage for stage in shown["stages"]}
    assert {"continual none", "continual start", f"continual {MIXED}"} <= set(stages)
    found = {
        (shown["contexts"][context["at"]]["id"], edit["number"]): edit["text"]
        for context in stages["continual none"]["contexts"]
        for edit in context["edits"]
    }
    assert found == {
        (results["sequences"][2 * number + k][step], 2 * number + k): text
        for number in (0, 1)
        for step in (0, 1)
        for k, text in enumerate(written[f"continual none/{number}/{step}"]["texts"])
    }
    asked = records(workdir, "retest")
    by_id = {
        shown["contexts"][context["at"]]["id"]: context
        for context in stages["continual none"]["contexts"]
    }
    for sequence, step in itertools.product(range(3), range(2)):
        number, k = divmod(sequence, 2)
        context = by_id[results["sequences"][sequence][step]]
        [edit] = [edit for edit in context["edits"] if edit["number"] == sequence]
        [trial] = edit["trials"]
        plain = asked[f"start/{number}"]["rows"][k][step]
        after = asked[f"none/{number}/{step}"]["rows"][k][step]
        for answers, expected in ((context["base"], plain), (trial["answers"], after)):
            found = [likely for *_, likely in answers]
            np.testing.assert_allclose(found, likelihoods(expected), atol=6e-4)
        assert edit["reward"] == pytest.approx(np.mean(likelihoods(after)))
        assert trial["steps"] > 0


def test_the_report_of_a_run_in_progress(finished, tmp_path):
    """Killed within the second update of "none": what is there is shown."""
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    with ledger.Ledger(finished[0] / "ledger", read_only=True) as found:
        keys = [segment.key for segment in found.segments()]
    kept = keys.index("continual none/0/1") + 1
    for path in sorted((tmp_path / "run" / "ledger").glob("*.json"))[kept:]:
        path.unlink()
    read = run_records.read(str(tmp_path / "run"))
    [stage] = explorer.data(read)["stages"]
    assert stage["name"] == "continual none"
    tried = [len(edit["trials"]) for context in stage["contexts"] for edit in context["edits"]]
    assert sorted(tried) == [0, 0, 1, 1]
    assert "not finished" in report.write(str(tmp_path / "run")).read_text(encoding="utf-8")


def contexts(count):
    question = Question("q", "what", "that")
    return [Context(f"c{i}", "title", "text", (question,)) for i in range(count)]


def test_sequences_are_drawn_without_repetition():
    few = run.draw_sequences(contexts(6), sequences=3, passages=4, seed=1)
    more = run.draw_sequences(contexts(6), sequences=5, passages=4, seed=1)
    assert more[:3] == few
    assert all(len({context.id for context in sequence}) == 4 for sequence in more)
    assert len({tuple(context.id for context in sequence) for sequence in more}) == 5
    assert run.draw_sequences(contexts(6), sequences=3, passages=4, seed=2) != few


def test_too_few_passages_are_refused():
    with pytest.raises(SettingsError, match=r"continual\.passages is 4, but there are 3 passages"):
        run.draw_sequences(contexts(3), sequences=1, passages=4, seed=0)


def test_what_continual_cannot_do_is_refused_before_any_work(settings, change, tmp_path):
    wrong = (
        ({"prompts.edit_format": "none"}, "has no self-edit, which continual writes"),
        ({"continual.passages": 9}, r"continual\.passages is 9, but there are 4 passages"),
    )
    for number, (changes, message) in enumerate(wrong):
        workdir = tmp_path / str(number)
        with pytest.raises(SettingsError, match=message):
            run.continual(change(settings, changes), str(workdir), quiet=True)
        assert not records(workdir, "retest") and not records(workdir, "edits")


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"mitigations": ("none", "prayer")}, "mitigations must be of none, kl"),
        ({"mitigations": ()}, "at least one entry"),
        ({"mitigations": ("kl", "kl")}, "one entry twice"),
        ({"bounds": ("sky",)}, "bounds must be of joint, separate"),
        ({"passages": 1}, "nothing is forgotten with one"),
        ({"average_weight": 1.5}, "average_weight must be in"),
        ({"null_space_energy": 0.0}, "null_space_energy must be in"),
    ],
)
def test_settings_that_cannot_be(wrong, message):
    with pytest.raises(ValueError, match=message):
        Continual(**wrong)


def test_replay_chooses_by_the_seed():
    mitigation = mitigations.Mitigation("replay", Continual(replay_sequences=2))
    drawn = [mitigation.replayed(range(9), seed=(seed, 1)) for seed in range(20)]
    assert all(len(set(of)) == 2 and set(of) < set(range(9)) for of in drawn)
    assert mitigation.replayed(range(9), seed=(0, 1)) == drawn[0]
    assert len({str(of) for of in drawn}) > 10
    assert mitigation.replayed(range(1), seed=(0, 1)) == [0]
    assert mitigations.Mitigation("none", Continual()).replayed(range(9), seed=(0, 1)) == []


def test_anchors_are_the_prompt_and_the_models_own_texts():
    own = Continual(kl_tokens=3, rehearsal_texts=2, rehearsal_tokens=4, kl_weight=0.5)
    total_K = delta_lib.Delta(
        {"q_proj": {"a": np.zeros((2, 1, 3, 1))}}, DeltaSpec(("q_proj",), rank=1)
    )
    prompts, recalled = [[1, 2, 3, 4, 5]], [[[6, 7], [8, 9, 10, 11, 12]]]
    expected = {
        "kl": ([[1, 2, 3]], [3]),
        "distill": ([[6, 7, 0, 0], [8, 9, 10, 11]], [2, 4]),
        "kl+distill": ([[1, 2, 3, 0], [6, 7, 0, 0], [8, 9, 10, 11]], [3, 2, 4]),
    }
    for name, (tokens, lengths) in expected.items():
        anchors_K = mitigations.Mitigation(name, own).past(total_K, prompts, recalled).anchors
        assert anchors_K.tokens_AxT[0].tolist() == tokens
        assert anchors_K.lengths_A.tolist() == [lengths, [0] * len(lengths)]
        assert anchors_K.weight.tolist() == [0.5, 0.5]
    assert mitigations.Mitigation("replay", own).past(total_K, prompts, recalled).anchors is None


def test_what_distill_anchors_is_recorded(finished):
    written = records(finished[0], "edits")
    texts = written[f"continual {MIXED}/0/1"]["recalled"]
    assert [len(of) for of in texts] == [1, 1] and any(text for (text,) in texts)
    assert "recalled" not in written["continual none/0/1"]


def test_every_setting_is_read(settings, change, tmp_path, monkeypatch, watch_settings):
    read = watch_settings(monkeypatch)
    small = {
        "continual": dataclasses.replace(
            settings.continual,
            sequences=1,
            answers=True,
            writer="current",
            mitigations=(f"{MIXED}+replay+rehearsal",),
            bounds=("separate",),
        )
    }
    results = run.continual(change(settings, small), str(tmp_path / "run"), quiet=True)
    own = {pair for pair in read.declared if pair[0] == "Continual"}
    assert own - read.pairs == set()
    (mitigation,) = results["continual"].values()
    assert mitigation["matrices"].keys() == {"accuracy", "gold_log_likelihood"}
    config = run_dir.read_config(tmp_path / "run")
    assert json.loads(json.dumps(config["continual"]))["writer"] == "current"


def test_the_start_writes_the_same_under_every_mitigation(finished):
    workdir, _ = finished
    written = records(workdir, "edits")
    for step in range(2):
        texts = {
            json.dumps(written[f"continual {name}/0/{step}"]["texts"])
            for name in ("none", MIXED, "start")
        }
        assert len(texts) == 1


def test_a_failed_update_keeps_what_was_learned(tiny_llama, random_delta):
    spec = DeltaSpec(("q_proj",), rank=2, alpha=4.0)
    deltas = delta_lib.stack([random_delta(tiny_llama.params, spec, seed) for seed in range(2)])
    total = jax.vmap(lambda delta: retention.empty(delta, slots=2))(deltas)
    unmitigated = mitigations.Mitigation("none", Continual())
    once = unmitigated.merged(tiny_llama.params, total, deltas, np.array([True, True]), 0)
    broken = jax.tree.map(lambda leaf: leaf.at[1].set(np.nan), deltas)
    twice = unmitigated.merged(tiny_llama.params, once, broken, np.array([True, False]), 1)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1], b[1]), twice, once)
    assert any(
        (a[0] != b[0]).any()
        for a, b in zip(jax.tree.leaves(twice), jax.tree.leaves(once), strict=True)
    )


@pytest.mark.parametrize(
    ("texts", "found", "losses"),
    [
        ([[5, 6, 7], [8]], [[-3.0, 0.0], [-1.0, None]], [1.5, None]),
        pytest.param([[5], [8]], [[0.0] * 2] * 2, [None] * 2, marks=pytest.mark.fault("11")),
        pytest.param([[5], []], [[0.0] * 2] * 2, [None] * 2, marks=pytest.mark.fault("11")),
    ],
)
def test_texts_of_one_token_have_no_loss(texts, found, losses, monkeypatch):
    monkeypatch.setattr(answering, "gold_log_likelihoods", lambda *_, **__: found)
    settings = SimpleNamespace(inner=SimpleNamespace(candidates=2))
    run = SimpleNamespace(session=SimpleNamespace(settings=settings))
    group = updates.Group(
        run=run, params=None, number=0, sequences=[[], []], width=1, unrelated=texts
    )
    assert updates.unrelated_losses(group, None) == losses


class Outage:
    """Grades nothing while it lasts, and then everything as right."""

    name = "a judge that is away"

    def __init__(self, lasts):
        self.lasts = lasts

    def grade(self, answers):
        if self.lasts:
            return [Verdict(None, empty=False, reason="away", retry=True) for _ in answers]
        return [Verdict(True, empty=False) for _ in answers]


def test_a_judge_that_is_away_costs_no_update(settings, change, tmp_path, monkeypatch):
    """The table has what there is; the same command asks again, and trains nothing."""
    small = {
        "continual": dataclasses.replace(
            settings.continual,
            sequences=2,
            answers=True,
            mitigations=("none",),
            bounds=("separate",),
        )
    }
    changed, workdir = change(settings, small), tmp_path / "run"
    judge = Outage(lasts=True)
    monkeypatch.setattr(graders, "make_grader", lambda *_: judge)
    found = run.continual(changed, str(workdir), quiet=True)
    assert "could not be graded for want of a judge" in found["incomplete"]
    none = found["continual"]["none"]["summary"]
    assert none["accuracy"]["end"] is none["accuracy"]["retained_share"]["value"] is None
    assert none["gold_log_likelihood"]["end"] < 0
    assert not records(workdir, "retest") and len(records(workdir, "learned")) == 2
    judge.lasts = False
    with monkeypatch.context() as patch:
        patch.setattr(updates, "_lessons", None)  # no sequence is trained again
        again = run.continual(changed, str(workdir), quiet=True)
    assert "incomplete" not in again
    after = again["continual"]["none"]["summary"]
    assert after["accuracy"]["end"] == 1.0
    assert after["gold_log_likelihood"] == none["gold_log_likelihood"]
    assert not list(workdir.glob("checkpoints-continual*"))
