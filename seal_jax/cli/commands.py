"""The commands: what each is for, its flags, and the program that it starts.

Programs are imported when their command runs, so that --help and the commands that only read files
start at once.
"""

import dataclasses
import functools
import pathlib
import shlex
from collections.abc import Callable
from typing import Annotated, Any, Literal

import ml_collections

from seal_jax.cli.base import Command, Configured, UsageError
from seal_jax.core import specs
from seal_jax.runs import json_file
from seal_jax.runtime import terminal
from seal_jax.settings import Settings, config_dict, sweeps
from seal_jax.settings.checks import AT_LEAST_0, Count, Limit, Place, Places, Positive, did_you_mean

command = dataclasses.dataclass(frozen=True, kw_only=True)


@command
class Recorded(Configured):
    """A run in a directory, or a sweep of them.

    Attributes:
      workdir: Directory of the run.
      overwrite: Delete a finished or other run in --workdir.
      quiet: Print nothing but errors.
      sweep: A sweep that the config file declares: a run for each point.
      grid: Runs each of the values, which commas separate; several make a grid.
    """

    workdir: Place = ""
    overwrite: bool = False
    quiet: bool = False
    sweep: str = ""
    grid: dict[str, tuple[Any, ...]] = dataclasses.field(
        default_factory=dict, metadata={"name": "sweep", "read": sweeps.parsed}
    )

    needs = "--workdir=DIR, a directory for this run"
    resumes = True

    def start(self, program: Callable[..., dict[str, Any]], *names: str) -> None:
        """Starts it.

        Args:
          program: runs or continues one in a directory and returns its results.
          *names: the flags that it takes beside overwrite and quiet.
        """
        from seal_jax.cli import ending
        from seal_jax.runtime import hosts

        flags = self.given("overwrite", "quiet", *names)

        def whole(settings: Settings, workdir: str) -> dict[str, Any]:
            results = program(settings, workdir, **flags)
            ending.tell(workdir, quiet=self.quiet)
            return results

        if not (self.sweep or self.grid):
            whole(self.settings, self.workdir)
            return

        if not hosts.join().alone:
            raise UsageError("--sweep is for one host: start its runs one by one.")
        grid = self.points()
        if both := sorted(sweeps.points(grid)[0].keys() & self.overrides.keys()):
            raise UsageError(
                f"{both[0]} is set by --config.{both[0]} and by the sweep: leave one of them out."
            )
        sweeps.run(
            grid,
            self.values,
            self.workdir,
            whole,
            overwrite=self.overwrite,
            say=(lambda line: None) if self.quiet else terminal.say,
        )

    def points(self) -> dict[str, Any]:
        """The values of a sweep's settings.

        Raises:
          UsageError: the config file does not declare it, or there are two.
        """
        if not self.sweep:
            return self.grid
        if self.grid:
            raise UsageError("--sweep=NAME and --sweep.KEY=VALUES are two sweeps: give one.")
        file = self.module.__file__
        declared = getattr(self.module, "SWEEPS", {})
        if not isinstance(declared, dict):
            raise UsageError(f"{file}: SWEEPS must be a dict of sweeps.")
        if self.sweep not in declared:
            near = did_you_mean(self.sweep, declared)
            of = f"{file} declares {', '.join(declared) or 'no sweeps'}"
            raise UsageError(f"--sweep={self.sweep}{near} {of}.")
        return declared[self.sweep]


@command
class Train(Recorded):
    """ReST-EM rounds, then the evaluation of every arm.

    Attributes:
      reuse: Directory of a run whose records to use again; may be repeated.
    """

    reuse: Places = ()

    file = "knowledge:demo"

    def execute(self) -> None:
        from seal_jax.loop import train

        self.start(train.train, "reuse")


@command
class _OfPolicy(Recorded):
    """A run about a policy.

    Attributes:
      policy_from: Directory of a run whose policy to test.
      policy_version: The policy after that round (0: the last).
    """

    policy_from: Place = ""
    policy_version: Limit = 0


