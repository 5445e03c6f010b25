"""Graders of answers: the local rules, and a model that is asked whether an answer is right.

A model judge sees the question with its topic, the gold answer and the prediction, and replies yes
or no. Whatever else it replies, and whatever keeps it from replying, leaves the answer ungraded:
that is not a wrong answer.
"""

import dataclasses
import functools
import hashlib
import importlib.resources
import re
from collections.abc import Callable, Sequence

from seal_jax.judges import endpoint
from seal_jax.judges.endpoint import Completion
from seal_jax.judges.local import grade as local
from seal_jax.settings.endpoint import EndpointSettings
from seal_jax.tasks.knowledge import prompt
from seal_jax.tasks.knowledge.parse import is_blank
from seal_jax.tasks.protocol import Answered, Verdict

_PLACEHOLDERS = frozenset({"query", "gold", "prediction"})
_READING = 1  # of replies: a change of `read_reply` changes the name of every judge
_THOUGHTS = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
# The word alone, or before punctuation or a reason: not "no idea", "no-one" or "yes it is not".
_FIRST_WORD = re.compile(
    r"[\W_]*(yes|no)(?=[\s*_]*(?:$|[^\w\s*-]|-(?!\w)|\n|(?:because|since|as)\b))"
)
_NEXT_WORD = re.compile(r"[\W_]*(?:(?:and|or|but|also)\b[\W_]*)?(yes|no)\b")
_LAST_WORD = re.compile(r"\b(yes|no)[\W_]*$")


@functools.cache
def packaged_template() -> str:
    """The judge's prompt of the package."""
    file = importlib.resources.files("seal_jax.tasks.knowledge") / "templates" / "judge.txt"
    return file.read_text("utf-8").rstrip("\n")


def check_template(template: str) -> None:
    """Raises prompt.PromptError unless a template has {query}, {gold} and {prediction} alone."""
    prompt.check_template(template, _PLACEHOLDERS, "the judge's template")


def version(template: str) -> str:
    """Eight hexadecimal digits that change with the template and with how replies are read."""
    return hashlib.sha256(f"{_READING}\n{template}".encode()).hexdigest()[:8]


def judge_prompt(template: str, answer: Answered) -> str:
    """What the judge is asked; values are put in literally."""
    values = {"query": answer.query, "gold": answer.gold, "prediction": answer.prediction}
    return prompt.render(template, values)


def read_reply(reply: str) -> bool | None:
    """A judge's yes or no; None for anything else.

    The reply must begin with the word, alone or before punctuation or a reason, and neither go on
    nor end with the opposite one. A train of thought in <think> tags before it is left out.

    >>> [read_reply(reply) for reply in ("Yes.", "**No**", "yes, because it is 21")]
    [True, False, True]
    >>> [read_reply(reply) for reply in ("yes and no", "No idea", "It is right", "")]
    [None, None, None, None]
    """
    text = _THOUGHTS.sub("", reply, count=1).casefold()
    first = _FIRST_WORD.match(text)
    if not first:
        return None
    rest = text[first.end() :]
    others = {m[1] for m in (_NEXT_WORD.match(rest), _LAST_WORD.search(rest)) if m}
    return None if others - {first[1]} else first[1] == "yes"


def grade_by_asking(
    answers: Sequence[Answered],
    template: str,
    ask: Callable[[list[str]], list[tuple[bool | None, str | None]]],
) -> list[Verdict]:
    """Grades answers by a judge that is asked each different prompt once.

    Args:
      answers: what to grade. Those with nothing visible in them are wrong without asking.
      template: of the judge's prompt.
      ask: from prompts to, for each, (yes or no or None, why None).

    Returns:
      A verdict an answer, in order.
    """
    prompts = {
        index: judge_prompt(template, answer)
        for index, answer in enumerate(answers)
        if not is_blank(answer.prediction)
    }
    different = list(dict.fromkeys(prompts.values()))
    found = dict(zip(different, ask(different) if different else [], strict=True))
    verdicts = []
    for index in range(len(answers)):
        if index not in prompts:
            verdicts.append(Verdict(correct=False, empty=True))
        else:
            correct, reason = found[prompts[index]]
            verdicts.append(Verdict(correct=correct, empty=False, reason=reason))
    return verdicts


@dataclasses.dataclass(frozen=True)
class LocalGrader:
    """The rules of `grade.grade`: no model, the same verdict everywhere, nothing ungraded."""

    @property
    def name(self) -> str:
        return local.GRADER

    def grade(self, answers: Sequence[Answered]) -> list[Verdict]:
        """A verdict on each of `answers`, in their order."""
        return [local.grade(a.gold, a.prediction, a.question) for a in answers]


@dataclasses.dataclass(frozen=True)
class EndpointGrader:
    """A model behind an OpenAI-compatible endpoint as the judge.

    Attributes:
      settings: the endpoint; its cache keeps the replies.
      template: the judge's prompt, with {query}, {gold} and {prediction}.
      report: called with each completion as soon as it is there; `endpoint.cost` adds them up.
    """

    settings: EndpointSettings
    template: str = dataclasses.field(default_factory=packaged_template)
    report: Callable[[Completion], None] | None = None

    def __post_init__(self):
        check_template(self.template)

    @property
    def name(self) -> str:
        return f"endpoint {self.settings.model}, prompt {version(self.template)}"

    def grade(self, answers: Sequence[Answered]) -> list[Verdict]:
        """A verdict on each of `answers`, in their order.

        Raises:
          EndpointError: the endpoint cannot complete anything.
        """
        return grade_by_asking(answers, self.template, self._ask)

    def _ask(self, prompts: list[str]) -> list[tuple[bool | None, str | None]]:
        completions = endpoint.complete(self.settings, prompts, report=self.report)
        return [_judgement(completion) for completion in completions]


def _judgement(completion: Completion) -> tuple[bool | None, str | None]:
    """Yes, no, or why neither."""
    if completion.text is None:
        return None, f"the judge did not reply: {completion.reason}"
    if (correct := read_reply(completion.text)) is not None:
        return correct, None
    shown = " ".join(completion.text.split())
    shown = f"{shown[:80]}…" if len(shown) > 80 else shown
    return None, f"the judge replied neither yes nor no: {shown!r}"
