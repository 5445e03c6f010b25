"""One's own text: a self-edit about a passage, and a question before and after adapting to it."""

import dataclasses

from seal_jax import api
from seal_jax.loop import export
from seal_jax.settings import Settings, SettingsError, config_dict
from seal_jax.tasks.texts import is_blank
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
    if is_blank(passage):
        raise SettingsError("the passage is empty: give a file with some text.")
    if is_blank(title):
        raise SettingsError("the title is empty: give --title='what the passage is about'.")
    if not questions or any(map(is_blank, questions)):
        raise SettingsError("give at least one --question that is not empty.")
    one = {"inner.candidates": 1, "edits.samples": 1, "edits.contexts_per_batch": 1}
    together = {"answers.questions_at_once": len(questions)}
    settings = config_dict.replaced(settings, one | together)
    opened = api.load(settings)
    asked = [(question, "") for question in questions]
    context = opened.task.context_from(title, passage, asked, id="own text")
    exported = api.trained(opened)
    if target and target.with_base:
        target = export.write_base(target, settings, [])
    if target:
        exported.base_name(target)  # refuses before the work
    text = api.self_edits(opened, [context], draw="adapt")[0][0] if edit else None
    [learned] = api.learn(opened, [(context, text)], draw="adapt")
    if learned.delta is None:
        raise SettingsError("the update became non-finite: lower --config.inner.learning_rate.")
    [before] = api.answers(opened, [context])
    [after] = api.answers(opened, [context], [learned.delta])
    line = ""
    if target:
        line = exported.write(
            target, Addition.of(learned.delta), f"{title!r} with seed {settings.seed}"
        )
    return Adapted(
        self_edit=text or "",
        before=[answer["text"] for answer in before],
        after=[answer["text"] for answer in after],
        dropped_tokens=learned.dropped_tokens,
        dropped_sequences=learned.dropped_sequences,
        adapter=line,
    )