@command
class Evaluate(_OfPolicy):
    """The evaluation alone, of the base model or of a run's policy (--policy_from=RUN).

    With --policy_from and no config it has the run's settings; --config.KEY=VALUE changes one of
    them. A config that is named is taken as it is, with nothing of the run's.

    Attributes:
      reuse: Directory of a run whose records to use again; may be repeated.
    """

    reuse: Places = ()

    file = "knowledge:demo"

    def preset(self) -> tuple[str, ml_collections.ConfigDict]:
        """The settings of the run whose policy is tested, unless a config is named."""
        if not self.policy_from or self.config is not None:
            return super().preset()
        from seal_jax.loop import policies

        return self.policy_from, config_dict.to_config(policies.settings_of(self.policy_from))

    def execute(self) -> None:
        from seal_jax.loop import evaluate

        self.start(evaluate.evaluate, "reuse", "policy_from", "policy_version")


@command
class Continual(_OfPolicy):
    """One passage after another into the same weights, and what is kept of them."""

    file = "continual:demo"

    def execute(self) -> None:
        from seal_jax.loop.continual import run

        self.start(run.continual, "policy_from", "policy_version")


@command
class _Adapter(Command):
    """An adapter that is written out.

    Attributes:
      onto: The model that an adapter is for: model.path, or what its last delta was trained on.
      base_model: That model's name or directory (default: model.path where it is).
      with_base: Write that model, too, to the directory OUT-base.
      overwrite: Replace an export in --out.
    """

    onto: Literal["original", "policy"] = "original"
    base_model: Place = ""
    with_base: bool = False
    overwrite: bool = False


@command
class _Json(Command):
    """A result that can be written as JSON.

    Attributes:
      json: File to write all figures to, as JSON; - prints them.
    """

    json: Place = ""

    def show(self, found: dict[str, Any], text: str) -> None:
        """Prints what was found, unless that is "", and writes it where that is wanted."""
        _tell(found, text, self.json)


def _tell(found: dict[str, Any], text: str, json: str) -> None:
    if text or json == "-":
        terminal.say(json_file.encode(found, indent=1) if json == "-" else text)
    if json not in ("", "-"):
        json_file.write_json(json, found)


def _draw(found: list[tuple[str, Any]], folder: str, name: str, *flags: str) -> None:
    """Writes pictures and tells of them."""
    from seal_jax.reports.figures import write

    said = shlex.join(["seal", name, *flags, f"--figures={folder}"])
    for line in write.write(found, folder, said):
        terminal.say(line)


@command
class Adapt(_Json, _Adapter, Configured):
    """One's own text: what is known of it before and after (adapt FILE --question='...').

    Attributes:
      passage: Text or Markdown file, of any length; needs no name.
      question: A question; may be repeated.
      gold: The answer to the question of the same place; may be left out, or repeated.
      questions: JSON file of further questions: a list of texts and of [question, answer] pairs.
      title: What it is about (default: its heading, or the file's name).
      model: A checkpoint, as --config.model.path.
      edit: Write self-edits; else train on the text alone.
      out: Directory to write what it learned to, as an adapter.
    """

    passage: Place = ""
    question: tuple[str, ...] = ()
    gold: tuple[str, ...] = ()
    questions: Place = ""
    title: str = ""
    model: Place = ""
    edit: bool = True
    out: Place = ""

    file = "knowledge.py:adapt"
    unnamed = "passage"
    needs = "a text or Markdown file, and questions: adapt FILE --question '...'"

    def execute(self) -> None:
        from seal_jax.cli import adapt
        from seal_jax.loop import export
        from seal_jax.tasks import documents

        asked = adapt.questions(self.question, self.gold, self.questions)
        text = documents.read(self.passage)
        target = None
        if self.out:
            target = export.AdapterTarget(
                **self.given("out", "onto", "base_model", "with_base", "overwrite")
            )
        if self.model:
            self.values.model.path = self.model
        quiet = self.json == "-"
        report = adapt.adapt(
            self.settings,
            text,
            asked,
            title=self.title or documents.title_of(text, self.passage),
            edit=self.edit,
            target=target,
            say=(lambda line: None) if quiet else terminal.say,
            quiet=quiet,
        )
        self.show(report.record | {"text": self.passage}, f"\n{report.text}")


