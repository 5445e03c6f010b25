"""The model, and the recipes that train it: inner loop, M-step."""

import dataclasses
import math
from typing import Literal

from seal_jax.core.specs import AdamW, DeltaSpec, MStepSettings, PolicyGradient, Remat
from seal_jax.settings.checks import (
    Buckets,
    Checked,
    Count,
    Limit,
    Place,
    Positive,
    regular_expression,
    require,
)

ATTENTION = ("q_proj", "v_proj")
ALL_PROJECTIONS = (*ATTENTION, "k_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_INNER_BUCKETS = (16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 224, 256, 384, 512, 1024, 2048)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model(Checked):
    """The language model.

    Attributes:
      path: "smollm2-135m" (the demo model); a .gguf file; a directory, local or gs://, with a
        Hugging Face checkpoint (config.json, tokenizer, *.safetensors); or a hub id at a commit,
        "Qwen/Qwen2.5-7B@<40 hexadecimal digits>" (HF_TOKEN for gated models).
      adapter: the directory of a PEFT LoRA adapter that is merged into the weights at the start of
        a run; "" for none. What this file calls the base model includes it.
      dtype: of the weights: "float32" or "bfloat16" (deltas are always float32).
      remat: what backward passes compute anew to save memory: "none"; "dots", everything of a layer
        but the outputs of its large matrix products; or "full", whole layers.
    """

    path: Place = "smollm2-135m"
    adapter: Place = ""
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Remat = "dots"

    @property
    def name(self) -> str:
        """The path, and the adapter if there is one."""
        return f"{self.path} with {self.adapter}" if self.adapter else self.path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Devices(Checked):
    """How the devices are arranged (docs/scaling.md).

    Attributes:
      model_axis: how many devices share one copy of the weights (tensor parallelism); it must
        divide their number. Candidates and rows are spread over the copies.
    """

    model_axis: Count = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lora(Checked):
    """A low-rank delta (LoRA).

    Attributes:
      rank: of the delta's matrices; a higher one can learn more, and takes more memory.
      alpha: the delta is scaled by alpha / rank.
      targets: the projections that it changes: regular expressions, searched in parameter paths
        such as "layers/attn/q_proj/kernel".
    """

    rank: int = 32
    alpha: Positive = 64.0
    targets: tuple[str, ...] = ATTENTION

    def validate(self):
        for target in self.targets:
            regular_expression(target, "targets")
        self.spec()

    def spec(self) -> DeltaSpec:
        return DeltaSpec(targets=self.targets, kind="low_rank", rank=self.rank, alpha=self.alpha)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(Checked):
    """What the inner loop and the M-step both set; each says with which values.

    Attributes:
      lora: the delta.
      optimizer: AdamW.
      epochs: passes over the sequences.
      learning_rate: the peak, which is reached after the warm-up.
      warmup_steps: optimizer steps in which the learning rate rises from 0.
      decay: what the learning rate does after the warm-up: "constant" keeps it; "linear" and
        "cosine" bring it to 0 at the last step.
      batch_size: sequences of one optimizer step.
      buckets: lengths that sequences may be padded to, in tokens.
    """

    lora: Lora
    optimizer: AdamW = AdamW()
    epochs: Count
    learning_rate: Positive
    warmup_steps: Limit = 0
    decay: Literal["constant", "linear", "cosine"] = "linear"
    batch_size: Count
    buckets: Buckets


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner(Recipe):
    """The inner loop: a LoRA update on one self-edit's sequences.

    Attributes:
      buckets: mean tokens of a sequence that steps have room for, ascending: the K * batch_size
        sequences of a step are packed into one row of K * batch_size * bucket tokens. Sequences
        longer than the last one are cut.
      spread: how many times longer than the bucket the longest sequence of a step may be; 1 pads
        every sequence to the bucket.
      candidates: K, candidates trained by one program.
      max_sequences: sequences of a candidate that are kept (the first, and the passage).
      loss: of a token: "cross_entropy"; or, of answers to questions about the context (edits.gaps,
        the arm "self_distillation"), "distillation", the KL divergence from what the same model
        expects with the context in its prompt, so that the answer itself counts by what the reader
        makes of it (core/distillation.py); other texts have no reader. It takes 128 bytes for each
        of max_sequences times the largest of `buckets` tokens, a candidate.
      padding_loss: every sequence is filled up to so many tokens with the end token, and the
        filling is trained on but not attended to. It repeats what the reference does (with 2048),
        for comparison; 0 does not.
    """

    lora: Lora = Lora()
    epochs: Count = 10
    learning_rate: Positive = 1e-3
    batch_size: Count = 1
    buckets: Buckets = _INNER_BUCKETS
    spread: float = 2.0
    candidates: Count = 8
    max_sequences: int = 64
    loss: Literal["cross_entropy", "distillation"] = "cross_entropy"
    padding_loss: int = 0

    def validate(self):
        require(1 <= self.spread < math.inf, "spread must be at least 1.")
        require(
            0 <= self.padding_loss <= self.buckets[-1],
            f"padding_loss must be from 0 to the largest bucket ({self.buckets[-1]}).",
        )
        require(
            self.max_sequences >= 2, "max_sequences must be at least 2 (an edit and a passage)."
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sft(Recipe):
    """The M-step: supervised fine-tuning of the policy on the kept self-edits.

    Attributes:
      lora: the delta that is merged into the policy.
      batch_size: rows of one optimizer step, over all devices together.
      microbatch: rows of one device that go through the model at once.
      buckets: lengths that rows (prompt and self-edit) may be padded to, in tokens.
      checkpoint_steps: the state is kept every so many optimizer steps, for a run that is
        interrupted; 0 keeps none, and the training is then done again from its start.
      keep_checkpoints: how many of these states are kept (1 has nothing to fall back on).
    """

    lora: Lora = Lora(rank=64, alpha=128.0, targets=ALL_PROJECTIONS)
    epochs: Count = 2
    learning_rate: Positive = 3e-4
    batch_size: Count = 10
    microbatch: Count = 1
    buckets: Buckets = (256, 384, 512, 1024, 2048, 4096, 10240)
    checkpoint_steps: Limit = 50
    keep_checkpoints: Count = 2

    def spec(self) -> DeltaSpec:
        return self.lora.spec()

    def m_step_settings(
        self, remat: Remat, gradient: PolicyGradient | None = None
    ) -> MStepSettings:
        return MStepSettings(
            learning_rate=self.learning_rate,
            warmup_steps=self.warmup_steps,
            decay=self.decay,
            optimizer=self.optimizer,
            microbatch=self.microbatch * (gradient.rows if gradient else 1),
            remat=remat,
            gradient=gradient,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus(Sft):
    """Continued pretraining: one delta learns the texts of all evaluation passages together.

    The defaults are those of the paper's first version (LoRA, 200 passages); its second version
    trains all weights (`kind` "dense", 1 epoch, learning rate 7e-5, warm-up 3 %).

    Attributes:
      kind: "low_rank" trains `lora`; "dense" every parameter (`lora` is not used).
      buckets: lengths that texts may be padded to, in tokens; longer ones are cut at the last.
      passage: how often each passage is learned beside its texts: "once", once "per_completion", or
        "none".
    """

    kind: Literal["low_rank", "dense"] = "low_rank"
    lora: Lora = Lora()
    epochs: Count = 3
    learning_rate: Positive = 1e-3
    batch_size: Count = 8
    passage: Literal["once", "per_completion", "none"] = "per_completion"

    def spec(self) -> DeltaSpec:
        if self.kind == "dense":
            return DeltaSpec(targets=(".*",), kind="dense")
        return self.lora.spec()
