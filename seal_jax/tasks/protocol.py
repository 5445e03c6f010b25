"""What a task domain offers to the outer loop: contexts, prompts, sequences, queries, verdicts."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, Protocol

Split = Literal["train", "eval"]


@dataclasses.dataclass(frozen=True)
class Question:
    """One downstream question of a context, with its gold answer."""

    id: str
    text: str
    answer: str


@dataclasses.dataclass(frozen=True)
class Context:
    """What a self-edit is written about: a passage with the questions that will test it.

    `id` is stable across runs and machines; `title` names the article that the passage is from.
    """

    id: str
    title: str
    text: str
    questions: tuple[Question, ...]


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A part of a file that was left out: where it is (article, paragraph, question) and why."""

    where: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A graded prediction. An empty prediction is never correct, and is counted apart.

    Attributes:
      correct: the verdict; None where there is none. An ungraded prediction is not a wrong one:
        whoever takes a mean leaves it out and says how many there were.
      empty: whether the prediction has nothing visible in it.
      reason: why it is ungraded.

    >>> Verdict(correct=None, empty=False, reason="the judge gave no answer")
    Verdict(correct=None, empty=False, reason='the judge gave no answer')
    """

    correct: bool | None
    empty: bool
    reason: str | None = None

    def __post_init__(self):
        if self.correct is None and not self.reason:
            raise ValueError("an ungraded verdict (correct=None) needs the reason why.")

    def __repr__(self) -> str:
        why = f", reason={self.reason!r}" if self.reason is not None else ""
        return f"Verdict(correct={self.correct}, empty={self.empty}{why})"


@dataclasses.dataclass(frozen=True)
class Answered:
    """A prediction to be graded.

    Attributes:
      query: the whole user's turn that was answered, with the topic: what a judge sees.
      question: the question alone.
      gold: its gold answer.
      prediction: the answer's text.
    """

    query: str
    question: str
    gold: str
    prediction: str


class Grader(Protocol):
    """Whoever says which predictions are right."""

    @property
    def name(self) -> str:
        """The kind of grader, its model and its prompt's version.

        Results record it, and verdicts under different names are not compared.
        """
        ...

    def grade(self, answers: Sequence[Answered]) -> list[Verdict]:
        """A verdict on each of `answers`, in their order."""
        ...


class Task(Protocol):
    """A task domain. Prompts and queries are the user's turn as plain text.

    Nothing that `edit_prompt`, `sequences` or `passage_sequences` returns may contain a question
    or a gold answer that the passage does not contain itself.
    """

    @property
    def writes(self) -> bool:
        """Whether there is a self-edit to sample; without one, `edit_prompt` must not be called,
        and `sequences` are those of the passage."""
        ...

    def contexts(self, split: Split) -> Sequence[Context]:
        """All contexts of a split, in file order; the splits share no article."""
        ...

    def skipped(self, split: Split) -> Sequence[Skipped]:
        """What was left out of a split, with reasons."""
        ...

    def difference(self, split: Split) -> str:
        """How a split differs from the paper's where that was meant; "" for not at all."""
        ...

    def edit_prompt(self, context: Context) -> str:
        """The prompt from which the policy writes a self-edit."""
        ...

    def sequences(self, context: Context, self_edit: str) -> list[str]:
        """The training sequences that a self-edit says; empty where it says nothing."""
        ...

    def passage_sequences(self, context: Context) -> list[str]:
        """The training sequences of the passage-only arm."""
        ...

    def query(self, context: Context, question: Question) -> str:
        """What the adapted model is asked; never contains the passage."""
        ...

    def reading_query(self, context: Context, question: Question) -> str:
        """A question that comes with the context: what reading alone is worth (a ceiling)."""
        ...

    def corpus_sequences(
        self,
        context: Context,
        completions: Sequence[str],
        *,
        passage: Literal["once", "per_completion", "none"] = "once",
    ) -> list[str]:
        """The training sequences of a context in continued pretraining over many contexts."""
        ...
