"""Too little memory on the device: fewer things at once, or an error that names settings.

Candidates are trained and asked, and contexts sampled for, so many at once as the settings say, or
as the ledger does: it alone decides, so that a run that was stopped goes on as it would have gone
on undisturbed.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import jax

from seal_jax.core import batching
from seal_jax.settings import SettingsError

if TYPE_CHECKING:
    from seal_jax.loop.run import Run


@dataclasses.dataclass(frozen=True)
class AtOnce:
    """Things that go through a program together.

    Attributes:
      things: their name in the ledger and in messages.
      part, name: of the setting that says how many.
      lower: settings to lower where there is no room for the fewest.
    """

    things: str
    part: str
    name: str
    lower: tuple[str, ...]

    def size(self, run: "Run") -> int:
        """How many; the ledger says when it was halved."""
        field = f"{self.things}_per_batch"
        halved = [s.record[field] for s in run.ledger.segments("memory") if field in s.record]
        given = getattr(getattr(run.session.settings, self.part), self.name)
        return int(halved[-1]) if halved else given


CANDIDATES = AtOnce(
    "candidates",
    "inner",
    "candidates",
    (
        "inner.max_sequences",
        "the largest of inner.buckets",
        "inner.lora.rank",
        "answers.questions_at_once",
        "answers.max_new_tokens",
    ),
)
CONTEXTS = AtOnce(
    "contexts", "edits", "contexts_per_batch", ("edits.samples", "edits.max_new_tokens")
)


@contextlib.contextmanager
def room(run: "Run", of: AtOnce, *, stage: str) -> Iterator[int]:
    """How many things go through a program at once; halved where the device has no room for them.

    The block does its work from the beginning with that many, and leaves the loop round it:

        while True:
            with memory.room(run, CANDIDATES, stage="round 1: adapt") as at_once:
                ...
                break

    Where it runs out of memory, nothing is raised, so that the loop tries it with half as many.
    Each halving is a "memory" record of the ledger, and holds for the rest of the run.

    Args:
      of: what the block works on.
      stage: names the block to the person at the terminal.

    Raises:
      SettingsError: there is no room for the smallest number either.
    """
    size = of.size(run)
    try:
        yield size
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not is_exhausted(error):
            raise
        smaller = batching.smaller_size(size, run.session.devices.data_shards)
        if smaller is None:
            raise _too_little(f"{stage}: {size} {of.things} at once", of.lower) from error
        run.ledger.append(
            "memory",
            f"{smaller} {of.things}",
            {"stage_name": stage, of.things: size, f"{of.things}_per_batch": smaller},
        )
        run.say(
            f"{stage}: the device has too little memory for {size} {of.things} at once; from here "
            f"on it is {smaller} ({of.part}.{of.name})"
        )


@contextlib.contextmanager
def needed_by(what: str, *settings: str) -> Iterator[None]:
    """Tells whose memory it was that the device did not have, and which settings to lower.

    Raises:
      SettingsError: the block ran out of memory.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not is_exhausted(error):
            raise
        raise _too_little(what, settings) from error


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that the device, or the host, has no memory left."""
    if isinstance(error, jax.errors.JaxRuntimeError):
        return "RESOURCE_EXHAUSTED" in str(error)
    return isinstance(error, MemoryError)


def _too_little(what: str, settings: Sequence[str]) -> SettingsError:
    lower = f"Lower {', '.join(settings)}; or set" if settings else "Set"
    return SettingsError(
        f"{what}: the device has too little memory. {lower} model.remat='full' or "
        "model.dtype='bfloat16', or take a device with more. The settings are part of a run: "
        "start it in another --workdir."
    )
