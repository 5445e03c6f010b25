"""What arms learn: lessons of the task's sources and of editors, each made once."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from seal_jax.judges import teacher
from seal_jax.loop import attempt, rewards
from seal_jax.loop.arms import Arm, derangement
from seal_jax.loop.policies import Policy
from seal_jax.loop.run import Run
from seal_jax.loop.sample import Edit, Prompt, edit_prompts, sample
from seal_jax.loop.stage import Stage
from seal_jax.settings import Reward
from seal_jax.stats.intervals import mean
from seal_jax.tasks.protocol import (
    Asking,
    BaseEdits,
    Best,
    Context,
    Lesson,
    Lessons,
    Refusal,
    Request,
    Sequence_,
    Teach,
    Tell,
    Write,
)
from seal_jax.tasks.sources import answered

Record = dict[str, Any]
_Found = TypeVar("_Found")


@dataclasses.dataclass
class Sources:
    """Lessons about contexts by arm; each source is asked once and may have many learners.

    Attributes:
      contexts: what they are about.
      split: names the contexts in the ledger and in the keys, "eval" or "dev".
      training: where fixed lessons are compared.
      compared: the arms that learn, which `evaluation.equal` makes equal.
      constant: the directives that earned the most in the rounds (`best_tried`); "" for none.
      written: self-edits [C][M] of each editor that has been asked.
      lessons: of each source and editor that has been asked.
      best: of each source that chose among fixed lessons, the choice and the mean rewards.
    """

    run: Run
    policies: Mapping[str, Policy]
    contexts: Sequence[Context]
    split: str
    training: Sequence[Context] = ()
    compared: Sequence[Arm] = ()
    constant: str = ""
    written: dict[str, list[list[Edit]]] = dataclasses.field(default_factory=dict)
    lessons: dict[str, Lessons] = dataclasses.field(default_factory=dict)
    best: dict[str, Record] = dataclasses.field(default_factory=dict)

    def edits(self, editor: str) -> list[list[Edit]]:
        """Fresh self-edits [C][M] of a policy; all editors draw with the same keys."""
        if editor not in self.written:
            self.written[editor] = self._edits(editor, self.contexts, self.split)
        return self.written[editor]

    def of(self, arm: Arm) -> Lessons:
        """The lessons [C][M] of an arm, for one delta each."""
        task = self.run.session.task
        name = arm.source or f"edits {arm.editor} {arm.head}".rstrip()
        if name not in self.lessons and arm.source:
            count = self.run.session.settings.evaluation.edits
            asking = task.sources[arm.source].lessons(self.contexts, count)
            self.lessons[name] = self.answered(asking, arm.source)
        elif name not in self.lessons:
            self.lessons[name] = [
                [task.read(context, text, m) for m, text in enumerate(of)]
                for context, of in zip(self.contexts, self._texts(arm), strict=True)
            ]
        return self.lessons[name]

    def times(self, arm: Arm) -> list[list[float]]:
        """How often an arm's lessons [C][M] go into the largest that any arm has about a context.

        None at all where `evaluation.equal` asks for nothing.
        """
        if self.run.session.settings.evaluation.equal == "none":
            return []
        every = [self._sizes(one) for one in self.compared]
        largest_C = [max(max(of_arm[c]) for of_arm in every) for c in range(len(self.contexts))]
        return [
            [largest / size if size else 1.0 for size in of]
            for largest, of in zip(largest_C, self._sizes(arm), strict=True)
        ]

    def _sizes(self, arm: Arm) -> list[list[int]]:
        """Tokens or optimizer steps of an epoch of each of an arm's lessons [C][M]; 0 of none."""
        session = self.run.session
        by_tokens = session.settings.evaluation.equal == "tokens"

        def size(lesson: Lesson | Refusal) -> int:
            found = session.lesson(lesson, epochs=1)
            if isinstance(found, Refusal):
                return 0
            return found.tokens if by_tokens else session.steps(found)

        return [[size(lesson) for lesson in of] for of in self.of(arm)]

    def _texts(self, arm: Arm) -> list[list[str]]:
        """An arm's self-edits [C][M], under the directives that it says."""
        own = [[edit.text for edit in of] for of in self.edits(arm.editor)]
        if not arm.head:
            return own
        if arm.head == "constant":
            others = [[self.constant] * len(of) for of in own]
        elif arm.head == "permuted":
            others = [own[i] for i in derangement(self.contexts)]
        else:
            others = [[edit.text for edit in of] for of in self.edits("policy")]
        redirect = self.run.session.task.redirect
        return [list(map(redirect, *both)) for both in zip(own, others, strict=True)]

    def together(self, arm: Arm) -> list[Sequence_]:
        """The training sequences of an arm, for one delta about all contexts."""
        settings, task = self.run.session.settings, self.run.session.task
        passage, count = settings.corpus.passage, settings.evaluation.edits
        if arm.source:
            asking = task.sources[arm.source].together(self.contexts, count, passage)
            return self.answered(asking, arm.source)
        return [
            one
            for context, of in zip(self.contexts, self.edits(arm.editor), strict=True)
            for one in task.read_many(context, [edit.text for edit in of], passage)
        ]

    def _edits(self, editor: str, contexts: Sequence[Context], split: str) -> list[list[Edit]]:
        session = self.run.session
        return sample(
            self.run,
            self.policies[editor],
            edit_prompts(session, contexts),
            stage=Stage(kind="edits", split=split, what=editor),
            samples=session.settings.evaluation.edits,
            draw=split,
            automaton=session.automaton,
        )

    def answered(self, asking: Asking[_Found], source: str) -> _Found:
        """What a source returns, its requests answered."""
        return answered(asking, functools.partial(self._answer, source=source))

    def _answer(self, request: Request, source: str) -> Any:
        if isinstance(request, BaseEdits):
            return [[edit.text for edit in of] for of in self.edits("base")]
        if isinstance(request, Teach):
            return self._taught() if request.prompts is None else self._told(request)
        if isinstance(request, Write):
            return self._written(request)
        if isinstance(request, Tell):
            return self.run.say(f"{source}: {request.line}")
        assert isinstance(request, Best), f"an unknown request: {request}"
        return self._best(request, source)

    def _written(self, request: Write) -> dict[str, str]:
        """One text of the base model for each prompt."""
        session = self.run.session
        style = session.settings.edits.prompt_style
        prompts = [
            Prompt(name, session.prompt(turn, style)) for name, turn in request.prompts.items()
        ]
        if not prompts:
            return {}
        stage = Stage(kind="written", split=self.split, what=request.name)
        found = sample(self.run, self.policies["base"], prompts, stage=stage, samples=1)
        return {prompt.id: of[0].text for prompt, of in zip(prompts, found, strict=True)}

    def _taught(self) -> list[list[str]]:
        """The teacher's texts: `evaluation.edits` of each context."""
        task, count = self.run.session.task, self.run.session.settings.evaluation.edits
        prompts = {context.id: task.edit_prompt(context) for context in self.contexts}
        found = self._by_teacher(prompts, count, "teacher", self.split)
        return [found[context.id] for context in self.contexts]

    def _told(self, request: Teach) -> dict[str, str]:
        """A text of the teacher's for each prompt."""
        assert request.prompts is not None
        key = f"{self.split} {request.name}"
        found = self._by_teacher(request.prompts, 1, request.name, key)
        return {name: text for name, [text] in found.items()}

    def _by_teacher(
        self, prompts: Mapping[str, str], count: int, what: str, key: str
    ) -> dict[str, list[str]]:
        """`count` of the teacher's texts for each prompt; "" where one is missing."""
        run, settings = self.run, self.run.session.settings

        def work() -> Record:
            if settings.teacher.file:
                found = teacher.read_completions(settings.teacher.file, prompts)
            else:
                found = teacher.ask_teacher(settings.teacher.endpoint, prompts, samples=count)
            always = ("texts", "failed")
            return {name: of for name, of in vars(found).items() if of or name in always}

        stage = Stage(kind="written", split=self.split, what=what)
        texts = run.once("teacher", key, work, stage=stage)["texts"]
        missing = sum(count - len(texts[name][:count]) for name in prompts)
        if missing:
            run.say(f"{key}: {missing} of the teacher's texts are missing")
        return {
            name: [*texts[name][:count], *[""] * (count - len(texts[name]))] for name in prompts
        }

    def _best(self, request: Best, source: str) -> int:
        """The option with the best mean reward of the base model on the training contexts."""
        run, session, contexts = self.run, self.run.session, self.training
        texts = [""] * len(contexts)
        if request.edits:
            texts = [of[0].text for of in self._edits("base", contexts, "train")]
        offered = [
            [request.lesson(context, i, text) for i in range(len(request.options))]
            for context, text in zip(contexts, texts, strict=True)
        ]
        tried = attempt.candidates(
            session, contexts, offered, replicates=[0] * len(request.options)
        )
        stage = Stage(kind="best_fixed", what=source)
        records, _ = attempt.attempt(
            run, self.policies["base"], tried, stage=stage, width=session.width(contexts)
        )
        reward, main = session.settings.reward, session.task.metrics[0].name
        if not reward.needs_inner_loop:
            reward = Reward(kind="gold_log_likelihood", replicates=1)
        found = np.array([rewards.value(record, reward, main) for record in records], float)
        means = mean_rewards(found.reshape(len(contexts), len(request.options)))
        known = [-math.inf if mean is None else mean for mean in means]
        best = known.index(max(known))
        self.best[source] = {"head": request.options[best], "mean_rewards": means}
        run.say(
            f"{source}: the best on {len(contexts)} training contexts is {request.options[best]}"
        )
        return best


