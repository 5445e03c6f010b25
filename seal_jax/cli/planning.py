"""The command that says what a run would cost."""

import dataclasses
from collections.abc import Mapping

from absl import flags

from seal_jax.cli import base
from seal_jax.cli.base import Command
from seal_jax.planning.workload import Workload
from seal_jax.runs import json_file
from seal_jax.runtime import terminal

_LENGTHS = {
    "longest_prompt": "Tokens of the longest prompt for a self-edit.",
    "edit_tokens": "Tokens of a self-edit, on average.",
    "longest_edit": "Tokens of the longest self-edit of a batch.",
    "lines": "Training sequences of a self-edit, beside the passage.",
    "line_tokens": "Tokens of such a sequence.",
    "passage_tokens": "Tokens of a passage.",
    "question_tokens": "Tokens of a question.",
    "questions": "Questions of a passage.",
}


def _plan(values: flags.FlagValues) -> None:
    from seal_jax.loop import opened_model
    from seal_jax.planning import planner, report

    opened_model.enable_compilation_cache()
    quiet = values.json == "-"
    given = {name: values[name].value for name in _LENGTHS if values[name].value is not None}
    found = planner.plan(
        base.settings(values),
        values.topology,
        lengths=given,
        largest=values.largest,
        say=(lambda line: None) if quiet else (lambda line: terminal.say(line)),
    )
    if quiet:
        terminal.say(json_file.encode(found, indent=1))
    else:
        terminal.say(f"\n{report.text(found)}")
    if values.json and not quiet:
        json_file.write_json(values.json, found)
    if not found["fits"]:
        raise base.UsageError("this run does not fit: see the notes of the plan.")


def _define_plan(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "topology",
        "",
        "What to plan for: v5e:2x4 and the like (v4, v5e, v5p, v6e), gpu:80gb, or the devices that "
        "are here (default).",
        values,
    )
    flags.DEFINE_string("json", "", "File to write the plan to, as JSON; - prints it.", values)
    flags.DEFINE_bool("largest", True, "Look for the largest inner.candidates.", values)
    usual = dataclasses.asdict(Workload())
    for name, meaning in _LENGTHS.items():
        meaning += (
            f" Default: {usual[name]}, as known of knowledge incorporation; of other tasks, as "
            "counted in their contexts."
        )
        flags.DEFINE_integer(name, None, meaning, 1, flag_values=values)


COMMANDS: Mapping[str, Command] = {
    "plan": Command(
        summary="what a run takes in memory, time and chips, before it is paid for",
        run=_plan,
        define=_define_plan,
        config="knowledge.py:demo",
    ),
}
