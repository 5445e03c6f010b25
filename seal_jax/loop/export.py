"""A run's policy, or a delta on it, in the forms that other tools read."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from seal_jax.core import delta as delta_lib
from seal_jax.core.model.config import ModelConfig
from seal_jax.loop import opened_model, policies
from seal_jax.runs import json_file
from seal_jax.settings import Settings, config_dict
from seal_jax.weights import exported, peft, safetensors, tokenizer
from seal_jax.weights.exported import Addition, ExportError, Mark
from seal_jax.weights.load import GENERATION, LoadedModel

# Of a config.json: what names files that are not copied, or another place.
_NOT_COPIED = ("_name_or_path", "auto_map")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdapterTarget:
    """Where an adapter goes, and which model it is for.

    Attributes:
      out: the directory.
      onto: "original", the model at model.path: everything that was merged into it since is
        concatenated into the adapter. "policy": the model that the last delta was trained on.
      base_model: the name or directory of that model; "" for model.path where that is it.
      with_base: whether that model is written, too, to the directory OUT-base; see `write_base`.
      overwrite: whether an export in `out` may be replaced.
    """

    out: str
    onto: Literal["original", "policy"] = "original"
    base_model: str = ""
    with_base: bool = False
    overwrite: bool = False

    def __post_init__(self):
        if self.with_base and self.base_model:
            raise ExportError("--with-base writes the base itself: leave --base-model out.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """What a delta was trained on: a model at `path`, and what was merged into it in memory.

    Attributes:
      path: model.path.
      config: its architecture.
      merged: digests of the deltas in the weights at `path`.
      earlier: what was merged after they were read: model.adapter, M-step deltas.
    """

    path: str
    config: ModelConfig
    merged: tuple[str, ...]
    earlier: tuple[Addition, ...] = ()

    def base_name(self, target: AdapterTarget) -> str:
        """The name of the adapter's base model.

        Raises:
          ExportError: there is none, or another than the adapter is for; or `out` is not free.
        """
        exported.check_free(target.out, target.overwrite)
        return exported.base_name(
            target.base_model, model_path=self.path, config=self.config, merged=self._on(target)
        )

    def write(self, target: AdapterTarget, last: Addition, origin: str) -> str:
        """Writes `last` as an adapter; returns a line that says what it is.

        Raises:
          ExportError, ValueError: see `base_name`; or a delta is dense.
        """
        additions = [*self.earlier, last] if target.onto == "original" else [last]
        name = self.base_name(target)
        if any(addition.delta.spec.kind != "low_rank" for addition in additions):
            raise ExportError(
                f"{origin} holds a dense delta, which is no LoRA adapter: export the policy as a "
                "whole (--what=policy)."
            )
        delta = delta_lib.concatenate([addition.delta for addition in additions])
        merged = tuple(one for addition in additions for one in addition.digests)
        mark = Mark(
            kind="adapter", on=self._on(target), merged=merged, origin=f"{origin}, on {name}"
        )
        with exported.directory(target.out, mark, overwrite=target.overwrite) as folder:
            peft.save(folder, delta, name)
        spec = delta.spec
        return f"{origin}: an adapter of rank {spec.rank} and alpha {spec.alpha:g} on {name}"

    def _on(self, target: AdapterTarget) -> tuple[str, ...]:
        """Digests of the deltas that the adapter expects to be in its base model."""
        earlier = () if target.onto == "original" else self.earlier
        return (*self.merged, *(one for addition in earlier for one in addition.digests))


def export(
    workdir: str,
    out: str,
    *,
    what: Literal["policy", "adapter"] = "policy",
    version: int | None = None,
    onto: Literal["original", "policy"] = "original",
    base_model: str = "",
    with_base: bool = False,
    dtype: str = "",
    overwrite: bool = False,
) -> str:
    """Exports a policy of a run as a Hugging Face directory or as a PEFT adapter.

    Args:
      workdir: the run's directory.
      out: a new or empty directory.
      what: "policy", the merged weights with config and tokenizer; or "adapter".
      version: the policy after that round; 0 is the model that the run started from, None the last.
      onto, base_model, with_base: of an adapter; see `AdapterTarget`. With onto="policy" it is the
        delta of the last M-step alone.
      dtype: of the merged weights; "" for the run's.
      overwrite: whether an export in `out` may be replaced.

    Returns:
      A line that says what was written.

    Raises:
      ValueError, OSError: with what to change.
    """
    exported.check_free(out, overwrite)
    settings = policies.run_settings(workdir)
    model = opened_model.load_base(settings)
    like = delta_lib.shapes(model.params, settings.restem.sft.spec())
    number, deltas = policies.stored_deltas(workdir, settings, like, version)
    origin = f"policy {number} of {pathlib.Path(workdir).resolve().name}"
    if what == "policy":
        kind = jnp.dtype(dtype or settings.model.dtype)
        write_policy(out, model, deltas, dtype=kind, origin=origin, overwrite=overwrite)
        return f"{origin}: a Hugging Face directory in {kind.name}"
    additions = [model.adapter] if model.adapter else []
    additions += map(Addition.of, deltas)
    if not additions:
        raise ExportError(
            f"{origin} is {settings.model.path} itself: there is no delta to write. Use "
            "--what=policy, or another --version."
        )
    trained = Trained(
        path=settings.model.path,
        config=model.config,
        merged=model.merged,
        earlier=tuple(additions[:-1]),
    )
    target = AdapterTarget(
        out=out,
        onto=onto if deltas else "original",  # of model.adapter alone they are the same
        base_model=base_model,
        with_base=with_base,
        overwrite=overwrite,
    )
    if with_base:
        target = write_base(target, settings, deltas[:-1])
    return trained.write(target, additions[-1], origin)


def write_base(
    target: AdapterTarget, settings: Settings, earlier: Sequence[delta_lib.Delta]
) -> AdapterTarget:
    """Writes the model that an adapter is for as a Hugging Face directory beside it.

    Args:
      target: the adapter.
      settings: of the model that the first delta was trained on.
      earlier: the deltas before the adapter's own, which onto="policy" has in its base.

    Returns:
      The target with that directory as its base model.

    Raises:
      ExportError: a directory is not free.
    """
    exported.check_free(target.out, target.overwrite)
    if target.onto == "original":
        settings, earlier = config_dict.replaced(settings, {"model.adapter": ""}), []
    out = f"{os.path.abspath(target.out)}-base"
    write_policy(
        out,
        opened_model.load_base(settings),
        earlier,
        dtype=jnp.dtype(settings.model.dtype),
        origin=f"the base of {target.out}",
        overwrite=target.overwrite,
    )
    return dataclasses.replace(target, base_model=out, with_base=False)


def write_policy(
    out: str,
    model: LoadedModel,
    deltas: Sequence[delta_lib.Delta],
    *,
    dtype: Any,
    origin: str,
    overwrite: bool = False,
) -> None:
    """Writes a model with deltas of any kind merged in: weights, configs and tokenizer.

    Args:
      model: the model, with its adapter merged.
      deltas: what is merged, in order.
      dtype: of the weights that are written. They are merged in the dtype of the model's first.

    Raises:
      ExportError: `out` is not free.
    """
    digests = (*model.merged, *(model.adapter.digests if model.adapter else ()))
    digests += tuple(map(exported.digest, deltas))
    mark = Mark(kind="policy", merged=digests, origin=origin)
    with exported.directory(out, mark, overwrite=overwrite) as folder:
        params = delta_lib.merge(model.params, deltas)
        params = jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype), params)
        config = {k: v for k, v in model.hf_config.items() if k not in _NOT_COPIED}
        safetensors.save(folder, params, config)
        tokenizer.save(folder, model.tokenizer)
        json_file.write_json(folder / GENERATION, model.generation or _generation(model))


def _generation(model: LoadedModel) -> dict[str, Any]:
    """Where generation ends: at the tokens that end it in a run."""
    of = model.tokenizer
    ids = {"bos_token_id": of.bos_token_id, "pad_token_id": of.pad_token_id}
    known = {name: value for name, value in ids.items() if value is not None}
    return {"eos_token_id": list(model.stop_ids), **known}
