"""Object references in settings: what they may name, and what is refused with what to change."""

import dataclasses
import math
import re
import sys
import types

import numpy as np
import pytest

from seal_jax.core import restem
from seal_jax.loop import rewards, session
from seal_jax.loop.few_shot import session as few_shot
from seal_jax.settings import Restem, Reward, Settings, SettingsError, config_dict


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
    "task": session.make_task,
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
        session.make_task(of("task", "broken_module:X"))


@pytest.mark.parametrize("key", KINDS)
@pytest.mark.parametrize("value", ["nonsense", "a b:c", "module:", ":name", "a:b:c", "a.:b"])
def test_other_forms_are_refused_with_the_choices(key, value):
    with pytest.raises(SettingsError, match=rf"{key} must be one of \w+, \w+.*, or module:name"):
        of(key, value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"tuning": {"learning_rates": [1e-3], "epochs": [1]}, "data": {"eval_part": "test"}},
            "leave tuning.learning_rates and tuning.epochs empty",
        ),
        ({"evaluation": {"arms": ["base", "entity_graph"]}}, "leave it out of evaluation.arms"),
    ],
)
def test_what_only_passages_have_is_refused(values, message):
    config_dict.from_config(values)
    with pytest.raises(SettingsError, match=message):
        config_dict.from_config({"task": "seal_jax_rivers:Rivers", **values})


def changed_rivers(**members):
    """The example's class with other members; None takes one away."""
    from seal_jax_rivers import Rivers

    parts = {name: getattr(Rivers, name) for name in vars(Rivers) if name[:2] != "__"}
    parts |= {"__init__": Rivers.__init__, **members}
    return type("Changed", (), {name: part for name, part in parts.items() if part is not None})


def test_a_task_that_lacks_methods_is_refused_with_their_names(module):
    module(Task=changed_rivers(query=None, writes=None, skipped="a text"))
    with pytest.raises(SettingsError, match="lacks writes, skipped, query of seal_jax"):
        session.make_task(of("task", "mine:Task"))


def test_contexts_that_cannot_be_told_apart_are_refused(module):
    from seal_jax_rivers import Rivers

    train = list(Rivers(Settings()).contexts("train"))
    held_out = list(Rivers(Settings()).contexts("eval"))

    def refused(train, held_out, message, error=SettingsError):
        module(
            Task=changed_rivers(contexts=lambda self, split: {"train": train}.get(split, held_out))
        )
        with pytest.raises(error, match=message):
            session.make_task(of("task", "mine:Task"))

    refused([*train, train[0]], held_out, "several contexts have the id 'river Osk'")
    twice = dataclasses.replace(train[0], questions=train[0].questions[:1] * 2)
    refused([twice], held_out, "several questions of 'river Osk' have the id 'river Osk/length_km'")
    refused([{"id": "x"}], held_out, "must be seal_jax.tasks.protocol.Context, not dict")
    same = dataclasses.replace(train[1], id="another")
    refused(train, [same, *held_out], "share 1 article", ValueError)


def test_what_is_missing_is_said_before_the_model_is_loaded(module, monkeypatch):
    opened = []
    for of_domain in (session, few_shot):
        monkeypatch.setattr(of_domain, "open_model", opened.append)
    for open_session, key in (
        (session.open_session, "reward.kind"),
        (session.open_session, "restem.rule"),
        (few_shot.open_session, "restem.rule"),
    ):
        with pytest.raises(SettingsError, match=f"{key}=math:pi"):
            open_session(of(key, "math:pi"))
    assert not opened


ANSWERS = [{"correct": True, "gold_log_likelihood": -1.0}]


@pytest.mark.parametrize("returned", ["high", math.nan, math.inf, [1.0, 2.0]])
def test_a_reward_that_is_no_number_is_refused(returned, module):
    module(reward=lambda answers: returned)
    with pytest.raises(SettingsError, match=r"reward\.kind=mine:reward gave .*: expected a finite"):
        rewards.value(ANSWERS, Reward(kind="mine:reward"))


def test_a_reward_function_has_its_own_copy_and_may_give_none(module):
    def reward(answers):
        answers[0].clear()

    module(reward=reward)
    own = Reward(kind="mine:reward")
    assert rewards.value(ANSWERS, own) is None and ANSWERS[0]["correct"]
    assert math.isnan(rewards.score([{"answers": ANSWERS}], own))
    module(reward=lambda answers: len(answers))
    assert rewards.value([], own) is None and rewards.value(ANSWERS, own) == 1.0
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
