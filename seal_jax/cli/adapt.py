"""One's own text: learned passage by passage, and questions before and after, as a table."""

import dataclasses
import itertools
import math
import textwrap
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from seal_jax import api
from seal_jax.cli.base import UsageError
from seal_jax.loop import adapt as adapt_lib
from seal_jax.loop import export, fit
from seal_jax.loop.adapt import Adapted, Answer
from seal_jax.loop.session import NoChatTemplate, Session
from seal_jax.planning import local
from seal_jax.runs import json_file
from seal_jax.settings import Settings, SettingsError, config_dict
from seal_jax.tasks.protocol import Context
from seal_jax.tasks.texts import is_blank
from seal_jax.weights.exported import Addition

Record = dict[str, Any]
_MODELS = ("before", "after", "reading")
_COMPILING = 40  # seconds on two CPU cores, and on accelerators
_WIDEST = 32  # characters of a column


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What `adapt` shows: `text` for people, `record` as JSON values."""

    text: str
    record: Record


def adapt(
    settings: Settings,
    text: str,
    questions: Sequence[tuple[str, str]],
    *,
    title: str,
    edit: bool = True,
    target: export.AdapterTarget | None = None,
    say: Callable[[str], None] = lambda line: None,
    quiet: bool = True,
) -> Report:
    """Learns a text with its self-edits in one delta, and asks about it before and after.

    Args:
      settings: of the model, the sampling and the inner loop; the seed chooses the self-edits.
      text: the document.
      questions: asked without it; each with its gold answer, or "".
      title: what it is about; it heads the training sequences and the questions, so it must not
        give the answers away.
      edit: whether self-edits are written; otherwise the passages alone are trained on.
      target: where the delta is written as a PEFT adapter, if it is to be kept.
      say, quiet: see `loop.adapt.adapt`.

    Raises:
      SettingsError: the text, the title or a question is empty, or something does not fit.
      ExportError: the adapter cannot go where it is to go.
    """
    if is_blank(text):
        raise SettingsError("the passage is empty: give a file with some text.")
    if is_blank(title):
        raise SettingsError("the title is empty: give --title='what the passage is about'.")
    if not questions or any(is_blank(question) for question, _ in questions):
        raise SettingsError("give at least one --question that is not empty.")
    start = time.monotonic()
    # data's limits are for the text: the task's own passages are those that it shall not harm.
    free = config_dict.replaced(settings, {"data.min_words": 0, "data.max_words": 0})
    try:
        session = api.load(free)
    except NoChatTemplate:  # a base model
        plain = {"edits.prompt_style": "plain", "answers.prompt_style": "plain"}
        session = api.load(config_dict.replaced(free, plain))
    whole = session.task.context_from(title, text, questions, id="own text")
    passages = adapt_lib.passages_of(session, whole, settings.data.max_words or adapt_lib.MAX_WORDS)
    exported = api.trained(session)
    if target and target.with_base:
        target = export.write_base(target, settings, [])
    if target:
        exported.base_name(target)  # refuses before the work
    say(_plan(session, passages, edit=edit and session.task.writes))
    found = adapt_lib.adapt(session, whole, passages, edit=edit, say=say, quiet=quiet)
    record = _record(session, whole, found) | {"passages": len(passages)}
    lines = [_table(found, whole), "", *_sentences(record, found)]
    if target:
        about = f"{title!r} with seed {settings.seed}"
        written = exported.write(target, Addition.of(found.delta), about)
        lines += ["", written, f"written to {target.out}"]
    record["seconds"] = round(time.monotonic() - start, 1)
    return Report(text="\n".join(lines), record=record)


def questions(asked: Sequence[str], golds: Sequence[str], file: str) -> list[tuple[str, str]]:
    """Questions of the command line, then those of a file, each with its gold answer or "".

    Args:
      asked, golds: the first answer belongs to the first question, and so on.
      file: see `commands.Adapt.questions`; "" for none.

    Raises:
      UsageError: there are more answers than questions, no question, or the file is of another
        form.
    """
    if len(golds) > len(asked):
        raise UsageError(f"{len(golds)} --gold for {len(asked)} --question: each needs its own.")
    found = list(itertools.zip_longest(asked, golds, fillvalue=""))
    if file:
        rows = json_file.read(file, error=UsageError, expected="a list of questions")
        for row in rows if isinstance(rows, list) else [rows]:
            pair = [row, ""] if isinstance(row, str) else row
            if not (isinstance(pair, list) and [type(one) for one in pair] == [str, str]):
                raise UsageError(
                    f"{file}: {json_file.encode(row)[:60]} is no question: expected a list of "
                    '"question" and ["question", "answer"].'
                )
            found.append((pair[0], pair[1]))
    if not found:
        raise UsageError("adapt needs a question: --question='...', or --questions=FILE.json.")
    return found


def _plan(session: Session, passages: Sequence[Context], *, edit: bool) -> str:
    """What will be done, and about how long it takes.

    A token that is trained on takes four operations a parameter, one that is read two; a token that
    is written reads all parameters.
    """
    settings = session.settings
    parameters = sum(leaf.size for leaf in jax.tree.leaves(session.base))
    tokens = sum(len(session.encode(passage.text)) for passage in passages)
    texts = len(passages) * settings.edits.samples if edit else 0
    written = texts * settings.edits.max_new_tokens
    lessons = [session.task.context_lesson(passage) for passage in passages]
    learned = fit.to_lessons(session, lessons)[1].tokens + written
    rates = local.measure(session.devices.devices[0])
    reads = settings.edits.max_new_tokens * math.ceil(texts / fit.AT_ONCE)
    seconds = _COMPILING + parameters * (
        (4 * learned * settings.inner.epochs + 2 * written) / rates.flops
        + 4 * reads / rates.bandwidth
    )
    edits = f" with {texts} self-edit" + "s" * (texts > 1) if texts else ""
    several = "s" * (len(passages) > 1)
    return (
        f"{len(passages)} passage{several} of {tokens:,} tokens{edits}: at most {learned:,} tokens "
        f"to learn, {settings.inner.epochs} times; about {max(1, round(seconds / 60))} min"
    )


def _record(session: Session, whole: Context, found: Adapted) -> Record:
    """All figures, as JSON values."""
    questions = []
    for i, question in enumerate(whole.questions):
        one: Record = {"question": question.text}
        if question.answer:
            one["gold"] = question.answer
        for name in _MODELS:
            answer: Answer = getattr(found, name)[i]
            one[name] = answer.text
            if question.answer:
                one[f"{name}_correct"] = answer.correct
            if answer.cut_off:
                one[f"{name}_cut_off"] = True
        questions.append(one)
    golds = [i for i, question in enumerate(whole.questions) if question.answer]
    learned = {name: sum(bool(getattr(found, name)[i].correct) for i in golds) for name in _MODELS}
    return {
        "questions": questions,
        "learned": learned["after"] if golds else None,
        "of": len(golds),
        "correct": learned if golds else None,
        "grader": session.task.graded_by(session.grader),
        "read": found.read,
        "unrelated_loss": dict(zip(("before", "after"), found.unrelated, strict=True)),
        "title": whole.title,
        "self_edits": found.self_edits,
        "sequences": found.sequences,
        "steps": found.steps,
        "seed": session.settings.seed,
        "model": session.settings.model.name,
    }


def _table(found: Adapted, whole: Context) -> str:
    """Questions and answers, a row each; long ones go on in the next line."""
    golds = any(question.answer for question in whole.questions)
    rows = [["question", *_MODELS, *["gold"] * golds]]
    for i, question in enumerate(whole.questions):
        answers = [_shown(getattr(found, name)[i]) for name in _MODELS]
        rows.append([question.text, *answers, *[question.answer] * golds])
    cells = [[textwrap.wrap(cell, _WIDEST) or [""] for cell in row] for row in rows]
    widths = [max(len(line) for row in cells for line in row[j]) for j in range(len(rows[0]))]
    lines = []
    for row in cells:
        for of in itertools.zip_longest(*row, fillvalue=""):
            padded = (cell.ljust(width) for cell, width in zip(of, widths, strict=True))
            lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _shown(answer: Answer) -> str:
    """An answer with a mark: right or wrong where that is known, and cut off."""
    mark = {True: "+ ", False: "- ", None: ""}[answer.correct]
    return f"{mark}{' '.join(answer.text.split()) or '(empty)'}{' …' if answer.cut_off else ''}"


def _sentences(record: Record, found: Adapted) -> list[str]:
    """What came out, in words."""
    lines = []
    if record["of"]:
        right = record["correct"]
        lines.append(
            f"facts learned: {right['after']} of {record['of']} (before: {right['before']}; "
            f"reading {record['read']}: {right['reading']}); + right, - wrong: {record['grader']}"
        )
    else:
        lines.append(f"reading: the unadapted model, with {record['read']} in its prompt")
    if any(answer.cut_off for name in _MODELS for answer in getattr(found, name)):
        lines.append("…: cut off at answers.max_new_tokens")
    before, after = found.unrelated
    if before is not None and after is not None:
        lines.append(
            f"unrelated texts: {-after:.2f} nats a token in the mean, {-before:.2f} before "
            f"({before - after:+.2f}: {'worse' if after > before else 'no worse'})"
        )
    return lines
