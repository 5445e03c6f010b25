"""What every program of a run starts from: the opened model, the task, and text as tokens.

Each text is tokenised once: a context's exam and a lesson are kept as tokens.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from seal_jax.core import constrained
from seal_jax.core.batching import bucket_index
from seal_jax.judges import graders
from seal_jax.loop.opened_model import OpenedModel, open_model
from seal_jax.settings import Settings, SettingsError
from seal_jax.tasks import registry
from seal_jax.tasks.base import Task
from seal_jax.tasks.protocol import Chat, Context, Exam, Grader, Lesson, View
from seal_jax.weights import encoding, tokenizer

Tokens = tuple[int, ...]


class EncodedExam(NamedTuple):
    """An exam as tokens.

    Attributes:
      exam: its texts.
      prompts: of each of exam.asked.
      scored: of each of exam.scored, its prompt and gold answer.
      merged: of how many of these a token spans the end of the prompt, and is scored.
    """

    exam: Exam
    prompts: tuple[Tokens, ...]
    scored: tuple[tuple[Tokens, Tokens], ...]
    merged: int

    @property
    def questions(self) -> list[str]:
        """Ids of what is asked, in the order of the answers."""
        return list(dict.fromkeys(one.question for one in self.exam.asked))


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodedLesson:
    """A lesson as tokens, cut to the shapes of the inner program.

    Attributes:
      sequences: token ids, of at least two tokens each.
      loss_masks: of each, the tokens whose loss counts; None is all.
      learning_rate, epochs: how it is learned.
      head: its directives as a line; "" for none.
      dropped_sequences, dropped_tokens: what was cut off.
    """

    sequences: tuple[Tokens, ...]
    loss_masks: tuple[tuple[bool, ...] | None, ...]
    learning_rate: float
    epochs: int
    head: str = ""
    dropped_sequences: int = 0
    dropped_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of an epoch."""
        return sum(map(len, self.sequences))


