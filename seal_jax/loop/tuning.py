"""The same tuning budget for every arm: learning rate and epochs, from development articles."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from seal_jax.loop import contexts as contexts_lib
from seal_jax.loop import corpus, rewards, stages
from seal_jax.loop.policies import Policy
from seal_jax.loop.run import Run
from seal_jax.loop.sources import Sources
from seal_jax.settings import Corpus, Inner, Reward

Record = dict[str, Any]
R = TypeVar("R", Inner, Corpus)


class Recipes:
    """Each arm's recipe: the run's own, or the best of `tuning` for that arm."""

    def __init__(self, run: Run, policies: Mapping[str, Policy]):
        self._run = run
        self._policies = policies
        self._settings = run.session.settings.tuning
        self._sources: Sources | None = None

    def inner(self, name: str, kind) -> Inner:
        """The inner loop's recipe of an arm with a delta a context.

        Args:
          name, kind: of the arm; see `arms.KINDS`.
        """

        def score(recipe: Inner, stage: str) -> float:
            dev = self._development()
            sequences = dev.sequences(kind.source)
            records, _ = stages.try_all(
                self._run,
                self._policies[kind.learner].params,
                stages.candidates_of(self._run.session, dev.contexts, sequences),
                stage=stage,
                width=self._run.session.query_width(dev.contexts),
                draw="dev",
                recipe=recipe,
            )
            # A self-edit that holds nothing to train on says nothing about the recipe.
            return self._mean([record["answers"] for record in records if "steps" in record])

        return self._best(name, self._run.session.settings.inner, score)

    def corpus(self, name: str, kind) -> Corpus:
        """The recipe of an arm that learns all passages together; see `inner`."""

        def score(recipe: Corpus, stage: str) -> float:
            dev = self._development()
            answers, _ = corpus.learn_and_answer(
                self._run,
                self._policies[kind.learner],
                dev,
                kind.source,
                recipe,
                stage=stage,
                width=self._run.session.query_width(dev.contexts),
            )
            return self._mean(list(answers.values()))

        return self._best(name, self._run.session.settings.corpus, score)

    def _best(self, name: str, recipe: R, score: Callable[[R, str], float]) -> R:
        """The first of the best of the grid; the record holds every score."""
        grid = list(itertools.product(self._settings.learning_rates, self._settings.epochs))
        if not grid:
            return recipe

        def work() -> Record:
            tried = []
            for rate, epochs in grid:
                changed = dataclasses.replace(recipe, learning_rate=rate, epochs=epochs)
                found = score(changed, f"tune {name} rate={rate:g} epochs={epochs}")
                shown = None if np.isnan(found) else found
                tried.append({"learning_rate": rate, "epochs": epochs, "score": shown})
            return {"metric": self._settings.metric, "tried": tried}

        tried = self._run.once("tuning", name, work, together=True)["tried"]
        best = max(tried, key=lambda t: -np.inf if t["score"] is None else t["score"])
        self._run.say(
            f"tuning {name}: rate {best['learning_rate']:g}, {best['epochs']} epochs "
            f"({self._settings.metric} {best['score']})"
        )
        return dataclasses.replace(
            recipe, learning_rate=best["learning_rate"], epochs=best["epochs"]
        )

    def _development(self) -> Sources:
        if self._sources is None:
            chosen = contexts_lib.development(self._run.session)
            self._sources = Sources(self._run, self._policies, chosen, "dev")
        return self._sources

    def _mean(self, answers: list[list[Record]]) -> float:
        """The mean of `tuning.metric` over adapted models; NaN if one of them has none.

        A recipe under which an update fails is no candidate.
        """
        values = [rewards.value(of, Reward(kind=self._settings.metric)) for of in answers]
        return float("nan") if None in values or not values else float(np.mean(values))
