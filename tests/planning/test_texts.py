"""The texts that a plan expects of any task, how often its programs run, and at which shapes."""

import dataclasses
import json
import re
import statistics
from collections.abc import Mapping

import jax
import pytest

from seal_jax.core import parallel
from seal_jax.loop import answering, inner_loop, session
from seal_jax.planning import local, machines, planner, texts
from seal_jax.planning.workload import Workload, counts
from seal_jax.settings import Edits, Settings, SettingsError
from seal_jax.tasks.arc import prompt
from seal_jax.tasks.base import Task
from seal_jax.tasks.protocol import Bounds, Chat, Context, Lesson, Question, Refusal


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
def opened(settings, few_devices):
    return session.open_session(settings)


@pytest.fixture
def planned(settings, opened):
    """The programs of a round by name."""
    work = _expected(settings).within(opened.task)
    found = planner.Round(settings, opened.model, opened.devices, work).programs()
    return {program.name: program for program in found}


def _expected(settings):
    return texts.expected(texts.open_task(settings))[0]


def _note(settings):
    (note,) = texts.expected(texts.open_task(settings))[1]
    return note


def _shapes(call, *arguments, **named):
    with pytest.raises(Shapes) as raised:
        call(*arguments, **named)
    return raised.value.args[0]


def test_texts_are_counted_in_the_tasks(settings, opened):
    """What the run's own augmentations make of them."""
    found = _expected(settings)
    contexts = opened.task.contexts("train")
    # Three contexts of two demonstrations, in one order each, under two transforms; one test.
    asked = [len(opened.exam(context, "adapted").prompts) for context in contexts]
    assert found.questions == statistics.mean(asked) == 6 and found.golds == 1
    assert found.lines + 1 == settings.few_shot.max_examples
    assert found.edit_tokens == found.longest_edit == texts.tokens(settings.few_shot.oracle)
    assert found.epochs == 2  # the oracle's
    grids = [prompt.show(context.task.demonstrations, "digits") for context in contexts]
    assert max(map(texts.tokens, grids)) < found.longest_prompt
    assert found.line_tokens == found.passage_tokens > 4 * 2 * 3


def test_every_task_has_room_for_its_longest_prompt(settings, tasks, tmp_path):
    found = _expected(settings)
    (task, *_) = sorted(tasks["eval"].iterdir())
    larger = json.loads(task.read_text())
    larger["test"][0]["input"] = [[1] * 10] * 10
    (tmp_path / "a.json").write_text(json.dumps(larger))
    (tmp_path / "b.json").write_text(task.read_text())
    few = dataclasses.replace(settings.few_shot, eval=str(tmp_path))
    more = _expected(dataclasses.replace(settings, few_shot=few))
    # A 10 x 10 grid has 110 cells and ends of lines, a 2 x 2 one has 6.
    assert more.question_tokens == found.question_tokens + 110 - 6
    assert more.longest_prompt == found.longest_prompt  # only training tasks are asked about


def test_examples_that_do_not_fit_are_counted(settings, tasks, tmp_path):
    """Those of the evaluation as well, which trains on its tasks too."""
    inner = dataclasses.replace(settings.inner, buckets=(1024,))
    enough = dataclasses.replace(settings, inner=inner)
    assert "all fit the last of inner.buckets (1,024)." in _note(enough)
    usual = _longest(_note(enough))
    (task, *_) = sorted(tasks["eval"].iterdir())
    larger = json.loads(task.read_text())
    larger["train"][0]["output"] = [[1] * 10] * 10  # 110 cells and ends of lines
    (tmp_path / "a.json").write_text(json.dumps(larger))
    few = dataclasses.replace(settings.few_shot, eval=str(tmp_path))
    wide = dataclasses.replace(enough, few_shot=few)
    longest = _longest(_note(wide))
    assert longest > usual + 90
    inner = dataclasses.replace(settings.inner, buckets=(longest - 1,))
    told = _note(dataclasses.replace(wide, inner=inner))
    (over,) = re.findall(r"tokens; (\d+) are longer .* would be left out", told)
    assert 1 <= int(over) <= settings.few_shot.max_examples


def _longest(note):
    return int(re.search(r"has ([\d,]+) tokens", note)[1].replace(",", ""))


def test_a_round_has_every_task_and_no_more_steps_than_are_allowed(settings, opened):
    work = Workload(lines=3, questions=12, golds=1, epochs=2)
    limited = dataclasses.replace(settings.data, max_questions=1)  # several prompts ask a test
    task = texts.open_task(dataclasses.replace(settings, data=limited))
    found = counts(settings, work.within(task))
    # 2 tasks x 2 recipes in groups of 4, and the unadapted model; 12 prompts, 4 at once.
    assert found["inner update"] == (1, 2 * 2)  # two epochs of 4 examples, 2 at once
    assert (found["answers"].calls, found["log-likelihoods"].calls) == (2 * 3, 2)
    few = dataclasses.replace(settings.few_shot, max_steps=3)
    task = texts.open_task(dataclasses.replace(settings, few_shot=few))
    assert counts(settings, work.within(task))["inner update"].steps == 3


