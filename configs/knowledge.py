"""Knowledge incorporation: the policy writes self-edits about passages of SQuAD's form.

    python -m seal_jax train --config=configs/knowledge.py:demo --workdir=runs/demo

Variants: `demo` (the default), `smollm2-135m`, `qwen2.5-7b` and `smoke`. See their functions.
"""

import ml_collections

from seal_jax import config_dict, settings


def demo(config):
    """SmolLM2-135M on the demo's own passages: two rounds of 6 contexts x 3 self-edits."""
    config.model.path = "smollm2-135m"
    config.model.remat = True  # 3 GB rather than 5
    config.edits.prompt_style = "chat"
    config.data.max_questions = 5
    config.edits.samples = 3
    config.edits.temperature = 0.7
    config.edits.top_p = 0.9
    config.edits.max_new_tokens = 96
    config.edits.contexts_per_batch = 6
    config.inner.lora.targets = settings.ALL_PROJECTIONS
    config.inner.epochs = 3
    config.inner.learning_rate = 3e-3
    config.inner.candidates = 6
    config.inner.max_sequences = 12
    config.inner.buckets = (32, 48, 64, 96, 160)
    config.answers.max_new_tokens = 24
    config.answers.max_gold_tokens = 12
    config.reward.kind = "gold_log_likelihood"
    config.reward.replicates = 1
    config.restem.contexts_per_round = 6
    config.restem.sft.batch_size = 2
    config.restem.sft.learning_rate = 5e-4
    config.evaluation.contexts = 12


def smollm2(config):
    """SmolLM2-135M on any SQuAD v1.1 files: the demo's recipe with room for longer texts."""
    demo(config)
    config.data.max_words = 120
    config.edits.max_new_tokens = 128
    config.inner.max_sequences = 16
    config.inner.buckets = (32, 64, 96, 160, 256)
    config.answers.prompt_buckets = (64, 96, 128, 192)
    config.evaluation.contexts = 20


def qwen(config):
    """Qwen2.5-7B with the paper's values. Not run."""
    config.model.path = "Qwen2.5-7B"
    config.model.dtype = "bfloat16"
    config.model.remat = True


def smoke(config):
    """A minute's run of every stage with the demo model."""
    demo(config)
    config.data.max_questions = 2
    config.edits.samples = 2
    config.edits.max_new_tokens = 24
    config.inner.epochs = 1
    config.inner.candidates = 4
    config.inner.max_sequences = 4
    config.inner.buckets = (32, 160)
    config.answers.max_new_tokens = 8
    config.restem.rounds = 1
    config.restem.contexts_per_round = 2
    config.evaluation.contexts = 2


VARIANTS = {"demo": demo, "smollm2-135m": smollm2, "qwen2.5-7b": qwen, "smoke": smoke}


def get_config(variant: str = "demo") -> ml_collections.ConfigDict:
    """The locked config of a variant."""
    if variant not in VARIANTS:
        raise ValueError(f"no variant {variant!r} in knowledge.py: one of {', '.join(VARIANTS)}.")
    config = config_dict.to_config(settings.Settings())
    VARIANTS[variant](config)
    return config.lock()
