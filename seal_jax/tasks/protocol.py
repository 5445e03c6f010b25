"""The seam between the loop and what is taught: text in, text out.

A `Task` says what is taught and asked. It knows no tokenizer, no device and no run; the loop knows
no domain. These are the types that pass between them; `tasks.base.Task` has the defaults.
"""

import dataclasses
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

Split = Literal["train", "eval"]
View = Literal["adapted", "unadapted", "reading"]
Passage = Literal["once", "per_completion", "none"]


@dataclasses.dataclass(frozen=True)
class Question:
    """One downstream question of a context.

    Attributes:
      id: unique in the task's data.
      text, answer: the question, and its gold answer ("" where there is none).
      golds: all gold answers, where the data has several; `answer` is the first.
    """

    id: str
    text: str
    answer: str
    golds: tuple[str, ...] = dataclasses.field(default=(), compare=False, repr=False)


@dataclasses.dataclass(frozen=True)
class Context:
    """What a self-edit is written about, with the questions that will test it.

    Attributes:
      id: stable across runs and machines.
      title: what it is about, such as the article that a passage is from.
      text: the passage.
      questions: that test it.
      article: what it is a part of, where that is not its title.
    """

    id: str
    title: str
    text: str
    questions: tuple[Question, ...] = ()
    article: str = ""

    @property
    def group(self) -> str:
        """What it has in common with others (article, task family); splits never share one."""
        return self.article or self.title


