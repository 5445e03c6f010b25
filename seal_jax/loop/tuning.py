"""The same tuning budget for every arm: learning rate and epochs, from development contexts."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from seal_jax.loop import attempt, rewards
from seal_jax.loop import contexts as contexts_lib
from seal_jax.loop.arms import Arm
from seal_jax.loop.policies import Policy
from seal_jax.loop.pretrain import pretrain
from seal_jax.loop.run import Run
from seal_jax.loop.sources import Sources
from seal_jax.loop.stage import Stage
from seal_jax.settings import Corpus, Reward
from seal_jax.stats.intervals import mean

Record = dict[str, Any]


@dataclasses.dataclass
class Recipes:
    """Each arm's recipe: the run's own, or the best of `tuning` for that arm.

    Attributes:
      arms: those that learn, by name.
    """

    run: Run
    policies: Mapping[str, Policy]
    arms: Mapping[str, Arm]

    def inner(self, name: str, arm: Arm) -> tuple[float, int]:
        """Learning rate and epochs of an arm with a delta a context; 0 is as `inner` says."""
        settings = self.run.session.settings
        if not settings.tuning.epochs:
            return 0.0, 0
        epochs = 0 if settings.evaluation.equal == "none" else self._common_epochs
        return self._best(name, self._inner_tries(name, arm), epochs)

    @functools.cached_property
    def _common_epochs(self) -> int:
        """The number of epochs at which the arms, each at its best rate, do best on average."""
        every = [self._inner_tries(name, arm) for name, arm in self.arms.items()]

        def worth(epochs: int) -> float:
            return sum(max(_score(of) for of in tries if of["epochs"] == epochs) for tries in every)

        return max(self.run.session.settings.tuning.epochs, key=worth)

    def _inner_tries(self, name: str, arm: Arm) -> list[Record]:
        session = self.run.session

        def score(rate: float, epochs: int, stage: Stage) -> float | None:
            dev = self._development
            tried = attempt.candidates(
                session,
                dev.contexts,
                dev.of(arm),
                learning_rate=rate,
                epochs=epochs,
                times=dev.times(arm),
            )
            records, _ = attempt.attempt(
                self.run,
                self.policies[arm.learner],
                tried,
                stage=stage,
                width=session.width(dev.contexts),
                draw="dev",
            )
            # A self-edit that holds nothing to train on says nothing about the recipe.
            return self._mean(record for record in records if "steps" in record)

        return self._tries(name, score)

    def corpus(self, name: str, arm: Arm) -> Corpus:
        """The recipe of an arm that learns all contexts together; see `inner`."""
        recipe = self.run.session.settings.corpus
        if not self.run.session.settings.tuning.epochs:
            return recipe

        def score(rate: float, epochs: int, stage: Stage) -> float | None:
            changed = dataclasses.replace(recipe, learning_rate=rate, epochs=epochs)
            marks, _ = pretrain(
                self.run,
                self.policies[arm.learner],
                self._development,
                arm,
                changed,
                stage=stage,
            )
            return self._mean(marks.values())

        rate, epochs = self._best(name, self._tries(name, score))
        return dataclasses.replace(recipe, learning_rate=rate, epochs=epochs)

    def _tries(self, name: str, score: Callable[[float, int, Stage], float | None]) -> list[Record]:
        """The grid with its scores."""
        own = self.run.session.settings.tuning
        grid = list(itertools.product(own.learning_rates, own.epochs))

        def work() -> Record:
            tried = []
            for rate, epochs in grid:
                stage = Stage(kind="tuning", what=f"{name} rate={rate:g} epochs={epochs}")
                found = score(rate, epochs, stage)
                tried.append({"learning_rate": rate, "epochs": epochs, "score": found})
            return {"metric": own.metric, "tried": tried}

        return self.run.once("tuning", name, work, together=True)["tried"]

    def _best(self, name: str, tried: Sequence[Record], epochs: int = 0) -> tuple[float, int]:
        """The first of the best tries: of all, or of those with so many epochs."""
        best = max((of for of in tried if epochs in (0, of["epochs"])), key=_score)
        self.run.say(
            f"tuning {name}: rate {best['learning_rate']:g}, {best['epochs']} epochs "
            f"({self.run.session.settings.tuning.metric} {best['score']})"
        )
        return best["learning_rate"], best["epochs"]

    @functools.cached_property
    def _development(self) -> Sources:
        chosen = contexts_lib.development(self.run.session)
        learning = tuple(self.arms.values())
        return Sources(self.run, self.policies, chosen, "dev", compared=learning)

    def _mean(self, marked: Iterable[Record]) -> float | None:
        """The mean of `tuning.metric` over adapted models; None if one of them has none.

        A recipe under which an update fails is no candidate.
        """
        main = self.run.session.task.metrics[0].name
        reward = Reward(kind=self.run.session.settings.tuning.metric)
        values = [rewards.value(of, reward, main) for of in marked]
        return None if None in values else mean(values)


def _score(tried: Record) -> float:
    """What a try is worth; least where one of its updates failed."""
    return -math.inf if tried["score"] is None else tried["score"]
