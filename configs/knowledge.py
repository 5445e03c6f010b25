"""Knowledge incorporation: the policy writes self-edits about passages of SQuAD's form.

    python -m seal_jax train --config=configs/knowledge.py:demo --workdir=runs/demo

Variants: `demo` (the default), `adapt` (the default of that command), `smollm2-135m`, `qwen2.5-7b`
and `smoke`. See their functions.
"""

import ml_collections

from seal_jax import config_dict, settings


def demo(config):
    """SmolLM2-135M on the demo's own passages: two rounds of 6 contexts x 3 self-edits.

        python -m seal_jax train --config=configs/knowledge.py:demo --workdir=runs/demo

    383 s on 2 CPU cores. Gold log-likelihood on 12 passages: base -17.1, passage only -11.7,
    self-edit before RL -13.3, after RL -12.7 (docs/results.md).
    """
    config.model.path = "smollm2-135m"
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
    config.inner.buckets = (16, 24, 32, 48, 64, 96, 160)
    config.answers.max_new_tokens = 24
    config.answers.max_gold_tokens = 12
    config.reward.kind = "gold_log_likelihood"
    config.reward.replicates = 1
    config.restem.contexts_per_round = 6
    config.restem.sft.batch_size = 2
    config.restem.sft.learning_rate = 5e-4
    config.evaluation.contexts = 12


def adapt(config):
    """The demo's model on one's own text: more epochs than the demo's budget allows.

        python -m seal_jax adapt --passage=FILE --title='…' --question='…'

    About a minute for a 60-word passage and two questions on 2 CPU cores, compilation included.
    """
    demo(config)
    config.inner.epochs = 10
    config.inner.learning_rate = 1e-3


def smollm2(config):
    """SmolLM2-135M on any SQuAD v1.1 files: the demo's recipe with room for longer texts."""
    demo(config)
    config.data.max_words = 120
    config.edits.max_new_tokens = 128
    config.inner.max_sequences = 16
    config.inner.buckets = (16, 24, 32, 48, 64, 96, 128, 160, 256)
    config.answers.prompt_buckets = (64, 96, 128, 192)
    config.evaluation.contexts = 20


def qwen(config):
    """Qwen2.5-7B with the paper's values (arXiv 2506.10943, appendix B). Not run.

    model.path is a local directory with the checkpoint; give data.train_path and data.eval_path.
    It differs from the paper in its prompts, in the grader (local, no judge model),
    in which 200 evaluation passages are chosen, and in asking at most 8 questions a passage.
    """
    config.model.path = "Qwen2.5-7B"
    config.model.dtype = "bfloat16"
    config.model.remat = "full"


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


VARIANTS = {
    "demo": demo,
    "adapt": adapt,
    "smollm2-135m": smollm2,
    "qwen2.5-7b": qwen,
    "smoke": smoke,
}


def get_config(variant: str = "demo") -> ml_collections.ConfigDict:
    """The locked config of a variant."""
    if variant not in VARIANTS:
        raise ValueError(f"no variant {variant!r} in knowledge.py: one of {', '.join(VARIANTS)}.")
    config = config_dict.to_config(settings.Settings())
    VARIANTS[variant](config)
    return config.lock()