@command
class Bench(_Json, Recorded):
    """Anybody's texts about passages, compared by what a model learns of them (bench FILE.jsonl).

    A line of the file is {"passage", "title", "questions": [{"question", "answer"}], "edit": a text
    or a list of texts, "source": a name}; lines about one passage need its questions once. Each
    source is an arm beside the model as it is, as it reads the passage, and as it learns the
    passage alone. Every arm tries the same learning rates and epochs on some of the articles
    (data.development) and is tested on the others; all spend as many tokens on a passage
    (evaluation.equal). docs/bench.md has an example.

    Attributes:
      edits: The file of JSON lines; needs no name.
      model: A checkpoint, as --config.model.path.
      tune: Choose the dose on a part of the articles; else it is that of --config.inner.
      reuse: Directory of a run whose records to use again; may be repeated.
    """

    edits: Place = ""
    model: Place = ""
    tune: bool = True
    reuse: Places = ()

    file = "knowledge.py:bench"
    unnamed = "edits"
    needs = "a file of texts, and --workdir=DIR, a directory for this run: bench FILE.jsonl"

    @functools.cached_property
    def values(self) -> ml_collections.ConfigDict:
        """The settings with their overrides, the file and the model."""
        given = {"data.edits": self.edits, "model.path": self.model}
        return config_dict.changed(super().values, {key: of for key, of in given.items() if of})

    def check_needs(self) -> None:
        super().check_needs()
        if not self.edits:
            raise UsageError(f"bench needs {self.needs}.")

    def execute(self) -> None:
        from seal_jax.loop import bench

        if self.json == "-" and not self.quiet:
            return dataclasses.replace(self, quiet=True).execute()  # type: ignore[call-arg]

        def program(settings: Settings, workdir: str, **how: Any) -> dict[str, Any]:
            found = bench.bench(settings, workdir, **how)
            if self.json:
                _tell(found, "", self.json)
            return found

        return self.start(program, "tune", "reuse")


@command
class Curate(Recorded):
    """The contexts that the model can solve under the task's oracle lesson.

    Attributes:
      split: Whose contexts.
      on: What each context is asked: its own demonstrations, or its tests.
    """

    split: Literal["train", "eval"] = "train"
    on: Literal["leave_one_out", "tests"] = "leave_one_out"

    file = "few_shot:demo"

    def execute(self) -> None:
        from seal_jax.loop import curate

        self.start(curate.curate, "split", "on")


@command
class Plan(_Json, Configured):
    """What a run takes in memory, time and chips, before it is paid for.

    Lengths that are not given are those in parentheses, as known of knowledge incorporation; of
    other tasks, as counted in their contexts.

    Attributes:
      topology: What to plan for: h100:8 and the like (a100, h100, h200, b200), v5e:2x4 and the like
        (v4, v5e, v5p, v6e), gpu:80gb by arithmetic alone, or the devices that are here (default).
      largest: Look for the largest inner.candidates as well, which compiles twice more at least.
      longest_prompt: Tokens of the longest prompt for a self-edit (405).
      edit_tokens: Tokens of a self-edit, on average (228).
      longest_edit: Tokens of the longest self-edit of a batch (1468).
      lines: Training sequences of a self-edit, beside the passage (8).
      line_tokens: Tokens of such a sequence (33).
      passage_tokens: Tokens of a passage (175).
      question_tokens: Tokens of a question (19).
      questions: Questions of a passage (5).
    """

    topology: str = ""
    largest: bool = False
    longest_prompt: int | None = None
    edit_tokens: int | None = None
    longest_edit: int | None = None
    lines: int | None = None
    line_tokens: int | None = None
    passage_tokens: int | None = None
    question_tokens: int | None = None
    questions: int | None = None

    file = "knowledge:demo"

    def execute(self) -> None:
        from seal_jax.loop import opened_model
        from seal_jax.planning import planner, report, workload

        if getattr(self.module, "COMMAND", "") == "continual":
            raise UsageError(
                "plan knows rounds of ReST-EM, and this config is one of `continual`, which "
                "samples, trains and merges a passage at a time: its work is not planned."
            )
        opened_model.enable_compilation_cache()
        lengths = self.given(*vars(workload.Workload()).keys() & vars(self))

        def say(line: str) -> None:
            if self.json != "-":
                terminal.say(line)

        found = planner.plan(
            self.settings,
            self.topology,
            lengths={name: tokens for name, tokens in lengths.items() if tokens is not None},
            largest=self.largest,
            say=say,
            show=lambda plan: say(f"\n{report.text(plan)}"),
        )
        self.show(found, report.largest(found))
        if not found["fits"]:
            raise UsageError("this run does not fit: see the notes of the plan.")