@dataclasses.dataclass(frozen=True)
class Skipped:
    """Something that was left out: where it is (article, paragraph, question), and why."""

    where: str
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chat:
    """A training sequence as turns of a chat, which only the tokenizer's template can render.

    Attributes:
      turns: (role, text), at least two, the last one the assistant's.
      spans: (turn, first character, one after the last) whose tokens' loss counts, beside what ends
        the assistant's turn; None is all but the header of the assistant's turn.
    """

    turns: tuple[tuple[str, str], ...]
    spans: tuple[tuple[int, int, int], ...] | None = None

    def __post_init__(self):
        if len(self.turns) < 2 or self.turns[-1][0] != "assistant":
            raise ValueError("a chat needs turns to answer, and ends with the assistant's.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reply:
    """A training sequence that is put as an exam's prompts are, answered and ended.

    All its tokens count: what is asked says what the answer belongs to.

    Attributes:
      prompt, answer: its texts.
      reading: the prompt with the context in it, for the inner loop's loss "distillation"; "" for
        none.
    """

    prompt: str
    answer: str
    reading: str = ""


Sequence_ = str | Chat | Reply  # a training sequence: a text, all of whose tokens count, or these


@dataclasses.dataclass(frozen=True, kw_only=True)
class Directives:
    """What a self-edit says about the inner update; None is as the settings say."""

    learning_rate: float | None = None
    epochs: int | None = None

    def __bool__(self) -> bool:
        return self != Directives()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a self-edit teaches: training sequences, and how they are learned.

    Attributes:
      sequences: at least one.
      directives: overrides of the inner update.
      head: the directives (or the whole recipe) as one canonical line, for records; "" for none.
    """

    sequences: tuple[Sequence_, ...]
    directives: Directives = Directives()
    head: str = ""


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Why a self-edit teaches nothing.

    Attributes:
      reason: for records and people.
      invalid: whether it is not of the form that was asked for, rather than impossible to follow.
    """

    reason: str
    invalid: bool = True


@dataclasses.dataclass(frozen=True)
class Grammar:
    """What self-edits are held to while they are sampled.

    Attributes:
      regex: of the "whole" self-edit, or of its "head", which then ends with a line's end.
    """

    regex: str
    scope: Literal["whole", "head"] = "whole"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """A prompt of an exam.

    Attributes:
      id: unique in the exam.
      question: id of the question that it asks; several prompts may ask one, and vote.
      prompt: the user's turn.
      transform: what `Task.mark` needs to read an answer to it.
    """

    id: str
    question: str
    prompt: str
    transform: Any = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """A gold answer whose log-likelihood is measured as the continuation of a prompt."""

    question: str
    prompt: str
    gold: str


@dataclasses.dataclass(frozen=True)
class Exam:
    """What a model is asked about a context: in the order that breaks ties of votes."""

    asked: tuple[Asked, ...]
    scored: tuple[Scored, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """How the answers to one exam came out.

    Attributes:
      answers: a record of JSON values a question, in the order in which they are asked: "question"
        (its id), the metrics that it has of its own, what a report shows of it ("text" or
        "attempts"), and where it is ungraded "ungraded", the reason.
      scores: by metric, of the context as a whole; None where nothing is known.
      retry: whether some of it is ungraded for want of a judge, and may be graded later.
    """

    answers: tuple[dict[str, Any], ...]
    scores: Mapping[str, float | None]
    retry: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """A score of a task.

    Attributes:
      name, label: in records, and for people.
      share: whether it is shown in per cent.
      per: whether each "question" has a value of its own, or the "context" as a whole.
      failed: what an inner loop without a result scores; None is what the unadapted model does.
    """

    name: str
    label: str
    share: bool = False
    per: Literal["question", "context"] = "question"
    failed: float | None = None


GOLD_LOG_LIKELIHOOD = Metric(name="gold_log_likelihood", label="gold log-likelihood")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounds:
    """The most that a lesson may ask for; None is what the settings of the inner loop say."""

    sequences: int | None = None
    epochs: int | None = None
    steps: int | None = None


@dataclasses.dataclass(frozen=True)
class Write:
    """A request of a source: one text of the base model for each prompt, by name.

    Attributes:
      name: of what is written, in the ledger and in the keys.
      prompts: users' turns by name. The answer is a mapping with the same names.
    """

    name: str
    prompts: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Teach:
    """A request of a source: a teacher's texts about each context; the answer is texts [C][M].

    Attributes:
      name: of what is written, in the ledger.
      prompts: users' turns by name, each answered once; the answer is a mapping with the same
        names. None is the prompts for self-edits.
    """

    name: str = "teacher"
    prompts: Mapping[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class BaseEdits:
    """A request of a source: the base model's self-edits of these contexts, texts [C][M]."""


@dataclasses.dataclass(frozen=True)
class Best:
    """A request of a source: which option earns the most on the training contexts.

    Attributes:
      options: as canonical lines, for records.
      lesson: (context, option, a base model's self-edit of the context) -> its lesson.
      edits: whether `lesson` is given the base model's self-edit; it gets "" otherwise.

    The answer is the index of the best option.
    """

    options: tuple[str, ...]
    lesson: Any
    edits: bool = False


@dataclasses.dataclass(frozen=True)
class Tell:
    """A request of a source: a line for the person who watches the run; the answer is None."""

    line: str


Request = Write | Teach | BaseEdits | Best | Tell
Lessons = list[list[Lesson | Refusal]]  # [C][M]
_Found = TypeVar("_Found")
# What a source returns: at once, or as a generator that yields requests and is sent the answers.
Asking: TypeAlias = Generator[Request, Any, _Found] | _Found


class Source(Protocol):
    """Lessons that are not an editor's self-edits. What they need of the loop, they yield for."""

    @property
    def label(self) -> str:
        """For tables."""
        ...

    def lessons(self, contexts: Sequence[Context], count: int) -> Asking[Lessons]:
        """Lessons [C][M] for one delta each; M is `count` or 1, the same for all contexts."""
        ...

    def together(
        self, contexts: Sequence[Context], count: int, passage: Passage
    ) -> Asking[list[Sequence_]]:
        """The training sequences of one delta for all contexts."""
        ...


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A graded prediction. An empty prediction is never correct, and is counted apart.

    Attributes:
      correct: the verdict; None where there is none. An ungraded prediction is not a wrong one:
        whoever takes a mean leaves it out and says how many there were.
      empty: whether the prediction has nothing visible in it.
      reason: why it is ungraded.
      retry: whether a later ask may grade it: it is ungraded for want of a judge, not for what the
        answer or the judge's reply says.

    >>> Verdict(correct=None, empty=False, reason="the judge gave no answer")
    Verdict(correct=None, empty=False, reason='the judge gave no answer', retry=False)
    """

    correct: bool | None
    empty: bool
    reason: str | None = None
    retry: bool = False

    def __post_init__(self):
        if self.correct is None and not self.reason:
            raise ValueError("an ungraded verdict (correct=None) needs the reason why.")
        if self.correct is not None and self.retry:
            raise ValueError("only an ungraded verdict (correct=None) can be asked for again.")


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


ToMark = tuple[Context, Exam, Mapping[str, str]]  # a context, its exam, and answers by prompt id
