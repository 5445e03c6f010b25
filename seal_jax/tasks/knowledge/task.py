"""Knowledge incorporation: self-edits about passages, tested by questions without the passage."""

import dataclasses
import functools
import importlib.resources
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from seal_jax.settings import Data, Reward, Settings
from seal_jax.stats.intervals import mean
from seal_jax.tasks import splits
from seal_jax.tasks.base import Task
from seal_jax.tasks.knowledge import asking, edits_file, files, gaps, overlap, parse, prompt, squad
from seal_jax.tasks.knowledge.entity_graph import EntityGraph
from seal_jax.tasks.knowledge.instructed import Instructed
from seal_jax.tasks.knowledge.self_distillation import SelfDistillation
from seal_jax.tasks.knowledge.sentences import Sentences
from seal_jax.tasks.protocol import (
    Asking,
    Context,
    Grader,
    Mark,
    Metric,
    Passage,
    Question,
    Reply,
    Sequence_,
    Skipped,
    Source,
    Split,
    Teach,
    ToMark,
    Write,
)
from seal_jax.tasks.sources import Stored
from seal_jax.tasks.splits import DataError

_NAMES: dict[Split, str] = {"train": "training", "eval": "evaluation"}
_PACKAGED = importlib.resources.files("seal_jax.tasks.knowledge") / "data"
_HELD_BACK = ("demo:confirm", "demo:reserve")  # evaluation passages that no design may look at
_MOST_WRITTEN = 5  # questions of a passage, about as many as SQuAD has


