"""What the programs of knowledge incorporation start from: the opened model and the task."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import jax.numpy as jnp

from seal_jax.core.batching import TooLong, bucket_index
from seal_jax.judges import judge, model_judge, rubric
from seal_jax.loop.opened_model import OpenedModel, open_model
from seal_jax.settings import Settings, SettingsError
from seal_jax.tasks.protocol import Context, Grader, Question, Task
from seal_jax.tasks.registry import make_task
from seal_jax.weights import load, tokenizer


class Rubric(Protocol):
    """Whoever scores self-edits without an inner loop."""

    def score(self, pairs: Sequence[tuple[Context, str]]) -> list[rubric.Scored]:
        """A score of each self-edit about its context, in their order."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session(OpenedModel):
    """A loaded model and the task: knowledge incorporation, or another package's.

    Attributes:
      task: its contexts and prompts.
      grader: of the answers.
      rubric: scores self-edits, where the reward is "rubric".
    """

    task: Task
    grader: Grader
    rubric: Rubric | None

    def edit_prompt(self, context: Context) -> list[int]:
        """Token ids of the prompt that asks the policy for a self-edit."""
        style = self.settings.edits.prompt_style
        return tokenizer.chat_prompt(self.tokenizer, self.task.edit_prompt(context), style)

    def query(self, context: Context, question: Question, passage: bool = False) -> list[int]:
        """Token ids of a question to the adapted model, or of one that comes with its passage."""
        style = self.settings.answers.prompt_style
        ask = self.task.reading_query if passage else self.task.query
        return tokenizer.chat_prompt(self.tokenizer, ask(context, question), style)

    def gold(self, question: Question) -> list[int]:
        """Token ids of the gold answer as the continuation of its query."""
        space = "" if self.settings.answers.prompt_style == "chat" else " "
        return list(self.tokenizer(space + question.answer, add_special_tokens=False)["input_ids"])

    def query_width(self, contexts: Sequence[Context], passage: bool = False) -> int:
        """The bucket that holds every question of these contexts, with its passage if asked.

        Raises:
          TooLong: a question exceeds the largest bucket; it is named.
        """
        buckets = self.settings.answers.prompt_buckets
        widest = 0
        for context in contexts:
            for question in context.questions:
                length = len(self.query(context, question, passage))
                if length > buckets[-1]:
                    raise TooLong(
                        f"question {question.id!r} takes {length} tokens, more than the largest of "
                        f"answers.prompt_buckets ({buckets[-1]}): add a larger bucket, e.g. "
                        f"--config.answers.prompt_buckets='{(*buckets, length)}'."
                    )
                widest = max(widest, length)
        return buckets[bucket_index(widest, buckets)]

    def unfit(self, context: Context) -> str:
        """Why a context cannot be used: its prompt for a self-edit is too long; "" if it can."""
        if not self.task.writes:
            return ""
        edits, sft = self.settings.edits, self.settings.restem.sft
        length = len(self.edit_prompt(context))
        if length > edits.prompt_buckets[-1]:
            return (
                "its prompt takes more tokens than the largest of edits.prompt_buckets "
                f"({edits.prompt_buckets[-1]})"
            )
        if length + edits.max_new_tokens > sft.buckets[-1]:
            return (
                "its prompt and a self-edit of edits.max_new_tokens may take more tokens than the "
                f"largest of restem.sft.buckets ({sft.buckets[-1]})"
            )
        if length + edits.max_new_tokens > self.model.max_positions:
            return (
                "its prompt and a self-edit of edits.max_new_tokens may take more tokens than the "
                f"model has positions ({self.model.max_positions})"
            )
        return ""

    def check_positions(self, contexts: Sequence[Context], passage: bool = False) -> None:
        """Refuses questions (with their passages) whose answers would not fit.

        Raises:
          TooLong: a question exceeds the largest bucket.
          SettingsError: the bucket exceeds the model's positions.
        """
        answers, limit = self.settings.answers, self.model.max_positions
        room = max(answers.max_new_tokens, answers.max_gold_tokens)
        needed = self.query_width(contexts, passage) + room
        if needed > limit:
            raise SettingsError(
                f"questions and their answers take up to {needed} tokens, but the model has "
                f"{limit} positions: lower answers.max_new_tokens or answers.max_gold_tokens."
            )


def open_session(settings: Settings) -> Session:
    """Loads the model and the task that the settings name.

    Raises:
      ValueError, FileNotFoundError, RuntimeError: with what to change.
    """
    settings.reward.function()  # what the settings name must be there before the work
    settings.restem.selection_rule()
    task = make_task(settings)
    opened = open_model(settings)
    return Session(
        **opened.fields(),
        task=task,
        grader=_make_grader(opened),
        rubric=_make_rubric(opened),
    )


def _make_grader(opened: OpenedModel) -> Grader:
    """The grader of the settings."""
    settings = opened.settings
    if settings.grading.kind == "local":
        return judge.LocalGrader()
    if settings.grading.kind == "endpoint":
        return judge.EndpointGrader(settings.grading.endpoint)
    return model_judge.ModelGrader(**_judge_model(opened))


def _make_rubric(opened: OpenedModel) -> Rubric | None:
    """Who scores self-edits by the rubric; None where the reward is another one."""
    settings = opened.settings
    if settings.reward.kind != "rubric":
        return None
    template = rubric.load_template(settings.prompts.dir or None)
    if settings.grading.kind == "endpoint":
        return rubric.EndpointRubric(settings.grading.endpoint, template)
    return model_judge.ModelRubric(template=template, **_judge_model(opened))


def _judge_model(opened: OpenedModel) -> dict[str, Any]:
    """The judge in JAX that the settings name: the run's base model, or another one."""
    settings, grading = opened.settings, opened.settings.grading
    of_each = dict(devices=opened.devices, batch_size=grading.batch_size, buckets=grading.buckets)
    if grading.kind == "policy":
        return of_each | dict(
            label=settings.model.name,
            config=opened.model,
            params=opened.base,
            tokenizer=opened.tokenizer,
        )
    dtype = jnp.dtype(settings.model.dtype)
    model = load.load_model(grading.model, dtype, opened.devices.param_sharding)
    return of_each | dict(
        label=grading.model,
        config=model.config,
        params=opened.devices.place(model.config, model.params),
        tokenizer=model.tokenizer,
    )
