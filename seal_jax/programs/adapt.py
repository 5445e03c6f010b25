"""One's own text: a self-edit about a passage, and a question before and after adapting to it."""

import dataclasses

import jax
import numpy as np

from seal_jax.programs import session, trials
from seal_jax.programs.session import Session
from seal_jax.settings import Settings, SettingsError
from seal_jax.tasks.base import Context, Question


@dataclasses.dataclass(frozen=True)
class Adapted:
    """What `adapt` shows: the self-edit, and for each question the answers before and after."""

    self_edit: str
    before: list[str]
    after: list[str]


def adapt(
    settings: Settings, passage: str, questions: list[str], *, title: str = "", edit: bool = True
) -> Adapted:
    """Samples a self-edit about a passage, applies it, and answers questions before and after.

    Args:
      settings: of the model, the sampling and the inner loop; the seed chooses the self-edit.
      passage: the text.
      questions: asked without the passage.
      title: what the passage is about; it heads the training sequences and the questions.
      edit: whether a self-edit is written; otherwise the passage alone is trained on.

    Raises:
      SettingsError: the passage or a question is empty.
    """
    if not passage.strip():
        raise SettingsError("the passage is empty: give a file with some text.")
    if not questions or not all(question.strip() for question in questions):
        raise SettingsError("give at least one --question that is not empty.")
    settings = dataclasses.replace(
        settings,
        inner=dataclasses.replace(settings.inner, candidates=1),
        data=dataclasses.replace(settings.data, max_questions=len(questions)),
        edits=dataclasses.replace(settings.edits, samples=1, contexts_per_batch=1),
    )
    session.enable_compilation_cache()
    opened = session.open_session(settings)
    context = Context(
        id="own text",
        title=title or passage.split("\n")[0][:60].rstrip(),
        text=passage.strip(),
        questions=tuple(Question(id=str(i), text=q, answer="") for i, q in enumerate(questions)),
    )
    return _adapt(opened, context, edit)


def _adapt(opened: Session, context: Context, edit: bool) -> Adapted:
    width = opened.query_width([context])
    text, sequences = "", opened.task.passage_sequences(context)
    if edit:
        [sampled] = trials.sample_edits(opened, opened.base, [context], draw="adapt", samples=1)
        text = sampled.text
        sequences = opened.task.sequences(context, text) or sequences
    candidate = trials.Candidate(
        context=context, index=0, replicate=0, trimmed=trials.tokenize(opened, sequences)
    )
    deltas_K, results_K, _ = trials.train_group(opened, opened.base, [candidate], draw="adapt")
    if not np.asarray(jax.device_get(results_K.finite)).all():
        raise SettingsError("the update became non-finite: lower --config.inner.learning_rate.")
    [before] = trials.ask(opened, opened.base, None, [context], width)
    [after] = trials.ask(opened, opened.base, deltas_K, [context], width)
    return Adapted(
        self_edit=text,
        before=[answer["text"] for answer in before],
        after=[answer["text"] for answer in after],
    )
