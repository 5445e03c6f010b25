"""What is done against forgetting: on the data, in the inner update, and when it is merged."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np

from seal_jax.core import batching, inner, retention
from seal_jax.core.delta import Delta
from seal_jax.settings import Continual
from seal_jax.settings.continual import KEEPS_OLD_DATA

Tokens = Sequence[int]


@dataclasses.dataclass(frozen=True)
class Mitigation:
    """One entry of continual.mitigations.

    Attributes:
      name: such as "none" or "kl+average".
      settings: the mitigations' own settings.
    """

    name: str
    settings: Continual

    def has(self, part: str) -> bool:
        """Whether this is one of the mitigations that the entry joins."""
        return part in self.name.split("+")

    @property
    def keeps_old_data(self) -> bool:
        """Whether it needs the texts of earlier passages."""
        return any(self.has(part) for part in KEEPS_OLD_DATA)

    def replayed(self, earlier: int, *, seed: Sequence[int]) -> list[int]:
        """Which of so many earlier sequences are learned again: by the seed, without repetition."""
        if not self.has("replay") or not earlier:
            return []
        count = min(self.settings.replay_sequences, earlier)
        return sorted(np.random.default_rng(list(seed)).choice(earlier, count, replace=False))

    def past(
        self, total_K: Delta, prompts: Sequence[Tokens], recalled: Sequence[Sequence[Tokens]]
    ) -> inner.Past:
        """What the inner update of K candidates is given of their past.

        Args:
          total_K: their earlier deltas, side by side.
          prompts: token ids of the prompts that asked for the self-edits, at most K of them.
          recalled: token ids of the texts that each candidate wrote for "distill".
        """
        directions = None
        if self.has("null_space"):
            directions = _directions(self.settings.null_space_energy, total_K)
        own = self.settings
        texts_K: list[list[Tokens]] = [[] for _ in jax.tree.leaves(total_K)[0]]
        rows, length = 0, 0
        if self.has("kl"):
            for texts, prompt in zip(texts_K, prompts, strict=False):
                texts.append(prompt[: own.kl_tokens])
            rows, length = 1, own.kl_tokens
        if self.has("distill"):
            for texts, more in zip(texts_K, recalled, strict=False):
                texts += [text[: own.rehearsal_tokens] for text in more]
            rows, length = rows + own.rehearsal_texts, max(length, own.rehearsal_tokens)
        anchors = _anchors(texts_K, rows, length, own.kl_weight) if rows else None
        return inner.Past(frozen=total_K, directions=directions, anchors=anchors)

    def merged(self, params, total_K: Delta, deltas_K: Delta, finite_K, slot: int) -> Delta:
        """The earlier deltas with the new ones, as the mitigation merges them, in their slot.

        Args:
          params: base parameters.
          finite_K: bool; candidates whose update failed keep their earlier deltas alone.
        """
        own = self.settings
        static = (
            own.merge_rank if self.has("low_rank") else 0,
            own.norm_cap if self.has("norm_cap") else 0.0,
            own.average_weight if self.has("average") else 1.0,
        )
        return _merge(static, params, total_K, deltas_K, finite_K, slot)


@functools.partial(jax.jit, static_argnums=0)
def _directions(energy: float, total_K: Delta):
    return jax.vmap(lambda total: retention.input_directions(total, energy))(total_K)


@functools.partial(jax.jit, static_argnums=0)
def _merge(static: tuple[int, float, float], params, total_K: Delta, deltas_K, finite_K, slot):
    """`Mitigation.merged` with (rank, norm cap, weight); 0 is no limit."""
    rank, cap, weight = static

    def merge(total: Delta, delta: Delta, finite) -> Delta:
        delta = jax.tree.map(lambda leaf: jax.numpy.where(finite, leaf, 0.0), delta)
        if rank:
            delta = retention.truncated(delta, rank)
        if cap:
            delta = retention.norm_capped(delta, params, cap)
        return retention.put(total, retention.scaled(delta, weight), slot)

    return jax.vmap(merge)(total_K, deltas_K, finite_K)


def _anchors(
    texts_K: Sequence[Sequence[Tokens]], rows: int, length: int, weight: float
) -> inner.Anchors:
    """The anchors of K candidates, at most `rows` texts of at most `length` tokens for each."""
    each = []
    for texts in texts_K:
        tokens, lengths = np.zeros((rows, length), np.int32), np.zeros(rows, np.int32)
        for row, text in enumerate(texts):
            tokens[row, : len(text)], lengths[row] = text, len(text)
        each.append(inner.Anchors(tokens, lengths, np.float32(weight)))
    return batching.stack(each)
