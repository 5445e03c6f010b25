"""A rubric: a judge scores a self-edit by reading it, without an inner loop.

The judge sees the title, the passage and the self-edit, and never a question or a gold answer. It
gives 1 to 5 for coverage, faithfulness and self-containedness; the score is their mean. Cheaper
than an inner loop, and only a proxy for what the self-edit teaches.
"""

import dataclasses
import os
import re
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from seal_jax.judges import chat_reply, endpoint
from seal_jax.judges.endpoint import Completion
from seal_jax.judges.reply_model import ReplyModel
from seal_jax.settings.endpoint import EndpointSettings
from seal_jax.tasks import generated
from seal_jax.tasks.knowledge import prompt
from seal_jax.tasks.protocol import Context

LOWEST, HIGHEST = 1.0, 5.0
CRITERIA = ("Coverage", "Faithfulness", "Self-containedness")

_PLACEHOLDERS = frozenset({"title", "passage", "self_edit"})
# "4", "4.5", "4/5" and "4 out of 5"; not the scale "1-5" or "1 to 5", and not "4 of 10".
_NUMBER = (
    r"(?<![\d.,/+-])(?P<{name}>\d+(?:\.\d+)?)(?![\d%])(?!\.\d)(?!\s*(?:[-\u2013]|to\b)\s*\d)"
    r"(?!\s*(?:/|(?:out\s+)?of)\s*(?!5\b)\d)(?:\s*(?:/|out\s+of|of)\s*5\b)?"
)
# Between a label and its number: markup, a scale in brackets, and one sign or "is". Bounded, or a
# reply of nothing but asterisks would take quadratic time.
_BETWEEN = (
    r"[\"'*_`]{0,5}\s?(?:\([^()\n]{0,40}\)|\[[^\[\]\n]{0,40}\])?[\"'*_`\s]{0,5}"
    r"(?:[:=\uff1a|]|is\b|-|\u2013)[\"'*_`\s(\[]{0,9}"
)
_CRITERIA = {
    "coverage": r"\bcoverage",
    "faithfulness": r"\bfaithful(?:ness)?",
    "self_containedness": r"\bself[\s_-]*contain(?:ed)?(?:ness|ment)?",
}
# A number that is a verdict and no part of a sentence: "3", "4/5: most facts", "I give it a 2".
_VERDICT = (
    rf"\A[\W_]*{_NUMBER.format(name='n')}[\"'*_`\])]*\s*(?:[.,:;\n\u2013-]|\Z)"
    rf"|\b(?:I|I['\u2019](?:d|ll)|would|will|notes|they)\s(?:give|gave|rate|score|deserve)[ds]?\b"
    rf"[^.\n\d]{{0,40}}?{_NUMBER.format(name='m')}"
)
_OVERALL = r"\b(?:overall|total|final|mean|average)?[\s_]{0,9}(?:score|rating|grade|overall)"


class Scored(NamedTuple):
    """A self-edit's score, or None and why there is none, and whether a later ask may give one."""

    score: float | None
    reason: str | None
    retry: bool = False


class Rubric(Protocol):
    """Whoever scores self-edits without an inner loop."""

    def score(self, pairs: Sequence[tuple[Context, str]]) -> list[Scored]:
        """A score of each self-edit about its context, in their order."""
        ...


def load_template(prompts_dir: str | os.PathLike | None = None) -> str:
    """Reads `rubric.txt`; see `prompt.load_template`.

    Raises:
      PromptError: the template cannot be used.
    """
    return prompt.load_template("rubric", _PLACEHOLDERS, prompts_dir, package="seal_jax.judges")


def rubric_prompt(template: str, context: Context, self_edit: str) -> str:
    """The judge's prompt about a self-edit."""
    values = {"title": context.title, "passage": context.text, "self_edit": self_edit}
    return prompt.render(template, values)


