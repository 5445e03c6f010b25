"""Weights that are no numbers are refused where they are read, by the name of their tensor."""

from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp

from seal_jax.core.model.config import ModelConfig
from seal_jax.weights.names import WeightsError, leaves


@jax.jit
def _finite(leaf):
    """[leading axis] whether all values are finite numbers."""
    return jnp.isfinite(leaf).all(axis=tuple(range(1, leaf.ndim)))


def check(config: ModelConfig, params: Any, source: str) -> None:
    """Refuses parameters with NaN or infinite values.

    Args:
      params: numpy arrays, or jax ones on any devices.
      source: what to call their checkpoint, such as the setting that names it.

    Raises:
      WeightsError: names the tensors, as a Hugging Face checkpoint does.
    """
    by_path = flax.traverse_util.flatten_dict(params, sep="/")
    finite = jax.device_get(jax.tree.map(_finite, by_path))
    wrong = []
    for leaf in leaves(config, "hf"):
        known = finite[leaf.path]
        of_tensors = known if leaf.stacked else [known.all()]
        wrong += [name for name, fine in zip(leaf.tensors, of_tensors, strict=True) if not fine]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise WeightsError(
            f"{source}: {', '.join(wrong[:3])}{more} hold values that are not finite numbers (NaN "
            "or infinite). The files are damaged, or were written in a type too small for them: "
            "fetch them again, or take another checkpoint."
        )
