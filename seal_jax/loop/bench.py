"""Verb: bench. Texts that anybody wrote about passages, as the arms of an evaluation."""

import dataclasses
from typing import Any, Unpack

from seal_jax.loop import comparison, evaluate
from seal_jax.loop.job import How
from seal_jax.settings import Settings, config_dict
from seal_jax.tasks import registry, splits

_LEAST = (2, 4)  # development and test contexts: with fewer the dose is fixed


def bench(
    settings: Settings, workdir: str, *, tune: bool = True, **how: Unpack[How]
) -> dict[str, Any]:
    """Runs or continues a comparison of the texts of `data.edits` in `workdir`.

    Args:
      tune: see `prepared`.

    Raises:
      DataError: the file cannot be used; and as `evaluate.evaluate` does.
    """
    return evaluate.evaluate(prepared(settings, tune=tune), workdir, **how)


def prepared(settings: Settings, *, tune: bool = True) -> Settings:
    """The settings of the evaluation: with the file's sources as arms.

    Args:
      tune: whether the dose is chosen on a development part, as `tuning` says. It is fixed, and all
        contexts are tested, where there are too few for that.

    Raises:
      DataError: the file cannot be used.
    """
    fixed = config_dict.replaced(
        settings,
        {
            "tuning": dataclasses.replace(settings.tuning, learning_rates=(), epochs=()),
            "data.eval_part": "all",
        },
    )
    task = registry.open_task(fixed)
    arms = {"evaluation.arms": (*settings.evaluation.arms, *comparison.stored(task))}
    contexts, share = task.contexts("eval"), settings.data.development
    if tune and settings.tuning.epochs and len({splits.same_key(c.group) for c in contexts}) > 1:
        parts = splits.article_halves(contexts, share)
        if all(len(part) >= least for part, least in zip(parts, _LEAST, strict=True)):
            return config_dict.replaced(settings, arms)
    return config_dict.replaced(fixed, arms)