@command
class Doctor(Command):
    """This machine: whether it computes what the CPU does, and how fast (doctor --minutes=4).

    Models of every family are run here and on the CPU, then the work of self-edits is measured, in
    rows that are ordered by importance. The same command goes on with those that it did not reach.
    Where little is installed, `python -m seal_jax.doctor` takes the same flags.

    Attributes:
      minutes: After which no row is begun or gone on with.
      out: JSON file for the figures; those of the same machine in it are kept.
      tiny: With a tiny model: results are checked, and times mean nothing.
      table: Print such a file's table as Markdown, and measure nothing.
    """

    minutes: Positive = 10.0
    out: Place = "doctor.json"
    tiny: bool = False
    table: Place = ""

    resumes = True

    def execute(self) -> None:
        from seal_jax.doctor import examination, report

        if self.table:
            terminal.say(report.markdown(json_file.read(self.table)))
            return
        found = examination.examine(**self.given("minutes", "out", "tiny"), say=terminal.say)
        terminal.say(f"\n{report.text(found)}")
        if report.is_wrong(found):
            raise UsageError(f"results differ from the CPU's: see {self.out}.")


@command
class Draw(Command):
    """A picture of a context and the answers to it (--workdir=RUN --task=ID --out=FILE).

    Attributes:
      workdir: Directory of a run.
      task: Id of the context.
      out: PNG file to write.
      stage: Arm or stage whose attempts to draw (default: the last).
      self_edit: Which of the task's self-edits.
    """

    workdir: Place = ""
    task: str = ""
    out: Place = ""
    stage: str = ""
    self_edit: Limit = 0

    needs = "--task=ID and --out=FILE.png, and --workdir=RUN"

    def execute(self) -> None:
        from seal_jax.reports import draw

        where = (self.workdir, self.task, self.out)
        terminal.say(draw.draw(*where, stage=self.stage, edit=self.self_edit))


@command
class Export(_Adapter):
    """A run's policy for other tools: merged, or as an adapter (--what=adapter).

    Attributes:
      workdir: Directory of the run.
      out: A new directory for the export.
      what: Merged weights, or a PEFT adapter.
      version: The policy after that round (default: the last; 0: what the run started from).
      dtype: Of merged weights (default: the run's).
    """

    workdir: Place = ""
    out: Place = ""
    what: Literal["policy", "adapter"] = "policy"
    version: Annotated[int | None, AT_LEAST_0] = None
    dtype: Literal["float32", "bfloat16"] | None = None

    needs = "--workdir=RUN, a run's directory, and --out=DIR"

    def execute(self) -> None:
        from seal_jax.loop import export

        own = self.base_model or self.with_base or self.onto != "original"
        if self.what == "policy" and own:
            raise UsageError(
                "--base-model, --with-base and --onto are about an adapter: add --what=adapter."
            )
        if self.what == "adapter" and self.dtype:
            raise UsageError("an adapter is written in float32: --dtype is for --what=policy.")
        line = export.export(
            self.workdir,
            self.out,
            dtype=self.dtype or "",
            **self.given("what", "version", "onto", "base_model", "with_base", "overwrite"),
        )
        terminal.say(f"{line}\nwritten to {self.out}")


@command
class Configs(Command):
    """The configs: all of them, or configs NAME:VARIANT.

    Attributes:
      only: NAME or NAME:VARIANT to show; needs no name.
      dir: Folder of config files (default: the project's).
    """

    only: str = ""
    dir: Place = ""

    unnamed = "only"

    def execute(self) -> None:
        from seal_jax.settings import config_files

        where = pathlib.Path(self.dir) if self.dir else None
        terminal.say(config_files.listing(where, self.only))


@command
class Report(Command):
    """A run to look at: one HTML file (--workdir=RUN --out=FILE.html), or pictures of it.

    Attributes:
      workdir: Directory of the run, finished or not.
      out: The HTML file (default: report.html in --workdir).
      figures: Folder for pictures in SVG, light and dark, instead of the HTML file.
    """

    workdir: Place = ""
    out: Place = ""
    figures: Place = ""

    needs = "--workdir=RUN, a run's directory"

    def execute(self) -> None:
        from seal_jax.reports import run_files, run_records
        from seal_jax.reports.html import report

        if self.figures:
            from seal_jax.reports.figures import of_run

            with run_files.as_written(self.workdir):
                found = list(of_run.pictures(run_records.read(self.workdir)))
            return _draw(found, self.figures, "report", f"--workdir={self.workdir}")
        terminal.say(f"written to {report.write(self.workdir, self.out)}")


