"""Sampling texts from the policy: self-edits, and what else it is asked to write.

Nothing here reads or writes a file.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from seal_jax.core import batching, sampling
from seal_jax.core.constrained import Automaton
from seal_jax.core.randomness import keys_for
from seal_jax.loop.opened_model import OpenedModel
from seal_jax.loop.session import Session
from seal_jax.tasks.protocol import Context

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edit:
    """A sampled self-edit.

    Attributes:
      context: id of its context; index: which of the context's samples it is.
      tokens: as sampled, a stop token included.
      text: the same, decoded.
      stopped: whether it ended by itself rather than at the length limit.
    """

    context: str
    index: int
    tokens: tuple[int, ...]
    text: str
    stopped: bool

    def record(self) -> Record:
        return {**dataclasses.asdict(self), "tokens": list(self.tokens)}

    @classmethod
    def from_record(cls, record: Record) -> "Edit":
        return cls(**{**record, "tokens": tuple(record["tokens"])})


class Prompt(NamedTuple):
    """What the policy is asked to write: an id that names it in the keys, and its tokens."""

    id: str
    tokens: list[int]


def sample(
    opened: OpenedModel,
    params,
    prompts: Sequence[Prompt],
    *,
    draw: str,
    samples: int,
    automaton: Automaton | None = None,
) -> list[Edit]:
    """Samples texts for a batch of prompts (at most edits.contexts_per_batch).

    Args:
      params: the policy's parameters.
      draw: names the round in the keys.
      samples: M.
      automaton: what the texts are held to, or None.

    Returns:
      M texts of each prompt, in order.
    """
    settings = opened.settings.edits
    prompts_PxT, lengths_P = batching.right_align(
        [prompt.tokens for prompt in prompts],
        rows=settings.contexts_per_batch,
        buckets=settings.prompt_buckets,
        what="edits.prompt_buckets",
    )
    seed = opened.settings.seed
    rows = [(prompt.id, m) for prompt in prompts for m in range(samples)]
    rows += [("", 0)] * (settings.contexts_per_batch * samples - len(rows))
    keys_B = keys_for(seed, [("edit", draw, *row) for row in rows])
    out = sampling.generate_jit(
        (opened.model, settings.sample_settings(opened.stop_ids)),
        params,
        *opened.devices.shard((prompts_PxT, lengths_P)),
        opened.devices.shard(keys_B),
        samples_per_prompt=samples,
        automaton=automaton,
    )
    tokens_BxN, lengths_B, stopped_B = jax.device_get(
        (out.tokens_BxN, out.lengths_B, out.stopped_B)
    )
    edits = []
    for row, (context, m) in enumerate(rows[: len(prompts) * samples]):
        tokens = tuple(int(token) for token in tokens_BxN[row, : lengths_B[row]])
        edits.append(
            Edit(
                context=context,
                index=m,
                tokens=tokens,
                text=opened.decode(tokens),
                stopped=bool(stopped_B[row]),
            )
        )
    return edits


def edit_prompts(session: Session, contexts: Sequence[Context]) -> list[Prompt]:
    """The prompts that ask for a self-edit of each context."""
    return [Prompt(context.id, session.edit_prompt(context)) for context in contexts]
