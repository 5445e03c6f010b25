"""A language model in JAX as a judge: one from a file, or the policy itself.

The judge's prompt is put to the model, and what counts is how likely each possible reply is.
Nothing is decoded, so there is no reply that cannot be read.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import jax
import numpy as np

from seal_jax.core import batching, evaluate, parallel
from seal_jax.core.model.config import ModelConfig
from seal_jax.weights import tokenizer as tokenizers

_CUE = "\n\nReply:"  # what a text needs before its continuation is the reply


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplyModel:
    """A model that is asked how likely each of a few replies to a prompt is.

    Every program has `batch_size` prompts and one of `buckets`, so that each bucket that is used
    compiles once, whatever is asked.

    Attributes:
      replies: those that are compared; a subclass says which.
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

    replies: ClassVar[tuple[str, ...]]
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
            [*tokenizers.chat_prompt(self.tokenizer, text + cue, style, answered=True), *start]
            for text in prompts
        ]
        found: list[np.ndarray | str] = []
        by_bucket: dict[int, list[int]] = {bucket: [] for bucket in self.buckets}
        for index, ids in enumerate(tokens):
            found.append(
                f"the judge's prompt takes {len(ids)} tokens, more than the largest of its buckets "
                f"({self.buckets[-1]}): add a larger one"
            )
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
