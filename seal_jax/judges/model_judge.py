"""A language model in JAX as a judge: one from a file, or the policy itself.

The judge's prompt is put to the model, and what counts is how likely each possible reply is.
Nothing is decoded, so there is no reply that cannot be read.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np

from seal_jax.core import batching, evaluate, parallel
from seal_jax.core.model.config import ModelConfig
from seal_jax.judges import judge, rubric
from seal_jax.tasks.protocol import Answered, Context, Verdict
from seal_jax.weights import tokenizer as tokenizers

_CUE = "\n\nReply:"  # what a text needs before its continuation is the reply


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplyModel:
    """A model that is asked how likely each of a few replies to a prompt is.

    Every program has `batch_size` prompts and one of `buckets`, so that each bucket that is used
    compiles once, whatever is asked.

    Attributes:
      label: the model's name in results, e.g. its path; that of a policy should say which one.
      config: the model's architecture.
      devices: what it runs on.
      params: its parameters, placed on the devices.
      tokenizer: its tokenizer.
      style: "chat" puts the prompt in the tokenizer's chat template, if it has one; "plain" gives
        it as a text to continue.
      batch_size: prompts that are read at once.
      buckets: lengths that prompts may be padded to, in tokens, ascending.
    """

    label: str
    config: ModelConfig
    devices: parallel.DeviceMesh
    params: Any
    tokenizer: Any
    style: Literal["chat", "plain"] = "chat"
    batch_size: int = 8
    buckets: tuple[int, ...] = (192, 256, 384, 512)

    def __post_init__(self):
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}.")
        if not self.buckets or list(self.buckets) != sorted({b for b in self.buckets if b > 0}):
            raise ValueError(f"buckets must be positive and ascending, not {self.buckets}.")
        needed = self.buckets[-1] + max(map(len, self._tokens_of(self.replies)))
        if needed > self.config.max_positions:
            raise ValueError(
                f"the largest of buckets ({self.buckets[-1]}) and a reply take {needed} tokens, "
                f"but the judge has {self.config.max_positions} positions: lower it."
            )

    @property
    def replies(self) -> tuple[str, ...]:
        """The replies that are compared."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The model, and how it is asked."""
        return f"model {self.label}, {self._style()}"

    def log_likelihoods(self, prompts: Sequence[str], begun: str = "") -> list[np.ndarray | str]:
        """For each prompt, log p of each of `replies` in nats, or why there are none.

        Args:
          prompts: users' turns.
          begun: how the model's reply is taken to begin.
        """
        style = self._style()
        cue = "" if style == "chat" else _CUE
        start = list(self.tokenizer(begun, add_special_tokens=False)["input_ids"]) if begun else []
        tokens = [
            [*tokenizers.chat_prompt(self.tokenizer, text + cue, style), *start] for text in prompts
        ]
        found: list[np.ndarray | str] = []
        by_bucket: dict[int, list[int]] = {bucket: [] for bucket in self.buckets}
        for index, ids in enumerate(tokens):
            found.append(self._too_long(len(ids)))
            if len(ids) <= self.buckets[-1]:
                bucket = self.buckets[batching.bucket_index(len(ids), self.buckets)]
                by_bucket[bucket].append(index)
        replies = self._tokens_of(self.replies, begun)
        for bucket, indices in by_bucket.items():
            for first in range(0, len(indices), self.batch_size):
                batch = indices[first : first + self.batch_size]
                scores_BxR = self._scores([tokens[index] for index in batch], replies, bucket)
                for index, scores_R in zip(batch, scores_BxR, strict=True):
                    found[index] = scores_R
        return found

    def _style(self) -> Literal["chat", "plain"]:
        return self.style if self.tokenizer.chat_template else "plain"

    def _tokens_of(self, replies: Sequence[str], begun: str = "") -> list[list[int]]:
        """Token ids of replies, as they continue the prompt."""
        space = "" if self._style() == "chat" and not begun else " "
        return [
            list(self.tokenizer(space + reply, add_special_tokens=False)["input_ids"])
            for reply in replies
        ]

    def _too_long(self, length: int) -> str:
        return (
            f"the judge's prompt takes {length} tokens, more than the largest of its buckets "
            f"({self.buckets[-1]}): add a larger one"
        )

    def _scores(
        self, prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]], bucket: int
    ) -> np.ndarray:
        """log p of the replies to at most `batch_size` prompts, [B, R], in nats."""
        queries_B = [
            batching.queries(
                [prompt] * len(replies),
                replies,
                rows=len(replies),
                length=bucket,
                answer_length=max(map(len, replies)),
            )
            for prompt in prompts
        ]
        empty = jax.tree.map(np.zeros_like, queries_B[0])
        queries_B += [empty] * (self.batch_size - len(prompts))
        lls_BxR = evaluate.gold_log_likelihoods_of_candidates(
            self.config, self.params, None, self.devices.shard(batching.stack(queries_B))
        )
        return np.asarray(jax.device_get(lls_BxR))[: len(prompts)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelGrader(ReplyModel):
    """Grades an answer by log p("Yes") against log p("No") as replies to the judge's prompt.

    Attributes:
      template: the judge's prompt, with {query}, {gold} and {prediction}.
    """

    template: str = dataclasses.field(default_factory=judge.packaged_template)

    def __post_init__(self):
        judge.check_template(self.template)
        super().__post_init__()

    @property
    def replies(self) -> tuple[str, ...]:
        return ("Yes", "No")

    @property
    def name(self) -> str:
        return f"{super().name}, prompt {judge.version(self.template)}"

    def grade(self, answers: Sequence[Answered]) -> list[Verdict]:
        """A verdict on each of `answers`, in their order.

        Ungraded are prompts that exceed the largest bucket, and those to which both replies are
        equally likely or have no likelihood.
        """
        return judge.grade_by_asking(answers, self.template, self._ask)

    def _ask(self, prompts: list[str]) -> list[tuple[bool | None, str | None]]:
        """For each prompt yes or no, or why neither."""
        return [
            (None, found) if isinstance(found, str) else _likelier(*map(float, found))
            for found in self.log_likelihoods(prompts)
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelRubric(ReplyModel):
    """Scores self-edits by a rubric: each criterion's score is its mean under p("1") to p("5").

    Attributes:
      template: the rubric, with {title}, {passage} and {self_edit}.
    """

    template: str = dataclasses.field(default_factory=rubric.load_template)

    @property
    def replies(self) -> tuple[str, ...]:
        return tuple("12345")

    def score(self, pairs: Sequence[tuple[Context, str]]) -> list[rubric.Scored]:
        """A score of each self-edit, from 1 to 5: the mean over the criteria."""
        prompts = [rubric.rubric_prompt(self.template, context, text) for context, text in pairs]
        by_criterion = [
            self.log_likelihoods(prompts, f"{criterion}:") for criterion in rubric.CRITERIA
        ]
        return [_expected(found) for found in zip(*by_criterion, strict=True)]


def _expected(by_criterion: Sequence[np.ndarray | str]) -> rubric.Scored:
    """The mean score over criteria, each the mean of 1 to 5 under its replies' probabilities."""
    scores = []
    for lls_R in by_criterion:
        if isinstance(lls_R, str):
            return rubric.Scored(None, lls_R)
        if not np.isfinite(lls_R).all():
            return rubric.Scored(None, "the judge's log-likelihoods are not finite")
        shares_R = np.exp(lls_R - lls_R.max())
        scores.append(float(shares_R @ np.arange(1, len(lls_R) + 1) / shares_R.sum()))
    return rubric.Scored(sum(scores) / len(scores), None)


def _likelier(yes: float, no: float) -> tuple[bool | None, str | None]:
    """Yes or no, whichever has the higher log-likelihood, or why neither."""
    if not (math.isfinite(yes) and math.isfinite(no)):
        return None, f"the judge's log-likelihoods are not finite (Yes {yes}, No {no})"
    if yes == no:
        return None, f"the judge finds Yes and No equally likely ({yes:.4g} nats)"
    return yes > no, None
