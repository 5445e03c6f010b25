"""Verb: sample. The policy writes texts: self-edits, and what else it is asked for."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from seal_jax.core import batching, sampling
from seal_jax.core.constrained import Automaton
from seal_jax.core.randomness import keys_for
from seal_jax.loop import memory
from seal_jax.loop import run as run_lib
from seal_jax.loop.policies import Policy
from seal_jax.loop.run import Run
from seal_jax.loop.session import Session
from seal_jax.loop.stage import Stage, of_record
from seal_jax.runs import run_dir, storage
from seal_jax.runs.ledger import Ledger
from seal_jax.settings import Model, SettingsError
from seal_jax.stats.intervals import mean
from seal_jax.tasks.protocol import Context


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edit:
    """A sampled self-edit.

    Attributes:
      context: id of its context; index: which of the context's samples it is.
      tokens: as sampled, a stop token included.
      text: what they say; thoughts: what they only think; see `generated.read`.
      stopped: whether it ended by itself rather than at the length limit.
    """

    context: str
    index: int
    tokens: list[int]
    text: str
    stopped: bool
    thoughts: str = ""

    def record(self) -> dict[str, Any]:
        """As it is recorded: without thoughts where there are none."""
        return {name: of for name, of in vars(self).items() if name != "thoughts" or of}


class Prompt(NamedTuple):
    """What the policy is asked to write: an id that names it in the keys, and its tokens."""

    id: str
    tokens: list[int]


def edit_prompts(session: Session, contexts: Sequence[Context]) -> list[Prompt]:
    """The prompts that ask for a self-edit of each context."""
    return [Prompt(context.id, session.edit_prompt(context)) for context in contexts]


def sample(
    run: Run,
    policy: Policy,
    prompts: Sequence[Prompt],
    *,
    stage: Stage,
    samples: int,
    draw: str = "",
    automaton: Automaton | None = None,
) -> list[list[Edit]]:
    """Samples M texts of each prompt: [C][M]; or takes those of `edits.from_run`.

    Args:
      stage: names the units in the ledger, and the keys unless `draw` does.
      draw: stages with the same one sample with the same keys.
      automaton: what the texts are held to, or None.
    """
    session, settings, draw = run.session, run.session.settings.edits, draw or stage.name
    batches = run_lib.batches(stage, prompts, settings.contexts_per_batch)

    def content(batch: Sequence[Prompt]) -> tuple:
        return (policy.digest, settings, automaton is not None, draw, samples, batch)

    with run.stage(stage, "sample", len(prompts), "prompt") as progress:
        for key in run.missing("edits", batches, stage, content, progress):
            batch = batches[key]
            if settings.from_run:
                found = _stored_edits(run, batch, stage, samples)
            while not settings.from_run:
                with memory.room(run, memory.CONTEXTS, stage=f"{stage}: sample") as at_once:
                    found = _sample(
                        session,
                        policy.params,
                        batch,
                        at_once=at_once,
                        draw=draw,
                        samples=samples,
                        automaton=automaton,
                    )
                    break
            record = {"edits": [edit.record() for edit in found]}
            run.record("edits", key, record, stage, content(batch))
    records = run.records("edits", batches)
    edits = [Edit(**edit) for record in records for edit in record["edits"]]
    _report(run, stage, edits)
    return [edits[i : i + samples] for i in range(0, len(edits), samples)]


def _sample(
    session: Session,
    params,
    prompts: Sequence[Prompt],
    *,
    at_once: int,
    draw: str,
    samples: int,
    automaton: Automaton | None,
) -> list[Edit]:
    """M texts of each prompt, in order; `at_once` prompts go through the program together."""
    settings, edits = session.settings.edits, []
    for first in range(0, len(prompts), at_once):
        part = prompts[first : first + at_once]
        prompts_PxT, lengths_P = batching.right_align(
            [prompt.tokens for prompt in part],
            rows=at_once,
            buckets=settings.prompt_buckets,
            what="edits.prompt_buckets",
        )
        rows = [(prompt, m) for prompt in part for m in range(samples)]
        names = [(prompt.id, m) for prompt, m in rows]
        names += [("", 0)] * (at_once * samples - len(rows))
        keys_B = keys_for(session.settings.seed, [("edit", draw, *name) for name in names])
        out = sampling.generate_jit(
            (session.model, settings.sample_settings(session.stop_ids)),
            params,
            *session.devices.shard((prompts_PxT, lengths_P)),
            session.devices.shard(keys_B),
            samples_per_prompt=samples,
            automaton=automaton,
        )
        found = jax.device_get((out.tokens_BxN, out.lengths_B, out.stopped_B))
        for (prompt, m), tokens_N, length, stopped in zip(rows, *found, strict=False):
            tokens = tokens_N[:length].tolist()
            said = session.read(tokens, prompt.tokens, bool(stopped))
            edits.append(
                Edit(
                    context=prompt.id,
                    index=m,
                    tokens=tokens,
                    text=said.text,
                    stopped=not said.cut_off,
                    thoughts=said.thoughts,
                )
            )
    return edits


def self_edits(
    session: Session, contexts: Sequence[Context], *, draw: str, samples: int
) -> list[list[str]]:
    """Self-edits of the base model without a run, [C][M]."""
    edits = _sample(
        session,
        session.base,
        edit_prompts(session, contexts),
        at_once=session.settings.edits.contexts_per_batch,
        draw=draw,
        samples=samples,
        automaton=session.automaton,
    )
    texts = [edit.text for edit in edits]
    return [texts[i : i + samples] for i in range(0, len(texts), samples)]


def _report(run: Run, stage: Stage, edits: Sequence[Edit]) -> None:
    lengths = [len(edit.tokens) for edit in edits]
    unfinished = sum(not edit.stopped for edit in edits)
    run.measure(
        stage,
        {
            "tokens of a text": mean(lengths),
            "texts cut off": unfinished,
            "empty texts": sum(not edit.text for edit in edits),
        },
    )
    run.say(
        f"{stage}: {len(edits)} texts of {mean(lengths) or 0:.0f} tokens on average; {unfinished} "
        "reached the length limit"
    )


def _stored_edits(run: Run, batch: Sequence[Prompt], stage: Stage, samples: int) -> list[Edit]:
    """The texts that another run sampled in the same stage.

    Raises:
      SettingsError: it has none of them, or another model wrote them.
    """
    workdir = run.session.settings.edits.from_run
    if not storage.is_folder(storage.locate(f"{workdir}/ledger")):
        raise SettingsError(f"edits.from_run={workdir} is not the directory of a run.")
    stored = run_dir.read_config(workdir)["model"]
    writer = Model(path=stored["path"], adapter=stored.get("adapter", "")).name
    if writer != run.session.settings.model.name:
        raise SettingsError(
            f"the self-edits of edits.from_run={workdir} are by model.path={writer!r}, not by "
            f"{run.session.settings.model.name!r}."
        )
    with Ledger(f"{workdir}/ledger", read_only=True) as records:
        found = [s.record for s in records.segments("edits") if of_record(s.record) == stage]
    known = {(e["context"], e["index"]): e for record in found for e in record["edits"]}
    wanted = [(prompt.id, m) for prompt in batch for m in range(samples)]
    missing = [key for key in wanted if key not in known]
    if missing:
        context, index = missing[0]
        raise SettingsError(
            f"edits.from_run={workdir} has no text {index} of {context!r} in its stage "
            f"{stage.name!r} ({len(missing)} of {len(wanted)} are missing): the contexts, "
            "edits.samples and evaluation.edits must be those of that run."
        )
    return [Edit(**known[key]) for key in wanted]
