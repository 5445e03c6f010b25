"""What is done against forgetting: on the data, in the inner update, and when it is merged."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import TypeVar

import jax
import numpy as np

from seal_jax.core import inner, retention
from seal_jax.core.delta import Delta
from seal_jax.loop.stage import Stage
from seal_jax.settings import Continual

Tokens = Sequence[int]
_Item = TypeVar("_Item")


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
    def added(self) -> int:
        """The most sequences that it adds to an update."""
        replayed = self.settings.replay_sequences * self.has("replay")
        return replayed + self.settings.rehearsal_texts * self.has("rehearsal")

    @property
    def stage(self) -> Stage:
        return Stage(kind="continual", what=self.name)

    def replayed(self, earlier: Sequence[_Item], *, seed: Sequence[int]) -> list[_Item]:
        """Which of earlier sequences are learned again: by the seed, without repetition."""
        if not self.has("replay") or not earlier:
            return []
        count = min(self.settings.replay_sequences, len(earlier))
        chosen = np.random.default_rng(list(seed)).choice(len(earlier), count, replace=False)
        return [earlier[i] for i in sorted(chosen)]

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
        anchors = self._anchors(len(jax.tree.leaves(total_K)[0]), prompts, recalled)
        return inner.Past(frozen=total_K, directions=directions, anchors=anchors)

    def _anchors(
        self, count: int, prompts: Sequence[Tokens], recalled: Sequence[Sequence[Tokens]]
    ) -> inner.Anchors | None:
        """The texts on which each of K candidates is held to what it said before."""
        own, rows, length = self.settings, 0, 0
        texts_K: list[list[Tokens]] = [[] for _ in range(count)]
        for part, more_K, most, limit in (
            ("kl", [[prompt] for prompt in prompts], 1, own.kl_tokens),
            ("distill", recalled, own.rehearsal_texts, own.rehearsal_tokens),
        ):
            if self.has(part):
                rows, length = rows + most, max(length, limit)
                for texts, more in zip(texts_K, more_K, strict=False):
                    texts += [text[:limit] for text in more]
        if not rows:
            return None
        tokens_KxAxT = np.zeros((count, rows, length), np.int32)
        lengths_KxA = np.zeros((count, rows), np.int32)
        for k, texts in enumerate(texts_K):
            for row, text in enumerate(texts):
                tokens_KxAxT[k, row, : len(text)], lengths_KxA[k, row] = text, len(text)
        return inner.Anchors(tokens_KxAxT, lengths_KxA, np.full(count, own.kl_weight, np.float32))

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
