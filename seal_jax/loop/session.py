"""What every program of a run starts from: the opened model, the task, and text as tokens.

Each text is tokenised once: a context's exam and a lesson are kept as tokens.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from seal_jax.core import batching, constrained, delta, parallel
from seal_jax.core.model.config import ModelConfig
from seal_jax.judges import graders
from seal_jax.loop import opened_model
from seal_jax.settings import Settings, SettingsError
from seal_jax.tasks import generated, registry
from seal_jax.tasks.base import Task
from seal_jax.tasks.generated import Said
from seal_jax.tasks.protocol import (
    Chat,
    Context,
    Exam,
    Grader,
    Lesson,
    Refusal,
    Reply,
    Sequence_,
    View,
)
from seal_jax.weights import encoding, exported, tokenizer

Tokens = tuple[int, ...]
EQUAL_ROOM = (
    16  # how much longer than the largest lesson of equal compute small ones may be learned
)
_TAIL = 16  # tokens of a prompt that show whether it begins a thought


class NoChatTemplate(SettingsError):
    """Prompts shall be turns of a chat, which the model's tokenizer cannot write."""


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
      readings: by a sequence's number, the prompt with the context in it, and how many tokens of
        the sequence answer it; where inner.loss is "distillation".
      head: its directives as a line; "" for none.
      dropped_sequences, dropped_tokens: what was cut off.
    """

    sequences: tuple[Tokens, ...]
    loss_masks: tuple[tuple[bool, ...] | None, ...]
    learning_rate: float
    epochs: int
    readings: Mapping[int, tuple[Tokens, int]] = dataclasses.field(default_factory=dict)
    head: str = ""
    dropped_sequences: int = 0
    dropped_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of an epoch."""
        return sum(map(len, self.sequences))


class EncodedSequence(NamedTuple):
    """A sequence as tokens, its loss mask or None, whether it may be used, and how it is read."""

    tokens: Tokens
    mask: tuple[bool, ...] | None = None
    whole: bool = True
    reading: tuple[Tokens, int] | None = None


