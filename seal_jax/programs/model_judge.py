"""A language model in JAX as the judge of answers: one from a file, or the policy itself.

The judge's prompt is put to the model, and the verdict is the likelier of its two replies. Nothing
is decoded, so there is no reply that cannot be read.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np

from seal_jax import batching, evaluate, parallel
from seal_jax.model.config import ModelConfig
from seal_jax.tasks.base import Answered, Verdict
from seal_jax.tasks.knowledge import judge
from seal_jax.weights import tokenizer as tokenizers

_REPLIES = ("Yes", "No")
_CUE = "\n\nReply:"  # what a text needs before its continuation is the reply


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelGrader:
    """Grades an answer by log p("Yes") against log p("No") as replies to the judge's prompt.

    Every program has `batch_size` prompts and one of `buckets`, so that each bucket that is used
    compiles once, whatever is graded.

    Attributes:
      label: the model's name in results, e.g. its path; that of a policy should say which one.
      config: the model's architecture.
      params: its parameters, where they are to be used (see `parallel.place`).
      tokenizer: its tokenizer.
      style: "chat" puts the prompt in the tokenizer's chat template, if it has one; "plain" gives
        it as a text to continue.
      batch_size: prompts that are read at once.
      buckets: lengths that prompts may be padded to, in tokens, ascending.
      template: the judge's prompt, with {query}, {gold} and {prediction}.
    """

    label: str
    config: ModelConfig
    params: Any
    tokenizer: Any
    style: Literal["chat", "plain"] = "chat"
    batch_size: int = 8
    buckets: tuple[int, ...] = (192, 256, 384, 512)
    template: str = dataclasses.field(default_factory=judge.packaged_template)

    def __post_init__(self):
        judge.check_template(self.template)
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}.")
        if not self.buckets or list(self.buckets) != sorted({b for b in self.buckets if b > 0}):
            raise ValueError(f"buckets must be positive and ascending, not {self.buckets}.")
        needed = self.buckets[-1] + max(map(len, self._replies()))
        if needed > self.config.max_positions:
            raise ValueError(
                f"the largest of buckets ({self.buckets[-1]}) and a reply take {needed} tokens, "
                f"but the judge has {self.config.max_positions} positions: lower it."
            )

    @property
    def name(self) -> str:
        return f"model {self.label}, {self._style()}, prompt {judge.version(self.template)}"

    def grade(self, answers: Sequence[Answered]) -> list[Verdict]:
        """A verdict on each of `answers`, in their order.

        Ungraded are prompts that exceed the largest bucket, and those to which both replies are
        equally likely or have no likelihood.
        """
        return judge.grade_by_asking(answers, self.template, self._ask)

    def _style(self) -> Literal["chat", "plain"]:
        return self.style if self.tokenizer.chat_template else "plain"

    def _replies(self) -> list[list[int]]:
        """Token ids of both replies, as they continue the prompt."""
        space = "" if self._style() == "chat" else " "
        return [
            list(self.tokenizer(space + reply, add_special_tokens=False)["input_ids"])
            for reply in _REPLIES
        ]

    def _ask(self, prompts: list[str]) -> list[tuple[bool | None, str | None]]:
        """For each prompt yes or no, or why neither."""
        style = self._style()
        cue = "" if style == "chat" else _CUE
        tokens = [tokenizers.chat_prompt(self.tokenizer, text + cue, style) for text in prompts]
        judged: list[tuple[bool | None, str | None]] = []
        by_bucket: dict[int, list[int]] = {bucket: [] for bucket in self.buckets}
        for index, ids in enumerate(tokens):
            judged.append((None, self._too_long(len(ids))))
            if len(ids) <= self.buckets[-1]:
                bucket = self.buckets[batching.bucket_index(len(ids), self.buckets)]
                by_bucket[bucket].append(index)
        for bucket, indices in by_bucket.items():
            for first in range(0, len(indices), self.batch_size):
                batch = indices[first : first + self.batch_size]
                scores_Bx2 = self._scores([tokens[index] for index in batch], bucket)
                for index, (yes, no) in zip(batch, scores_Bx2.tolist(), strict=True):
                    judged[index] = _likelier(yes, no)
        return judged

    def _too_long(self, length: int) -> str:
        return (
            f"the judge's prompt takes {length} tokens, more than the largest of its buckets "
            f"({self.buckets[-1]}): add a larger one"
        )

    def _scores(self, prompts: Sequence[Sequence[int]], bucket: int) -> np.ndarray:
        """log p of both replies to at most `batch_size` prompts, [B, 2], in nats."""
        replies = self._replies()
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
        lls_Bx2 = evaluate.gold_log_likelihoods_of_candidates(
            self.config, self.params, None, parallel.shard(batching.stack(queries_B))
        )
        return np.asarray(jax.device_get(lls_Bx2))[: len(prompts)]


def _likelier(yes: float, no: float) -> tuple[bool | None, str | None]:
    """Yes or no, whichever has the higher log-likelihood, or why neither."""
    if not (math.isfinite(yes) and math.isfinite(no)):
        return None, f"the judge's log-likelihoods are not finite (Yes {yes}, No {no})"
    if yes == no:
        return None, f"the judge finds Yes and No equally likely ({yes:.4g} nats)"
    return yes > no, None