class KnowledgeTask(Task):
    """SEAL's knowledge incorporation (arXiv 2506.10943), on passages of SQuAD's form.

    What the policy and the inner loop see is made of titles, passages and self-edits only;
    questions enter `query` and `reading_query`, and gold answers nothing at all.
    """

    name = "knowledge incorporation"
    asks = True
    typical_lengths: Mapping[str, int] | None = {}  # as `planning.workload` has them

    def __init__(self, settings: Settings):
        """Reads both splits and the templates.

        Raises:
          DataError: a file cannot be used, or is not the one that a part is of; the two splits
            share an article or a passage; or the limits leave nothing.
          PromptError: unknown edit format, or a template that cannot be used.
        """
        super().__init__(settings)
        folder = settings.prompts.dir or None
        style = settings.answers.prompt_style
        self._prompts = prompt.load_prompts(
            settings.prompts.edit_format,
            folder,
            edit_style=settings.edits.prompt_style,
            question_style=style,
            topic_prefix=settings.answers.topic_prefix,
        )
        self._reading = prompt.load_template("reading", asking.READING, folder, style=style)
        self._splits = _read(settings.data, settings.reward)
        if self.questioner or settings.reward.kind == "agreement":
            style, wanted = settings.edits.prompt_style, asking.READING - {"question"}
            self._ask = prompt.load_template("ask", wanted, folder, style=style)

    def contexts(self, split: Split) -> list[Context]:
        """All contexts of a split, in file order, within the limits."""
        return list(self._splits[split].contexts)

    def skipped(self, split: Split) -> list[Skipped]:
        """What was left out of a split, with reasons.

        First the parts of the file that cannot be used, then repeated passages, then those that are
        too short or too long; not what another part or a limit on their number leaves out.
        """
        return list(self._splits[split].skipped)

    def difference(self, split: Split) -> str:
        """How a "like_paper" split differs from the paper's; "" for equal or other parts."""
        return self._splits[split].difference

    def development(self) -> list[Context]:
        """The half of the evaluation file's articles that the evaluation leaves out."""
        data = dataclasses.replace(self.settings.data, eval_part="development")
        return _read(data, self.settings.reward)["eval"].contexts

    @property
    def questioner(self) -> str:  # type: ignore[override]
        """As data.questions says."""
        by = self.settings.data.questions
        return "" if by == "file" else by

    def ask(self, contexts: Sequence[Context], by: str) -> Asking[Sequence[Context]]:
        """The contexts with questions that were read in what the policy or a teacher wrote, or with
        those that gaps make of their sentences."""
        if by == "rule":
            most = self.most_written
            return [dataclasses.replace(c, questions=gaps.questions(c, most)) for c in contexts]
        values = {c.id: {"title": c.title, "passage": c.text} for c in contexts}
        prompts = {id: prompt.render(self._ask, of) for id, of in values.items()}
        texts = yield (Teach if by == "teacher" else Write)("questions", prompts)
        return [
            dataclasses.replace(c, questions=asking.questions(c, texts[c.id])[: self.most_written])
            for c in contexts
        ]

    @property
    def most_written(self) -> int:
        """The most questions that are written or made of a context."""
        return self.settings.data.max_questions or _MOST_WRITTEN

    @property
    def writes(self) -> bool:  # type: ignore[override]
        """False for a format without a self-edit ("none"): there is nothing to sample."""
        return self._prompts.writes

    @property
    def sources(self) -> dict[str, Source]:
        """Those of every task and data.edits, sentences, and texts that the base model writes."""
        found = [
            Instructed(self, "several_prompts", "several prompts a passage"),
            Instructed(self, "study_strategies", "study strategies", "strategies"),
            Instructed(self, "own_prompts", "prompts of its own", "instructions", frozenset()),
        ]
        own = {
            **super().sources,
            "sentences": Sentences(self),
            "entity_graph": EntityGraph(self),
            "self_distillation": SelfDistillation(self),
            **{source.name: source for source in found},
        }
        if taken := own.keys() & self._stored:
            raise DataError(
                f"{self.settings.data.edits}: the source {min(taken)!r} has the name of an arm: "
                "call it something else."
            )
        return {**own, **{name: Stored(self, name, of) for name, of in self._stored.items()}}

    @functools.cached_property
    def _stored(self) -> dict[str, dict[str, list[str]]]:
        """The texts of data.edits by source and context id."""
        path = self.settings.data.edits
        return edits_file.read(path).sources if path else {}

    @property
    def metrics(self) -> Sequence[Metric]:  # type: ignore[override]
        """Accuracy, and where texts are compared F1."""
        f1 = Metric(name="f1", label="F1", share=True)
        return [*super().metrics, *([f1] if self._stored else [])]

    def mark(self, batch: Sequence[ToMark], grader: Grader) -> list[Mark]:
        """As the base does, with each answer's F1 where it is a metric."""
        marks = super().mark(batch, grader)
        return [self._with_f1(c, of) for (c, *_), of in zip(batch, marks, strict=True)]

    def _with_f1(self, context: Context, mark: Mark) -> Mark:
        if not self._stored:
            return mark
        golds = {one.id: one.golds or (one.answer,) for one in context.questions}
        answers = tuple(
            {**of, "f1": overlap.f1(of["text"], golds[of["question"]])} for of in mark.answers
        )
        scores = {**mark.scores, "f1": mean(of["f1"] for of in answers)}
        return dataclasses.replace(mark, answers=answers, scores=scores)

    def edit_prompt(self, context: Context) -> str:
        """The user's turn that asks for a self-edit: the template with title and passage.

        Raises:
          PromptError: the format has no self-edit (see `writes`).
        """
        if not self.writes:
            raise prompt.PromptError(
                "this edit format has no self-edit to ask for: only the passage is trained on. Set "
                "prompts.edit_format to another one, such as 'implications'."
            )
        values = {"title": context.title, "passage": context.text}
        return prompt.render(self._prompts.edit, values)

    def sequences(self, context: Context, body: str) -> Sequence[Sequence_]:
        """The training sequences of a self-edit, the passage last.

        Empty, without the passage, where nothing visible is in the self-edit: such a candidate
        gets no reward, and the caller records why. A format without a self-edit gives the passage.
        """
        if not self.writes:
            return self.context_sequences(context)
        return self.pieces(context, body, rule=self._prompts.split, after=self._prompts.after)

    def pieces(
        self, context: Context, text: str, *, rule: str = "lines", after: str | None = None
    ) -> Sequence[Sequence_]:
        """The training sequences of a text that somebody wrote about a passage, the passage last.

        Empty where nothing visible is in the text.

        Args:
          rule, after: how it is split; see `parse.training_sequences`.
        """
        edits = self.settings.edits
        found = parse.training_sequences(
            context.title,
            context.text,
            text,
            rule=rule,
            after=after,
            append_passage=edits.append_passage,
            title_prefix=edits.title_prefix,
        )
        if not found or not edits.append_passage:
            return found
        return [*found[:-1], *self.context_sequences(context)]

    def context_sequences(self, context: Context) -> list[Sequence_]:
        """The passage, after its questions with a gap where they are wanted."""
        edits = self.settings.edits
        asked = [
            self.reply(context, question, answer)
            for question, answer in gaps.gaps(context.text, edits.gaps, context.title)
        ]
        prefix = edits.title_prefix
        return [*asked, parse.sequence(context.title, context.text, title_prefix=prefix)]

    def reply(self, context: Context, question: str, answer: str) -> Reply:
        """A question with an answer to learn."""
        asked = Question("", question, "")
        reading = self.reading_query(context, asked)
        return Reply(prompt=self.query(context, asked), answer=answer, reading=reading)

    def read_many(self, context: Context, bodies: Sequence[str], passage: Passage) -> list[str]:
        """The sequences of one passage in continued pretraining over many passages.

        Whole completions, not lines (see `parse.corpus_sequences`, which says how often the passage
        is there). Without completions, or in a format without a self-edit, it is the passage.
        """
        return parse.corpus_sequences(
            context.title,
            context.text,
            bodies if self.writes else (),
            passage=passage,
            after=self._prompts.after,
            title_prefix=self.settings.edits.title_prefix,
        )

    def query(self, context: Context, question: Question) -> str:
        """The user's turn that asks a question, under its topic or alone; never the passage."""
        values = {"title": context.title, "question": question.text}
        return prompt.render(self._prompts.question, values)

    def reading_query(self, context: Context, question: Question) -> str:
        """The user's turn that asks a question with its passage: what reading alone is worth."""
        values = {"title": context.title, "passage": context.text, "question": question.text}
        return prompt.render(self._reading, values)


