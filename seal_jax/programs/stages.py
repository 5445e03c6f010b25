"""The stages of a run, each remembered in the ledger batch by batch.

A stage asks the ledger for each of its batches first, so a run that was killed goes on where it
stopped, and what later stages see is always what the ledger holds.
"""

import dataclasses
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from seal_jax import batching, config_dict, parallel, restem, run_dir
from seal_jax import delta as delta_lib
from seal_jax.checkpoints import CheckpointError, Checkpoints
from seal_jax.ledger import Ledger
from seal_jax.programs import trials
from seal_jax.programs.session import Session
from seal_jax.programs.trials import Candidate, Edit, Record
from seal_jax.progress import Progress
from seal_jax.settings import SettingsError
from seal_jax.tasks.base import Context


@dataclasses.dataclass(frozen=True)
class Policy:
    """A policy: the base model with the deltas of the M-steps that made it.

    Attributes:
      version: 0 for the base model, n after round n.
      params: the merged parameters, placed on the devices.
      deltas: what was merged, in order.
    """

    version: int
    params: Any
    deltas: tuple[delta_lib.Delta, ...] = ()


class Run:
    """A session with its ledger, checkpoints and clock; what the stages share."""

    def __init__(self, session: Session, ledger: Ledger, checkpoints: Checkpoints, quiet: bool):
        self.session = session
        self.ledger = ledger
        self.checkpoints = checkpoints
        self.quiet = quiet
        self.seconds: dict[str, float] = {}

    def once(self, kind: str, key: str, work: Callable[[], Record]) -> Record:
        """The record of a unit of work, from the ledger or done now."""
        found = self.ledger.find(kind, key)
        return self.ledger.append(kind, key, work()).record if found is None else found

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Progress]:
        """Times a stage and shows its progress."""
        start = time.perf_counter()
        with Progress(total, name, unit=unit, quiet=self.quiet) as progress:
            yield progress
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def say(self, line: str) -> None:
        if not self.quiet:
            print(line, flush=True)


def sample(
    run: Run,
    policy: Policy,
    contexts: Sequence[Context],
    *,
    stage: str,
    samples: int,
    draw: str | None = None,
) -> list[list[Edit]]:
    """Samples M self-edits of each context from the policy: [C][M].

    Args:
      stage: names the stage in the ledger, and in the keys unless `draw` does.
      draw: stages with the same one sample with the same keys.
    """
    size = run.session.settings.edits.contexts_per_batch
    edits: list[Edit] = []
    with run.stage(f"{stage}: sample", len(contexts) * samples, "edit") as progress:
        for number, first in enumerate(range(0, len(contexts), size)):
            batch = contexts[first : first + size]

            def work(batch=batch) -> Record:
                found = trials.sample_edits(
                    run.session, policy.params, batch, draw=draw or stage, samples=samples
                )
                return {"edits": [edit.record() for edit in found]}

            record = run.once("edits", f"{stage}/{number}", work)
            edits += [Edit.from_record(edit) for edit in record["edits"]]
            progress.update(len(batch) * samples)
    lengths = [len(edit.tokens) for edit in edits]
    unfinished = sum(not edit.stopped for edit in edits)
    run.say(
        f"{stage}: {len(edits)} self-edits of {np.mean(lengths):.0f} tokens on average; "
        f"{unfinished} reached the length limit"
    )
    return [edits[i : i + samples] for i in range(0, len(edits), samples)]


def unadapted(
    run: Run, policy: Policy, contexts: Sequence[Context], *, stage: str, width: int
) -> dict[str, list[Record]]:
    """The unadapted policy's answers to every context's questions, by context id."""
    size = run.session.settings.inner.candidates
    answers: dict[str, list[Record]] = {}
    with run.stage(f"{stage}: unadapted", len(contexts), "context") as progress:
        for number, first in enumerate(range(0, len(contexts), size)):
            batch = contexts[first : first + size]

            def work(batch=batch) -> Record:
                found = trials.ask(run.session, policy.params, None, batch, width)
                return {context.id: answers for context, answers in zip(batch, found, strict=True)}

            answers |= run.once("unadapted", f"{stage}/{number}", work)
            progress.update(len(batch))
    return answers


