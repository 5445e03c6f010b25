"""Configs and settings: overrides, refusals, and the paper's values."""

import dataclasses
import importlib.util
import json
import pathlib

import pytest

from seal_jax import settings as settings_lib
from seal_jax.core.optim import AdamW
from seal_jax.settings import config_dict
from seal_jax.tasks.directives import Limits

_CONFIGS = pathlib.Path(__file__).parents[2] / "configs"


def _load(name):
    spec = importlib.util.spec_from_file_location(name, _CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


knowledge, few_shot = _load("knowledge"), _load("few_shot")
_EVERY = [(file, variant) for file in (knowledge, few_shot) for variant in file.VARIANTS]


@pytest.mark.parametrize(("file", "variant"), _EVERY, ids=lambda value: str(value)[:30])
def test_every_variant_is_locked_and_valid(file, variant):
    config = file.get_config(variant)
    assert (config.task == "few_shot") == (file is few_shot)
    assert config.is_locked
    settings = config_dict.from_config(config)
    assert config_dict.from_config(config_dict.to_config(settings)) == settings


def test_an_unknown_variant_names_those_there_are():
    with pytest.raises(ValueError, match=r"qwen2\.5-7b"):
        knowledge.get_config("qwen")
    with pytest.raises(ValueError, match=r"llama3\.2-1b"):
        few_shot.get_config("llama")


def test_the_papers_values():
    """REFERENCE of SEAL's knowledge experiment: arXiv 2506.10943, section 4 and appendix B."""
    settings = config_dict.from_config(knowledge.get_config("qwen2.5-7b"))
    inner, sft, restem = settings.inner, settings.restem.sft, settings.restem
    assert (inner.lora.rank, inner.lora.alpha, inner.lora.targets) == (32, 64, ("q_proj", "v_proj"))
    assert (inner.epochs, inner.learning_rate, inner.batch_size) == (10, 1e-3, 1)
    assert (inner.decay, inner.warmup_steps, inner.optimizer.max_grad_norm) == ("linear", 0, 1.0)
    assert (inner.optimizer.b1, inner.optimizer.b2, inner.optimizer.eps) == (0.9, 0.999, 1e-8)
    assert inner.optimizer.weight_decay == 0
    assert (sft.lora.rank, sft.lora.alpha, len(sft.lora.targets)) == (64, 128, 7)
    assert (sft.epochs, sft.learning_rate, sft.batch_size) == (2, 3e-4, 10)
    assert (restem.rounds, restem.contexts_per_round, restem.rule) == (2, 50, "best_of_m")
    assert (settings.edits.samples, settings.reward.replicates) == (5, 3)
    assert settings.reward.kind == "accuracy"
    edits = settings.edits
    assert (edits.temperature, edits.top_p, edits.max_new_tokens) == (1.0, 0.95, 8192)
    assert (settings.answers.max_new_tokens, settings.evaluation.contexts) == (64, 200)


def test_the_papers_values_of_few_shot_learning():
    """REFERENCE of SEAL's few-shot experiment: arXiv 2506.10943, section 4.2 and appendix A."""
    settings = config_dict.from_config(few_shot.get_config("llama3.2-1b"))
    inner, sft, tasks = settings.inner, settings.restem.sft, settings.few_shot
    assert (inner.lora.rank, inner.lora.alpha) == (128, 16)
    assert set(inner.lora.targets) == {"q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"}
    assert (inner.batch_size, inner.decay, inner.warmup_steps) == (2, "cosine", 11)
    assert (tasks.max_examples, tasks.max_steps, tasks.leave_out) == (250, 375, (1, 2))
    assert (settings.edits.samples, settings.evaluation.edits) == (15, 5)
    assert (settings.edits.temperature, settings.edits.max_new_tokens) == (0.8, 128)
    assert (sft.lora.rank, sft.lora.alpha, sft.epochs, sft.batch_size) == (16, 16, 8, 5)
    assert (sft.learning_rate, sft.decay) == (5e-5, "cosine")
    assert (len(tasks.train_tasks), len(tasks.eval_tasks)) == (11, 8)
    assert json.loads(tasks.oracle)["training"] == {
        "strategy": "train_using_output_tokens",
        "learning_rate": 1e-4,
        "num_train_epochs": 2,
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"oracle": "{}"}, "the recipe lacks data_generation"),
        ({"fixed": ("{}",)}, "the recipe lacks data_generation"),
        ({"max_epochs": 1}, "num_train_epochs must be from 1 to 1, not 2"),
        ({"min_epochs": 0}, "few_shot: epochs must have limits from 1 to 1000"),
        ({"transforms": ("spin",)}, "transforms must be of identity"),
        ({"leave_out": (0,)}, "leave_out needs numbers >= 1"),
    ],
)
def test_impossible_few_shot_settings_say_what_to_change(values, message):
    with pytest.raises(settings_lib.SettingsError, match=message):
        config_dict.from_config({"few_shot": values})