def best_tried(selections: Sequence[Record]) -> Record | None:
    """The directives that earned the most in rounds, as a constant for all contexts.

    A self-edit's reward counts as its difference from the mean of its context, since directives
    that were written about easy contexts are not better for it; and the sum is divided by one more
    than their number, so that a single lucky one does not win over many good ones.

    Args:
      selections: {"heads", "rewards"} [C][M] of each round.

    Returns:
      {"head", "times", "above": of each head that had a reward, the best first}; None without any.

    >>> best_tried([{"heads": [["a", "b", "b"]], "rewards": [[2.0, 0.0, 1.0]]}])
    {'head': 'a', 'times': {'a': 1, 'b': 2}, 'above': {'a': 0.5, 'b': -0.3333333333333333}}
    """
    found: dict[str, list[float]] = {}
    for of in selections:
        for heads, rewards_M in zip(of.get("heads", ()), of["rewards"], strict=False):
            usual = mean(rewards_M)
            for head, reward in zip(heads, rewards_M, strict=True):
                if head and reward is not None and usual is not None:
                    found.setdefault(head, []).append(reward - usual)
    above = {head: sum(of) / (len(of) + 1) for head, of in found.items()}
    order = sorted(above, key=lambda head: (-above[head], head))
    if not order:
        return None
    times = {head: len(found[head]) for head in order}
    return {"head": order[0], "times": times, "above": {head: above[head] for head in order}}


def mean_rewards(rewards_CxG: np.ndarray) -> list[float | None]:
    """What each of G options earns on average; None where nothing is known.

    An option that could not be tried in a context earned the least that any earned there; a context
    in which none could be tried says nothing.

    >>> nan = float("nan")
    >>> mean_rewards(np.array([[-1.0, -2.0], [nan, -4.0], [nan, nan]]))
    [-2.5, -3.0]
    >>> mean_rewards(np.array([[nan, nan]]))
    [None, None]
    """
    known_CxG = rewards_CxG[~np.isnan(rewards_CxG).all(axis=1)]
    if not len(known_CxG):
        return [None] * rewards_CxG.shape[1]
    least_Cx1 = np.nanmin(known_CxG, axis=1, keepdims=True)
    filled_CxG = np.where(np.isnan(known_CxG), least_Cx1, known_CxG)
    return [float(mean) for mean in filled_CxG.mean(axis=0)]
