"""A task domain with defaults: a new one writes `contexts`, `edit_prompt` and what differs."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from seal_jax.settings import Settings
from seal_jax.stats.intervals import mean
from seal_jax.tasks import directives as directives_lib
from seal_jax.tasks import sources
from seal_jax.tasks.protocol import (
    Answered,
    Asked,
    Asking,
    Bounds,
    Context,
    Directives,
    Exam,
    Grader,
    Grammar,
    Lesson,
    Mark,
    Metric,
    Passage,
    Question,
    Refusal,
    Scored,
    Sequence_,
    Skipped,
    Source,
    Split,
    ToMark,
    Verdict,
    View,
)

_NONE = Directives()
NO_TEXT = "the self-edit holds no text to train on"
_NOT_ASKED = Verdict(correct=None, empty=False, reason="no prompt of the question fits")


class Task:
    """What is taught and asked, as text. Made with the settings of a run.

    Nothing that `edit_prompt`, `sequences` and `context_sequences` return may contain a question or
    a gold answer that the context does not contain itself.

    Attributes:
      name: the domain, for people.
      context_word, question_word: what its contexts and questions are called.
      metrics: what `mark` scores, the main one first; all lie in [0, 1] or say in their docstrings
        what they are. The gold answers' log-likelihood is measured besides.
      labels: of arms that are called otherwise here.
      writes: whether there is a self-edit to sample.
      questioner: who writes the questions, "policy" or "teacher"; "" where the data has them.
      asks: whether `ask` has questions written or made.
      takes_all: whether the settings name the contexts: every round and the evaluation take all of
        a split. Otherwise rounds take fresh ones, and `evaluation.contexts` says how many are held
        out.
      typical_lengths: of texts, as known from published runs: fields of `planning.Workload`. A plan
        then makes the task of its settings alone, without its data; None counts in the contexts.
    """

    name = ""
    context_word, question_word = "context", "question"
    metrics: Sequence[Metric] = (Metric(name="accuracy", label="accuracy", share=True),)
    labels: Mapping[str, str] = {}
    writes = True
    questioner = ""
    asks = False
    takes_all = False
    typical_lengths: Mapping[str, Any] | None = None

    def __init__(self, settings: Settings):
        self.settings = settings

    # What is taught.

    def contexts(self, split: Split) -> Sequence[Context]:
        """All contexts of a split, in a fixed order; the splits share no group."""
        raise NotImplementedError

    def skipped(self, split: Split) -> Sequence[Skipped]:
        """What was left out of a split, with reasons."""
        return ()

    def difference(self, split: Split) -> str:
        """How a split differs from the paper's where that was meant; "" for not at all."""
        return ""

    def development(self) -> Sequence[Context]:
        """Contexts that settings may be tuned on: neither trained on nor evaluated."""
        return ()

    def context_from(
        self, title: str, text: str, questions: Sequence[tuple[str, str]] = (), *, id: str = ""
    ) -> Context:
        """A context of one's own; questions are pairs of text and gold answer, which may be ""."""
        name = id or title
        asked = tuple(Question(f"{name}/{i}", q, gold) for i, (q, gold) in enumerate(questions))
        return Context(id=name, title=title, text=text.strip(), questions=asked)

    def reference_texts(self, split: Split) -> Sequence[str]:
        """Texts that have nothing to do with what is learned: their loss shows what is lost."""
        return [context.text for context in self.contexts(split)]

    def show(self, context: Context) -> Mapping[str, Any]:
        """What a report shows of a context beside its text, as JSON values."""
        return {}

    def draw(self, context: Context, answers: Sequence[Mapping[str, Any]], out: str) -> None:
        """Draws a context and the marked answers to it into a PNG file.

        Raises:
          ValueError: this domain has no pictures.
        """
        raise ValueError(f"there are no pictures of {self.name or type(self).__name__}.")

    def ask(self, contexts: Sequence[Context], by: str) -> Asking[Sequence[Context]]:
        """The contexts with questions by the "policy" or the "teacher", or made by "rule"."""
        return contexts

    # From a self-edit to a lesson.

    def edit_prompt(self, context: Context) -> str:
        """The user's turn, or the text to continue, from which the policy writes a self-edit."""
        raise NotImplementedError

    @property
    def preface(self) -> str:
        """What goes before `edit_prompt`: it asks for directives where the settings want some."""
        return directives_lib.preface(self._names, self._limits) if self._names else ""

    @property
    def grammar(self) -> Grammar | None:
        """What the self-edit is held to while it is sampled."""
        if not self._names or not self.settings.directives.constrained:
            return None
        return Grammar(directives_lib.regex(self._names, self._limits), "head")

    def read(self, context: Context, self_edit: str, draw: int) -> Lesson | Refusal:
        """The lesson of a self-edit.

        Args:
          draw: number of the inner loop, for a domain that draws its training data.
        """
        try:
            said, body = self._split(self_edit)
        except directives_lib.HeadError as error:
            return Refusal(f"not directives: {error}")
        return self.read_body(context, body, said)

    def read_body(self, context: Context, body: str, said: Directives = _NONE) -> Lesson | Refusal:
        """The lesson of a self-edit without its directives, which are given apart."""
        sequences = tuple(self.sequences(context, body))
        if not sequences:
            return Refusal(NO_TEXT, invalid=False)
        head = directives_lib.write(said, self._names) if said else ""
        return Lesson(sequences=sequences, directives=said, head=head)

    def body(self, self_edit: str) -> str:
        """A self-edit without its directives; all of it where it has none."""
        try:
            return self._split(self_edit)[1]
        except directives_lib.HeadError:
            return self_edit

    def redirect(self, self_edit: str, other: str) -> str:
        """A self-edit with the directives of another one in the place of its own."""
        return f"{other.lstrip().partition(chr(10))[0]}\n{self.body(self_edit)}"

    def directives_of(self, head: str) -> Directives:
        """The directives that a line says.

        Raises:
          HeadError: none, or others than the settings allow.
        """
        return self._split(head)[0]

    def sequences(self, context: Context, body: str) -> Sequence[Sequence_]:
        """The training sequences of a self-edit; none where it says nothing."""
        return [body] if body.strip() else []

    def context_sequences(self, context: Context) -> Sequence[Sequence_]:
        """The training sequences of the context itself."""
        return [context.text]

    def context_lesson(self, context: Context) -> Lesson:
        """The lesson of the context itself."""
        return Lesson(sequences=tuple(self.context_sequences(context)))

    def read_many(
        self, context: Context, bodies: Sequence[str], passage: Passage
    ) -> Sequence[Sequence_]:
        """A context's part of what one delta learns of many contexts.

        Args:
          bodies: self-edits about the context; none is the context alone.
          passage: how often the context itself is there: "once", once for each body that says
            something (at least once), or not at all.
        """
        own = list(self.context_sequences(context))
        read = [[s for s in self.sequences(context, body) if s not in own] for body in bodies]
        said = [sequence for of_body in read for sequence in of_body]
        times = {"once": 1, "per_completion": max(sum(map(bool, read)), 1), "none": not bodies}
        return said + own * times[passage]

    @property
    def sources(self) -> Mapping[str, Source]:
        """Lessons that are not an editor's self-edits, by the name of their arm."""
        found: dict[str, Source] = {
            "passage": sources.ContextAlone(self),
            "passage_steps": sources.ContextAsOften(self),
            "teacher": sources.Teacher(self),
        }
        if self._names:
            found |= sources.directed(self)
        return found

    @property
    def directs(self) -> bool:
        """Whether self-edits say how they are learned."""
        return bool(self._names)

    def describe(self, lessons: Sequence[Sequence[Lesson | Refusal]]) -> dict[str, Any]:
        """What directives an editor writes, as figures."""
        return directives_lib.describe(lessons)

    def bounds(self) -> Bounds:
        """The most that a lesson asks for."""
        return Bounds(epochs=self._limits.max_epochs if "epochs" in self._names else None)

    # What is asked, and how it came out.

    def query(self, context: Context, question: Question) -> str:
        """What the adapted model is asked; never contains the context."""
        return question.text

    def reading_query(self, context: Context, question: Question) -> str:
        """A question that comes with the context: what reading alone is worth."""
        return f"{context.text}\n\n{self.query(context, question)}"

    def exam(self, context: Context, view: View) -> Exam:
        """What a model is asked about a context.

        Args:
          view: of the "adapted" or "unadapted" model, or "reading", with the context in the prompt.
        """
        put = self.reading_query if view == "reading" else self.query
        prompts = [(q, put(context, q)) for q in context.questions]
        return Exam(
            tuple(Asked(id=q.id, question=q.id, prompt=prompt) for q, prompt in prompts),
            tuple(Scored(question=q.id, prompt=prompt, gold=q.answer) for q, prompt in prompts),
        )

    def practice(self, context: Context) -> Sequence[Context]:
        """The context as others, each of which asks for a part of it; none where it has none."""
        return ()

    def mark(self, batch: Sequence[ToMark], grader: Grader) -> list[Mark]:
        """How answers came out. Of several answers to a question the one with most votes counts.

        Args:
          batch: contexts, their exams, and answers by prompt id; prompts that did not fit are
            absent.
        """
        voted = [self._voted(*one) for one in batch]
        every = [given for of in voted for _, given, _ in of if given]
        verdicts = iter(grader.grade([given for given in every if given.gold.strip()]))
        marks = []
        for (context, _, _), of in zip(batch, voted, strict=True):
            graded = [(one, _without_gold(one[1]) or next(verdicts)) for one in of]
            answers = tuple(_answer(*one, verdict) for one, verdict in graded)
            scores = {"accuracy": mean(answer["correct"] for answer in answers)}
            marks.append(
                Mark(
                    answers=answers,
                    scores=scores | self.more_scores(context, answers),
                    retry=any(verdict.retry for _, verdict in graded),
                )
            )
        return marks

    def graded_by(self, grader: Grader) -> str:
        """What says which answers are right, for records: those of others are not compared."""
        by = f"; questions and answers written by the {self.questioner}" if self.questioner else ""
        return f"{grader.name}{by}"

    def more_scores(
        self, context: Context, answers: Sequence[Mapping[str, Any]]
    ) -> dict[str, float | None]:
        """Scores of the context as a whole, of the metrics after the first."""
        return {}

    def _voted(
        self, context: Context, exam: Exam, texts: Mapping[str, str]
    ) -> list[tuple[str, Answered | None, dict[str, int]]]:
        """(id, answer, votes by answer) of each question; None where no prompt of it did fit."""
        questions = {question.id: question for question in context.questions}
        given: dict[str, list[tuple[str, str]]] = {one.question: [] for one in exam.asked}
        for one in exam.asked:
            if one.id in texts:
                given[one.question].append((texts[one.id], one.prompt))
        found: list[tuple[str, Answered | None, dict[str, int]]] = []
        for id, of in given.items():
            votes = collections.Counter(text for text, _ in of)
            answer = None
            if votes:
                [(text, _)] = votes.most_common(1)
                question = questions[id]
                answer = Answered(dict(reversed(of))[text], question.text, question.answer, text)
            found.append((id, answer, dict(votes) if len(of) > 1 else {}))
        return found

    def _split(self, self_edit: str) -> tuple[Directives, str]:
        """The directives of a self-edit, where the settings want some, and the rest."""
        if not self._names:
            return _NONE, self_edit
        return directives_lib.split(self_edit, self._names, self._limits)

    @property
    def _names(self) -> Sequence[str]:
        return self.settings.edits.directives

    @property
    def _limits(self) -> directives_lib.Limits:
        return self.settings.directives.limits()


def _without_gold(given: Answered | None) -> Verdict | None:
    """The verdict on a question that has no answer, or no gold one; None for the others."""
    if given is None:
        return _NOT_ASKED
    if given.gold.strip():
        return None
    empty = not given.prediction.strip()
    return Verdict(correct=None, empty=empty, reason="the question has no gold answer")


def _answer(
    id: str, given: Answered | None, votes: dict[str, int], verdict: Verdict
) -> dict[str, Any]:
    """The record of a graded answer."""
    return {
        "question": id,
        "text": given.prediction if given else "",
        "correct": verdict.correct,
        "empty": verdict.empty,
        "ungraded": verdict.reason if verdict.correct is None else None,
        **({"votes": votes} if votes else {}),
    }