class Bounds(NamedTuple):
    """What the inner program is made for: sequences, epochs and steps of a lesson, at most.

    `steps` is 0 where only their product bounds them.
    """

    sequences: int
    epochs: int
    steps: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
    """A loaded model and the task that it is taught.

    Attributes:
      settings: of the run.
      task: what is taught and asked.
      model: the model's architecture.
      tokenizer: its tokenizer.
      source: one line on where the weights are from.
      devices: what it runs on.
      base: its parameters, placed on the devices.
      stop_ids: tokens that end a text.
      merged, adapter: what of the base is not the original model; see `load.LoadedModel`.
      grader: of the answers.
      rubric: scores self-edits, where the reward is "rubric".
      automaton: what self-edits are held to while they are sampled, or None.
    """

    settings: Settings
    task: Task
    model: ModelConfig
    tokenizer: Any
    source: str
    devices: parallel.DeviceMesh
    base: dict[str, Any]
    stop_ids: tuple[int, ...]
    merged: tuple[str, ...] = ()
    adapter: exported.Addition | None = None
    grader: Grader = dataclasses.field(default_factory=graders.LocalGrader)
    rubric: Any = None
    automaton: constrained.Automaton | None = None
    _exams: dict[tuple[Context, View], EncodedExam] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )
    _sequences: dict[Any, list] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def changed(self, settings: Settings) -> "Session":
        """The same model and task under other settings of texts and of the inner loop."""
        return dataclasses.replace(self, settings=settings, _exams={}, _sequences={})

    @property
    def bounds(self) -> Bounds:
        """What the inner program is made for."""
        own, inner = self.task.bounds(), self.settings.inner
        epochs = own.epochs or 1
        if own.steps is None:  # nothing else bounds what the settings ask for
            epochs = max(self.settings.max_epochs, epochs)
            epochs *= 1 if self.settings.evaluation.equal == "none" else EQUAL_ROOM
        return Bounds(own.sequences or inner.max_sequences, epochs, own.steps or 0)

    @property
    def merged_golds(self) -> int:
        """Gold answers of the exams so far that share a token with the end of their prompt."""
        return sum(exam.merged for exam in self._exams.values())

    def place(self, tree):
        """Parameters, deltas or the state of an M-step on the devices; see `DeviceMesh.place`."""
        return self.devices.place(self.model, tree)

    def delta_shapes(self, spec: delta.DeltaSpec) -> delta.Tree:
        """The tree of a delta of the model, with the shape and the sharding of each leaf."""
        tree = delta.shapes(self.base, spec)
        return parallel.shapes(tree, self.devices.shardings(self.model, tree))

    def encode(self, text: str) -> list[int]:
        """Token ids of a training sequence."""
        return encoding.encode_text(self.tokenizer, text)

    def unrelated(self, count: int) -> list[list[int]]:
        """Token ids of how so many texts begin that have nothing to do with the contexts."""
        tokens = self.settings.continual.unrelated_tokens
        texts = self.task.reference_texts("train")[:count]
        return [self.encode(text)[:tokens] for text in texts]

    def continued(self, text: str) -> list[int]:
        """Token ids of a text as it continues a prompt."""
        return list(encoding.encode_continuation(self.tokenizer, "", "plain", text).tokens)

    def read(self, tokens: Sequence[int], prompt: Sequence[int], stopped: bool) -> Said:
        """What sampled tokens say; see `generated.read`.

        Args:
          prompt: what they continue; stopped: whether they end by themselves.
        """
        own = tokens[:-1] if tokens and tokens[-1] in self.stop_ids else tokens
        opened = generated.opens(self._spelled(prompt[-_TAIL:]))
        return generated.read(self._spelled(own), opened=opened, cut_off=not stopped)

    def _spelled(self, tokens: Sequence[int]) -> str:
        """Tokens as text, without special tokens but for those that mark thoughts."""
        return "".join(
            mark * len(list(of))
            if mark
            else self.tokenizer.decode(list(of), skip_special_tokens=True)
            for mark, of in itertools.groupby(tokens, self._marks.get)
        )

    @functools.cached_property
    def _marks(self) -> dict[int, str]:
        """The special tokens that mark thoughts, by id."""
        added = self.tokenizer.added_tokens_decoder.items()
        special = {index: str(token) for index, token in added if token.special}
        marks = generated.marks(set(special.values()))
        return {index: token for index, token in special.items() if token in marks}

    def prompt(self, turn: str, style: str, *, answered: bool = False) -> list[int]:
        """Token ids that ask for a text, as a chat's turn or as a text to continue.

        Args:
          answered: see `encoding.encode_prompt`.
        """
        return encoding.encode_prompt(self.tokenizer, turn, style, answered=answered)  # type: ignore[arg-type]

    def edit_prompt(self, context: Context) -> list[int]:
        """Token ids of the prompt that asks the policy for a self-edit."""
        turn = self.task.preface + self.task.edit_prompt(context)
        style, held = self.settings.edits.prompt_style, self.automaton is not None
        return self.prompt(turn, style, answered=held)  # what is held to a form has no thoughts

    def exam(self, context: Context, view: View) -> EncodedExam:
        """What a model is asked about a context."""
        key = (context, view)
        if key not in self._exams:
            exam, style = self.task.exam(context, view), self.settings.answers.prompt_style
            prompts = {
                text: tuple(self.prompt(text, style))
                for text in dict.fromkeys(one.prompt for one in exam.asked)
            }
            scored = [self._answered(one.prompt, one.gold) for one in exam.scored]
            self._exams[key] = EncodedExam(
                exam,
                tuple(prompts[one.prompt] for one in exam.asked),
                tuple((one.prompt, one.tokens) for one in scored),
                sum(one.merged for one in scored),
            )
        return self._exams[key]

    def lesson(
        self, lesson: Lesson | Refusal, *, learning_rate: float = 0.0, epochs: int = 0
    ) -> EncodedLesson | Refusal:
        """A lesson as tokens, or why it cannot be followed.

        Texts are cut at the largest bucket, chats and replies beyond it are left out; of too many
        sequences the first and the last are kept.

        Args:
          learning_rate, epochs: where it has no directives; 0 is as `inner` says.
        """
        if isinstance(lesson, Refusal):
            return lesson
        inner, said, bounds = self.settings.inner, lesson.directives, self.bounds
        limit, found = inner.buckets[-1], self._encoded(lesson.sequences)
        kept = [one for one in found if len(one.tokens) >= 2 and one.whole]
        if len(kept) > bounds.sequences:
            kept = kept[: bounds.sequences - 1] + kept[-1:]
        if not kept:
            reason = "no training sequence fits the largest of inner.buckets"
            return Refusal(reason, invalid=False)
        encoded = EncodedLesson(
            sequences=tuple(one.tokens[:limit] for one in kept),
            loss_masks=tuple(one.mask for one in kept),
            learning_rate=said.learning_rate or learning_rate or inner.learning_rate,
            epochs=said.epochs or epochs or inner.epochs,
            readings={i: one.reading for i, one in enumerate(kept) if one.reading},
            head=lesson.head,
            dropped_sequences=len(found) - len(kept),
            dropped_tokens=sum(max(0, len(one.tokens) - limit) for one in kept),
        )
        if (taken := self.steps(encoded)) > bounds.steps > 0:
            reason = f"it takes {taken} steps, more than the {bounds.steps} that are allowed"
            return Refusal(reason, invalid=False)
        return encoded

    def steps(self, lesson: EncodedLesson) -> int:
        """Optimizer steps that a lesson takes."""
        return batching.steps_of(
            len(lesson.sequences),
            epochs=lesson.epochs,
            batch_size=self.settings.inner.batch_size,
        )

    def _encoded(self, sequences: tuple) -> "list[EncodedSequence]":
        """Each sequence as tokens."""
        if sequences not in self._sequences:
            if len(self._sequences) > 1000:
                self._sequences.clear()
            self._sequences[sequences] = [self._encode(one) for one in sequences]
        return self._sequences[sequences]

    def _answered(self, prompt: str, answer: str) -> encoding.Continued:
        """A prompt of an exam, and an answer to it."""
        style = self.settings.answers.prompt_style
        space = "" if style == "chat" else " "
        return encoding.encode_continuation(self.tokenizer, prompt, style, space + answer)

    def _encode(self, sequence: Sequence_) -> "EncodedSequence":
        inner = self.settings.inner
        if isinstance(sequence, Reply):
            put, answer, _ = self._answered(sequence.prompt, sequence.answer)
            whole = (*put, *answer, self.tokenizer.eos_token_id)
            fits = len(whole) <= inner.buckets[-1]
            return EncodedSequence(whole, None, fits, self._reading(sequence, answer))
        if isinstance(sequence, Chat):
            found = encoding.encode_chat(self.tokenizer, sequence, self.stop_ids)
            fits = len(found.tokens) <= inner.buckets[-1]
            return EncodedSequence(found.tokens, found.loss_mask, fits)
        tokens = self.encode(sequence)
        end = [self.tokenizer.eos_token_id]
        return EncodedSequence(tuple(tokens + end * (inner.padding_loss - len(tokens))))

    def _reading(self, reply: Reply, answer: Tokens) -> tuple[Tokens, int] | None:
        """A reply's prompt with the context, and how many tokens answer it; None where it has none,
        where that is too long, or where the answer is then other tokens."""
        if self.settings.inner.loss != "distillation" or not reply.reading:
            return None
        put, same, _ = self._answered(reply.reading, reply.answer)
        fits = len(put) <= self.settings.answers.prompt_buckets[-1]
        return (put, len(answer) + 1) if fits and same == answer else None

    def width(self, contexts: Sequence[Context], view: View = "adapted") -> int:
        """The bucket that holds every prompt whose gold answer is scored; where none is, the last.

        Of the prompts that are asked, those beyond it are left out.
        """
        buckets = self.settings.answers.prompt_buckets
        exams = [self.exam(context, view) for context in contexts]
        scored = (len(prompt) for exam in exams for prompt, _ in exam.scored)
        widest = max(scored, default=buckets[-1])
        return buckets[batching.bucket_index(widest, buckets)]

    def unfit(
        self, context: Context, views: Sequence[View] = ("adapted",), *, edits: bool = True
    ) -> str:
        """Why a context cannot be used in this run; "" if it can.

        Args:
          views: how it is going to be asked.
          edits: whether a self-edit is going to be written about it.
        """
        if self._is_short(context, views, edits=edits):
            return ""
        own, answers = self.settings.edits, self.settings.answers
        positions = self.model.max_positions
        if edits and self.task.writes:
            length = len(self.edit_prompt(context))
            bucket, row = own.prompt_buckets[-1], self.settings.restem.sft.buckets[-1]
            if length > bucket:
                return (
                    "its prompt takes more tokens than the largest of edits.prompt_buckets "
                    f"({bucket})"
                )
            for room, of in (
                (row, f"the largest of restem.sft.buckets ({row})"),
                (positions, f"the model has positions ({positions})"),
            ):
                if length + own.max_new_tokens > room:
                    return (
                        "its prompt and a self-edit of edits.max_new_tokens may take more tokens "
                        f"than {of}"
                    )
        bucket, answer = (
            answers.prompt_buckets[-1],
            max(answers.max_new_tokens, answers.max_gold_tokens),
        )
        for exam in (self.exam(context, view) for view in views):
            for one, (prompt, _) in zip(exam.exam.scored, exam.scored, strict=True):
                asking = f"{self.task.question_word} {one.question!r}"
                if len(prompt) > bucket:
                    return (
                        f"{asking} takes {len(prompt)} tokens, more than the largest of "
                        f"answers.prompt_buckets ({bucket}): add a larger bucket"
                    )
                if len(prompt) + answer > positions:
                    return (
                        f"{asking} and its answer take up to {len(prompt) + answer} tokens, but "
                        f"the model has {positions} positions: lower answers.max_new_tokens or "
                        "answers.max_gold_tokens"
                    )
        return ""

    def _is_short(self, context: Context, views: Sequence[View], *, edits: bool) -> bool:
        """Whether a context is so short that it fits however its texts become tokens."""
        own, answers = self.settings.edits, self.settings.answers
        positions, row = self.model.max_positions, self.settings.restem.sft.buckets[-1]
        room = positions - max(answers.max_new_tokens, answers.max_gold_tokens)
        room = min(room, answers.prompt_buckets[-1]) - self._frames[answers.prompt_style]
        texts = [one.prompt for view in views for one in self.task.exam(context, view).scored]
        if any(most_tokens(text) > room for text in texts):
            return False
        if not edits or not self.task.writes:
            return True
        room = min(own.prompt_buckets[-1], min(positions, row) - own.max_new_tokens)
        text = self.task.preface + self.task.edit_prompt(context)
        return most_tokens(text) <= room - self._frames[own.prompt_style]

    @functools.cached_property
    def _frames(self) -> dict[str, int]:
        """How many tokens a prompt has beside those of its turn, at most, by style."""
        styles = {self.settings.answers.prompt_style}
        if self.task.writes:
            styles.add(self.settings.edits.prompt_style)
        return {style: len(self.prompt("x", style)) for style in styles}


