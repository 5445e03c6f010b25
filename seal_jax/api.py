"""The public interface: from a passage to adapted models, without a run directory.

`import seal_jax` offers these functions. An adapted model is a `Delta`: a pytree of what it learned
beside the model's parameters, which nothing here changes.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack

import jax

from seal_jax.core import delta as delta_lib
from seal_jax.core.delta import Delta
from seal_jax.loop import adapt as adapt_lib
from seal_jax.loop import answering, export, inner_loop, opened_model, rewards, sample
from seal_jax.loop import bench as bench_lib
from seal_jax.loop import session as session_lib
from seal_jax.loop.adapt import Adapted
from seal_jax.loop.job import How
from seal_jax.loop.session import EncodedLesson, Session
from seal_jax.settings import Settings, SettingsError, config_dict, config_files
from seal_jax.stats.intervals import mean
from seal_jax.tasks.protocol import Context, Question, Refusal
from seal_jax.tasks.texts import is_blank
from seal_jax.weights.exported import Addition


def configure(config: str, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings of a config.

    Args:
      config: NAME[:VARIANT], such as "knowledge:adapt", as `seal configs` lists them; or the path
        of a config file, FILE.py[:VARIANT].
      overrides: values by dotted key, such as {"inner.candidates": 4}.

    Raises:
      SettingsError: an unknown file, variant or key, or an impossible value.
    """
    return config_dict.from_config(config_files.made(config, overrides))


def load(settings: Settings) -> Session:
    """Loads the model and the task that the settings name, onto the devices.

    Raises:
      ValueError, FileNotFoundError, RuntimeError: with what to change.
    """
    opened_model.enable_compilation_cache()
    return session_lib.open_session(settings)


def passage(
    title: str, text: str, questions: Sequence[str | tuple[str, str]] = (), *, id: str = ""
) -> Context:
    """A text to learn, with the questions that will test it.

    Args:
      title: what it is about; it heads the training sequences and the questions, so it must not
        give answers away.
      text: the passage.
      questions: each alone, or with its gold answer.
      id: names it in the random draws; "" is the title.

    Raises:
      SettingsError: the title, the text or a question is empty.
    """
    asked = [(q, "") if isinstance(q, str) else q for q in questions]
    if any(map(is_blank, (title, text, *(question for question, _ in asked)))):
        raise SettingsError("a passage needs a title and a text, and no question may be empty.")
    name = id or title
    return Context(
        id=name,
        title=title,
        text=text.strip(),
        questions=tuple(Question(f"{name}/{i}", q, answer) for i, (q, answer) in enumerate(asked)),
    )


def self_edits(
    model: Session, contexts: Sequence[Context], *, draw: str = "api"
) -> list[list[str]]:
    """edits.samples self-edits of each passage, edits.contexts_per_batch passages at a time.

    Args:
      draw: another name draws other texts.

    Raises:
      SettingsError: a passage is too long for the run's prompts.
    """
    _check_fit(model, contexts)
    return sample.self_edits(model, contexts, draw=draw, samples=model.settings.edits.samples)


@dataclasses.dataclass(frozen=True)
class Learned:
    """What one inner loop learned.

    Attributes:
      delta: of the parameters; None where the update became non-finite.
      losses: of its steps, nats a token.
      dropped_tokens, dropped_sequences: what did not fit and was not trained on.
    """

    delta: Delta | None
    losses: tuple[float, ...]
    dropped_tokens: int = 0
    dropped_sequences: int = 0


def learn(
    model: Session, lessons: Sequence[tuple[Context, str | None]], *, draw: str = "api"
) -> list[Learned]:
    """Runs the inner loop of each lesson, inner.candidates of them in one program.

    Args:
      lessons: a passage and a self-edit about it each; None trains on the passage alone, as does a
        self-edit that says nothing.
      draw: another name draws other initial deltas and orders.
    """
    made, found = [_lesson(model, *of) for of in lessons], []
    inits = [("init", draw, context.id, 0) for context, _ in lessons]
    how: dict[str, Any] = {"count": model.settings.inner.candidates, "bounds": model.bounds}
    for part in _parts(len(made), how["count"]):
        trained = inner_loop.train(
            model, model.base, made[part], inits[part], order=(draw, 0), **how
        )
        results = jax.device_get(trained.results_K)
        for k, lesson in enumerate(made[part]):
            found.append(
                Learned(
                    delta=delta_lib.take(trained.deltas_K, k) if results.finite[k] else None,
                    losses=tuple(map(float, results.losses_S[k][results.taken_S[k]])),
                    dropped_tokens=lesson.dropped_tokens,
                    dropped_sequences=lesson.dropped_sequences,
                )
            )
    return found


def _lesson(model: Session, context: Context, text: str | None) -> EncodedLesson:
    """What a self-edit teaches; of one that says nothing, and of None, what the passage does."""
    alone = model.task.context_lesson(context)
    read = alone if text is None else model.task.read(context, text, 0)
    found = model.lesson(alone if isinstance(read, Refusal) else read)
    if isinstance(found, Refusal):
        raise SettingsError(f"{context.title!r}: {found.reason}.")
    return found


