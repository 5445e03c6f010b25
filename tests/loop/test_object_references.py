"""Object references in settings: what they may name, and what is refused with what to change."""

import dataclasses
import math
import re
import sys
import types

import numpy as np
import pytest

import seal_jax
from seal_jax.core import restem
from seal_jax.loop import arms, rewards, session
from seal_jax.settings import Restem, Reward, Settings, SettingsError, config_dict
from seal_jax.tasks import registry
from seal_jax.tasks.base import Task
from seal_jax.tasks.splits import DataError


@pytest.fixture(scope="module", autouse=True)
def _rivers(rivers_package):
    """The example package can be imported."""


@pytest.fixture
def module(monkeypatch):
    """(**names) -> makes the module `mine` hold them."""

    def make(**names):
        made = types.ModuleType("mine")
        vars(made).update(names)
        made.__file__ = "mine.py"
        monkeypatch.setitem(sys.modules, "mine", made)

    return make


KINDS = {
    "task": registry.open_task,
    "reward.kind": lambda settings: settings.reward.function(),
    "restem.rule": lambda settings: settings.restem.selection_rule(),
}


def of(key, value):
    """The settings with one key changed, as a config file or an override would."""
    group, _, name = key.rpartition(".")
    return config_dict.from_config({group: {name: value}} if group else {name: value})


@pytest.mark.parametrize("key", KINDS)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_module_here:X", r"cannot be imported \(ModuleNotFoundError.*PYTHONPATH"),
        ("seal_jax_rivers:Rivrs", "has no 'Rivrs': did you mean seal_jax_rivers:Rivers"),
        ("seal_jax_rivers:zzz", "has no 'zzz', in .*seal_jax_rivers"),
        ("math:pi", r"is called as pi\(.*\), but is of type float"),
        ("mine:nothing", r"is called as nothing\(.+\), which it does not allow .*too many"),
    ],
)
def test_what_a_reference_does_not_name_is_refused(key, value, message, module):
    module(nothing=lambda: None)
    settings = of(key, value)  # its form is right, so that finished runs can be read without it
    with pytest.raises(SettingsError, match=f"^{re.escape(key)}={value}: .*{message}"):
        KINDS[key](settings)


def test_a_module_that_fails_is_refused(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SettingsError, match="ZeroDivisionError: division by zero"):
        registry.open_task(of("task", "broken_module:X"))


@pytest.mark.parametrize("key", ["task", "restem.rule"])
@pytest.mark.parametrize("value", ["nonsense", "a b:c", "module:", ":name", "a:b:c", "a.:b"])
def test_other_forms_are_refused_with_the_choices(key, value):
    """Those of reward.kind depend on the task: see test_extending.py."""
    with pytest.raises(SettingsError, match=rf"{key} must be one of \w+, \w+.*, or module:name"):
        of(key, value)


def test_an_arm_that_only_passages_have_is_refused(module):
    task = registry.open_task(of("task", "seal_jax_rivers:Rivers"))
    with pytest.raises(SettingsError, match=r"must be of base, .*passage.*, not entity_graph"):
        arms.check(task, ["base", "entity_graph"], "single")


def opened(module, bases=None, **members):
    """The example's class with other members, as the settings name it."""
    from seal_jax_rivers import Rivers

    module(Changed=type("Changed", bases or (Rivers,), members))
    return registry.open_task(of("task", "mine:Changed"))


class Source:
    """Half a source of lessons."""

    label = "a source"

    def lessons(self, contexts, count):
        return []


def test_what_is_no_task_is_refused(module):
    with pytest.raises(SettingsError, match=r"must be a subclass of seal_jax\.tasks\.base\.Task"):
        opened(module, (object,), __init__=lambda self, settings: None)
    with pytest.raises(SettingsError, match=r"must call super\(\).__init__\(settings\)"):
        opened(module, __init__=lambda self, settings: None)


def test_a_task_that_lacks_methods_is_refused_with_their_names(module):
    with pytest.raises(SettingsError, match="lacks the methods contexts, edit_prompt"):
        opened(module, (Task,))
    with pytest.raises(SettingsError, match="lacks the methods contexts"):
        opened(module, (Task,), writes=False)
    with pytest.raises(SettingsError, match="lacks the methods skipped, edit_prompt"):
        opened(module, skipped="a text", edit_prompt=Task.edit_prompt)


@pytest.mark.parametrize(
    ("name", "part", "message"),
    [
        ("contexts", lambda self, split: iter(()), r"contexts\('train'\) must be of type Sequence"),
        ("contexts", lambda self, split: [{"id": "x"}], "must be of type Context, not dict"),
        ("metrics", ("accuracy",), "metrics must be of type Metric, not str"),
        ("metrics", (), "metrics must be of type Metric, not NoneType"),
        ("bounds", lambda self: 3, r"bounds\(\) must be of type Bounds, not int"),
        ("grammar", "a+", "grammar must be of type Grammar or NoneType, not str"),
        ("edit_prompt", lambda self, context: None, "edit_prompt must be of type str"),
        ("sequences", lambda *_: "a text", "sequences must be of type list or tuple, not str"),
        ("context_sequences", lambda *_: "a text", "context_sequences must be of type list"),
        ("exam", lambda *_: [], "exam must be of type Exam, not list"),
        ("sources", {"own": Source()}, "the source 'own' lacks together"),
        ("sources", {"own": "a text"}, "the source 'own' lacks label and lessons and together"),
    ],
)
def test_a_part_of_the_wrong_type_is_refused(name, part, message, module):
    with pytest.raises(SettingsError, match=f"^task=mine:Changed.*{message}"):
        opened(module, **{name: part})