def test_an_override_reaches_its_dataclass_and_nothing_else():
    config = config_dict.to_config(settings_lib.Settings())
    config.inner.lora.rank = 16
    settings = config_dict.from_config(config)
    lora = dataclasses.replace(settings_lib.Lora(), rank=16)
    inner = dataclasses.replace(settings_lib.Inner(), lora=lora)
    assert settings == settings_lib.Settings(inner=inner)
    assert settings.inner.lora.spec().scale == 64 / 16


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"lora": {"rnk": 3}}}, "did you mean 'inner.lora.rank'"),
        ({"innr": {}}, "unknown setting 'innr'"),
        ({"inner": {"epochs": 2.5}}, "inner.epochs must be of type int"),
        ({"inner": {"epochs": True}}, "inner.epochs must be of type int"),
        ({"seed": "0"}, "seed must be of type int"),
        ({"devices": {"model_axis": 0}}, "devices: model_axis must be at least 1"),
        ({"inner": 3}, "inner is a group of settings"),
        ({"inner": {"buckets": (64, 32)}}, "inner: buckets must be positive and ascending"),
        ({"inner": {"buckets": 64}}, "inner.buckets must be a tuple of int"),
        ({"inner": {"buckets": (64, "x")}}, "inner.buckets must be of type int"),
        ({"inner": {"lora": {"rank": 0}}}, "inner.lora: delta rank must be at least 1"),
        ({"inner": {"lora": {"targets": ()}}}, "name at least one"),
        ({"inner": {"learning_rate": 0}}, "inner: learning_rate must be above 0"),
        ({"inner": {"optimizer": {"b2": 1.0}}}, r"inner.optimizer: b1 and b2 must be in \[0, 1\)"),
        ({"inner": {"decay": "step"}}, "inner.decay must be one of constant, linear, cosine"),
        ({"edits": {"temperature": 0}}, "greedy samples are all equal"),
        ({"edits": {"top_p": 1.5}}, "edits: top_p must be in"),
        ({"reward": {"pattern": "x"}}, "pattern must be given for the reward 'pattern'"),
        ({"reward": {"kind": "pattern"}}, "pattern must be given for the reward 'pattern'"),
        (
            {"reward": {"kind": "pattern", "pattern": "(", "replicates": 1}},
            "not a regular expression",
        ),
        (
            {"reward": {"kind": "length", "replicates": 1, "retention": 1.0}},
            "retention is measured on adapted models",
        ),
        (
            {"reward": {"retention": 1.0}, "restem": {"contexts_per_round": 1}},
            "restem.contexts_per_round to at least 2",
        ),
        ({"restem": {"rule": "best"}}, "restem.rule must be one of best_of_m"),
        ({"restem": {"top_k": 2}}, "top_k is for the rule"),
        ({"restem": {"threshold": 0.5}}, "threshold is for the rule"),
        ({"restem": {"temperature": 0.5}}, "temperature is for the rule"),
        ({"reward": {"kind": "pattern", "pattern": "x"}}, "replicates must be 1"),
        ({"evaluation": {"arms": ()}}, "arms are empty"),
        ({"restem": {"kl": 0.1}}, "kl is for the update 'rloo' or 'grpo'"),
        ({"restem": {"update": "dpo", "clip_high": 0.3}}, "clip_high is for the update 'rloo'"),
        ({"restem": {"update": "grpo", "beta": 0.3}}, "beta is for the update 'dpo'"),
        ({"restem": {"update": "rloo", "rule": "top_k"}}, "leave it at 'best_of_m'"),
        ({"restem": {"update": "rloo", "keep_data": "all"}}, "keep_data to 'round'"),
        ({"restem": {"update": "grpo", "start_from": "base"}}, "start_from to 'previous'"),
        ({"restem": {"update": "dpo"}, "edits": {"samples": 1}}, "edits.samples to at least 2"),
        ({"restem": {"update": "rloo"}, "edits": {"from_run": "a"}}, "restem.rounds to 1, or"),
        ({"restem": {"rule": "top_k", "top_k": 9}}, "restem.top_k .9. exceeds edits.samples"),
        ({"data": {"min_words": 9, "max_words": 3}}, "min_words .9. must not exceed max_words"),
        ({"data": {"min_words": -1}}, "data: min_words must be 0 or more"),
        ({"edits": {"directives": ("rank",)}}, "directives must be of learning_rate, epochs, each"),
        ({"edits": {"directives": ("epochs", "epochs")}}, "directives must be of .* each once"),
        ({"directives": {"max_learning_rate": 0}}, "directives: learning rates must have finite"),
        (
            {"edits": {"directives": ("epochs",)}, "evaluation": {"form": "corpus"}},
            "directives are those of one context: set evaluation.form to 'single'",
        ),
        ({"answers": {"max_new_tokens": 0}}, "answers: max_new_tokens must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_change(values, message):
    with pytest.raises(settings_lib.SettingsError, match=message):
        config_dict.from_config(values)


def test_self_edits_may_have_directives_under_the_other_defaults():
    settings = config_dict.from_config({"edits": {"directives": ["learning_rate", "epochs"]}})
    assert settings.edits.directives == ("learning_rate", "epochs")
    assert settings.directives.limits() == Limits()


@pytest.mark.fault("S14")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "key",
    [
        "inner.lora.alpha",
        "restem.sft.lora.alpha",
        "corpus.learning_rate",
        "inner.learning_rate",
        "inner.optimizer.weight_decay",
        "edits.temperature",
        "reward.mix",
        "continual.kl_weight",
    ],
)
def test_a_number_that_is_none_is_refused_by_its_key(key, value):
    config = knowledge.get_config("smoke").to_dict()
    *groups, leaf = key.split(".")
    node = config
    for group in groups:
        node = node[group]
    node[leaf] = value
    with pytest.raises(settings_lib.SettingsError, match=rf"^{key} must be a finite number, not"):
        config_dict.from_config(config)


