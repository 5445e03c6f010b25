"""Self-adapting language models (SEAL) in JAX.

The public interface is `seal_jax.api`, whose functions are offered here and are imported when they
are first used: docs/tutorial.md shows them. Runs, records and reports are started by `seal`, or
`python -m seal_jax`.
"""

from etils import epy

__version__ = "0.1.0"

with epy.lazy_api_imports(globals()):
    from seal_jax.api import (
        Adapted,
        Learned,
        adapt,
        answers,
        bench,
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
    "Adapted",
    "Learned",
    "adapt",
    "answers",
    "bench",
    "configure",
    "learn",
    "load",
    "mean_gold_log_likelihood",
    "merged",
    "passage",
    "save_adapter",
    "self_edits",
]
