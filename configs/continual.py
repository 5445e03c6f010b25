"""Continual self-edits: sequences of passages learned one after another in the same weights.

    seal continual continual:demo --workdir=runs/continual

Variants: `demo` (the default), `squad`, `smoke`, and `qwen2.5-7b`. See their functions, and
docs/continual.md.
"""

import ml_collections

from seal_jax import settings
from seal_jax.settings import config_dict

_EVERY_MITIGATION = (
    "none",
    "distill",
    "average",
    "norm_cap",
    "null_space",
    "kl",
    "low_rank",
    "replay",
    "rehearsal",
)


def demo(config):
    """SmolLM2-135M on the demo's own passages: two sequences of four, unmitigated and averaged.

    seal continual continual:demo --workdir=runs/continual
    """
    config.model.path = "smollm2-135m"
    config.data.max_questions = 5
    config.prompts.edit_format = "rewrite"
    config.edits.prompt_style = "chat"
    config.edits.temperature = 0.7
    config.edits.top_p = 0.9
    config.edits.max_new_tokens = 128
    config.inner.lora.rank = 8
    config.inner.lora.alpha = 16.0
    config.inner.lora.targets = settings.ALL_PROJECTIONS
    config.inner.epochs = 3
    config.inner.learning_rate = 3e-3
    config.inner.candidates = 2
    config.inner.max_sequences = 16
    config.inner.buckets = (16, 24, 32, 48, 64, 96, 128, 160, 256)
    config.answers.max_new_tokens = 24
    config.answers.max_gold_tokens = 12
    config.answers.questions_at_once = 5
    config.answers.prompt_buckets = (64, 96, 128, 192)
    config.continual.sequences = 2
    config.continual.passages = 4
    config.continual.kl_tokens = 96
    config.continual.mitigations = ("none", "average")
    config.continual.unrelated = 8


def squad(config):
    """SmolLM2-135M on SQuAD: four sequences of eight passages under every mitigation.

        seal continual continual:squad --workdir=runs/continual \\
            --config.data.train_path=squad-v1.1-train.json \\
            --config.data.eval_path=squad-v1.1-validation.json

    Gold log-likelihoods only; continual.answers=True decodes answers as well. The learning rate was
    chosen on the development half of the evaluation file's articles; kl_weight is twice the largest
    that was tried there (docs/results.md), and is the weight of "kl" as well.
    """
    demo(config)
    config.data.max_words = 120
    config.data.eval_part = "test"
    config.inner.candidates = 4
    config.inner.learning_rate = 1e-3
    config.continual.sequences = 4
    config.continual.passages = 8
    config.continual.mitigations = (*_EVERY_MITIGATION, "distill+average")
    config.continual.kl_weight = 8.0
    config.continual.rehearsal_texts = 6
    config.continual.average_weight = 0.7
    config.continual.merge_rank = 4
    config.continual.norm_cap = 0.005
    config.continual.answers = False
    config.continual.unrelated = 32


def qwen(config):
    """Qwen2.5-7B as in the paper's continual experiment (arXiv 2506.10943, figure 6). Not run.

        seal continual continual:qwen2.5-7b \\
            --policy_from=RUN --config.model.path=DIRECTORY --workdir=runs/continual \\
            --config.data.train_path=train-v1.1.json --config.data.eval_path=dev-v1.1.json

    RUN is a finished run of knowledge.py:qwen2.5-7b; its second policy is where all 64 sequences
    start. The paper merges into the weights; here each update stays a delta of its own beside the
    earlier ones, which is the same sum without the rounding of each merge.
    """
    config.model.path = "Qwen2.5-7B"
    config.model.dtype = "bfloat16"
    config.model.remat = "full"


def smoke(config):
    """A minute's run of every mitigation and bound with the demo model."""
    demo(config)
    config.data.max_questions = 2
    config.answers.questions_at_once = 2
    config.edits.max_new_tokens = 24
    config.inner.epochs = 1
    config.inner.max_sequences = 4
    config.inner.buckets = (32, 160)
    config.answers.max_new_tokens = 8
    config.continual.passages = 2
    config.continual.mitigations = (*_EVERY_MITIGATION, "kl+average")
    config.continual.kl_tokens = 16
    config.continual.rehearsal_texts = 2
    config.continual.rehearsal_tokens = 16
    config.continual.unrelated = 2
    config.continual.unrelated_tokens = 16


COMMAND = "continual"  # what they are for: `plan` does not know it
VARIANTS = {"demo": demo, "squad": squad, "smoke": smoke, "qwen2.5-7b": qwen}


def get_config(variant: str = "demo") -> ml_collections.ConfigDict:
    """The locked config of a variant."""
    return config_dict.of_variant(VARIANTS, variant)
