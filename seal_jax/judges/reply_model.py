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
from seal_jax.weights.encoding import Continued, encode_continuation

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
        needed = self.buckets[-1] + max(len(one.tokens) for one in self._with_replies("a"))
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
        asked = [self._with_replies(text, begun) for text in prompts]
        longest = max((len(one.tokens) for of in asked for one in of), default=0)
        found: list[np.ndarray | str] = []
        by_bucket: dict[int, list[int]] = {bucket: [] for bucket in self.buckets}
        for index, of in enumerate(asked):
            length = max(len(one.prompt) for one in of)
            found.append(
                f"the judge's prompt takes {length} tokens, more than the largest of its buckets "
                f"({self.buckets[-1]}): add a larger one"
            )
            if length <= self.buckets[-1]:
                bucket = self.buckets[batching.bucket_index(length, self.buckets)]
                by_bucket[bucket].append(index)
        for bucket, indices in by_bucket.items():
            for first in range(0, len(indices), self.batch_size):
                batch = indices[first : first + self.batch_size]
                scores_BxR = self._scores([asked[index] for index in batch], bucket, longest)
                for index, scores_R in zip(batch, scores_BxR, strict=True):
                    found[index] = scores_R
        return found

    def _style(self) -> Literal["chat", "plain"]:
        return self.style if self.tokenizer.chat_template else "plain"

    def _with_replies(self, text: str, begun: str = "") -> list[Continued]:
        """A prompt with each of the replies, as tokens."""
        style = self._style()
        cue = "" if style == "chat" else _CUE
        space = "" if style == "chat" and not begun else " "
        return [
            encode_continuation(self.tokenizer, text + cue, style, space + reply, begun=begun)
            for reply in self.replies
        ]

    def _scores(self, asked: Sequence[Sequence[Continued]], bucket: int, longest: int):
        """log p of the replies to at most `batch_size` prompts, [B, R], in nats."""
        queries_B = [
            batching.queries(
                [one.prompt for one in of],
                [one.tokens for one in of],
                rows=len(of),
                length=bucket,
                answer_length=longest,
            )
            for of in asked
        ]
        empty = jax.tree.map(np.zeros_like, queries_B[0])
        queries_B += [empty] * (self.batch_size - len(asked))
        lls_BxR = evaluate.gold_log_likelihoods_of_candidates(
            self.config, self.params, None, self.devices.shard(batching.stack(queries_B))
        )
        return np.asarray(jax.device_get(lls_BxR))[: len(asked)]
