"""Too little memory on the device: fewer candidates at once, or an error that names settings.

How many go at once is decided by the ledger alone, so that a run that was stopped goes on as it
would have gone on undisturbed.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import jax

from seal_jax.settings import SettingsError

if TYPE_CHECKING:
    from seal_jax.programs.run import Run

Item = TypeVar("Item")
Result = TypeVar("Result")

_OF_CANDIDATES = (
    "inner.max_sequences",
    "the largest of inner.buckets",
    "inner.lora.rank",
    "answers.questions_at_once",
    "answers.max_new_tokens",
)


def candidates(run: "Run") -> int:
    """K: how many candidates go through a program at once; the ledger says when it was halved."""
    halved = run.ledger.segments("memory")
    if halved:
        return int(halved[-1].record["candidates_per_batch"])
    return run.session.settings.inner.candidates


def in_pieces(
    run: "Run",
    group: Sequence[Item],
    work: Callable[[Any, Sequence[Item]], Result],
    *,
    stage: str,
) -> list[Result]:
    """Works on a group in pieces of at most K; K is halved until the device has room for it.

    Each halving is a "memory" record of the ledger, and holds for the rest of the run.

    Args:
      work: gets the session whose settings.inner.candidates is K, and a piece.
      stage: names the group to the person at the terminal.

    Raises:
      SettingsError: there is no room for the smallest K either.
    """
    while True:
        size = candidates(run)
        session = _with_candidates(run.session, size)
        try:
            return [work(session, group[i : i + size]) for i in range(0, len(group), size)]
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if not is_exhausted(error):
                raise
            smaller = _smaller(size, session.devices.data_shards)
            if smaller is None:
                raise _too_little(f"{stage}: {size} candidates at once", _OF_CANDIDATES) from error
        # Out of the handler, so that what the failed attempt held is freed.
        run.ledger.append(
            "memory",
            f"{smaller} candidates",
            {"stage": stage, "candidates": size, "candidates_per_batch": smaller},
        )
        run.say(
            f"{stage}: the device has too little memory for {size} candidates at once; from here "
            f"on it is {smaller} (inner.candidates)"
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


def _smaller(size: int, devices: int) -> int | None:
    """About half of K candidates; None where fewer would not need less memory on a device.

    A number that the devices divide among them stays one: otherwise each has all candidates.

    >>> _smaller(8, 1), _smaller(5, 1), _smaller(1, 1), _smaller(12, 4), _smaller(4, 4)
    (4, 2, None, 4, None)
    """
    multiple = devices if size % devices == 0 else 1
    return size // 2 // multiple * multiple or None


def _with_candidates(session, size: int):
    settings = session.settings
    if settings.inner.candidates == size:
        return session
    inner = dataclasses.replace(settings.inner, candidates=size)
    return dataclasses.replace(session, settings=dataclasses.replace(settings, inner=inner))