class Bounds(NamedTuple):
    """What the inner program is made for: sequences, epochs and steps of a lesson, at most.

    `steps` is 0 where only their product bounds them.
    """

    sequences: int
    epochs: int
    steps: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session(OpenedModel):
    """A loaded model and the task that it is taught.

    Attributes:
      task: what is taught and asked.
      grader: of the answers.
      rubric: scores self-edits, where the reward is "rubric".
      automaton: what self-edits are held to while they are sampled, or None.
    """

    task: Task
    grader: Grader
    rubric: Any = None
    automaton: constrained.Automaton | None = None
    _exams: dict[tuple[Context, View], EncodedExam] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )
    _sequences: dict[Any, list] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @property
    def bounds(self) -> Bounds:
        """What the inner program is made for."""
        own, inner = self.task.bounds(), self.settings.inner
        epochs = own.epochs or 1
        if own.steps is None:  # nothing else bounds what the settings ask for
            epochs = max(self.settings.max_epochs, epochs)
        return Bounds(own.sequences or inner.max_sequences, epochs, own.steps or 0)

    @property
    def merged_golds(self) -> int:
        """Gold answers of the exams so far that share a token with the end of their prompt."""
        return sum(exam.merged for exam in self._exams.values())

    def prompt(self, turn: str, style: str) -> list[int]:
        """Token ids that ask for a text, as a chat's turn or as a text to continue."""
        return encoding.encode_prompt(self.tokenizer, turn, style)  # type: ignore[arg-type]

    def edit_prompt(self, context: Context) -> list[int]:
        """Token ids of the prompt that asks the policy for a self-edit."""
        turn = self.task.preface + self.task.edit_prompt(context)
        return self.prompt(turn, self.settings.edits.prompt_style)

    def exam(self, context: Context, view: View) -> EncodedExam:
        """What a model is asked about a context."""
        key = (context, view)
        if key not in self._exams:
            exam, style = self.task.exam(context, view), self.settings.answers.prompt_style
            space = "" if style == "chat" else " "
            prompts = {
                text: tuple(self.prompt(text, style))
                for text in dict.fromkeys(one.prompt for one in exam.asked)
            }
            scored = [
                encoding.encode_continuation(self.tokenizer, one.prompt, style, space + one.gold)
                for one in exam.scored
            ]
            self._exams[key] = EncodedExam(
                exam,
                tuple(prompts[one.prompt] for one in exam.asked),
                tuple((one.prompt, one.tokens) for one in scored),
                sum(one.merged for one in scored),
            )
        return self._exams[key]

    def lesson(
        self, lesson: Lesson, *, learning_rate: float = 0.0, epochs: int = 0, room: int = 0
    ) -> EncodedLesson:
        """A lesson as tokens. Texts are cut at the largest bucket; chats beyond it are left out.

        Args:
          learning_rate, epochs: where it has no directives; 0 is as `inner` says.
          room: sequences that are kept, the first and the last; 0 is as `bounds` says.
        """
        inner, said = self.settings.inner, lesson.directives
        limit, most = inner.buckets[-1], room or self.bounds.sequences
        found = self._encoded(lesson.sequences)
        usable = [(tokens, mask) for tokens, mask, whole in found if len(tokens) >= 2 and whole]
        kept = usable if len(usable) <= most else usable[: most - 1] + usable[-1:]
        return EncodedLesson(
            sequences=tuple(tokens[:limit] for tokens, _ in kept),
            loss_masks=tuple(mask for _, mask in kept),
            learning_rate=said.learning_rate or learning_rate or inner.learning_rate,
            epochs=said.epochs or epochs or inner.epochs,
            head=lesson.head,
            dropped_sequences=len(found) - len(kept),
            dropped_tokens=sum(max(0, len(tokens) - limit) for tokens, _ in kept),
        )

    def _encoded(self, sequences: tuple) -> list:
        """(tokens, loss mask or None, whether it may be used) of each sequence."""
        if sequences not in self._sequences:
            if len(self._sequences) > 1000:
                self._sequences.clear()
            self._sequences[sequences] = [self._encode(one) for one in sequences]
        return self._sequences[sequences]

    def _encode(self, sequence: str | Chat) -> tuple[Tokens, tuple[bool, ...] | None, bool]:
        inner = self.settings.inner
        if isinstance(sequence, Chat):
            found = encoding.encode_chat(self.tokenizer, sequence, self.stop_ids)
            return found.tokens, found.loss_mask, len(found.tokens) <= inner.buckets[-1]
        tokens = self.encode(sequence)
        end = [self.tokenizer.eos_token_id]
        return tuple(tokens + end * (inner.padding_loss - len(tokens))), None, True

    def width(self, contexts: Sequence[Context], view: View = "adapted") -> int:
        """The bucket that holds every prompt whose gold answer is scored; where none is, the last.

        Of the prompts that are asked, those beyond it are left out.
        """
        buckets = self.settings.answers.prompt_buckets
        exams = [self.exam(context, view) for context in contexts]
        scored = (len(prompt) for exam in exams for prompt, _ in exam.scored)
        widest = max(scored, default=buckets[-1])
        return buckets[bucket_index(widest, buckets)]

    def unfit(
        self, context: Context, views: Sequence[View] = ("adapted",), *, edits: bool = True
    ) -> str:
        """Why a context cannot be used in this run; "" if it can.

        Args:
          views: how it is going to be asked.
          edits: whether a self-edit is going to be written about it.
        """
        own, answers = self.settings.edits, self.settings.answers
        sft, positions = self.settings.restem.sft, self.model.max_positions
        if edits and self.task.writes:
            length = len(self.edit_prompt(context))
            whole = length + own.max_new_tokens
            if length > own.prompt_buckets[-1]:
                return (
                    "its prompt takes more tokens than the largest of edits.prompt_buckets "
                    f"({own.prompt_buckets[-1]})"
                )
            for limit, of in (
                (sft.buckets[-1], f"the largest of restem.sft.buckets ({sft.buckets[-1]})"),
                (positions, f"the model has positions ({positions})"),
            ):
                if whole > limit:
                    than = "more tokens than"
                    return (
                        f"its prompt and a self-edit of edits.max_new_tokens may take {than} {of}"
                    )
        room = max(answers.max_new_tokens, answers.max_gold_tokens)
        for view in views:
            exam = self.exam(context, view)
            for one, (prompt, _) in zip(exam.exam.scored, exam.scored, strict=True):
                if len(prompt) > answers.prompt_buckets[-1]:
                    return (
                        f"{self.task.question_word} {one.question!r} takes {len(prompt)} tokens, "
                        f"more than the largest of answers.prompt_buckets "
                        f"({answers.prompt_buckets[-1]}): add a larger bucket"
                    )
                if len(prompt) + room > positions:
                    return (
                        f"{self.task.question_word} {one.question!r} and its answer take up to "
                        f"{len(prompt) + room} tokens, but the model has {positions} positions: "
                        "lower answers.max_new_tokens or answers.max_gold_tokens"
                    )
        return ""


def open_session(settings: Settings) -> Session:
    """Loads the model and the task that the settings name.

    Raises:
      ValueError, FileNotFoundError, RuntimeError: with what to change.
    """
    settings.reward.function()  # what the settings name must be there before the work
    settings.restem.selection_rule()
    task = registry.open_task(settings)
    opened = open_model(settings)
    return Session(
        **opened.fields(),
        task=task,
        grader=graders.make_grader(settings, opened),
        rubric=graders.make_rubric(settings, opened),
        automaton=_automaton(opened, task),
    )


def _automaton(opened: OpenedModel, task: Task) -> constrained.Automaton | None:
    """What self-edits are held to, placed on the devices; None where they are sampled freely.

    Raises:
      ConstraintError: edits.max_new_tokens would cut them off.
    """
    grammar = task.grammar
    if grammar is None:
        return None
    if grammar.scope == "head" and not grammar.regex.endswith(r"\n"):
        raise SettingsError(f"the grammar of a head must end with a line's end: {grammar.regex!r}.")
    automaton = constrained.from_regex(
        grammar.regex,
        tokenizer.token_bytes(opened.tokenizer),
        opened.stop_ids,
        scope=grammar.scope,
    )
    constrained.check_limit(automaton, opened.settings.edits.max_new_tokens)
    return opened.devices.replicate(automaton)
