"""Trying recipes: from a task's demonstrations to a trained delta to attempts at its tests.

Nothing here reads or writes a file. A record is a dict of JSON values, ready for the ledger.
"""

import dataclasses
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from seal_jax.core import batching
from seal_jax.core.delta import Delta
from seal_jax.loop import generation, inner_loop
from seal_jax.loop.few_shot.session import FewShotSession
from seal_jax.settings import Inner, Settings
from seal_jax.tasks.arc import examples, grids, prompt, recipe, votes
from seal_jax.tasks.arc.arc import ArcTask
from seal_jax.tasks.arc.prompt import Encoded
from seal_jax.tasks.arc.recipe import Recipe

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A recipe being tried on a task in one inner loop.

    Attributes:
      task, recipe: what is learned, and how; the recipe is None where the self-edit says none.
      index: the recipe's number among those of its task.
      replicate: number of the inner loop; it changes the seed only.
      encoded: the training examples.
      too_long: examples that no bucket holds; they are left out.
      steps: optimizer steps that it takes.
      reason: why it cannot be tried, or None.
    """

    task: ArcTask
    recipe: Recipe | None
    index: int
    replicate: int
    encoded: tuple[Encoded, ...] = ()
    too_long: int = 0
    steps: int = 0
    reason: str | None = None

    def describe(self) -> Record:
        """What identifies it, and what it trains on."""
        return {
            "context": self.task.id,
            "index": self.index,
            "replicate": self.replicate,
            "recipe": recipe.write(self.recipe) if self.recipe else None,
            "examples": len(self.encoded),
            "too_long_examples": self.too_long,
            "steps": self.steps,
        }


class Examples:
    """Training examples as tokens, made once for all recipes that ask for the same ones.

    They are drawn by the run's seed, the task and the replicate alone, so that recipes of a task
    differ by what they ask for and by nothing else.
    """

    def __init__(self, session: FewShotSession):
        self._session = session
        self._known: dict[tuple, tuple[tuple[Encoded, ...], int]] = {}

    def candidate(
        self, task: ArcTask, wanted: Recipe | str, *, index: int, replicate: int
    ) -> Candidate:
        """A candidate with its examples.

        Args:
          wanted: the recipe; or why there is none.
        """
        if isinstance(wanted, str):
            return Candidate(
                task=task, recipe=None, index=index, replicate=replicate, reason=wanted
            )
        settings = self._session.settings
        encoded, too_long = self._encode(task, wanted, replicate)
        steps = batching.steps_of(
            len(encoded), epochs=wanted.epochs, batch_size=settings.inner.batch_size
        )
        reason = None
        if not encoded:
            reason = "no training example fits the largest of inner.buckets"
        elif steps > settings.few_shot.max_steps:
            reason = f"it takes {steps} steps, more than few_shot.max_steps"
        return Candidate(
            task=task,
            recipe=wanted,
            index=index,
            replicate=replicate,
            encoded=encoded,
            too_long=too_long,
            steps=steps,
            reason=reason,
        )

    def _encode(
        self, task: ArcTask, wanted: Recipe, replicate: int
    ) -> tuple[tuple[Encoded, ...], int]:
        """The examples that fit, and how many do not."""
        families = {name: getattr(wanted, name) for name in ("basic", "size", "chain", "repeat")}
        key = (task.id, replicate, wanted.outputs_only, *families.values())
        if key not in self._known:
            settings = self._session.settings
            few_shot = settings.few_shot
            made = examples.training_examples(
                task.demonstrations,
                examples.DataSettings(
                    **families, leave_out=few_shot.leave_out, max_examples=few_shot.max_examples
                ),
                seed=(settings.seed, zlib.crc32(task.id.encode()), replicate),
            )
            encoded = [
                prompt.tokenize(
                    self._session.tokenizer,
                    example,
                    few_shot.form,
                    outputs_only=wanted.outputs_only,
                )
                for example in made
            ]
            fitting = tuple(e for e in encoded if len(e.tokens) <= settings.inner.buckets[-1])
            self._known[key] = fitting, len(encoded) - len(fitting)
        return self._known[key]


def try_group(session: FewShotSession, params, group: Sequence[Candidate], *, draw: str) -> Record:
    """Trains a group of candidates of one replicate and lets each adapted model attempt its task.

    Args:
      group: at most K candidates that can be tried.
      draw: names the round in the keys.

    Returns:
      {"trials": a record a candidate, "real_tokens", "computed_tokens"}. A trial without attempts
      has a "reason".
    """
    settings = session.settings
    deltas_K, results_K, tokens = inner_loop.train(
        session,
        params,
        [_lesson(candidate, draw) for candidate in group],
        order=(draw, group[0].replicate),
        settings=_inner(settings),
        max_epochs=settings.few_shot.max_epochs,
        max_steps=settings.few_shot.max_steps,
    )
    results = jax.device_get(results_K)
    attempted = attempt(
        session,
        params,
        deltas_K,
        [candidate.task for candidate in group],
        leave_one_out=settings.few_shot.leave_one_out,
    )
    trials = []
    for k, candidate in enumerate(group):
        losses = results.losses_S[k][results.taken_S[k]]
        finite = bool(results.finite[k]) and None not in attempted[k]["gold_log_likelihoods"]
        trials.append(
            {
                **candidate.describe(),
                "first_loss": generation.finite(losses[0]),
                "last_loss": generation.finite(losses[-1]),
                **(attempted[k] if finite else {}),
                "reason": None if finite else "the inner update became non-finite",
            }
        )
    return {"trials": trials, "real_tokens": tokens.real, "computed_tokens": tokens.computed}


def _inner(settings: Settings) -> Inner:
    """What the recipes share; only as many sequences as there may be examples."""
    return dataclasses.replace(settings.inner, max_sequences=max(2, settings.few_shot.max_examples))


def _lesson(candidate: Candidate, draw: str) -> inner_loop.Lesson:
    assert candidate.recipe is not None, "candidates without a recipe have a reason"
    return inner_loop.Lesson(
        sequences=[encoded.tokens for encoded in candidate.encoded],
        masks=[encoded.mask for encoded in candidate.encoded],
        learning_rate=candidate.recipe.learning_rate,
        epochs=candidate.recipe.epochs,
        # Common random numbers: the recipes of a task start from one delta in each replicate.
        init=("init", draw, candidate.task.id, candidate.replicate),
    )


def attempt(
    session: FewShotSession,
    params,
    deltas_K: Delta | None,
    tasks: Sequence[ArcTask],
    *,
    leave_one_out: bool,
) -> list[Record]:
    """Lets each of K models attempt one task.

    Args:
      deltas_K: K stacked deltas, or None for the unadapted model.
      tasks: at most K, with known outputs.
      leave_one_out: see `votes.variants`.

    Returns:
      A record a task: "attempts", at most two grids for each test; "solved_tests"; "solved",
      whether all are; "graded", the mean over tests of the better attempt's `votes.graded`;
      "gold_log_likelihoods" of the true grids after all demonstrations, in nats; "prompts", how
      often it was asked; "unreadable", how many answers were no grid that can be voted for.
    """
    settings = session.settings
    few_shot = settings.few_shot
    asked = [_variants(session, task, leave_one_out) for task in tasks]
    texts = generation.write(
        session,
        params,
        deltas_K,
        [[tokens for _, _, tokens in of_task] for of_task in asked],
        width=session.width,
    )
    prompts = [
        [
            prompt.query_tokens(session.tokenizer, task.demonstrations, test.input, few_shot.form)
            for test in task.tests
        ]
        for task in tasks
    ]
    golds = [[_gold(session, output) for output in task.solutions()] for task in tasks]
    beliefs = generation.likelihoods(session, params, deltas_K, prompts, golds, width=session.width)
    records = []
    for task, of_task, written, believed in zip(tasks, asked, texts, beliefs, strict=True):
        answers: list[list[grids.Grid | None]] = [[] for _ in task.tests]
        for (test, variant, _), text in zip(of_task, written, strict=True):
            answers[test].append(variant.undo(_read(text, few_shot.form)))
        attempts = [votes.vote(of_test) for of_test in answers]
        scored = votes.score(attempts, task)
        records.append(
            {
                "attempts": [[grid.tolist() for grid in of_test] for of_test in attempts],
                "solved_tests": [test.solved for test in scored.tests],
                "solved": scored.solved,
                "graded": float(np.mean([max(t.graded, default=0.0) for t in scored.tests])),
                "gold_log_likelihoods": believed,
                "prompts": len(of_task),
                "unreadable": sum(answer is None for of_test in answers for answer in of_test),
            }
        )
    return records


def _variants(session: FewShotSession, task: ArcTask, leave_one_out: bool):
    """(test, variant, tokens) of every prompt of a task that fits."""
    few_shot = session.settings.few_shot
    found = []
    for test in range(len(task.tests)):
        variants = votes.variants(
            task,
            test,
            seed=(session.settings.seed, zlib.crc32(task.id.encode()), test),
            leave_one_out=leave_one_out,
            permutations=few_shot.permutations,
            transforms=few_shot.transforms,
        )
        for variant in variants:
            tokens = prompt.query_tokens(
                session.tokenizer, variant.demonstrations, variant.query_input, few_shot.form
            )
            if len(tokens) <= session.width:
                found.append((test, variant, tokens))
    return found


def _gold(session: FewShotSession, output: grids.Grid) -> list[int]:
    """Token ids of the true grid as the continuation of its prompt."""
    text = prompt.answer(output, session.settings.few_shot.form)
    return list(session.tokenizer(text, add_special_tokens=False)["input_ids"])


def _read(text: str, form: grids.Form) -> grids.Grid | None:
    """The grid in an answer; None where there is none."""
    try:
        return grids.read(text, form)
    except grids.GridError:
        return None
