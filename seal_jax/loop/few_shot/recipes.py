"""Where the recipes of an arm come from, and what recipes an editor writes."""

import itertools
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seal_jax.loop.few_shot import stages
from seal_jax.loop.few_shot.session import FewShotSession
from seal_jax.loop.few_shot.trials import Examples
from seal_jax.loop.policies import Policy
from seal_jax.loop.run import Run
from seal_jax.tasks.arc import recipe
from seal_jax.tasks.arc.arc import ArcTask
from seal_jax.tasks.arc.recipe import Limits, Recipe

Record = dict[str, Any]
Recipes = list[list[Recipe | str]]  # [C][E]; or why a self-edit says none
_FAMILIES = ("basic", "size", "chain", "repeat")


class Sources:
    """Recipes for tasks, E = evaluation.edits for each, by source; each is made once.

    Sources: the name of a policy, for its self-edits; "random", drawn evenly from all valid
    recipes; "oracle", few_shot.oracle; "fixed", that of few_shot.fixed which earned the most on the
    training tasks.
    """

    def __init__(
        self,
        run: Run[FewShotSession],
        policies: Mapping[str, Policy],
        tasks: Sequence[ArcTask],
        examples: Examples,
    ):
        self.written: dict[str, Recipes] = {}
        self.chosen: Record = {}
        self._run, self._policies = run, policies
        self._tasks, self._examples = tasks, examples

    def recipes(self, source: str) -> Recipes:
        """The recipes of a source, [C][E]."""
        if source not in self.written:
            self.written[source] = self._make(source)
        return self.written[source]

    def _make(self, source: str) -> Recipes:
        settings = self._run.session.settings
        count, few_shot = settings.evaluation.edits, settings.few_shot
        if source == "random":
            return [
                [
                    random_recipe(few_shot.limits(), (settings.seed, task.id, m))
                    for m in range(count)
                ]
                for task in self._tasks
            ]
        if source == "oracle":
            return self._same(recipe.parse(few_shot.oracle, few_shot.limits()))
        if source == "fixed":
            return self._same(self._best_fixed())
        edits = stages.sample(
            self._run,
            self._policies[source].params,
            self._tasks,
            stage=f"eval edits {source}",
            samples=count,
            draw="eval",
        )
        return stages.read(self._run, edits)

    def _same(self, one: Recipe) -> Recipes:
        count = self._run.session.settings.evaluation.edits
        return [[one] * count for _ in self._tasks]

    def _best_fixed(self) -> Recipe:
        """The recipe with the best mean reward of the base model on the training tasks."""
        session = self._run.session
        few_shot = session.settings.few_shot
        offered = [recipe.parse(text, few_shot.limits()) for text in few_shot.fixed]
        training = session.tasks["train"]
        candidates = [
            self._examples.candidate(task, one, index=i, replicate=0)
            for task in training
            for i, one in enumerate(offered)
        ]
        records, _ = stages.try_all(
            self._run, self._policies["base"].params, candidates, stage="fixed recipes"
        )
        rewards = np.array([stages.reward(record, few_shot) for record in records], float)
        # A recipe that cannot be tried on a task earns the least that any recipe earned there.
        rewards_CxG = rewards.reshape(len(training), len(offered))
        for row in rewards_CxG:
            row[np.isnan(row)] = 0.0 if np.isnan(row).all() else np.nanmin(row)
        means_G = rewards_CxG.mean(axis=0)
        best = int(np.argmax(means_G))
        self.chosen = {"recipe": recipe.write(offered[best]), "mean_rewards": means_G.tolist()}
        self._run.say(f"best fixed recipe on {len(training)} training tasks: {offered[best]}")
        return offered[best]


def random_recipe(limits: Limits, draw: tuple[int, str, int]) -> Recipe:
    """A recipe drawn evenly from those that `recipe.regex` accepts.

    Args:
      draw: seed, task id and number, from which it follows.
    """
    seed, id, number = draw
    generator = np.random.default_rng(
        [seed, zlib.crc32(b"recipe"), zlib.crc32(id.encode()), number]
    )
    flags = generator.integers(0, 2, size=len(_FAMILIES) + 1).astype(bool).tolist()
    return Recipe(
        **dict(zip(_FAMILIES, flags[:-1], strict=True)),
        outputs_only=flags[-1],
        learning_rate=float(generator.choice(limits.learning_rates())),
        epochs=int(generator.integers(limits.min_epochs, limits.max_epochs + 1)),
    )


def describe(written: Recipes) -> Record:
    """What recipes an editor writes: shares, and quartiles of learning rate and epochs.

    >>> one = Recipe(basic=True, size=False, chain=False, repeat=False, outputs_only=True,
    ...              learning_rate=1e-4, epochs=2)
    >>> found = describe([[one, "not a recipe: ..."]])
    >>> found["valid"], found["invalid"], found["basic"], found["epochs"]
    (1, 1, 1.0, [2.0, 2.0, 2.0])
    """
    every = list(itertools.chain.from_iterable(written))
    valid = [one for one in every if isinstance(one, Recipe)]
    found: Record = {"valid": len(valid), "invalid": len(every) - len(valid)}
    if not valid:
        return found
    for name in (*_FAMILIES, "outputs_only"):
        found[name] = float(np.mean([getattr(one, name) for one in valid]))
    for name in ("learning_rate", "epochs"):
        values = [getattr(one, name) for one in valid]
        found[name] = [float(np.quantile(values, q, method="nearest")) for q in (0.25, 0.5, 0.75)]
    commonest, times = Counter(map(recipe.write, valid)).most_common(1)[0]
    return found | {
        "distinct": len(set(valid)),
        "commonest": commonest,
        "commonest_times": times,
    }