def answers(
    model: Session,
    contexts: Sequence[Context],
    deltas: Sequence[Delta] | None = None,
    *,
    draw: str = "api",
) -> list[list[dict[str, Any]]]:
    """Asks each passage's questions, without the passage, of the model or of an adapted one.

    Args:
      contexts: whose questions are asked.
      deltas: the adapted model that answers for each; None is the model itself.
      draw: another name draws other answers, where answers.temperature is above 0.

    Returns:
      For each passage, a record a question: "question" (its id), "text", "correct" (None where it
      is ungraded, as without a gold answer), "empty", and "gold_log_likelihood" in nats (None
      without a gold answer).

    Raises:
      ValueError: not one delta a passage.
      SettingsError: questions are too long for the run or the model.
    """
    if deltas is not None and len(deltas) != len(contexts):
        raise ValueError(f"{len(contexts)} passages need as many deltas, not {len(deltas)}.")
    exams = [model.exam(context, "adapted") for context in contexts]
    if not all(exam.exam.asked for exam in exams):
        raise SettingsError("a passage has no questions: give it some.")
    _check_fit(model, contexts, edits=False)
    width, size = model.width(contexts), model.settings.inner.candidates
    said: list[dict[str, Any]] = []
    for part in _parts(len(contexts), size):
        stacked = None
        if deltas is not None:
            own = list(deltas[part])
            stacked = delta_lib.stack(own + own[:1] * (size - len(own)))
        draws = [("answer", draw, context.id, 0) for context in contexts[part]]
        said += answering.ask(
            model, model.base, stacked, exams[part], count=size, width=width, draws=draws
        )
    given = zip(contexts, exams, said, strict=True)
    marks = model.task.mark([(c, e.exam, one["texts"]) for c, e, one in given], model.grader)
    return [
        rewards.with_likelihoods(vars(of), one["gold_log_likelihoods"])["answers"]
        for of, one in zip(marks, said, strict=True)
    ]


def _parts(count: int, size: int) -> Iterator[slice]:
    """So many things, `size` at a time."""
    return (slice(first, first + size) for first in range(0, count, size))


def _check_fit(model: Session, contexts: Sequence[Context], *, edits: bool = True) -> None:
    """Refuses contexts whose prompts are too long for the run or the model.

    Raises:
      SettingsError: names one, and what to change.
    """
    for context in contexts:
        if reason := model.unfit(context, () if edits else ("adapted",), edits=edits):
            raise SettingsError(f"{context.title!r} is too long: {reason}.")


def adapt(model: Session, whole: Context, *, max_words: int = adapt_lib.MAX_WORDS) -> Adapted:
    """Learns a text of any length, passage by passage, in one delta, and answers its questions.

    It is what `seal adapt` does; the config for it is "knowledge.py:adapt".

    Args:
      whole: the text with its questions; see `passage`.
      max_words: of a passage.

    Raises:
      SettingsError: nothing can be learned, or something does not fit the model.
    """
    return adapt_lib.adapt(model, whole, adapt_lib.passages_of(model, whole, max_words), quiet=True)


def bench(
    settings: Settings,
    edits: str,
    workdir: str,
    *,
    tune: bool = True,
    **how: Unpack[How],
) -> dict[str, Any]:
    """Compares the sources of a file of texts about passages; what `seal bench` does.

    Args:
      settings: of the config "knowledge:bench", or of another one of knowledge incorporation.
      edits: the file of JSON lines (docs/bench.md).
      workdir: the run's directory; a run that is there already is continued.
      tune: whether the dose is chosen on a part of the articles.
      **how: overwrite, quiet and reuse; see `job.run_job`.

    Returns:
      What is in results.json.

    Raises:
      ValueError, OSError, RuntimeError: with what to change.
    """
    own = config_dict.replaced(settings, {"data.edits": edits})
    return bench_lib.bench(own, workdir, tune=tune, **how)


def merged(model: Session, delta: Delta) -> Any:
    """The model's parameters with a delta added; the model itself stays as it is."""
    return delta_lib.merge(model.base, delta)


def save_adapter(model: Session, delta: Delta, out: str, *, base_model: str = "") -> str:
    """Writes a delta as a PEFT adapter directory, for transformers, PEFT and vLLM.

    Args:
      out: a new directory.
      base_model: the model's name on the hub or its directory, for the adapter's config; "" is
        model.path where others can open it.

    Returns:
      One line on what was written.

    Raises:
      ExportError: it cannot go there, or the model has no name that others would know.
    """
    target = export.AdapterTarget(out=out, base_model=base_model)
    return trained(model).write(target, Addition.of(delta), f"seed {model.settings.seed}")


def trained(model: Session) -> export.Trained:
    """The model as what deltas are trained on, for exports."""
    return export.Trained(
        path=model.settings.model.path,
        config=model.model,
        merged=model.merged,
        earlier=(model.adapter,) if model.adapter else (),
    )


def mean_gold_log_likelihood(records: Sequence[Mapping[str, Any]]) -> float:
    """The mean over those of one passage's `answers` that have one, nats an answer; NaN for none.

    >>> known = [{"gold_log_likelihood": -2.0}, {"gold_log_likelihood": -4.0}]
    >>> mean_gold_log_likelihood(known), mean_gold_log_likelihood([{"gold_log_likelihood": None}])
    (-3.0, nan)
    """
    found = mean(record["gold_log_likelihood"] for record in records)
    return math.nan if found is None else found
