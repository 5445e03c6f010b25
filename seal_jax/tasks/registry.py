"""The task that settings name. It needs no model, so reports can make it."""

from seal_jax.settings import Data, Settings, object_reference
from seal_jax.tasks import external as external_task
from seal_jax.tasks.knowledge.task import KnowledgeTask
from seal_jax.tasks.protocol import Task


def make_task(settings: Settings, data: Data | None = None) -> Task:
    """The knowledge task of the settings, or of other data; or another package's task.

    Raises:
      ValueError: it cannot be had or used; with what to change.
    """
    if object_reference.is_one(settings.task) and data is None:
        return external_task.load(settings)
    data = data or settings.data
    return KnowledgeTask(
        train_path=data.train_path or None,
        eval_path=data.eval_path or None,
        data_dir=data.dir or None,
        train_part=data.train_part,
        eval_part=data.eval_part,
        max_train=data.max_train_contexts or None,
        max_eval=data.max_eval_contexts or None,
        min_words=data.min_words or None,
        max_words=data.max_words or None,
        edit_format=settings.prompts.edit_format,
        prompts_dir=settings.prompts.dir or None,
        edit_style=settings.edits.prompt_style,
        question_style=settings.answers.prompt_style,
        append_passage=settings.edits.append_passage,
        title_prefix=settings.edits.title_prefix,
        topic_prefix=settings.answers.topic_prefix,
    )