def candidates_of(
    session: Session,
    contexts: Sequence[Context],
    texts: Sequence[Sequence[str]],
    *,
    replicates: int = 1,
    ask: Sequence[Context] | None = None,
) -> list[Candidate]:
    """Candidates of the self-edits [C][M], each `replicates` times.

    Args:
      ask: for each context, the one whose questions the mismatched control asks.
    """
    return [
        Candidate(
            context=context,
            index=m,
            replicate=replicate,
            trimmed=trials.tokenize(session, session.task.sequences(context, text)),
            ask=ask[c] if ask else None,
        )
        for c, context in enumerate(contexts)
        for m, text in enumerate(texts[c])
        for replicate in range(replicates)
    ]


def try_all(
    run: Run,
    policy: Policy,
    candidates: Sequence[Candidate],
    *,
    stage: str,
    width: int,
    draw: str | None = None,
) -> list[Record]:
    """Tries every candidate; returns their records in the candidates' order.

    The plan of batches is a function of the candidates' lengths alone and is recorded first.
    """
    settings = run.session.settings.inner
    usable = [i for i, candidate in enumerate(candidates) if candidate.lengths]
    groups: list[list[int]] = []
    for replicate in sorted({candidates[i].replicate for i in usable}):
        members = [i for i in usable if candidates[i].replicate == replicate]
        planned = batching.plan(
            [candidates[i].lengths for i in members],
            size=settings.candidates,
            equal_counts=settings.batch_size > 1,
        )
        groups += [[members[j] for j in group] for group in planned]
    plan = run.once(
        "plan", stage, lambda: {"candidates_per_batch": settings.candidates, "groups": groups}
    )
    records: list[Record] = [
        {**trials.describe(c), "answers": [], "reason": "the self-edit holds no text to train on"}
        for c in candidates
    ]
    real = computed = 0
    with run.stage(f"{stage}: adapt", len(candidates), "edit") as progress:
        progress.update(len(candidates) - len(usable))
        for number, group in enumerate(plan["groups"]):

            def work(group=group) -> Record:
                members = [candidates[i] for i in group]
                return trials.try_group(
                    run.session, policy.params, members, draw=draw or stage, width=width
                )

            batch = run.once("batch", f"{stage}/{number}", work)
            for i, trial in zip(group, batch["trials"], strict=True):
                records[i] = trial
            real += batch["real_tokens"]
            computed += batch["computed_tokens"]
            progress.update(len(group))
    run.say(
        f"{stage}: {len(usable)} inner loops on {real} tokens "
        f"({real / max(computed, 1):.0%} of those computed); "
        f"{sum(record['reason'] is not None for record in records)} without a result"
    )
    cut = sum(r["dropped_tokens"] + r["dropped_sequences"] > 0 for r in records)
    if cut:
        run.say(
            f"{stage}: {cut} self-edits were cut to inner.max_sequences and the largest of "
            "inner.buckets"
        )
    return records


def score(records: Sequence[Record], kind: str) -> float:
    """The reward of one self-edit: the mean over those of its replicates that gave a result.

    NaN where none did.
    """
    values = {
        "accuracy": lambda answer: float(answer["correct"]),
        "gold_log_likelihood": lambda answer: answer["gold_log_likelihood"],
    }[kind]
    scores = [
        [values(answer) for answer in record["answers"]] for record in records if record["answers"]
    ]
    means = [np.mean(s) for s in scores if None not in s]
    return float(np.mean(means)) if means else float("nan")


def pattern_score(pattern: str, text: str) -> float:
    """The share of a text's characters that matches of a regular expression cover.

    >>> pattern_score("[0-9]+", "in 1874")
    0.5714285714285714
    """
    covered = sum(len(match.group()) for match in re.finditer(pattern, text))
    return covered / len(text) if text else 0.0


def pattern_scores(pattern: str, edits: Sequence[Sequence[Edit]]) -> list[list[float]]:
    """`pattern_score` of self-edits [C][M]."""
    return [[pattern_score(pattern, edit.text) for edit in of] for of in edits]


