"""Every setting of a run: frozen dataclasses with the paper's values as defaults.

`config_dict` turns them into the ConfigDict that a config file changes, and back. Nothing below the
programs sees a ConfigDict.

Defaults are those of SEAL's knowledge-incorporation experiment (arXiv 2506.10943, section 4 and
appendix B), unless a docstring says otherwise.
"""

import dataclasses
import itertools
import re
from typing import Literal

from seal_jax import optim, restem, sampling
from seal_jax.delta import DeltaSpec
from seal_jax.model import decoder

ATTENTION = ("q_proj", "v_proj")
ALL_PROJECTIONS = (*ATTENTION, "k_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


_INNER_BUCKETS = (16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 224, 256, 384, 512, 1024, 2048)


class SettingsError(ValueError):
    """A setting is unknown, of the wrong type, or impossible; the message says what to change."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _ascending(values: tuple[int, ...]) -> bool:
    return bool(values) and values[0] > 0 and all(a < b for a, b in itertools.pairwise(values))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """The language model.

    Attributes:
      path: "smollm2-135m" (the demo model), a .gguf file, or a directory with a Hugging Face
        checkpoint (config.json, tokenizer, *.safetensors).
      dtype: of the weights: "float32" or "bfloat16" (deltas are always float32).
      remat: what backward passes compute anew to save memory: "none"; "dots", everything of a layer
        but the outputs of its large matrix products; or "full", whole layers.
    """

    path: str = "smollm2-135m"
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: decoder.Remat = "dots"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Contexts and their questions, in the SQuAD v1.1 JSON format.

    Attributes:
      train_path, eval_path: files; "" is the demo's own passages.
      max_train_contexts, max_eval_contexts: how many contexts of a file are used, in file order
        after the length limits; 0 is all of them.
      min_words, max_words: passages of other lengths are left out; 0 is no limit.
      max_questions: questions of a context that are asked (the first ones; the rest are left out).
    """

    train_path: str = ""
    eval_path: str = ""
    max_train_contexts: int = 0
    max_eval_contexts: int = 0
    min_words: int = 0
    max_words: int = 0
    max_questions: int = 8

    def __post_init__(self):
        _require(self.max_questions >= 1, "max_questions must be at least 1.")
        _require(min(self.max_train_contexts, self.max_eval_contexts) >= 0, "limits are 0 or more.")
        _require(
            not self.max_words or self.min_words <= self.max_words,
            f"min_words ({self.min_words}) must not exceed max_words ({self.max_words}).",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompts:
    """Prompt templates.

    Attributes:
      dir: a directory with templates that go before the package's own; "" is none.
      edit_format: which self-edit the policy is asked for: the name of a template in dir or in the
        package ("implications", "implications_long", "implications_very_long", "rewrite",
        "self_qa", "chain_of_thought", or "none": the passage only). See docs/formats.md.
    """

    dir: str = ""
    edit_format: str = "implications"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edits:
    """Sampling self-edits, and how their text becomes training sequences.

    Attributes:
      prompt_style: "chat" asks in the words of a user and the tokenizer's chat template; "plain"
        gives the model a text to continue (base models).
      samples: M, self-edits a context.
      temperature, top_p, top_k: of the sampling (top_k 0 is off).
      max_new_tokens: length limit of a self-edit.
      contexts_per_batch: contexts sampled together.
      prompt_buckets: lengths that prompts may be padded to, in tokens.
      append_passage: the passage itself is the last training sequence.
      title_prefix: every sequence begins with the article's title.
    """

    prompt_style: Literal["chat", "plain"] = "plain"
    samples: int = 5
    temperature: float = 1.0
    top_p: float = 0.95
    top_k: int = 0
    max_new_tokens: int = 8192
    contexts_per_batch: int = 10
    prompt_buckets: tuple[int, ...] = (128, 192, 256, 384, 512, 1024, 2048)
    append_passage: bool = True
    title_prefix: bool = True

    def __post_init__(self):
        _require(self.samples >= 1, "samples must be at least 1.")
        _require(self.contexts_per_batch >= 1, "contexts_per_batch must be at least 1.")
        _require(self.temperature > 0, "temperature must be above 0: greedy samples are all equal.")
        _require(_ascending(self.prompt_buckets), "prompt_buckets must be positive and ascending.")
        self.sample_settings(())

    def sample_settings(self, stop_ids: tuple[int, ...]) -> sampling.SampleSettings:
        return sampling.SampleSettings(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            stop_ids=stop_ids,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lora:
    """A low-rank delta: rank, alpha (it is scaled by alpha / rank) and target regexes."""

    rank: int = 32
    alpha: float = 64.0
    targets: tuple[str, ...] = ATTENTION

    def __post_init__(self):
        self.spec()

    def spec(self) -> DeltaSpec:
        return DeltaSpec(targets=self.targets, kind="low_rank", rank=self.rank, alpha=self.alpha)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the inner loop and the M-step both set; each says with which values."""

    lora: Lora
    optimizer: optim.AdamW = optim.AdamW()
    epochs: int
    learning_rate: float
    warmup_steps: int = 0
    decay: Literal["constant", "linear", "cosine"] = "linear"
    batch_size: int
    buckets: tuple[int, ...]

    def __post_init__(self):
        _require(self.epochs >= 1, "epochs must be at least 1.")
        _require(self.learning_rate > 0, "learning_rate must be above 0.")
        _require(self.warmup_steps >= 0, "warmup_steps must be 0 or more.")
        _require(self.batch_size >= 1, "batch_size must be at least 1.")
        _require(_ascending(self.buckets), "buckets must be positive and ascending.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner(Recipe):
    """The inner loop: a LoRA update on one self-edit's sequences.

    Attributes:
      lora, optimizer: the delta and AdamW.
      epochs, learning_rate, warmup_steps, decay, batch_size: the recipe; one optimizer step for
        each batch of sequences.
      buckets: mean tokens of a sequence that steps have room for, ascending: the K * batch_size
        sequences of a step are packed into one row of K * batch_size * bucket tokens. Sequences
        longer than the last one are cut.
      spread: how many times longer than the bucket the longest sequence of a step may be; 1 pads
        every sequence to the bucket.
      candidates: K, candidates trained by one program.
      max_sequences: sequences of a candidate that are kept (the first, and the passage).
    """

    lora: Lora = Lora()
    epochs: int = 10
    learning_rate: float = 1e-3
    batch_size: int = 1
    buckets: tuple[int, ...] = _INNER_BUCKETS
    spread: float = 2.0
    candidates: int = 8
    max_sequences: int = 64

    def __post_init__(self):
        super().__post_init__()
        _require(self.spread >= 1, "spread must be at least 1.")
        _require(self.candidates >= 1, "candidates must be at least 1.")
        _require(
            self.max_sequences >= 2, "max_sequences must be at least 2 (an edit and a passage)."
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answers:
    """What the adapted model is asked, and how it answers.

    Attributes:
      prompt_style: see Edits; how the questions are put.
      max_new_tokens: length limit of an answer; decoding is greedy.
      max_gold_tokens: gold answers are cut there for their log-likelihood.
      prompt_buckets: lengths that questions may be padded to, in tokens.
    """

    prompt_style: Literal["chat", "plain"] = "plain"
    max_new_tokens: int = 64
    max_gold_tokens: int = 32
    prompt_buckets: tuple[int, ...] = (32, 48, 64, 96, 128, 256)

    def __post_init__(self):
        _require(self.max_gold_tokens >= 1, "max_gold_tokens must be at least 1.")
        _require(_ascending(self.prompt_buckets), "prompt_buckets must be positive and ascending.")
        self.sample_settings(())

    def sample_settings(self, stop_ids: tuple[int, ...]) -> sampling.SampleSettings:
        return sampling.SampleSettings(
            max_new_tokens=self.max_new_tokens, temperature=0.0, stop_ids=stop_ids
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reward:
    """The reward of a self-edit.

    Attributes:
      kind: "accuracy" or "gold_log_likelihood" of the adapted model on the context's questions;
        "pattern" is the share of the self-edit's characters that `pattern` matches: a planted
        reward that needs no inner loop, to check that the outer loop learns.
      replicates: inner loops with different seeds that a reward is the mean of.
      pattern: a regular expression, for "pattern".
    """

    kind: Literal["accuracy", "gold_log_likelihood", "pattern"] = "accuracy"
    replicates: int = 3
    pattern: str = ""

    def __post_init__(self):
        _require(self.replicates >= 1, "replicates must be at least 1.")
        _require(
            (self.kind == "pattern") == bool(self.pattern),
            "pattern must be given for the reward 'pattern', and for no other.",
        )
        _require(
            self.kind != "pattern" or self.replicates == 1,
            "replicates must be 1 for the reward 'pattern', which needs no inner loop.",
        )
        try:
            re.compile(self.pattern)
        except re.error as error:
            message = f"pattern {self.pattern!r} is not a regular expression: {error}."
            raise ValueError(message) from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sft(Recipe):
    """The M-step: supervised fine-tuning of the policy on the kept self-edits.

    Attributes:
      lora, optimizer: the delta that is merged into the policy, and AdamW.
      epochs, learning_rate, warmup_steps, decay: the recipe.
      batch_size: effective batch over all devices.
      microbatch: rows of one device that go through the model at once.
      buckets: lengths that rows (prompt and self-edit) may be padded to, in tokens.
    """

    lora: Lora = Lora(rank=64, alpha=128.0, targets=ALL_PROJECTIONS)
    epochs: int = 2
    learning_rate: float = 3e-4
    batch_size: int = 10
    microbatch: int = 1
    buckets: tuple[int, ...] = (256, 384, 512, 1024, 2048, 4096, 10240)

    def __post_init__(self):
        super().__post_init__()
        _require(self.microbatch >= 1, "microbatch must be at least 1.")

    def m_step_settings(self, remat: decoder.Remat) -> restem.MStepSettings:
        return restem.MStepSettings(
            learning_rate=self.learning_rate,
            warmup_steps=self.warmup_steps,
            decay=self.decay,
            optimizer=self.optimizer,
            microbatch=self.microbatch,
            remat=remat,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Restem:
    """The outer loop.

    Attributes:
      rounds: E-steps, each followed by an M-step.
      contexts_per_round: fresh contexts of a round; rounds share none.
      rule, top_k, threshold: the E-step's selection; see `restem.SelectionRule`.
      start_from: what an M-step trains: the "previous" policy, or the "base" model anew.
      keep_data: an M-step's data: this "round"'s kept self-edits, or those of "all" rounds so far.
      sft: the M-step.
    """

    rounds: int = 2
    contexts_per_round: int = 50
    rule: Literal["best_of_m", "top_k", "threshold", "random", "all"] = "best_of_m"
    top_k: int = 1
    threshold: float = 0.0
    start_from: Literal["previous", "base"] = "previous"
    keep_data: Literal["round", "all"] = "round"
    sft: Sft = Sft()

    def __post_init__(self):
        _require(self.rounds >= 0, "rounds must be 0 or more.")
        _require(self.contexts_per_round >= 1, "contexts_per_round must be at least 1.")
        self.selection_rule()
        _require(
            self.rule == "top_k" or self.top_k == 1, "top_k is for the rule 'top_k': set that too."
        )
        _require(
            self.rule == "threshold" or self.threshold == 0,
            "threshold is for the rule 'threshold': set that too.",
        )

    def selection_rule(self) -> restem.SelectionRule:
        return restem.SelectionRule(name=self.rule, k=self.top_k, threshold=self.threshold)


ARMS = ("base", "passage", "edit_before", "edit_after")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The final evaluation on contexts of other articles.

    Attributes:
      contexts: how many (a fixed choice over the evaluation split; 0 is all).
      edits: self-edits of a context in the self-edit arms.
      arms: of "base", "passage", "edit_before" and "edit_after" (RL).
      bootstrap_draws: resamples of the intervals.
    """

    contexts: int = 200
    edits: int = 1
    arms: tuple[str, ...] = ARMS
    bootstrap_draws: int = 10000

    def __post_init__(self):
        unknown = set(self.arms) - set(ARMS)
        _require(bool(self.arms), f"arms are empty: name some of {', '.join(ARMS)}.")
        _require(not unknown, f"arms must be of {', '.join(ARMS)}, not {', '.join(unknown)}.")
        _require(self.contexts >= 0 and self.edits >= 1, "contexts >= 0 and edits >= 1 are needed.")
        _require(self.bootstrap_draws >= 100, "bootstrap_draws must be at least 100.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a run. `seed` is the only source of randomness."""

    seed: int = 0
    model: Model = Model()
    data: Data = Data()
    prompts: Prompts = Prompts()
    edits: Edits = Edits()
    inner: Inner = Inner()
    answers: Answers = Answers()
    reward: Reward = Reward()
    restem: Restem = Restem()
    evaluation: Evaluation = Evaluation()

    def __post_init__(self):
        _require(0 <= self.seed < 2**32, "seed must be in [0, 2**32).")
        _require(
            self.restem.rule != "top_k" or self.restem.top_k <= self.edits.samples,
            f"restem.top_k ({self.restem.top_k}) exceeds edits.samples ({self.edits.samples}).",
        )