@pytest.mark.fault("S14")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: settings_lib.Lora(alpha=0.0), "alpha must be above 0, not 0.0"),
        (lambda: settings_lib.Lora(alpha=-2.0), "alpha must be above 0, not -2.0"),
        (lambda: settings_lib.Lora(alpha=float("nan")), "alpha must be above 0, not nan"),
        (lambda: AdamW(weight_decay=-0.1), "weight_decay must be 0 or more, not -0.1"),
        (lambda: AdamW(weight_decay=float("nan")), "weight_decay must be 0 or more, not nan"),
        (lambda: AdamW(eps=0.0), "eps must be above 0, not 0.0"),
        (lambda: AdamW(max_grad_norm=float("nan")), "max_grad_norm must be above 0, not nan"),
    ],
)
def test_what_trains_nothing_or_anything_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_integers_pass_for_floats_and_lists_for_tuples():
    settings = config_dict.from_config({"inner": {"learning_rate": 1, "buckets": [8, 16]}})
    assert settings.inner.learning_rate == 1.0
    assert settings.inner.buckets == (8, 16)


def test_keys_lists_every_leaf_once():
    keys = config_dict.all_keys()
    assert len(keys) == len(set(keys))
    assert {"seed", "inner.lora.rank", "restem.sft.optimizer.b1", "evaluation.arms"} <= set(keys)
    assert not {"inner", "inner.lora"} & set(keys)
