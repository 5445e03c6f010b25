"""The commands that run the model: training, evaluation and adaptation."""

import pathlib
from collections.abc import Mapping
from typing import Any

from absl import flags

from seal_jax.cli import base
from seal_jax.cli.base import Command
from seal_jax.runtime import terminal


def _train(values: flags.FlagValues) -> None:
    from seal_jax.loop import train

    base.start(values, train.train, reuse=tuple(values.reuse))


def _define_train(values: flags.FlagValues) -> None:
    base.define_run(values)
    flags.DEFINE_multi_string(
        "reuse", [], "Directory of a run whose records to use again; may be repeated.", values
    )


def _evaluate(values: flags.FlagValues) -> None:
    from seal_jax.loop import evaluate

    base.start(values, evaluate.evaluate, reuse=tuple(values.reuse), **_policy(values))


def _define_evaluate(values: flags.FlagValues) -> None:
    _define_train(values)
    _define_policy(values)


def _define_policy(values: flags.FlagValues) -> None:
    flags.DEFINE_string("policy_from", "", "Directory of a run whose policy to test.", values)
    flags.DEFINE_integer(
        "policy_version", 0, "The policy after that round (0: the last).", 0, flag_values=values
    )


def _policy(values: flags.FlagValues) -> dict[str, Any]:
    return {"policy_from": values.policy_from, "policy_version": values.policy_version}


def _continual(values: flags.FlagValues) -> None:
    from seal_jax.loop.continual import run

    base.start(values, run.continual, **_policy(values))


def _define_continual(values: flags.FlagValues) -> None:
    base.define_run(values)
    _define_policy(values)


def _curate(values: flags.FlagValues) -> None:
    from seal_jax.loop import curate

    base.start(values, curate.curate, split=values.split, on=values.on)


def _define_curate(values: flags.FlagValues) -> None:
    base.define_run(values)
    flags.DEFINE_enum("split", "train", ["train", "eval"], "Whose contexts.", values)
    flags.DEFINE_enum(
        "on",
        "leave_one_out",
        ["leave_one_out", "tests"],
        "What each context is asked: its own demonstrations, or its tests.",
        values,
    )


def _adapt(values: flags.FlagValues) -> None:
    from seal_jax.cli import adapt
    from seal_jax.loop import export

    if not values.passage:
        raise base.UsageError("adapt needs --passage=FILE (a text file) and --question='...'.")
    passage = pathlib.Path(values.passage).read_text(encoding="utf-8")
    target = None
    if values.out:
        target = export.AdapterTarget(
            out=values.out, onto=values.onto, base=values.base, overwrite=values.overwrite
        )
    adapted = adapt.adapt(
        base.settings(values),
        passage,
        list(values.question),
        title=values.title or pathlib.Path(values.passage).stem.replace("_", " "),
        edit=values.edit,
        target=target,
    )
    if adapted.self_edit:
        terminal.say(f"self-edit:\n{adapted.self_edit}\n")
    if adapted.dropped_tokens or adapted.dropped_sequences:
        terminal.say(
            f"not trained on, for lack of room: {adapted.dropped_sequences} lines and "
            f"{adapted.dropped_tokens} tokens of others (raise --config.inner.max_sequences, or "
            "add a larger bucket to --config.inner.buckets)\n"
        )
    for question, before, after in zip(values.question, adapted.before, adapted.after, strict=True):
        terminal.say(
            f"question: {question}\n  before: {before or '(empty)'}\n  after:  {after or '(empty)'}"
        )
    if adapted.adapter:
        terminal.say(f"\n{adapted.adapter}\nwritten to {values.out}")


def _define_adapt(values: flags.FlagValues) -> None:
    flags.DEFINE_string("passage", "", "Text file with the passage.", values)
    flags.DEFINE_multi_string("question", [], "A question; may be repeated.", values)
    flags.DEFINE_string("title", "", "What it is about (default: the file's name).", values)
    flags.DEFINE_bool("edit", True, "Write a self-edit; else train on the passage.", values)
    flags.DEFINE_string("out", "", "Directory to write what it learned to, as an adapter.", values)
    base.define_adapter(values)


COMMANDS: Mapping[str, Command] = {
    "train": Command(
        summary="ReST-EM rounds, then the evaluation of every arm",
        run=_train,
        define=_define_train,
        config="knowledge.py:demo",
        resumes=True,
    ),
    "evaluate": Command(
        summary="the evaluation alone, of the base model or of a run's policy (--policy_from=RUN)",
        run=_evaluate,
        define=_define_evaluate,
        config="knowledge.py:demo",
        resumes=True,
    ),
    "continual": Command(
        summary="one passage after another into the same weights, and what is kept of them",
        run=_continual,
        define=_define_continual,
        config="continual.py:demo",
        resumes=True,
    ),
    "adapt": Command(
        summary="one text: answers before and after adapting (--passage=FILE --question='...')",
        run=_adapt,
        define=_define_adapt,
        config="knowledge.py:adapt",
    ),
    "curate": Command(
        summary="the contexts that the model can solve under the task's oracle lesson",
        run=_curate,
        define=_define_curate,
        config="few_shot.py:demo",
        resumes=True,
    ),
}