def test_a_source_may_not_be_called_like_an_arm(module):
    class Whole(Source):
        def together(self, contexts, count, passage):
            return []

    assert arms.table(opened(module, sources={"own": Whole()}))["own"].label == "a source"
    with pytest.raises(SettingsError, match="its source 'edit_before' has the name of an arm"):
        arms.table(opened(module, sources={"edit_before": Whole()}))


def test_contexts_that_cannot_be_told_apart_are_refused(module):
    from seal_jax_rivers import Rivers

    train = list(Rivers(Settings()).contexts("train"))
    held_out = list(Rivers(Settings()).contexts("eval"))

    def refused(train, held_out, message, error=SettingsError, **members):
        splits = {"train": train, "eval": held_out}
        with pytest.raises(error, match=message):
            opened(module, contexts=lambda self, split: splits[split], **members)

    refused([*train, train[0]], held_out, "several contexts have the id 'river Osk'")
    same_id = dataclasses.replace(held_out[0], id=train[0].id)
    refused(train, [same_id], "several contexts have the id 'river Osk'")
    twice = dataclasses.replace(train[0], questions=train[0].questions[:1] * 2)
    refused([twice], held_out, "several questions of 'river Osk' have the id 'river Osk/length_km'")
    exam = Rivers(Settings()).exam(train[0], "adapted")
    asked = dataclasses.replace(exam, asked=exam.asked + exam.asked[-1:])
    message = "several prompts of 'river Osk' have the id 'river Osk/gauge/2'"
    refused(train[:1], [], message, exam=lambda *_: asked)
    titled = dataclasses.replace(train[1], id="another", text="another text")
    refused(train, [titled, *held_out], "share 1 article", DataError)
    texted = dataclasses.replace(train[1], id="another", title="another title")
    refused(train, [texted, *held_out], "is also the training passage", DataError)


def test_the_projects_own_tasks_are_tasks():
    for name in registry.KNOWN:
        config = {"few_shot": "few_shot:smoke", "knowledge": "knowledge:smoke"}[name]
        registry.check(registry.open_task(seal_jax.configure(config)), name)


def test_what_is_missing_is_said_before_the_model_is_loaded(module, monkeypatch):
    opened_models = []
    monkeypatch.setattr(session.opened_model, "load_base", opened_models.append)
    for key in ("reward.kind", "restem.rule"):
        with pytest.raises(SettingsError, match=f"{key}=math:pi"):
            session.open_session(of(key, "math:pi"))
    assert not opened_models


ANSWERS = [{"correct": True, "gold_log_likelihood": -1.0}]
MARKED = {"answers": ANSWERS, "scores": {"accuracy": 1.0, "gold_log_likelihood": -1.0}}


@pytest.mark.parametrize("returned", ["high", math.nan, math.inf, [1.0, 2.0]])
def test_a_reward_that_is_no_number_is_refused(returned, module):
    module(reward=lambda answers: returned)
    with pytest.raises(SettingsError, match=r"reward\.kind=mine:reward gave .*: expected a finite"):
        rewards.value(MARKED, Reward(kind="mine:reward"))


def test_a_reward_function_has_its_own_copy_and_may_give_none(module):
    def reward(answers):
        answers[0].clear()

    module(reward=reward)
    own = Reward(kind="mine:reward")
    assert rewards.value(MARKED, own) is None and ANSWERS[0]["correct"]
    assert rewards.score([MARKED], own, "accuracy") is None
    module(reward=lambda answers: len(answers))
    assert rewards.value({"answers": [], "scores": {}}, own) is None
    assert rewards.value(MARKED, own) == 1.0
    assert own.needs_inner_loop and Reward(kind="mine:reward", retention=1.0, replicates=2)


REWARDS = np.array([[0.5, np.nan], [0.1, 0.2]])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(2), r"must give an array \(2, 2\) .*: it gave ndarray, of shape \(2,\)"),
        (None, "one is nan|it gave NoneType"),
        ("all", "it gave str"),
        ([[1, 0], [0, -0.5]], "one is -0.5"),
        ([[1, 0], [0, np.inf]], "one is inf"),
        ([[1, 0], [0, np.nan]], "one is nan"),
        ([[1, 0], [0, 1e300]], "one is inf"),
        ([[1, 1], [0, 0]], "without a reward has a weight"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(weights, message, module):
    module(rule=lambda rewards, baselines, lengths: weights)
    rule = Restem(rule="mine:rule").selection_rule()
    with pytest.raises(ValueError, match=message):
        restem.select(REWARDS, rule, baselines_C=[0.0, 0.0], lengths_CxM=np.ones((2, 2)))


def test_a_rule_is_given_copies_and_its_weights_come_back(module):
    seen = []

    def rule(rewards_CxM, baselines_C, lengths_CxM):
        seen.append((rewards_CxM.copy(), baselines_C.copy(), lengths_CxM.copy()))
        rewards_CxM[:] = 9
        return [[2, 0], [0.25, 0]]

    module(rule=rule)
    selector = Restem(rule="mine:rule").selection_rule()
    given = REWARDS.copy()
    found = restem.select(given, selector, baselines_C=[0.1, 0.2], lengths_CxM=[[3, 4], [5, 6]])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[2, 0], [0.25, 0]])
    np.testing.assert_array_equal(given, REWARDS)
    np.testing.assert_array_equal(seen[0][0], REWARDS)
    np.testing.assert_array_equal(seen[0][1], [0.1, 0.2])
    np.testing.assert_array_equal(seen[0][2], [[3, 4], [5, 6]])
    with pytest.raises(ValueError, match="needs baselines_C and lengths_CxM"):
        restem.select(given, selector)