def test_the_inner_update_is_planned_at_the_runs_shapes(planned, opened, monkeypatch):
    """But for the table of step shapes, which is shortened."""
    monkeypatch.setattr(parallel, "inner_program", lambda *_: _raise_shapes)
    contexts = opened.task.contexts("train")
    read = (opened.task.read(c, opened.settings.few_shot.oracle, 0) for c in contexts)
    lessons = [opened.lesson(lesson) for lesson in read]
    run = _shapes(
        inner_loop.train,
        opened,
        opened.base,
        lessons,
        [("init", context.id) for context in contexts],
        order=("round 1", 0),
        count=opened.settings.inner.candidates,
        bounds=opened.bounds,
    )
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
    name, function, planned, opened, settings, monkeypatch
):
    evaluate = answering.evaluate
    if name == "answers":
        monkeypatch.setattr(answering, "score", lambda *_, **__: [])
    monkeypatch.setattr(evaluate, function, _raise_shapes)
    count = settings.inner.candidates
    deltas_K = jax.tree.map(
        lambda leaf: jax.numpy.zeros(leaf.shape, leaf.dtype),
        planner.Round(settings, opened.model, opened.devices, Workload()).deltas(count),
    )
    contexts = opened.task.contexts("train")
    run = _shapes(
        answering.ask,
        opened,
        opened.base,
        deltas_K,
        [opened.exam(context, "adapted") for context in contexts],
        count=count,
        width=opened.width(contexts),
        draws=[("answer", context.id) for context in contexts],
    )
    monkeypatch.setattr(evaluate, function, Lowered)
    assert _shapes(planned[name].lower) == run


def test_a_plan_says_what_it_leaves_out(settings, monkeypatch):
    monkeypatch.setattr(planner, "measured", lambda program, *_: _figures(program))
    monkeypatch.setattr(jax, "devices", lambda: jax.local_devices()[:1])
    monkeypatch.setattr(local, "measure", lambda device: machines.Rates(flops=1e10, bandwidth=1e10))
    constrained = planner.plan(settings)
    assert [program["name"] for program in constrained["programs"]] == [
        "sampling", "inner update", "answers", "log-likelihoods", "M-step",
    ]  # fmt: skip
    assert json.loads(json.dumps(constrained)) == constrained
    assert any("planned as sampled freely" in note for note in constrained["notes"])
    assert _note(settings) in constrained["notes"]
    free = dataclasses.replace(settings.few_shot, constrained=False)
    found = planner.plan(dataclasses.replace(settings, few_shot=free))
    assert not any("sampled freely" in note for note in found["notes"])


def _figures(program):
    """What the compiler might say of a program."""
    return dict(name=program.name, memory_bytes=1 << 20, fits=True, flops=1, seconds=1,
                calls=1, contexts=1)  # fmt: skip


def test_tasks_and_examples_that_are_not_there_are_refused(settings):
    nobody = dataclasses.replace(settings.few_shot, train_tasks=("nobody",))
    with pytest.raises(SettingsError, match=r"few_shot\.train_tasks names 'nobody'.*: correct"):
        _expected(dataclasses.replace(settings, few_shot=nobody))
    inner = dataclasses.replace(settings.inner, buckets=(16,))
    with pytest.raises(SettingsError, match=r"raise it to \d+ or more"):
        _expected(dataclasses.replace(settings, inner=inner))


class Ponds(Task):
    """A package's own task: ponds of 4 and 8 words, with three questions each."""

    names = ("Tarn", "Mere")

    def contexts(self, split):
        if split == "eval":
            return [self._pond("Loch", 1)]
        return [self._pond(name, number) for number, name in enumerate(self.names, start=1)]

    def edit_prompt(self, context):
        return f"Say what {context.text} means"

    def _pond(self, name, size):
        asked = tuple(Question(f"{name}/{q}", "How deep is it", "very") for q in range(3))
        return Context(name, name, " ".join([name, "is very deep"] * size), asked)


class AllPonds(Ponds):
    """Every round has all of them; recipes of chats, one of which is refused."""

    takes_all = True
    names = ("Tarn", "Mere", "Pool")

    @property
    def sources(self):
        return {"oracle": _Drills()}

    def bounds(self):
        return Bounds(sequences=3, epochs=6)


class _Drills:
    label = "drills"

    def lessons(self, contexts, count):
        turns = (("user", "Pond"), ("assistant", "deep"))
        drill = Lesson(sequences=(Chat(turns=turns),) * 2, head="drill twice")
        return [[drill], *[[Refusal("too small")]] * (len(contexts) - 1)]
        yield

    def together(self, contexts):
        return []


