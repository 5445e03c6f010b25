"""Graders of answers: the local rules, and a model that is asked whether an answer is right.

A model judge sees the question with its topic, the gold answer and the prediction, and replies yes
or no. Whatever else it replies, and whatever keeps it from replying, leaves the answer ungraded:
that is not a wrong answer.
"""

import dataclasses
import functools
import hashlib
import logging
import math
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp

from seal_jax.judges import chat_reply, endpoint, rubric
from seal_jax.judges.endpoint import Completion
from seal_jax.judges.local import grade as local
from seal_jax.judges.reply_model import ReplyModel
from seal_jax.settings import Settings
from seal_jax.settings.endpoint import EndpointSettings
from seal_jax.tasks import generated
from seal_jax.tasks.knowledge import prompt
from seal_jax.tasks.protocol import Answered, Grader, Verdict
from seal_jax.tasks.texts import is_blank
from seal_jax.weights import finite, load

_PLACEHOLDERS = frozenset({"query", "gold", "prediction"})
_READING = 2  # of replies: a change of `read_reply` changes the name of every judge
# The word alone, or before punctuation or a reason: not "no idea", "no-one" or "yes it is not".
_FIRST_WORD = re.compile(
    r"[\W_]*(yes|no)(?=[\s*_]*(?:$|[^\w\s*-]|-(?!\w)|\n|(?:because|since|as)\b))"
)
_NEXT_WORD = re.compile(r"[\W_]*(?:(?:and|or|but|also)\b[\W_]*)?(yes|no)\b")
_LAST_WORD = re.compile(r"\b(yes|no)[\W_]*$")


def make_grader(settings: Settings, model: Any) -> Grader:
    """The grader that the settings name.

    Args:
      settings: of the run.
      model: the run's opened model: its `model` (the architecture), `base` (its parameters),
        `tokenizer` and `devices`.

    Raises:
      PromptError: the judge's template cannot be used.
      ValueError, FileNotFoundError, RuntimeError: the judge's model cannot be loaded.
    """
    grading = settings.grading
    if grading.kind == "local":
        return LocalGrader()
    template = load_template(settings.prompts.dir or None)
    if grading.kind == "endpoint":
        return EndpointGrader(grading.endpoint, template)
    return ModelGrader(template=template, **_judge_model(settings, model))


def make_rubric(settings: Settings, model: Any) -> rubric.Rubric | None:
    """Who scores self-edits by the rubric; None where the reward is another one.

    Args and errors are those of `make_grader`.
    """
    if settings.reward.kind != "rubric":
        return None
    template = rubric.load_template(settings.prompts.dir or None)
    if settings.grading.kind == "endpoint":
        return rubric.EndpointRubric(settings.grading.endpoint, template)
    return rubric.ModelRubric(template=template, **_judge_model(settings, model))


def _judge_model(settings: Settings, model: Any) -> dict[str, Any]:
    """The judge in JAX that the settings name: the grading's own model, or the run's base."""
    grading = settings.grading
    label, config, params, tokenizer = settings.model.name, model.model, model.base, model.tokenizer
    if grading.kind == "model":
        dtype = jnp.dtype(settings.model.dtype)
        loaded = load.load_model(grading.model, dtype, model.devices.param_sharding)
        finite.check(loaded.config, loaded.params, f"grading.model={grading.model}")
        config = model.devices.with_attention(loaded.config, dtype)
        label, tokenizer = grading.model, loaded.tokenizer
        params = model.devices.place_params(config, loaded.params)
    return dict(
        label=label,
        config=config,
        params=params,
        tokenizer=tokenizer,
        devices=model.devices,
        batch_size=grading.batch_size,
        buckets=grading.buckets,
    )


def load_template(prompts_dir: str | os.PathLike | None = None) -> str:
    """Reads `judge.txt`; see `prompt.load_template`.

    Raises:
      PromptError: the template cannot be used.
    """
    return prompt.load_template("judge", _PLACEHOLDERS, prompts_dir, package="seal_jax.judges")


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


def read_reply(reply: str, *, cut_off: bool = False) -> bool | None:
    """A judge's yes or no; None for anything else.

    The reply must begin with the word, alone or before punctuation or a reason, and neither go on
    nor end with the opposite one. What the judge only thinks is left out (`generated.read`). Of a
    reply that was cut off only the word alone counts: it is not known how it would go on.

    >>> [read_reply(reply) for reply in ("Yes.", "**No**", "yes, because it is 21")]
    [True, False, True]
    >>> [read_reply(reply) for reply in ("yes and no", "No idea", "It is right", "")]
    [None, None, None, None]
    """
    text = generated.read(reply).text.casefold()
    first = _FIRST_WORD.match(text)
    if not first:
        return None
    rest = text[first.end() :]
    if cut_off and re.search(r"[^\W_]", rest):
        return None
    others = {m[1] for m in (_NEXT_WORD.match(rest), _LAST_WORD.search(rest)) if m}
    return None if others - {first[1]} else first[1] == "yes"


