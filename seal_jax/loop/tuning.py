"""The same tuning budget for every arm: learning rate and epochs, from development contexts."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
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
    """Each arm's recipe: the run's own, or the best of `tuning` for that arm."""

    run: Run
    policies: Mapping[str, Policy]

    def inner(self, name: str, arm: Arm) -> tuple[float, int]:
        """Learning rate and epochs of an arm with a delta a context; 0 is as `inner` says."""
        if not self.run.session.settings.tuning.epochs:
            return 0.0, 0
        session = self.run.session

        def score(rate: float, epochs: int, stage: Stage) -> float | None:
            dev = self._development
            tried = attempt.candidates(
                session, dev.contexts, dev.of(arm), learning_rate=rate, epochs=epochs
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

        return self._best(name, score)

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

        rate, epochs = self._best(name, score)
        return dataclasses.replace(recipe, learning_rate=rate, epochs=epochs)

    def _best(
        self, name: str, score: Callable[[float, int, Stage], float | None]
    ) -> tuple[float, int]:
        """The first of the best of the grid; the record holds every score."""
        own = self.run.session.settings.tuning
        grid = list(itertools.product(own.learning_rates, own.epochs))

        def work() -> Record:
            tried = []
            for rate, epochs in grid:
                stage = Stage(kind="tuning", what=f"{name} rate={rate:g} epochs={epochs}")
                found = score(rate, epochs, stage)
                tried.append({"learning_rate": rate, "epochs": epochs, "score": found})
            return {"metric": own.metric, "tried": tried}

        tried = self.run.once("tuning", name, work, together=True)["tried"]
        best = max(tried, key=lambda t: float("-inf") if t["score"] is None else t["score"])
        self.run.say(
            f"tuning {name}: rate {best['learning_rate']:g}, {best['epochs']} epochs "
            f"({own.metric} {best['score']})"
        )
        return best["learning_rate"], best["epochs"]

    @functools.cached_property
    def _development(self) -> Sources:
        chosen = contexts_lib.development(self.run.session)
        return Sources(self.run, self.policies, chosen, "dev")

    def _mean(self, marked: Iterable[Record]) -> float | None:
        """The mean of `tuning.metric` over adapted models; None if one of them has none.

        A recipe under which an update fails is no candidate.
        """
        main = self.run.session.task.metrics[0].name
        reward = Reward(kind=self.run.session.settings.tuning.metric)
        values = [rewards.value(of, reward, main) for of in marked]
        return None if None in values else mean(values)
