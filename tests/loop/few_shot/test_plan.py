"""The plan of a few-shot run: its texts, how often its programs run, and at which shapes."""

import dataclasses
import json
import re
import statistics

import jax
import pytest

from seal_jax import settings as settings_lib
from seal_jax.core import parallel
from seal_jax.loop import generation
from seal_jax.loop.few_shot import session as few_shot_session
from seal_jax.loop.few_shot import trials
from seal_jax.planning import few_shot, local, machines, planner
from seal_jax.planning.workload import Workload, counts
from seal_jax.settings import SettingsError
from seal_jax.tasks.arc import prompt


class Shapes(Exception):
    """Ends a call with the shapes of its arrays."""


def _raise_shapes(*arguments, **named):
    leaves = jax.tree.leaves((arguments, named))
    raise Shapes([(leaf.shape, str(leaf.dtype)) for leaf in leaves if hasattr(leaf, "shape")])


class Lowered:
    """Stands for a program that is to be lowered."""

    lower = staticmethod(_raise_shapes)


@pytest.fixture(scope="module")
def settings(few_shot_settings):
    """With room for more steps than recipes take, and unusual values of what is not read."""
    few = dataclasses.replace(few_shot_settings.few_shot, max_steps=7)
    inner = dataclasses.replace(few_shot_settings.inner, max_sequences=9, epochs=5)
    return dataclasses.replace(few_shot_settings, few_shot=few, inner=inner)


@pytest.fixture(scope="module")
def session(settings):
    return few_shot_session.open_session(settings)


@pytest.fixture
def planned(settings, session):
    """The programs of a round by name."""
    as_round = few_shot.as_round(settings)
    work = few_shot.workload(settings).within(as_round)
    found = planner.round_programs.programs(
        as_round, session.model, session.devices, work, counts(as_round, work)
    )
    return {program.name: program for program in found}


def _shapes(call, *arguments, **named):
    with pytest.raises(Shapes) as raised:
        call(*arguments, **named)
    return raised.value.args[0]


def test_texts_are_counted_in_the_tasks(settings, session):
    """What the run's own tokenizer (a letter a token) and augmentations make of them."""
    found = few_shot.workload(settings)
    tasks = session.tasks["train"]
    # Three contexts of two demonstrations, in one order each, under two transforms; one test.
    asked = [len(trials._variants(session, task, leave_one_out=True)) for task in tasks]
    assert found.questions == statistics.mean(asked) == 6 and found.golds == 1
    assert found.lines + 1 == settings.few_shot.max_examples
    grids = [prompt.show(task.demonstrations, "digits") for task in tasks]
    assert max(map(few_shot.tokens, grids)) < found.longest_prompt
    assert found.line_tokens == found.passage_tokens > 4 * 2 * 3


def test_every_task_has_room_for_its_longest_prompt(settings, tasks, tmp_path):
    found = few_shot.workload(settings)
    (task, *_) = sorted(tasks["eval"].iterdir())
    larger = json.loads(task.read_text())
    larger["test"][0]["input"] = [[1] * 10] * 10
    (tmp_path / "a.json").write_text(json.dumps(larger))
    (tmp_path / "b.json").write_text(task.read_text())
    few = dataclasses.replace(settings.few_shot, eval=str(tmp_path))
    more = few_shot.workload(dataclasses.replace(settings, few_shot=few))
    # A 10 x 10 grid has 110 cells and ends of lines, a 2 x 2 one has 6.
    assert more.question_tokens == found.question_tokens + 110 - 6
    assert more.longest_prompt == found.longest_prompt  # only training tasks are asked about


def test_examples_that_do_not_fit_are_counted(settings, tasks, tmp_path):
    """Those of the evaluation as well, which trains on its tasks too."""
    inner = dataclasses.replace(settings.inner, buckets=(1024,))
    enough = dataclasses.replace(settings, inner=inner)
    assert "all fit the last of inner.buckets (1,024)." in few_shot.note(enough)
    usual = _longest(few_shot.note(enough))
    (task, *_) = sorted(tasks["eval"].iterdir())
    larger = json.loads(task.read_text())
    larger["train"][0]["output"] = [[1] * 10] * 10  # 110 cells and ends of lines
    (tmp_path / "a.json").write_text(json.dumps(larger))
    few = dataclasses.replace(settings.few_shot, eval=str(tmp_path))
    wide = dataclasses.replace(enough, few_shot=few)
    longest = _longest(few_shot.note(wide))
    assert longest > usual + 90
    inner = dataclasses.replace(settings.inner, buckets=(longest - 1,))
    told = few_shot.note(dataclasses.replace(wide, inner=inner))
    (over,) = re.findall(r"tokens; (\d+) are longer .* would be left out", told)
    assert 1 <= int(over) <= settings.few_shot.max_examples