def most_tokens(text: str) -> int:
    """How many tokens a text has at most, by any tokenizer that spells what it does not know.

    A token is a letter at least, or a byte of one that is no ASCII. Such a letter may be written
    with up to 33 bytes when it is normalized (U+FDFA under NFKC).
    """
    return len(text) + 33 * (len(text.encode("utf-8", "surrogatepass")) - len(text))


def open_session(settings: Settings) -> Session:
    """Loads the model and the task that the settings name.

    Raises:
      ValueError, FileNotFoundError, RuntimeError: with what to change.
    """
    settings.reward.function()  # what the settings name must be there before the work
    settings.restem.selection_rule()
    task = registry.open_task(settings)
    devices = opened_model.open_devices(settings)
    opened_model.check_memory(settings, devices)
    loaded = opened_model.load_base(settings, devices.param_sharding)
    chats = "chat" in (settings.edits.prompt_style, settings.answers.prompt_style)
    if chats and not loaded.tokenizer.chat_template:
        raise NoChatTemplate(
            f"the tokenizer of {settings.model.path} has no chat template: set edits.prompt_style "
            "and answers.prompt_style to 'plain'."
        )
    for recipe in (settings.inner.lora, settings.restem.sft, settings.corpus):
        delta.target_paths(loaded.params, recipe.spec())
    session = Session(
        settings=settings,
        task=task,
        model=devices.with_attention(loaded.config, settings.model.dtype),
        tokenizer=loaded.tokenizer,
        source=loaded.source,
        devices=devices,
        base=devices.place_params(loaded.config, loaded.params),
        stop_ids=loaded.stop_ids,
        merged=loaded.merged,
        adapter=loaded.adapter,
    )
    return dataclasses.replace(
        session,
        grader=graders.make_grader(settings, session),
        rubric=graders.make_rubric(settings, session),
        automaton=_automaton(session),
    )


def _automaton(session: Session) -> constrained.Automaton | None:
    """What self-edits are held to, placed on the devices; None where they are sampled freely.

    Raises:
      ConstraintError: edits.max_new_tokens would cut them off.
      SettingsError: the grammar is no head's, or lines were to be left out of what is held to it.
    """
    grammar = session.task.grammar
    if grammar is None:
        return None
    if session.settings.restem.lines != "all":
        raise SettingsError("restem.lines must be 'all' where self-edits are held to a grammar.")
    if grammar.scope == "head" and not grammar.regex.endswith(r"\n"):
        raise SettingsError(f"the grammar of a head must end with a line's end: {grammar.regex!r}.")
    words = tokenizer.token_bytes(session.tokenizer)
    automaton = constrained.from_regex(grammar.regex, words, session.stop_ids, scope=grammar.scope)
    constrained.check_limit(automaton, session.settings.edits.max_new_tokens)
    return session.devices.replicate(automaton)
