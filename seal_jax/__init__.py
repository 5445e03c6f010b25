"""Self-adapting language models (SEAL) in JAX.

The public interface is `seal_jax.api`, whose functions are offered here and are imported when they
are first used: docs/tutorial.md shows them. Runs, records and reports are started by
`python -m seal_jax`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seal_jax.api import (
        Learned,
        answers,
        configure,
        learn,
        load,
        mean_gold_log_likelihood,
        merged,
        passage,
        save_adapter,
        self_edits,
    )

__all__ = [
    "Learned",
    "answers",
    "configure",
    "learn",
    "load",
    "mean_gold_log_likelihood",
    "merged",
    "passage",
    "save_adapter",
    "self_edits",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("seal_jax.api"), name)
    raise AttributeError(f"module 'seal_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