def _longest(note):
    return int(re.search(r"has ([\d,]+) tokens", note)[1].replace(",", ""))


def test_a_round_has_every_task_and_no_more_steps_than_are_allowed(settings):
    as_round = few_shot.as_round(settings)
    work = Workload(lines=3, questions=12, golds=1)
    found = counts(as_round, work)
    # 2 tasks x 2 recipes in groups of 4, and the unadapted model; 12 prompts, 4 at once.
    assert (found.updates, found.asked, found.believed) == (1, 2 * 3, 2)
    assert found.inner_steps == 2 * 2  # the oracle's epochs of 4 examples, 2 at once
    short = dataclasses.replace(as_round.few_shot, max_steps=3)
    assert counts(dataclasses.replace(as_round, few_shot=short), work).inner_steps == 3


def test_the_inner_update_is_planned_at_the_runs_shapes(planned, session, monkeypatch):
    """But for the table of step shapes, which is shortened."""
    monkeypatch.setattr(parallel, "inner_program", lambda *_: _raise_shapes)
    made = trials.Examples(session)
    recipe = session.parse(session.settings.few_shot.oracle)
    group = [made.candidate(task, recipe, index=0, replicate=0) for task in session.tasks["train"]]
    run = _shapes(trials.try_group, session, session.base, group, draw="round 1")
    monkeypatch.setattr(parallel, "inner_program", lambda *_: Lowered)
    assert _shapes(planned["inner update"].lower) == run


@pytest.mark.parametrize(
    "name, function",
    [
        ("answers", "answers_of_candidates"),
        ("log-likelihoods", "gold_log_likelihoods_of_candidates"),
    ],
)
def test_answers_and_likelihoods_are_planned_at_the_runs_shapes(
    name, function, planned, session, settings, monkeypatch
):
    evaluate = generation.evaluate
    if name == "log-likelihoods":
        monkeypatch.setattr(generation, "write", lambda *_, **__: [])
    monkeypatch.setattr(evaluate, function, _raise_shapes)
    deltas_K = jax.tree.map(
        lambda leaf: jax.numpy.zeros(leaf.shape, leaf.dtype),
        planner.round_programs.Shapes(session.model, session.devices, jax.numpy.float32).deltas(
            settings.inner.lora.spec(), settings.inner.candidates
        ),
    )
    run = _shapes(
        trials.attempt,
        session,
        session.base,
        deltas_K,
        session.tasks["train"],
        leave_one_out=True,
    )
    monkeypatch.setattr(evaluate, function, Lowered)
    assert _shapes(planned[name].lower) == run


def test_a_plan_says_what_it_leaves_out(settings, monkeypatch):
    monkeypatch.setattr(planner, "measured", lambda program, *_: _figures(program))
    monkeypatch.setattr(jax, "devices", lambda: jax.local_devices()[:1])
    monkeypatch.setattr(local, "measure", lambda device: machines.Rates(flops=1e10, bandwidth=1e10))
    constrained = planner.plan(settings, largest=False)
    assert [program["name"] for program in constrained["programs"]] == [
        "sampling", "inner update", "answers", "log-likelihoods", "M-step",
    ]  # fmt: skip
    assert any("planned as sampled freely" in note for note in constrained["notes"])
    assert few_shot.note(settings) in constrained["notes"]
    free = dataclasses.replace(settings.few_shot, constrained=False)
    found = planner.plan(dataclasses.replace(settings, few_shot=free), largest=False)
    assert not any("sampled freely" in note for note in found["notes"])


def _figures(program):
    """What the compiler might say of a program."""
    return dict(name=program.name, memory_bytes=1 << 20, fits=True, flops=1, seconds=1,
                calls=program.calls)  # fmt: skip


def test_tasks_and_examples_that_are_not_there_are_refused(settings):
    nobody = dataclasses.replace(settings.few_shot, train_tasks=("nobody",))
    with pytest.raises(SettingsError, match=r"no task of few_shot\.train_tasks: correct"):
        planner.expected(dataclasses.replace(settings, few_shot=nobody))
    inner = dataclasses.replace(settings.inner, buckets=(16,))
    with pytest.raises(SettingsError, match=r"raise it to \d+ or more"):
        planner.expected(dataclasses.replace(settings, inner=inner))
    with pytest.raises(SettingsError, match=r"does not know how long texts of task=their:Own"):
        planner.expected(settings_lib.Settings(task="their:Own"))