def grade_by_asking(
    answers: Sequence[Answered], template: str, ask: Callable[[list[str]], list[Verdict]]
) -> list[Verdict]:
    """Grades answers by a judge that is asked each different prompt once.

    Args:
      answers: what to grade. Those with nothing visible in them are wrong without asking.
      template: of the judge's prompt.
      ask: from prompts to a verdict on each.

    Returns:
      A verdict an answer, in order.
    """
    prompts = [None if is_blank(a.prediction) else judge_prompt(template, a) for a in answers]
    different = [text for text in dict.fromkeys(prompts) if text is not None]
    found = dict(zip(different, ask(different) if different else [], strict=True))
    empty = Verdict(correct=False, empty=True)
    return [empty if text is None else found[text] for text in prompts]


@dataclasses.dataclass(frozen=True)
class LocalGrader:
    """The rules of `local.grade`: no model, the same verdict everywhere, nothing ungraded."""

    @property
    def name(self) -> str:
        return local.GRADER

    def grade(self, answers: Sequence[Answered]) -> list[Verdict]:
        """A verdict on each of `answers`, in their order; says once if one is not in English."""
        if not all(local.is_english(a.gold, a.prediction, a.question) for a in answers):
            _say_that_it_reads_english()
        return [local.grade(a.gold, a.prediction, a.question) for a in answers]


@functools.cache
def _say_that_it_reads_english() -> None:
    logging.warning(
        "the local grader reads English only, and this run asks in another language: its verdicts "
        "there are not to be relied on. Set grading.kind to a judge (docs/judges.md)."
    )


@dataclasses.dataclass(frozen=True)
class EndpointGrader:
    """A model behind an OpenAI-compatible endpoint as the judge.

    Attributes:
      settings: the endpoint; its cache keeps the replies.
      template: the judge's prompt, with {query}, {gold} and {prediction}.
      report: called with each completion as soon as it is there; `endpoint.cost` adds them up.
    """

    settings: EndpointSettings
    template: str = dataclasses.field(default_factory=load_template)
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

    def _ask(self, prompts: list[str]) -> list[Verdict]:
        completions = endpoint.complete(
            self.settings,
            prompts,
            answers=lambda text: read_reply(text) is not None,
            report=self.report,
        )
        return [_read(completion) for completion in completions]


def _read(completion: Completion) -> Verdict:
    """What a reply says, or why it says nothing."""
    if completion.text is None:
        return _ungraded(f"the judge did not reply: {completion.reason}", retry=completion.retry)
    correct = read_reply(completion.text, cut_off=completion.truncated)
    if correct is None:
        cut = ", cut off at the length limit (raise max_tokens)" if completion.truncated else ""
        shown = chat_reply.shown(completion.text)
        return _ungraded(f"the judge replied neither yes nor no: {shown}{cut}")
    return Verdict(correct=correct, empty=False)


def _ungraded(reason: str, *, retry: bool = False) -> Verdict:
    return Verdict(correct=None, empty=False, reason=reason, retry=retry)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelGrader(ReplyModel):
    """Grades an answer by log p("Yes") against log p("No") as replies to the judge's prompt.

    Attributes:
      template: the judge's prompt, with {query}, {gold} and {prediction}.
    """

    replies: ClassVar = ("Yes", "No")
    template: str = dataclasses.field(default_factory=load_template)

    def __post_init__(self):
        check_template(self.template)
        super().__post_init__()

    @property
    def name(self) -> str:
        return f"{super().name}, prompt {version(self.template)}"

    def grade(self, answers: Sequence[Answered]) -> list[Verdict]:
        """A verdict on each of `answers`, in their order.

        Ungraded are prompts that exceed the largest bucket, and those to which both replies are
        equally likely or have no likelihood.
        """
        return grade_by_asking(answers, self.template, self._ask)

    def _ask(self, prompts: list[str]) -> list[Verdict]:
        return [
            _ungraded(found) if isinstance(found, str) else _likelier(*map(float, found))
            for found in self.log_likelihoods(prompts)
        ]


def _likelier(yes: float, no: float) -> Verdict:
    """Yes or no, whichever has the higher log-likelihood, or why neither."""
    if not (math.isfinite(yes) and math.isfinite(no)):
        return _ungraded(f"the judge's log-likelihoods are not finite (Yes {yes}, No {no})")
    if yes == no:
        return _ungraded(f"the judge finds Yes and No equally likely ({yes:.4g} nats)")
    return Verdict(correct=yes > no, empty=False)
