"""What the programs of few-shot learning start from: the opened model, tasks and recipes."""

import dataclasses
from collections.abc import Sequence

from seal_jax.core import constrained
from seal_jax.core.batching import bucket_index
from seal_jax.loop.opened_model import OpenedModel, open_model
from seal_jax.loop.writing import Prompt
from seal_jax.settings import Settings, SettingsError
from seal_jax.tasks.arc import arc, prompt, recipe
from seal_jax.tasks.arc.arc import ArcTask
from seal_jax.tasks.arc.recipe import Recipe
from seal_jax.tasks.protocol import Split
from seal_jax.weights import tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewShotSession(OpenedModel):
    """A loaded model and the tasks that it can be asked.

    Attributes:
      tasks: of each split, in the order of their ids.
      left_out: of each split, tasks that do not fit the run, and why.
      width: tokens that hold the prompt of every test.
      automaton: what recipes are held to while they are sampled, or None.
    """

    tasks: dict[Split, tuple[ArcTask, ...]]
    left_out: dict[Split, dict[str, str]]
    width: int
    automaton: constrained.Automaton | None

    def edit_prompts(self, tasks: Sequence[ArcTask]) -> list[Prompt]:
        """The prompts that ask for a recipe for each task."""
        return [Prompt(task.id, edit_prompt(self, task)) for task in tasks]

    def parse(self, text: str) -> Recipe:
        """The recipe that a self-edit says.

        Raises:
          RecipeError: it says none.
        """
        return recipe.parse(text, self.settings.few_shot.limits())


def edit_prompt(opened: OpenedModel, task: ArcTask) -> list[int]:
    """Token ids of the prompt that asks the policy for a recipe for a task."""
    settings = opened.settings
    shown = prompt.show(task.demonstrations, settings.few_shot.form)
    asked = recipe.request(shown, settings.few_shot.limits())
    return tokenizer.chat_prompt(opened.tokenizer, asked, settings.edits.prompt_style)


def open_session(settings: Settings) -> FewShotSession:
    """Loads the model and the tasks that the settings name.

    Raises:
      ValueError, FileNotFoundError, RuntimeError: with what to change.
    """
    settings.restem.selection_rule()  # refuses before the work
    few_shot = settings.few_shot
    named: dict[Split, tuple[str, tuple[str, ...]]] = {
        "train": (few_shot.train, few_shot.train_tasks),
        "eval": (few_shot.eval, few_shot.eval_tasks),
    }
    found = {split: _named(*source, split) for split, source in named.items()}
    opened = open_model(settings)
    if "chat" not in (settings.edits.prompt_style, settings.answers.prompt_style):
        raise SettingsError(
            "few-shot prompts are chats: set edits.prompt_style and answers.prompt_style to 'chat'."
        )
    left_out: dict[Split, dict[str, str]] = {}
    fitting: dict[Split, tuple[ArcTask, ...]] = {}
    widest = 1
    for split, tasks in found.items():
        reasons = {task.id: _unfit(opened, task) for task in tasks}
        left_out[split] = {id: reason for id, reason in reasons.items() if reason}
        fitting[split] = tuple(task for task in tasks if not reasons[task.id])
        widest = max([widest, *(_longest_query(opened, task) for task in fitting[split])])
    buckets = settings.answers.prompt_buckets
    return FewShotSession(
        **opened.fields(),
        tasks=fitting,
        left_out=left_out,
        width=buckets[bucket_index(widest, buckets)],
        automaton=_automaton(opened),
    )


def _named(source: str, ids: Sequence[str], split: Split) -> list[ArcTask]:
    """The tasks of a source with these ids, or all.

    Raises:
      SettingsError: it has no task of such an id.
    """
    tasks = {task.id: task for task in arc.load(source)}
    missing = [id for id in ids if id not in tasks]
    if missing:
        raise SettingsError(
            f"few_shot.{split}_tasks names {missing[0]!r}, which {source} does not hold: correct "
            f"it, or set few_shot.{split} to where it is."
        )
    return [task for id, task in tasks.items() if not ids or id in ids]


def _longest_query(opened: OpenedModel, task: ArcTask) -> int:
    """Tokens of the task's longest prompt for a test."""
    form = opened.settings.few_shot.form
    return max(
        len(prompt.query_tokens(opened.tokenizer, task.demonstrations, test.input, form))
        for test in task.tests
    )


def _unfit(opened: OpenedModel, task: ArcTask) -> str:
    """Why a task cannot be used in this run; "" if it can."""
    settings, positions = opened.settings, opened.model.max_positions
    answers, edits = settings.answers, settings.edits
    asked, writes = _longest_query(opened, task), len(edit_prompt(opened, task))
    room = max(answers.max_new_tokens, answers.max_gold_tokens)
    limits = {
        "answers.prompt_buckets": (asked, answers.prompt_buckets[-1]),
        "edits.prompt_buckets": (writes, edits.prompt_buckets[-1]),
        "restem.sft.buckets": (writes + edits.max_new_tokens, settings.restem.sft.buckets[-1]),
        "the model's positions": (
            max(asked + room, writes + edits.max_new_tokens),
            positions,
        ),
    }
    for name, (length, limit) in limits.items():
        if length > limit:
            return f"it takes {length} tokens, more than {name} hold ({limit})"
    return ""


def _automaton(opened: OpenedModel) -> constrained.Automaton | None:
    """What recipes are held to, placed on the devices; None where they are sampled freely.

    Raises:
      ConstraintError: edits.max_new_tokens would cut recipes off.
    """
    settings = opened.settings
    if not settings.few_shot.constrained:
        return None
    automaton = constrained.from_regex(
        recipe.regex(settings.few_shot.limits()),
        tokenizer.token_bytes(opened.tokenizer),
        opened.stop_ids,
    )
    constrained.check_limit(automaton, settings.edits.max_new_tokens)
    return opened.devices.replicate(automaton)