def merged(run: Run, version: int, deltas: Sequence[delta_lib.Delta]) -> Policy:
    """The policy made of the base model and deltas."""
    if not deltas:
        return Policy(version, run.session.base)
    params = delta_lib.merge(run.session.base, parallel.place(list(deltas)))
    return Policy(version, parallel.place(params), tuple(deltas))


def m_step(run: Run, policy: Policy, rows: Sequence[restem.Row], *, stage: str) -> Policy:
    """Trains the next policy on the kept self-edits, or restores it from its checkpoint.

    With nothing kept, the next policy is the same one.
    """
    settings = run.session.settings.restem
    version = policy.version + 1
    if not rows:
        run.say(f"{stage}: no self-edit was kept, so the M-step is skipped and the policy stays")
        run.once("policy", stage, lambda: {"version": version, "kept": 0, "steps": []})
        return dataclasses.replace(policy, version=version)
    start = policy if settings.start_from == "previous" else merged(run, 0, ())
    spec = settings.sft.lora.spec()
    done = run.ledger.find("policy", stage)
    delta = None
    if done is not None:
        like = delta_lib.shapes(start.params, spec)
        try:
            delta = delta_lib.Delta(run.checkpoints.restore(version, like), spec)
        except CheckpointError as error:
            run.say(f"{stage}: {error} The M-step is done again.")
    if delta is None:
        settings_sft = settings.sft
        steps = settings_sft.epochs * -(-len(rows) // settings_sft.batch_size)
        with run.stage(f"{stage}: M-step", steps, "step") as progress:

            def report(metrics) -> None:
                progress.update(1, loss=float(metrics["loss"]))

            delta, metrics = trials.train_policy(
                run.session, start.params, rows, stage=stage, report=report
            )
            progress.update(1, loss=metrics[-1]["loss"])
        if not (delta_lib.is_finite(delta) and all(np.isfinite(m["loss"]) for m in metrics)):
            raise SettingsError(
                f"{stage}: the M-step became non-finite; lower restem.sft.learning_rate and start "
                "again with --overwrite or another --workdir."
            )
        run.checkpoints.save(version, delta.tree)
        run.checkpoints.wait()
        done = run.once(
            "policy", stage, lambda: {"version": version, "kept": len(rows), "steps": metrics}
        )
    losses = [step["loss"] for step in done["steps"]]
    run.say(
        f"{stage}: policy {version} trained on {len(rows)} self-edits in {len(losses)} steps; "
        f"loss {losses[0]:.3f} to {losses[-1]:.3f} nats a token"
    )
    return merged(run, version, (*start.deltas, delta))


def restore_policy(run: Run, workdir: str) -> Policy:
    """The last policy of another run, from its checkpoints.

    Raises:
      SettingsError: that run is not finished or has no policy, or its model differs.
    """
    if not os.path.exists(os.path.join(workdir, "results.json")):
        raise SettingsError(f"--policy_from={workdir} is not the directory of a finished run.")
    stored = run_dir.read_config(workdir)
    stored.pop("policy_from", None)
    config = config_dict.from_config(stored)
    if config.model.path != run.session.settings.model.path:
        raise SettingsError(
            f"the policy of {workdir} was trained on model.path={config.model.path!r}, not on "
            f"{run.session.settings.model.path!r}: set --config.model.path to the same."
        )
    found = Ledger(f"{workdir}/ledger", read_only=True).segments("policy")
    trained = [segment.record["version"] for segment in found if segment.record["kept"]]
    if not trained:
        raise SettingsError(f"{workdir} holds no trained policy (no M-step has finished there).")
    wanted = trained if config.restem.start_from == "previous" else trained[-1:]
    spec = config.restem.sft.lora.spec()
    like = delta_lib.shapes(run.session.base, spec)
    with Checkpoints(f"{workdir}/checkpoints", read_only=True) as saved:
        deltas = [delta_lib.Delta(saved.restore(version, like), spec) for version in wanted]
    return merged(run, found[-1].record["version"], deltas)