class KnownPonds(Ponds):
    """Lengths are known, so that its data are not looked for."""

    typical_lengths: Mapping[str, int] = {"questions": 40, "edit_tokens": 11}

    def __init__(self, settings):
        raise AssertionError("it was opened")


class NoPonds(Ponds):
    names = ()


def _own(tiny_settings, task):
    return dataclasses.replace(tiny_settings, task=f"{__name__}:{task.__name__}")


def test_another_packages_task_is_counted_in_its_contexts(tiny_settings):
    data = dataclasses.replace(tiny_settings.data, max_questions=2)
    edits = dataclasses.replace(tiny_settings.edits, prompt_style="plain")
    settings = dataclasses.replace(_own(tiny_settings, Ponds), data=data, edits=edits)
    found = _expected(settings)
    # 4 and 8 words: the context is what a self-edit is taken to be about as long as.
    assert (found.edit_tokens, found.longest_edit, found.line_tokens) == (6, 8, 6)
    assert found.longest_prompt == 8 + 3  # "Say what … means"
    assert found.question_tokens == 4  # asked plainly
    assert (found.questions, found.golds, found.lines, found.contexts) == (2, 2, 1, 0)
    assert found.epochs == settings.inner.epochs
    plan = planner.plan(settings, "gpu:80gb", lengths={"lines": 2})
    assert plan["fits"] and plan["texts"]["lines"] == 2
    assert [program["name"] for program in plan["programs"]][:2] == ["sampling", "inner update"]
    assert plan["programs"][0]["calls"] == 1  # restem.contexts_per_round, edits.contexts_per_batch
    assert any("the longest of the 3 training sequences" in note for note in plan["notes"])


def test_the_request_for_directives_is_part_of_the_prompt(tiny_settings, change):
    settings = _own(tiny_settings, Ponds)
    plain = _expected(settings).longest_prompt
    changes = {"continual.bounds": ("separate",), "edits.directives": ("epochs",)}
    asked = change(settings, changes)
    preface = texts.open_task(asked).preface
    assert _expected(asked).longest_prompt == plain + texts.tokens(preface) > plain + 10


def test_longer_texts_are_cut(tiny_settings):
    inner = dataclasses.replace(tiny_settings.inner, buckets=(5,))
    settings = dataclasses.replace(_own(tiny_settings, Ponds), inner=inner)
    assert _expected(settings).line_tokens == 5  # of 4 and 8, which is cut to 5


def test_rounds_and_bounds_of_a_task_are_planned(tiny_settings, monkeypatch, few_devices):
    settings = _own(tiny_settings, AllPonds)
    task = texts.open_task(settings)
    work = texts.expected(task)[0].within(task)
    assert (work.contexts, work.sequences, work.edit_tokens) == (3, 2, 2)
    assert work.line_tokens == 2 - 1 + 40  # "Ponddeep" in a chat
    assert counts(settings, work)["sampling"].calls == 2  # 3 contexts, 2 at once
    opened = session.open_session(settings)
    monkeypatch.setattr(parallel, "inner_program", lambda *_: Lowered)
    program = planner.Round(settings, opened.model, opened.devices, work).inner_update()
    arrays = {shape for shape, _ in _shapes(program.lower)}
    assert (8, 3, 128) in arrays  # candidates, sequences, the last bucket
    assert (2, 4, 6 * 3, 1) in arrays  # shards, candidates, epochs x sequences, batch size


@pytest.mark.parametrize("constrained", [False, True])
def test_known_lengths_need_no_data(tiny_settings, change, constrained):
    changes = {
        "continual.bounds": ("separate",),
        "edits": Edits(directives=("epochs",), max_new_tokens=256),
        "directives.constrained": constrained,
    }
    settings = change(_own(tiny_settings, KnownPonds), changes)
    plan = planner.plan(settings, "gpu:80gb", lengths={"longest_edit": 12})
    found = [plan["texts"][name] for name in ("edit_tokens", "longest_edit", "passage_tokens")]
    assert found == [11, 12, 128]  # given, and cut to the last of inner.buckets
    assert plan["texts"]["bounds"]["epochs"] == settings.directives.max_epochs
    assert constrained == any("sampled freely" in note for note in plan["notes"])


def test_knowledge_is_planned_as_published_whether_or_not_its_files_are_there(tiny_settings):
    data = dataclasses.replace(tiny_settings.data, train_path="nowhere.json", max_questions=0)
    task = texts.open_task(dataclasses.replace(tiny_settings, data=data))
    assert texts.expected(task) == (Workload(), [])
    assert Workload(questions=9).within(Task(tiny_settings)).questions == 2  # data.max_questions


def test_a_task_without_contexts_cannot_be_counted(tiny_settings):
    settings = _own(tiny_settings, NoPonds)
    with pytest.raises(SettingsError, match=r"NoPonds has no contexts to train on"):
        _expected(settings)
    with pytest.raises(SettingsError, match="task=nothing is unknown"):
        texts.open_task(Settings(task="nothing"))
