"""The commands that read files: comparisons, analyses, grades and selections."""

import pathlib
from collections.abc import Mapping

from absl import flags

from seal_jax.cli import base
from seal_jax.cli.base import Command
from seal_jax.runs import json_file
from seal_jax.runtime import terminal


def _analyze(values: flags.FlagValues) -> None:
    from seal_jax.reports import analysis_table, analyze

    if not values.source:
        raise base.UsageError("analyze needs a run's directory or a file of scored self-edits.")
    found = analyze.analyze(values.source, seed=values.seed, draws=values.draws, mix=values.mix)
    if values.json == "-":
        terminal.say(json_file.encode(found, indent=1))
        return
    terminal.say(analysis_table.table(found))
    if values.json:
        json_file.write_json(values.json, found)


def _define_analyze(values: flags.FlagValues) -> None:
    flags.DEFINE_string("source", "", "A run's directory or a scored file; needs no name.", values)
    flags.DEFINE_integer("seed", 0, "Seed of the bootstrap.", 0, flag_values=values)
    flags.DEFINE_integer("draws", 10_000, "Resamples of the bootstrap.", 1, flag_values=values)
    flags.DEFINE_float(
        "mix",
        None,
        "What a nat counts in the mix (default: the run's reward.mix).",
        0,
        flag_values=values,
    )
    flags.DEFINE_string("json", "", "File to write all figures to, as JSON; - prints them.", values)


def _select(values: flags.FlagValues) -> None:
    from seal_jax.core import restem
    from seal_jax.reports import select

    if not values.scored:
        raise base.UsageError("select needs --scored=FILE, a file of scored self-edits.")
    rule = restem.SelectionRule(
        name=values.rule,
        k=values.top_k,
        threshold=values.threshold,
        temperature=values.temperature,
    )
    select.select(values.scored, rule, seed=values.seed, out=values.out)


def _define_select(values: flags.FlagValues) -> None:
    flags.DEFINE_string("scored", "", "JSON file of scored self-edits.", values)
    flags.DEFINE_string("rule", "best_of_m", "Which are kept; see restem.SelectionRule.", values)
    flags.DEFINE_integer(
        "top_k", 1, "How many of a context, for the rule top_k.", flag_values=values
    )
    flags.DEFINE_float(
        "threshold", 0.0, "Gain over base, for the rule threshold.", flag_values=values
    )
    flags.DEFINE_float(
        "temperature", 0.1, "In units of the reward, for the rule weighted.", flag_values=values
    )
    flags.DEFINE_integer("seed", 0, "For the rule random.", 0, flag_values=values)
    flags.DEFINE_string("out", "", "File for the picks (default: standard output).", values)


def _compare(values: flags.FlagValues) -> None:
    from seal_jax.reports import compare, compare_table

    if not values.run:
        raise base.UsageError("compare needs finished runs: compare RUN RUN ...")
    found = compare.compare(values.run, seed=values.seed, draws=values.draws, level=values.level)
    if values.json:
        json_file.write_json(values.json, found)
    terminal.say(compare_table.table(found))


def _define_compare(values: flags.FlagValues) -> None:
    flags.DEFINE_multi_string("run", [], "A run, as if given without --run=.", values)
    flags.DEFINE_string("json", "", "File for the result as JSON.", values)
    flags.DEFINE_integer("seed", 0, "What the resamples follow from.", 0, flag_values=values)
    flags.DEFINE_integer("draws", 10_000, "Number of resamples.", 1, flag_values=values)
    flags.DEFINE_float("level", 0.95, "Coverage of the intervals.", flag_values=values)


def _grade(values: flags.FlagValues) -> None:
    from seal_jax.reports import grade

    if not values.rows:
        raise base.UsageError("grade needs --rows=FILE.jsonl, lines {question, gold, prediction}.")
    grade.grade_rows(values.rows, show=values.show)


def _define_grade(values: flags.FlagValues) -> None:
    flags.DEFINE_string("rows", "", "JSON lines {question, gold, prediction, correct}.", values)
    flags.DEFINE_bool("show", False, "Also print the rows that differ, one a line.", values)


def _configs(values: flags.FlagValues) -> None:
    from seal_jax.settings import config_files

    where = pathlib.Path(values.dir) if values.dir else config_files.folder()
    terminal.say(config_files.listing(where, values.only))


def _define_configs(values: flags.FlagValues) -> None:
    flags.DEFINE_string("only", "", "FILE or FILE:VARIANT to show; needs no name.", values)
    flags.DEFINE_string("dir", "", "Folder of config files (default: the project's).", values)


def _report(values: flags.FlagValues) -> None:
    from seal_jax.reports.html import report

    terminal.say(f"written to {report.write(base.workdir(values), values.out)}")


def _define_report(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", "", "Directory of the run, finished or not.", values)
    flags.DEFINE_string("out", "", "The HTML file (default: report.html in --workdir).", values)


COMMANDS: Mapping[str, Command] = {
    "configs": Command(
        summary="the config files and their variants: configs, or configs FILE:VARIANT",
        run=_configs,
        define=_define_configs,
        unnamed="only",
    ),
    "report": Command(
        summary="a run to look at: one HTML file (--workdir=RUN --out=FILE.html)",
        run=_report,
        define=_define_report,
    ),
    "compare": Command(
        summary="finished runs, question by question: compare RUN RUN ... (RUN,RUN: seeds of one)",
        run=_compare,
        define=_define_compare,
        unnamed="run",
    ),
    "analyze": Command(
        summary="what each reward is worth, from a run or a file of scored self-edits",
        run=_analyze,
        define=_define_analyze,
        unnamed="source",
    ),
    "grade": Command(
        summary="the local grader on a file of answers (--rows=FILE.jsonl)",
        run=_grade,
        define=_define_grade,
    ),
    "select": Command(
        summary="the best self-edits of a file of scored ones, as lines of JSON (--scored=FILE)",
        run=_select,
        define=_define_select,
    ),
}
