"""Policies: the base model with the deltas of its M-steps, trained, merged and restored."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from seal_jax.core import delta as delta_lib
from seal_jax.core import restem
from seal_jax.loop import learning, memory
from seal_jax.loop.run import Run
from seal_jax.runs import remote_checkpoints, run_dir, storage
from seal_jax.runs.checkpoints import CheckpointError
from seal_jax.runs.ledger import Ledger
from seal_jax.settings import Settings, SettingsError, Sft, config_dict

Record = dict[str, Any]


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


def m_step(
    run: Run, policy: Policy, rows: Sequence[restem.Row], *, stage: str, line: str = ""
) -> Policy:
    """Trains the next policy on the kept self-edits, or restores it from its checkpoint.

    With nothing kept, the next policy is the same one.

    Args:
      line: names the control that the policy belongs to; "" is SEAL itself.
    """
    settings = run.session.settings.restem
    version = policy.version + 1
    if not rows:
        run.say(f"{stage}: no self-edit was kept, so the M-step is skipped and the policy stays")
        run.once("policy", stage, lambda: {"version": version, "kept": 0, "steps": []})
        return dataclasses.replace(policy, version=version)
    start = policy if settings.start_from == "previous" else Policy(run, 0)
    spec = settings.sft.spec()
    like = run.session.delta_shapes(spec)
    metrics: list[Record] = []

    def trained() -> delta_lib.Tree:
        """By host 0: a batch of rows is too small to be spread over hosts."""
        checkpoints = run.checkpoints(line)
        if run.ledger.find("policy", stage) is not None:
            try:
                return checkpoints.restore(version, like)
            except CheckpointError as error:
                run.say(f"{stage}: {error} The M-step is done again.")
        delta, metrics[:] = learn(
            run, start.params, rows, settings.sft, stage=stage, name="M-step", key="restem.sft"
        )
        checkpoints.save(version, delta.tree)
        checkpoints.wait()
        return delta.tree

    delta = delta_lib.Delta(run.from_first(f"{stage}: M-step", trained, like), spec)
    done = run.once(
        "policy", stage, lambda: {"version": version, "kept": len(rows), "steps": metrics}
    )
    if metrics:  # trained now: otherwise the state may be a later round's
        run.forget_steps()
    losses = [step["loss"] for step in done["steps"]]
    for number, loss in enumerate(losses):
        run.measure(f"{stage}: M-step", {"loss": loss}, step=number)
    run.say(
        f"{stage}: policy {version} trained on {len(rows)} self-edits in {len(losses)} steps; "
        f"loss {losses[0]:.3f} to {losses[-1]:.3f} nats a token"
    )
    return Policy(run, version, (*start.deltas, delta))


def learn(
    run: Run, params, rows: Sequence[restem.Row], recipe: Sft, *, stage: str, name: str, key: str
) -> tuple[delta_lib.Delta, list[Record]]:
    """Trains a delta on rows with progress on the terminal; see `learning.train_rows`.

    Its last state stays in `run.steps` until that is cleared or another training keeps one.

    Args:
      name: what the terminal calls it.
      key: the recipe's group of settings, for the error.

    Raises:
      SettingsError: it diverged.
    """
    with run.stage(f"{stage}: {name}", learning.steps(recipe, len(rows)), "step") as progress:

        def report(metrics: Record) -> None:
            progress.update(1, loss=float(metrics["loss"]))

        with memory.needed_by(f"{stage}: the {name}", *_of_training(key)):
            delta, metrics = learning.train_rows(
                run.session, params, rows, recipe, stage=stage, report=report, kept=run.steps
            )
        progress.update(1, loss=metrics[-1]["loss"])
    if not (delta_lib.is_finite(delta) and all(np.isfinite(m["loss"]) for m in metrics)):
        raise SettingsError(
            f"{stage}: the {name} became non-finite; lower {key}.learning_rate and start again "
            "with --overwrite or another --workdir."
        )
    return delta, metrics


def _of_training(key: str) -> list[str]:
    """Settings on which the memory depends that a recipe needs."""
    return [f"{key}.microbatch", f"the largest of {key}.buckets", f"{key}.lora.rank"]


def restore_policy(run: Run, workdir: str, version: int = 0) -> Policy:
    """A policy of another run, from its checkpoints.

    Args:
      workdir: the run's directory.
      version: n for the policy after round n; 0 for the last one.

    Raises:
      SettingsError: that run is not finished or has no such policy, or its model differs.
    """
    if not storage.exists(storage.locate(f"{workdir}/results.json")):
        raise SettingsError(f"--policy_from={workdir} is not the directory of a finished run.")
    settings, own = run_settings(workdir), run.session.settings.model
    if (settings.model.path, settings.model.adapter) != (own.path, own.adapter):
        raise SettingsError(
            f"the policy of {workdir} was trained on model.path={settings.model.name!r}, not on "
            f"{own.name!r}: set --config.model.path and --config.model.adapter to the same."
        )
    like = run.session.delta_shapes(settings.restem.sft.spec())
    number, deltas = stored_deltas(workdir, settings, like, version or None)
    return Policy(run, number, deltas)


def run_settings(workdir: str) -> Settings:
    """The settings of a run, without what its command was given beside them."""
    stored = run_dir.read_config(workdir)
    for name in ("policy_from", "policy_version"):
        stored.pop(name, None)
    return config_dict.from_config(stored)


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
        found = [s for s in records.segments("policy") if s.key.startswith("round ")]
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
    with remote_checkpoints.open_at(f"{workdir}/checkpoints", read_only=True) as saved:
        deltas = [delta_lib.Delta(saved.restore(number, like), spec) for number in wanted]
    return found[-1].record["version"], tuple(deltas)
