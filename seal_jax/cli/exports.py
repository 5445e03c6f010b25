"""The commands that take something out of a run: weights and pictures."""

from collections.abc import Mapping

from absl import flags

from seal_jax.cli import base
from seal_jax.cli.base import Command
from seal_jax.runtime import terminal


def _draw(values: flags.FlagValues) -> None:
    from seal_jax.reports import draw

    if not (values.task and values.out):
        raise base.UsageError("draw needs --task=ID and --out=FILE.png.")
    terminal.say(
        draw.draw(
            base.workdir(values), values.task, values.out, stage=values.stage, edit=values.self_edit
        )
    )


def _define_draw(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", "", "Directory of a run.", values)
    flags.DEFINE_string("task", "", "Id of the context.", values)
    flags.DEFINE_string("out", "", "PNG file to write.", values)
    flags.DEFINE_string(
        "stage", "", "Arm or stage whose attempts to draw (default: the last).", values
    )
    flags.DEFINE_integer("self_edit", 0, "Which of the task's self-edits.", 0, flag_values=values)


def _export(values: flags.FlagValues) -> None:
    from seal_jax.loop import export

    if not values.workdir or not values.out:
        raise base.UsageError("export needs --workdir=RUN, a run's directory, and --out=DIR.")
    if values.what == "policy" and (values.base or values.onto != "original"):
        raise base.UsageError("--base and --onto are about an adapter: add --what=adapter.")
    if values.what == "adapter" and values.dtype:
        raise base.UsageError("an adapter is written in float32: --dtype is for --what=policy.")
    line = export.export(
        values.workdir,
        values.out,
        what=values.what,
        version=values.version,
        onto=values.onto,
        base=values.base,
        dtype=values.dtype or "",
        overwrite=values.overwrite,
    )
    terminal.say(f"{line}\nwritten to {values.out}")


def _define_export(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", "", "Directory of the run.", values)
    flags.DEFINE_string("out", "", "A new directory for the export.", values)
    flags.DEFINE_enum(
        "what", "policy", ["policy", "adapter"], "Merged weights, or a PEFT adapter.", values
    )
    flags.DEFINE_integer(
        "version",
        None,
        "The policy after that round (default: the last; 0: what the run started from).",
        0,
        flag_values=values,
    )
    flags.DEFINE_enum(
        "dtype", None, ["float32", "bfloat16"], "Of merged weights (default: the run's).", values
    )
    base.define_adapter(values)


COMMANDS: Mapping[str, Command] = {
    "draw": Command(
        summary="a picture of a context and the answers to it (--workdir=RUN --task=ID --out=FILE)",
        run=_draw,
        define=_define_draw,
    ),
    "export": Command(
        summary="a run's policy for other tools: merged, or as an adapter (--what=adapter)",
        run=_export,
        define=_define_export,
    ),
}