class _Loaded(NamedTuple):
    """The contexts of a split, and what to say about them."""

    contexts: list[Context]
    skipped: list[Skipped]
    difference: str


def _read(data: Data, reward: Reward) -> dict[Split, _Loaded]:
    """Both splits, which share nothing, within their limits."""
    loaded = {split: _part(split, data, *found) for split, found in _load(data, reward).items()}
    splits.check_disjoint(*(one.contexts for one in loaded.values()))
    return {split: _limit(one, split, data) for split, one in loaded.items()}


def _load(data: Data, reward: Reward) -> dict[Split, tuple[list[Context], list[Skipped]]]:
    """What the files of both splits have; where one holds both, some of its documents each.

    Where the reward asks nothing, contexts may have no questions, if those of a split all have
    none.
    """
    silent = data.questions != "file" or not reward.needs_inner_loop
    training = _of("train", data, silent or reward.kind == "agreement")
    found: dict[Split, tuple[list[Context], list[Skipped]]] = {"train": training}
    if data.train_path and not (data.eval_path or data.edits) and files.is_own(data.train_path):
        contexts, repeated = squad.distinct(found["train"][0])
        skipped = found["train"][1] + repeated
        try:
            kept, held_out = files.hold_out(contexts, data.held_out)
        except DataError as error:
            raise DataError(
                f"data.train_path={data.train_path}: {error}. Give data.eval_path, or a directory "
                "of several."
            ) from None
        found = {"train": (kept, skipped), "eval": (held_out, [])}
    else:
        found["eval"] = _of("eval", data, silent)
    if data.questions == "file":
        contexts, skipped = found["eval"]
        found["eval"] = [c for c in contexts if c.questions] or contexts, skipped
        return found
    return {
        split: ([dataclasses.replace(c, questions=()) for c in contexts], skipped)
        for split, (contexts, skipped) in found.items()
    }


def _of(split: Split, data: Data, silent: bool) -> tuple[list[Context], list[Skipped]]:
    """What a file, a directory or a TFDS dataset has."""
    if split == "eval" and data.edits:
        found = edits_file.read(data.edits)
        return found.contexts, found.skipped
    source = getattr(data, f"{split}_path")
    if source.startswith("tfds:"):
        from seal_jax.tasks.knowledge.tfds import reader  # TFDS takes its time to import

        return reader.load(source, data_dir=data.dir or None)
    if source.startswith("demo:") and (split == "train" or source not in _HELD_BACK):
        raise DataError(
            f"data.{split}_path={source}: only the demo's passages that are held back have such "
            f"names, and only data.eval_path takes them: {' or '.join(_HELD_BACK)}."
        )
    if not source or source in _HELD_BACK:
        return squad.load(_PACKAGED / f"demo_{source.removeprefix('demo:') or split}.json")
    return files.load(source, silent=silent, max_words=data.max_words)


def _part(split: Split, data: Data, contexts: list[Context], skipped: list[Skipped]) -> _Loaded:
    """The part of a split that the settings name, without repeated passages."""
    source = data.edits if split == "eval" and data.edits else getattr(data, f"{split}_path")
    try:
        chosen = splits.part_of(contexts, getattr(data, f"{split}_part"), data.development)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None
    contexts, repeated = squad.distinct(chosen.contexts)
    return _Loaded(contexts, skipped + repeated, chosen.difference)


def _limit(loaded: _Loaded, split: Split, data: Data) -> _Loaded:
    """The contexts whose passages have the right number of words, as many as the split may have."""
    low, high = data.min_words, data.max_words or float("inf")
    kept, skipped, lengths = [], [], []
    for context in loaded.contexts:
        words = len(context.text.split())
        lengths.append(words)
        if low <= words <= high:
            kept.append(context)
            continue
        reason = f"fewer words than data.min_words ({low})"
        if words > high:
            reason = f"more words than data.max_words ({high})"
        skipped.append(Skipped(f"{context.id} ({words} words)", f"the passage has {reason}"))
    if not kept:
        raise DataError(
            f"no {_NAMES[split]} passage has between data.min_words={low} and "
            f"data.max_words={high} words; the {len(lengths)} passages have {min(lengths)} to "
            f"{max(lengths)}. Widen the limits."
        )
    limit = getattr(data, f"max_{split}_contexts")
    return _Loaded(kept[: limit or None], loaded.skipped + skipped, loaded.difference)
