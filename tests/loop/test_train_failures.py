"""Runs that cannot be, or that diverge: what they say, and what they leave."""

import pytest

from seal_jax import settings as settings_lib
from seal_jax.loop import train
from seal_jax.runs import ledger


def test_training_and_evaluation_must_not_share_an_article(tiny_settings, change, tmp_path):
    settings = change(tiny_settings, {"data.eval_path": tiny_settings.data.train_path})
    with pytest.raises(ValueError, match="share"):
        train.train(settings, str(tmp_path), quiet=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"restem.contexts_per_round": 5}, "lower restem.contexts_per_round"),
        ({"evaluation.contexts": 9}, "evaluation.contexts is 9"),
        ({"answers.prompt_buckets": (8,)}, "answers.prompt_buckets"),
        ({"evaluation.contexts": 1}, "at least 2 evaluation contexts"),
        ({"edits.prompt_buckets": (8,)}, "edits.prompt_buckets"),
        ({"restem.sft.buckets": (64,)}, "restem.sft.buckets"),
        ({"edits.max_new_tokens": 500, "restem.sft.buckets": (900,)}, r"positions \(512\)"),
        ({"restem.sft.lora": settings_lib.Lora(targets=("gte",))}, "matches no parameter"),
        ({"inner.lora": settings_lib.Lora(targets=("q_prj",))}, "matches no parameter"),
        ({"model.path": "no/such-model"}, "no directory"),
    ],
)
def test_bad_settings_say_what_to_change(changes, message, tiny_settings, change, tmp_path):
    with pytest.raises((ValueError, OSError), match=message):
        train.train(change(tiny_settings, changes), str(tmp_path), quiet=True)


def test_a_start_that_failed_leaves_the_directory_free(tiny_settings, change, tmp_path):
    with pytest.raises(ValueError, match=r"evaluation\.contexts is 9"):
        train.train(change(tiny_settings, {"evaluation.contexts": 9}), str(tmp_path), quiet=True)
    train.train(change(tiny_settings, {"evaluation.arms": ("base",)}), str(tmp_path), quiet=True)


def test_a_diverging_m_step_says_what_to_change(tiny_settings, change, tmp_path):
    settings = change(tiny_settings, {"restem.sft.learning_rate": 1e30, "restem.rounds": 1})
    with pytest.raises(ValueError, match=r"lower restem\.sft\.learning_rate"):
        train.train(settings, str(tmp_path), quiet=True)


def test_diverging_inner_loops_have_no_reward_and_a_reason(tiny_settings, change, tmp_path):
    settings = change(
        tiny_settings,
        {"inner.learning_rate": 1e30, "restem.rounds": 1, "evaluation.arms": ("base", "passage")},
    )
    results = train.train(settings, str(tmp_path), quiet=True)
    assert results["rounds"][0]["without_reward"] == 8
    assert results["rounds"][0]["kept"] == 0
    assert results["arms"]["passage"]["unadapted_fallbacks"] == 2
    assert results["matched_minus_mismatched"]["passage"] is None
    with ledger.Ledger(tmp_path / "ledger", read_only=True) as records:
        trials = [t for s in records.segments("trials") for t in s.record["trials"]]
    assert {trial["reason"] for trial in trials} == {"the inner update became non-finite"}
