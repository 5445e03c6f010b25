"""One's own text: a self-edit about a passage, and a question before and after adapting to it."""

import dataclasses

import jax
import numpy as np

from seal_jax import delta as delta_lib
from seal_jax.delta import Delta
from seal_jax.programs import answering, export, opened_model, session, trials, writing
from seal_jax.programs.session import Session
from seal_jax.settings import Settings, SettingsError
from seal_jax.tasks.base import Context, Question
from seal_jax.weights.exported import Addition


@dataclasses.dataclass(frozen=True)
class Adapted:
    """What `adapt` shows.

    Attributes:
      self_edit: its text; empty where none was asked for.
      before, after: the answer to each question.
      dropped_tokens, dropped_sequences: what did not fit and was not trained on.
      adapter: a line on the adapter that was written.
    """

    self_edit: str
    before: list[str]
    after: list[str]
    dropped_tokens: int = 0
    dropped_sequences: int = 0
    adapter: str = ""


def adapt(
    settings: Settings,
    passage: str,
    questions: list[str],
    *,
    title: str,
    edit: bool = True,
    target: export.AdapterTarget | None = None,
) -> Adapted:
    """Samples a self-edit about a passage, applies it, and answers questions before and after.

    Args:
      settings: of the model, the sampling and the inner loop; the seed chooses the self-edit.
      passage: the text.
      questions: asked without the passage.
      title: what the passage is about; it heads the training sequences and the questions, so it
        must not give the answers away.
      edit: whether a self-edit is written; otherwise the passage alone is trained on.
      target: where the delta is written as a PEFT adapter, if it is to be kept.

    Raises:
      SettingsError: the passage, the title or a question is empty.
      ExportError: the adapter cannot go where it is to go.
    """
    if not passage.strip():
        raise SettingsError("the passage is empty: give a file with some text.")
    if not title.strip():
        raise SettingsError("the title is empty: give --title='what the passage is about'.")
    if not questions or not all(question.strip() for question in questions):
        raise SettingsError("give at least one --question that is not empty.")
    settings = dataclasses.replace(
        settings,
        inner=dataclasses.replace(settings.inner, candidates=1),
        answers=dataclasses.replace(settings.answers, questions_at_once=len(questions)),
        edits=dataclasses.replace(settings.edits, samples=1, contexts_per_batch=1),
    )
    opened_model.enable_compilation_cache()
    opened = session.open_session(settings)
    context = Context(
        id="own text",
        title=title,
        text=passage.strip(),
        questions=tuple(Question(id=str(i), text=q, answer="") for i, q in enumerate(questions)),
    )
    trained = export.Trained(
        path=settings.model.path,
        config=opened.model,
        merged=opened.merged,
        earlier=(opened.adapter,) if opened.adapter else (),
    )
    if target:
        trained.base_name(target)  # refuses before the work
    adapted, delta = _adapt(opened, context, edit)
    if not target:
        return adapted
    line = trained.write(target, Addition.of(delta), f"{title!r} with seed {settings.seed}")
    return dataclasses.replace(adapted, adapter=line)


def _adapt(opened: Session, context: Context, edit: bool) -> tuple[Adapted, Delta]:
    """What is shown, and the delta."""
    if edit and (reason := opened.unfit(context)):
        raise SettingsError(f"the passage is too long: {reason}.")
    opened.check_positions([context])
    width = opened.query_width([context])
    text, sequences = "", opened.task.passage_sequences(context)
    if edit:
        prompts = writing.edit_prompts(opened, [context])
        [sampled] = writing.sample(opened, opened.base, prompts, draw="adapt", samples=1)
        text = sampled.text
        sequences = opened.task.sequences(context, text) or sequences
    candidate = trials.Candidate(
        context=context, index=0, replicate=0, trimmed=trials.tokenize(opened, sequences)
    )
    deltas_K, results_K, _ = trials.train_group(opened, opened.base, [candidate], draw="adapt")
    if not np.asarray(jax.device_get(results_K.finite)).all():
        raise SettingsError("the update became non-finite: lower --config.inner.learning_rate.")
    [before] = answering.ask(opened, opened.base, None, [context], width)
    [after] = answering.ask(opened, opened.base, deltas_K, [context], width)
    adapted = Adapted(
        self_edit=text,
        before=[answer["text"] for answer in before],
        after=[answer["text"] for answer in after],
        dropped_tokens=candidate.trimmed.dropped_tokens,
        dropped_sequences=candidate.trimmed.dropped_sequences,
    )
    return adapted, delta_lib.take(deltas_K, 0)
