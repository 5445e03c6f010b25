"""The commands: what each is for, its flags, and the program that it starts.

Programs are imported when their command runs, so that --help and the commands that only read files
start at once.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping

from absl import flags

from seal_jax import config_dict, json_file
from seal_jax.settings import Settings


class UsageError(ValueError):
    """The command line is wrong; the message says what to change."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """One command.

    Attributes:
      summary: one line for the list of commands.
      run: starts it with its flags' values.
      define: defines its own flags.
      config: the default config, FILE:VARIANT; "" for commands that take no --config.
      unnamed: the flag that arguments without a name are values of; "" refuses them. A flag that
        may be repeated takes any number of them.
      resumes: whether the same command continues what was interrupted.
    """

    summary: str
    run: Callable[[flags.FlagValues], None]
    define: Callable[[flags.FlagValues], None]
    config: str = ""
    unnamed: str = ""
    resumes: bool = False


def _settings(values: flags.FlagValues) -> Settings:
    return config_dict.from_config(values.config)


def _workdir(values: flags.FlagValues) -> str:
    if not values.workdir:
        raise UsageError("give --workdir=DIR, a directory for this run.")
    return values.workdir


def _define_run(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", "", "Directory of the run.", values)
    flags.DEFINE_bool("overwrite", False, "Delete a finished or other run in --workdir.", values)
    flags.DEFINE_bool("quiet", False, "Print nothing but errors.", values)


def _train(values: flags.FlagValues) -> None:
    from seal_jax.programs import train
    from seal_jax.programs.few_shot import train as few_shot

    settings = _settings(values)
    program = few_shot if settings.task == "few_shot" else train
    program.train(
        settings,
        _workdir(values),
        overwrite=values.overwrite,
        quiet=values.quiet,
    )


def _evaluate(values: flags.FlagValues) -> None:
    from seal_jax.programs import evaluate
    from seal_jax.programs.few_shot import train as few_shot

    settings = _settings(values)
    program = few_shot if settings.task == "few_shot" else evaluate
    program.evaluate(
        settings,
        _workdir(values),
        policy_from=values.policy_from,
        policy_version=values.policy_version,
        overwrite=values.overwrite,
        quiet=values.quiet,
    )


def _define_evaluate(values: flags.FlagValues) -> None:
    _define_run(values)
    flags.DEFINE_string("policy_from", "", "Directory of a run whose policy to test.", values)
    flags.DEFINE_integer(
        "policy_version", 0, "The policy after that round (0: the last).", 0, flag_values=values
    )


def _curate(values: flags.FlagValues) -> None:
    from seal_jax.programs.few_shot import curate

    settings = _settings(values)
    if settings.task != "few_shot":
        raise UsageError("curate is for tasks of few-shot learning: --config=configs/few_shot.py.")
    curate.curate(
        settings,
        _workdir(values),
        split=values.split,
        on=values.on,
        overwrite=values.overwrite,
        quiet=values.quiet,
    )


def _define_curate(values: flags.FlagValues) -> None:
    _define_run(values)
    flags.DEFINE_enum("split", "train", ["train", "eval"], "Whose tasks.", values)
    flags.DEFINE_enum(
        "on",
        "leave_one_out",
        ["leave_one_out", "tests"],
        "What each task is asked: its own demonstrations, or its tests.",
        values,
    )


def _draw(values: flags.FlagValues) -> None:
    from seal_jax.programs.few_shot import draw

    if not (values.task and values.out):
        raise UsageError("draw needs --task=ID and --out=FILE.png.")
    print(
        draw.draw(
            _workdir(values), values.task, values.out, stage=values.stage, edit=values.self_edit
        )
    )


def _define_draw(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", "", "Directory of a few-shot run.", values)
    flags.DEFINE_string("task", "", "Id of the task.", values)
    flags.DEFINE_string("out", "", "PNG file to write.", values)
    flags.DEFINE_string(
        "stage", "", "Arm or stage whose attempts to draw (default: the last).", values
    )
    flags.DEFINE_integer("self_edit", 0, "Which of the task's self-edits.", 0, flag_values=values)


def _adapt(values: flags.FlagValues) -> None:
    from seal_jax.programs import adapt, export

    if not values.passage:
        raise UsageError("adapt needs --passage=FILE (a text file) and --question='...'.")
    passage = pathlib.Path(values.passage).read_text(encoding="utf-8")
    target = None
    if values.out:
        target = export.AdapterTarget(
            out=values.out, onto=values.onto, base=values.base, overwrite=values.overwrite
        )
    adapted = adapt.adapt(
        _settings(values),
        passage,
        list(values.question),
        title=values.title or pathlib.Path(values.passage).stem.replace("_", " "),
        edit=values.edit,
        target=target,
    )
    if adapted.self_edit:
        print(f"self-edit:\n{adapted.self_edit}\n")
    if adapted.dropped_tokens or adapted.dropped_sequences:
        print(
            f"not trained on, for lack of room: {adapted.dropped_sequences} lines and "
            f"{adapted.dropped_tokens} tokens of others (raise --config.inner.max_sequences, or "
            "add a larger bucket to --config.inner.buckets)\n"
        )
    for question, before, after in zip(values.question, adapted.before, adapted.after, strict=True):
        print(
            f"question: {question}\n  before: {before or '(empty)'}\n  after:  {after or '(empty)'}"
        )
    if adapted.adapter:
        print(f"\n{adapted.adapter}\nwritten to {values.out}")


def _define_adapt(values: flags.FlagValues) -> None:
    flags.DEFINE_string("passage", "", "Text file with the passage.", values)
    flags.DEFINE_multi_string("question", [], "A question; may be repeated.", values)
    flags.DEFINE_string("title", "", "What it is about (default: the file's name).", values)
    flags.DEFINE_bool("edit", True, "Write a self-edit; else train on the passage.", values)
    flags.DEFINE_string("out", "", "Directory to write what it learned to, as an adapter.", values)
    _define_adapter(values)


def _define_adapter(values: flags.FlagValues) -> None:
    flags.DEFINE_enum(
        "onto",
        "original",
        ["original", "policy"],
        "The model that an adapter is for: model.path, or what its last delta was trained on.",
        values,
    )
    flags.DEFINE_string(
        "base", "", "That model's name or directory (default: model.path where it is).", values
    )
    flags.DEFINE_bool("overwrite", False, "Replace an export in --out.", values)


def _export(values: flags.FlagValues) -> None:
    from seal_jax.programs import export

    if not values.workdir or not values.out:
        raise UsageError("export needs --workdir=RUN, a run's directory, and --out=DIR.")
    if values.what == "policy" and (values.base or values.onto != "original"):
        raise UsageError("--base and --onto are about an adapter: add --what=adapter.")
    if values.what == "adapter" and values.dtype:
        raise UsageError("an adapter is written in float32: --dtype is for --what=policy.")
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
    print(f"{line}\nwritten to {values.out}")


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
    _define_adapter(values)


def _analyze(values: flags.FlagValues) -> None:
    from seal_jax.reports import analysis_table, analyze

    if not values.source:
        raise UsageError("analyze needs a run's directory or a file of scored self-edits.")
    found = analyze.analyze(values.source, seed=values.seed, draws=values.draws, mix=values.mix)
    if values.json == "-":
        print(json_file.encode(found, indent=1))
        return
    print(analysis_table.table(found))
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
    from seal_jax import restem
    from seal_jax.reports import select

    if not values.scored:
        raise UsageError("select needs --scored=FILE, a file of scored self-edits.")
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
        raise UsageError("compare needs finished runs: compare RUN RUN ...")
    found = compare.compare(values.run, seed=values.seed, draws=values.draws, level=values.level)
    if values.json:
        json_file.write_json(values.json, found)
    print(compare_table.table(found))


def _define_compare(values: flags.FlagValues) -> None:
    flags.DEFINE_multi_string("run", [], "A run, as if given without --run=.", values)
    flags.DEFINE_string("json", "", "File for the result as JSON.", values)
    flags.DEFINE_integer("seed", 0, "What the resamples follow from.", 0, flag_values=values)
    flags.DEFINE_integer("draws", 10_000, "Number of resamples.", 1, flag_values=values)
    flags.DEFINE_float("level", 0.95, "Coverage of the intervals.", flag_values=values)


def _grade(values: flags.FlagValues) -> None:
    from seal_jax.reports import grade

    if not values.rows:
        raise UsageError("grade needs --rows=FILE.jsonl, lines {question, gold, prediction}.")
    grade.grade_rows(values.rows, show=values.show)


def _define_grade(values: flags.FlagValues) -> None:
    flags.DEFINE_string("rows", "", "JSON lines {question, gold, prediction, correct}.", values)
    flags.DEFINE_bool("show", False, "Also print the rows that differ, one a line.", values)


COMMANDS: Mapping[str, Command] = {
    "train": Command(
        summary="ReST-EM rounds, then the evaluation of every arm",
        run=_train,
        define=_define_run,
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
    "adapt": Command(
        summary="one text: answers before and after adapting (--passage=FILE --question='...')",
        run=_adapt,
        define=_define_adapt,
        config="knowledge.py:adapt",
    ),
    "curate": Command(
        summary="few-shot learning: the tasks that the model can solve under a recipe",
        run=_curate,
        define=_define_curate,
        config="few_shot.py:demo",
        resumes=True,
    ),
    "draw": Command(
        summary="few-shot learning: a picture of a run's task (--workdir=RUN --task=ID --out=FILE)",
        run=_draw,
        define=_define_draw,
    ),
    "export": Command(
        summary="a run's policy for other tools: merged, or as an adapter (--what=adapter)",
        run=_export,
        define=_define_export,
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