def parse_score(reply: str) -> float | None:
    """The score of a judge's reply, from 1 to 5; None where it gives none.

    In this order: the mean of the three criteria, where each has a number; three numbers and
    nothing else; an overall score; the only number there is, where it reads as a verdict. A
    criterion that is scored twice counts with its last score. Two criteria of three are no score,
    and neither is a number off the scale: it is not known what was meant.

    >>> parse_score("**Coverage (1-5):** 4/5\\nFaithfulness: 5\\nSelf-containedness: 3")
    4.0
    >>> parse_score("3"), parse_score("Score: 2 out of 5"), parse_score("Good."), parse_score("8")
    (3.0, 2.0, None, None)
    """
    lines = generated.read(reply).text.splitlines()
    text = "\n".join(" ".join(line.split()) for line in lines if line.strip())
    scores = {name: _labelled(label, text) for name, label in _CRITERIA.items()}
    given = [score for score in scores.values() if score is not None]
    if len(given) == len(scores):
        return _mean(given)
    numbers = [float(match["n"]) for match in re.finditer(_NUMBER.format(name="n"), text)]
    if len(numbers) == len(scores) and not re.search(r"[^\W\d_]", text):
        return _mean(numbers)
    overall = _labelled(_OVERALL, text)
    if overall is not None:
        return _mean([overall])
    if len(numbers) == 1 and not given and re.search(_VERDICT, text, re.IGNORECASE):
        return _mean(numbers)
    return None


@dataclasses.dataclass(frozen=True)
class EndpointRubric:
    """A model behind an OpenAI-compatible endpoint that scores self-edits.

    Attributes:
      settings: the endpoint; its cache keeps the replies.
      template: the rubric, with {title}, {passage} and {self_edit}.
    """

    settings: EndpointSettings
    template: str = dataclasses.field(default_factory=load_template)

    def score(self, pairs: Sequence[tuple[Context, str]]) -> list[Scored]:
        """A score of each self-edit.

        Raises:
          EndpointError: the endpoint cannot complete anything.
        """
        prompts = [rubric_prompt(self.template, context, text) for context, text in pairs]
        completions = endpoint.complete(
            self.settings, prompts, answers=lambda text: parse_score(text) is not None
        )
        return [_read(completion) for completion in completions]


def _read(completion: Completion) -> Scored:
    """The score of a reply, or why it gives none."""
    if completion.text is None:
        reason = f"the judge did not reply: {completion.reason}"
        return Scored(None, reason, completion.retry)
    text = completion.text
    if completion.truncated:  # its last line may have been about to go on
        text = text.rpartition("\n")[0]
    score = parse_score(text)
    shown = chat_reply.shown(completion.text)
    return Scored(score, None if score is not None else f"the judge gave no score: {shown}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelRubric(ReplyModel):
    """Scores self-edits by a rubric: each criterion's score is its mean under p("1") to p("5").

    Attributes:
      template: the rubric, with {title}, {passage} and {self_edit}.
    """

    replies: ClassVar = tuple("12345")
    template: str = dataclasses.field(default_factory=load_template)

    def score(self, pairs: Sequence[tuple[Context, str]]) -> list[Scored]:
        """A score of each self-edit, from 1 to 5: the mean over the criteria."""
        prompts = [rubric_prompt(self.template, context, text) for context, text in pairs]
        by_criterion = [self.log_likelihoods(prompts, f"{criterion}:") for criterion in CRITERIA]
        return [_expected(found) for found in zip(*by_criterion, strict=True)]


def _expected(by_criterion: Sequence[np.ndarray | str]) -> Scored:
    """The mean score over criteria, each the mean of 1 to 5 under its replies' probabilities."""
    scores = []
    for lls_R in by_criterion:
        if isinstance(lls_R, str):
            return Scored(None, lls_R)
        if not np.isfinite(lls_R).all():
            return Scored(None, "the judge's log-likelihoods are not finite")
        shares_R = np.exp(lls_R - lls_R.max())
        scores.append(float(shares_R @ np.arange(1, len(lls_R) + 1) / shares_R.sum()))
    return Scored(sum(scores) / len(scores), None)


def _labelled(label: str, text: str) -> float | None:
    """The last number that follows a label."""
    pattern = f"{label}{_BETWEEN}{_NUMBER.format(name='n')}"
    found = [match["n"] for match in re.finditer(pattern, text, re.IGNORECASE)]
    return float(found[-1]) if found else None


def _mean(scores: list[float]) -> float | None:
    """The mean of scores; None where one is off the scale."""
    if not all(LOWEST <= score <= HIGHEST for score in scores):
        return None
    return sum(scores) / len(scores)