@command
class _Bootstrap(_Json):
    """Figures with intervals.

    Attributes:
      seed: What the resamples of the bootstrap follow from.
      draws: Number of resamples.
    """

    seed: Limit = 0
    draws: Count = 10_000


@command
class Compare(_Bootstrap):
    """Finished runs, question by question: compare RUN RUN ... (RUN,RUN: seeds of one).

    Attributes:
      run: A run, as if given without --run=.
      level: Coverage of the intervals.
      figures: Folder for pictures in SVG, light and dark: of seeds, or of a sweep over tokens.
    """

    run: Places = ()
    level: float = 0.95
    figures: Place = ""

    unnamed = "run"
    needs = "finished runs: compare RUN RUN ..."

    def execute(self) -> None:
        from seal_jax.reports import compare, compare_table

        found = compare.compare(self.run, **self.given("seed", "draws", "level"))
        self.show(found, compare_table.table(found))
        if self.figures:
            from seal_jax.reports.figures import of_runs

            flags = [*self.run, *([f"--level={self.level:g}"] if self.level != 0.95 else [])]
            _draw(of_runs.pictures(found), self.figures, "compare", *flags)


@command
class Analyze(_Bootstrap):
    """What each reward is worth, from a run or a file of scored self-edits.

    Attributes:
      source: A run's directory or a scored file; needs no name.
      mix: What a nat counts in the mix (default: the run's reward.mix).
      lines: Credit the lines of a run's self-edits instead, by inner loops in this directory; the
        same command continues.
      edits: How many self-edits --lines takes.
      deltas: Initial deltas that --lines takes the mean of.
      halves: Random halves of a self-edit that --lines leaves out, in the place of each line alone.
      overwrite: Replace what is in the directory of --lines.
    """

    source: Place = ""
    mix: Annotated[float | None, AT_LEAST_0] = None
    lines: Place = ""
    edits: Count = 6
    deltas: Count = 3
    halves: Limit = 0
    overwrite: bool = False

    unnamed = "source"
    needs = "a run's directory or a file of scored self-edits"

    def execute(self) -> None:
        from seal_jax.reports import analysis_table, analyze

        if self.lines:
            from seal_jax.loop import lines

            flags = "edits", "deltas", "halves", "overwrite"
            found = lines.analyze(self.source, self.lines, **self.given(*flags))
            return self.show(found, lines.table(found))
        found = analyze.analyze(self.source, **self.given("seed", "draws", "mix"))
        self.show(found, analysis_table.table(found))


@command
class Grade(Command):
    """The local grader on a file of answers: grade FILE.jsonl.

    Attributes:
      rows: JSON lines {question, gold, prediction, correct}; needs no name.
      show: Also the rows that differ, one a line.
      json: File to write all figures to, as JSON; - prints them.
    """

    rows: Place = ""
    show: bool = False
    json: Place = ""

    unnamed = "rows"
    needs = "--rows=FILE.jsonl, lines {question, gold, prediction}"

    def execute(self) -> None:
        from seal_jax.reports import grade

        found = grade.grade_rows(self.rows, show=self.show)
        _tell(found, grade.table(found), self.json)


@command
class Select(Command):
    """The best self-edits of a run or of a file of scored ones, as lines of JSON.

    Attributes:
      scored: A run's directory or a JSON file of scored self-edits; needs no name.
      rule: Which are kept; restem.rule in docs/settings.md says how.
      top_k: How many of a context, for the rule top_k.
      threshold: Gain over base, for the rule threshold.
      temperature: In units of the reward, for the rule weighted.
      seed: For the rule random.
      out: File for the picks (default: standard output).
    """

    scored: Place = ""
    rule: specs.Rule = "best_of_m"
    top_k: int = 1
    threshold: float = 0.0
    temperature: float = 0.1
    seed: Limit = 0
    out: Place = ""

    unnamed = "scored"
    needs = "--scored=RUN, a run's directory or a file of scored self-edits"

    def execute(self) -> None:
        from seal_jax.reports import select

        rule = specs.SelectionRule(self.rule, self.top_k, self.threshold, self.temperature)
        select.select(self.scored, rule, seed=self.seed, out=self.out)


COMMANDS: dict[str, type[Command]] = {
    of.__name__.lower(): of
    for of in (
        Train, Evaluate, Continual, Adapt, Bench, Curate, Plan, Doctor, Draw, Export, Configs,
        Report, Compare, Analyze, Grade, Select,
    )
}  # fmt: skip
