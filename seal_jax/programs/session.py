"""What every program starts from: the model on its devices, the tokenizer and the task."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from seal_jax import delta, parallel
from seal_jax.batching import TooLong, bucket_index
from seal_jax.model.config import ModelConfig
from seal_jax.programs import model_judge
from seal_jax.settings import Data, Settings, SettingsError
from seal_jax.tasks.base import Context, Grader, Question, Task
from seal_jax.tasks.knowledge import rubric
from seal_jax.tasks.knowledge.grading import judge
from seal_jax.tasks.knowledge.task import KnowledgeTask
from seal_jax.weights import exported, load, tokenizer


class Rubric(Protocol):
    """Whoever scores self-edits without an inner loop."""

    def score(self, pairs: Sequence[tuple[Context, str]]) -> list[rubric.Scored]:
        """A score of each self-edit about its context, in their order."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
    """A loaded model and task.

    Attributes:
      settings: of the run.
      task: its contexts and prompts.
      model: the model's architecture.
      tokenizer: its tokenizer.
      source: one line on where the weights are from.
      base: its parameters, replicated on all devices.
      stop_ids: tokens that end a text.
      grader: of the answers.
      rubric: scores self-edits, where the reward is "rubric".
      merged, adapter: what of the base is not the original model; see `load.LoadedModel`.
    """

    settings: Settings
    task: Task
    model: ModelConfig
    tokenizer: Any
    source: str
    base: dict[str, Any]
    stop_ids: tuple[int, ...]
    grader: Grader
    rubric: Rubric | None
    merged: tuple[str, ...] = ()
    adapter: exported.Addition | None = None

    def edit_prompt(self, context: Context) -> list[int]:
        """Token ids of the prompt that asks the policy for a self-edit."""
        style = self.settings.edits.prompt_style
        return tokenizer.chat_prompt(self.tokenizer, self.task.edit_prompt(context), style)

    def query(self, context: Context, question: Question, passage: bool = False) -> list[int]:
        """Token ids of a question to the adapted model, or of one that comes with its passage."""
        style = self.settings.answers.prompt_style
        ask = self.task.reading_query if passage else self.task.query
        return tokenizer.chat_prompt(self.tokenizer, ask(context, question), style)

    def encode(self, text: str) -> list[int]:
        """Token ids of a training sequence."""
        return list(self.tokenizer(text)["input_ids"])

    def gold(self, question: Question) -> list[int]:
        """Token ids of the gold answer as the continuation of its query."""
        space = "" if self.settings.answers.prompt_style == "chat" else " "
        return list(self.tokenizer(space + question.answer, add_special_tokens=False)["input_ids"])

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of sampled tokens, without special tokens and outer white space."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True).strip()

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
    task = make_task(settings)
    loaded = load_base(settings)
    chats = "chat" in (settings.edits.prompt_style, settings.answers.prompt_style)
    if chats and not loaded.tokenizer.chat_template:
        raise SettingsError(
            f"the tokenizer of {settings.model.path} has no chat template: set edits.prompt_style "
            "and answers.prompt_style to 'plain'."
        )
    for spec in (
        settings.inner.lora.spec(),
        settings.restem.sft.spec(),
        settings.corpus.spec(),
    ):
        delta.target_paths(loaded.params, spec)
    base = parallel.place(loaded.params)
    policy = dataclasses.replace(loaded, params=base)
    return Session(
        settings=settings,
        task=task,
        model=loaded.config,
        tokenizer=loaded.tokenizer,
        source=loaded.source,
        base=base,
        stop_ids=tokenizer.stop_token_ids(loaded.tokenizer),
        grader=_make_grader(settings, policy),
        rubric=_make_rubric(settings, policy),
        merged=loaded.merged,
        adapter=loaded.adapter,
    )


def load_base(settings: Settings) -> load.LoadedModel:
    """The model that a run starts from: model.path with model.adapter merged in.

    Raises:
      ValueError, FileNotFoundError, RuntimeError: with what to change.
    """
    loaded = load.load_model(settings.model.path, jnp.dtype(settings.model.dtype))
    if settings.model.adapter:
        loaded = load.with_adapter(loaded, settings.model.adapter)
    return loaded


def _make_grader(settings: Settings, policy: load.LoadedModel) -> Grader:
    """The grader of the settings; `policy` is the run's base model."""
    if settings.grading.kind == "local":
        return judge.LocalGrader()
    if settings.grading.kind == "endpoint":
        return judge.EndpointGrader(settings.grading.endpoint)
    return model_judge.ModelGrader(**_judge_model(settings, policy))


def _make_rubric(settings: Settings, policy: load.LoadedModel) -> Rubric | None:
    """Who scores self-edits by the rubric; None where the reward is another one."""
    if settings.reward.kind != "rubric":
        return None
    template = rubric.load_template(settings.prompts.dir or None)
    if settings.grading.kind == "endpoint":
        return rubric.EndpointRubric(settings.grading.endpoint, template)
    return model_judge.ModelRubric(template=template, **_judge_model(settings, policy))


def _judge_model(settings: Settings, policy: load.LoadedModel) -> dict[str, Any]:
    """The judge in JAX that the settings name."""
    grading = settings.grading
    own = grading.kind == "policy"
    model = policy if own else load.load_model(grading.model, jnp.dtype(settings.model.dtype))
    return dict(
        label=settings.model.name if own else grading.model,
        config=model.config,
        params=model.params if own else parallel.place(model.params),
        tokenizer=model.tokenizer,
        batch_size=grading.batch_size,
        buckets=grading.buckets,
    )


def make_task(settings: Settings, data: Data | None = None) -> KnowledgeTask:
    """The knowledge task of the settings, or of other data."""
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


def enable_compilation_cache() -> None:
    """Keeps compiled programs between processes, unless the environment already says where."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = os.path.join(
            os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "seal_jax", "xla"
        )
        jax.config.update("jax_compilation_cache_dir", folder)
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
