"""Policies: the base model with the deltas of its M-steps, merged and restored."""

import dataclasses
import functools
from typing import Any

from seal_jax.core import delta as delta_lib
from seal_jax.loop import stage as stage_lib
from seal_jax.loop.run import Run
from seal_jax.runs import run_dir, storage
from seal_jax.runs.checkpoints import CheckpointError, Checkpoints, LostStepError
from seal_jax.runs.ledger import Ledger
from seal_jax.settings import Settings, SettingsError, config_dict
from seal_jax.weights import exported

# What the config of a run has beside its settings: its command's own flags.
GIVEN = ("policy_from", "policy_version", "split", "on", "edits_sha256", "self_edits", "deltas")


@dataclasses.dataclass(frozen=True)
class Policy:
    """A policy: the base model with the deltas of the M-steps that made it.

    Attributes:
      run: whose base model it is.
      version: 0 for the base model, n after round n.
      deltas: what is merged, in order.
    """

    run: Run = dataclasses.field(repr=False)
    version: int
    deltas: tuple[delta_lib.Delta, ...] = ()

    @functools.cached_property
    def digest(self) -> tuple[str, ...]:
        """What identifies it, beside the base model."""
        return tuple(map(exported.digest, self.deltas))

    @property
    def params(self) -> Any:
        """The merged parameters, placed on the devices.

        A run keeps those of the last policy that was asked for beside the base model's: two copies
        of the weights, however many policies there are.
        """
        session = self.run.session
        if not self.deltas:
            return session.base
        return self.run.keep_one(
            self.deltas,
            lambda: session.place(delta_lib.merge(session.base, session.place(list(self.deltas)))),
        )


def restore_policy(run: Run, workdir: str, version: int = 0) -> Policy:
    """A policy of another run, from its checkpoints.

    Args:
      workdir: the run's directory; the run need not be finished.
      version: n for the policy after round n; 0 for the last one.

    Raises:
      SettingsError: that run has no such policy, or its model differs.
    """
    settings, own = settings_of(workdir), run.session.settings.model
    if (settings.model.path, settings.model.adapter) != (own.path, own.adapter):
        raise SettingsError(
            f"the policy of {workdir} was trained on model.path={settings.model.name!r}, not on "
            f"{own.name!r}: set --config.model.path and --config.model.adapter to the same."
        )
    like = run.session.delta_shapes(settings.restem.sft.spec())
    number, deltas = stored_deltas(workdir, settings, like, version or None)
    return Policy(run, number, deltas)


def settings_of(policy_from: str) -> Settings:
    """The settings of the run that --policy_from names.

    Raises:
      SettingsError: it names no run.
    """
    if not storage.is_folder(storage.locate(f"{policy_from}/ledger")):
        raise SettingsError(f"--policy_from={policy_from} is not the directory of a run.")
    return run_settings(policy_from)


def run_settings(workdir: str) -> Settings:
    """The settings of a run, without what its command was given beside them."""
    stored = run_dir.read_config(workdir)
    return config_dict.from_config({k: v for k, v in stored.items() if k not in GIVEN})


def stored_deltas(
    workdir: str, settings: Settings, like: delta_lib.Tree, version: int | None = None
) -> tuple[int, tuple[delta_lib.Delta, ...]]:
    """The M-step deltas that make a policy of a run, from its checkpoints.

    Args:
      workdir: the run's directory; the run need not be finished.
      settings: of that run.
      like: the tree of a delta of its M-steps, as `Checkpoints.restore` takes it.
      version: the policy after that round; 0 for the base model, None for the last one.

    Returns:
      The policy's version, and its deltas in the order of merging.

    Raises:
      SettingsError: the run has no such policy.
      CheckpointError: its checkpoint is damaged.
    """
    if version == 0:
        return 0, ()
    with Ledger(f"{workdir}/ledger", read_only=True) as records:
        found = [
            segment
            for segment in records.segments("policy")
            if (stage := stage_lib.of_record(segment.record)) and not stage.line
        ]
    if version is not None and version > len(found):
        raise SettingsError(
            f"there is no policy {version}: {workdir} holds {len(found)} policies, one a round."
        )
    found = found[:version]
    trained = [segment.record["version"] for segment in found if segment.record["kept"]]
    if not trained:
        raise SettingsError(f"{workdir} holds no trained policy (no M-step has finished there).")
    wanted = trained if settings.restem.start_from == "previous" else trained[-1:]
    spec = settings.restem.sft.spec()
    with Checkpoints(f"{workdir}/checkpoints", read_only=True) as saved:
        try:
            deltas = [delta_lib.Delta(saved.restore(number, like), spec) for number in wanted]
        except LostStepError as error:
            raise CheckpointError(
                f"{error} The run's own command trains that policy again: repeat it, after "
                f"deleting {workdir}/results.json if there is one."
            ) from None
    return found[-1].record["version"], tuple(deltas)
