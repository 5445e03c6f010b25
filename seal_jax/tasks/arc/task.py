"""Few-shot learning on ARC: a self-edit is a recipe for training on a puzzle's demonstrations."""

import collections
import dataclasses
import functools
import itertools
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seal_jax.settings import Settings, SettingsError
from seal_jax.tasks import directives as directives_lib
from seal_jax.tasks.arc import arc, examples, grids, prompt, recipe, votes
from seal_jax.tasks.arc.arc import ArcTask
from seal_jax.tasks.arc.augment import FAMILIES, Transform
from seal_jax.tasks.arc.recipe import Recipe
from seal_jax.tasks.base import Task
from seal_jax.tasks.protocol import (
    Asked,
    Bounds,
    Chat,
    Context,
    Directives,
    Exam,
    Grader,
    Grammar,
    Lesson,
    Mark,
    Metric,
    Refusal,
    Scored,
    Source,
    Split,
    ToMark,
    View,
)
from seal_jax.tasks.sources import BestDirected, Directed


@dataclasses.dataclass(frozen=True)
class Puzzle(Context):
    """A context of ARC: its text are the demonstrations.

    Attributes:
      task: demonstrations and tests.
    """

    task: ArcTask = dataclasses.field(kw_only=True)


class Arc(Task):
    """Few-shot learning on ARC (SEAL, section 3.3, arXiv 2506.10943).

    Tests are asked in several ways and voted over; a puzzle is solved where every test is right in
    two attempts. A recipe that is invalid, refused or diverges solves nothing, and counts.
    """

    name = "few-shot learning on ARC"
    context_word, question_word = "task", "test"
    metrics = (
        Metric(name="solved", label="solved", share=True, per="context", failed=0.0),
        Metric(name="graded", label="graded", per="context", failed=0.0),
    )
    labels: Mapping[str, str] = {
        "base": "in-context learning",
        "policy": "RL policy, in context",
    }
    takes_all = True

    def __init__(self, settings: Settings):
        """Reads both splits' puzzles.

        Raises:
          DataError: they cannot be read.
          SettingsError: an id is of no puzzle, or prompts are no chats.
        """
        super().__init__(settings)
        if {settings.edits.prompt_style, settings.answers.prompt_style} != {"chat"}:
            raise SettingsError(
                "few-shot prompts are chats: set edits.prompt_style and answers.prompt_style to "
                "'chat'."
            )
        own = settings.few_shot
        self._splits = {
            "train": self._named(own.train, own.train_tasks, "train"),
            "eval": self._named(own.eval, own.eval_tasks, "eval"),
        }
        # Recipes of a puzzle that ask for the same examples are given the same ones.
        self._examples = functools.lru_cache(maxsize=1024)(self._make_examples)

    def contexts(self, split: Split) -> Sequence[Context]:
        """The puzzles that the settings name, in the order of their ids."""
        return self._splits[split]

    def context_from(
        self, title: str, text: str, questions: Sequence[tuple[str, str]] = (), *, id: str = ""
    ) -> Context:
        """A puzzle is not a text: refused."""
        raise SettingsError("a text of one's own is no ARC task: use a config of another task.")

    def show(self, context: Context) -> Mapping[str, Any]:
        """Pairs of grids: the demonstrations, and the tests."""
        return {
            name: [
                [_listed(pair.input), _listed(pair.output)] for pair in getattr(_of(context), name)
            ]
            for name in ("demonstrations", "tests")
        }

    def draw(self, context: Context, answers: Sequence[Mapping[str, Any]], out: str) -> None:
        """Demonstrations, attempts and truth.

        Raises:
          SettingsError: Pillow is missing.
        """
        try:
            from seal_jax.tasks.arc import picture
        except ImportError:
            raise SettingsError(
                "tasks are drawn by Pillow: pip install 'seal_jax[figures]'"
            ) from None
        attempts = [answer["attempts"] for answer in answers]
        picture.draw_task(_of(context), attempts or None, out)

    def edit_prompt(self, context: Context) -> str:
        """The user's turn that asks for a recipe."""
        return recipe.request(context.text, self._limits)

    @property
    def preface(self) -> str:
        """A recipe is asked for by its own prompt."""
        return ""

    @property
    def grammar(self) -> Grammar | None:
        """The canonical recipes, where the settings hold self-edits to them."""
        constrained = self.settings.few_shot.constrained
        return Grammar(recipe.regex(self._limits)) if constrained else None

    @property
    def directs(self) -> bool:
        """A recipe always says how it is learned."""
        return True

    @property
    def sources(self) -> Mapping[str, Source]:
        """Recipes that nobody wrote; the m-th of a puzzle is learned from the m-th draw."""
        own, limits, seed = self.settings.few_shot, self._limits, self.settings.seed
        fixed = [recipe.parse(text, limits) for text in own.fixed]
        oracle = recipe.parse(own.oracle, limits)

        def drawn(context: Context, m: int) -> Recipe:
            return random_recipe(limits, (seed, context.id, m))

        def lesson(context: Context, wanted: Recipe, _: str, m: int) -> Lesson:
            return self.lesson(context, wanted, m)

        def lines() -> list[str]:
            return [recipe.write(one) for one in fixed]

        offer = "recipes: give few_shot.fixed"
        return {
            "random": Directed("random recipes", drawn, lesson, edits=False),
            "fixed": BestDirected(
                "best fixed recipe", lambda _, i: fixed[i], lesson, False, lines, offer
            ),
            "oracle": Directed("oracle recipe", lambda *_: oracle, lesson, edits=False),
        }

    def read(self, context: Context, self_edit: str, draw: int) -> Lesson | Refusal:
        """The lesson of a recipe; its examples are drawn by the seed, the puzzle and `draw`."""
        try:
            return self.lesson(context, recipe.parse(self_edit, self._limits), draw)
        except directives_lib.HeadError as error:
            return Refusal(f"not a recipe: {error}")

    def redirect(self, self_edit: str, other: str) -> str:
        """The other recipe: a recipe is all of a self-edit."""
        return other

    def lesson(self, context: Context, wanted: Recipe, draw: int) -> Lesson:
        """The lesson of a recipe that is read already."""
        families = tuple(name for name in FAMILIES if getattr(wanted, name))
        return Lesson(
            sequences=self._examples(context, families, wanted.outputs_only, draw),
            directives=Directives(learning_rate=wanted.learning_rate, epochs=wanted.epochs),
            head=recipe.write(wanted),
        )

    def describe(self, lessons: Sequence[Sequence[Lesson | Refusal]]) -> dict[str, Any]:
        """What recipes an editor writes: shares of families and of the loss on outputs, besides."""
        every = itertools.chain.from_iterable(lessons)
        heads = [lesson.head for lesson in every if isinstance(lesson, Lesson)]
        valid = [recipe.parse(head, self._limits) for head in heads]
        shares = {
            name: float(np.mean([getattr(one, name) for one in valid]))
            for name in (*FAMILIES, "outputs_only")
            if valid
        }
        return directives_lib.describe(lessons) | shares

    def bounds(self) -> Bounds:
        """As many sequences as there may be examples."""
        own = self.settings.few_shot
        return Bounds(
            sequences=max(2, own.max_examples), epochs=own.max_epochs, steps=own.max_steps
        )

    def exam(self, context: Context, view: View) -> Exam:
        """The prompts whose answers are voted over, and the true grids after all demonstrations.

        The unadapted model sees all demonstrations.
        """
        own, task = self.settings.few_shot, _of(context)
        asked, scored = [], []
        for test, solution in enumerate(task.solutions()):
            id = f"test {test + 1}"
            found = votes.variants(
                task,
                test,
                seed=(self.settings.seed, zlib.crc32(task.id.encode()), test),
                leave_one_out=own.leave_one_out and view == "adapted",
                permutations=own.permutations,
                transforms=own.transforms,
            )
            for number, variant in enumerate(found):
                turn = prompt.query(variant.demonstrations, variant.query_input, own.form)
                name = f"{id}/{number}"
                asked.append(Asked(id=name, question=id, prompt=turn, transform=variant.transform))
            turn = prompt.query(task.demonstrations, task.tests[test].input, own.form)
            scored.append(Scored(question=id, prompt=turn, gold=prompt.answer(solution, own.form)))
        return Exam(tuple(asked), tuple(scored))

    def practice(self, context: Context) -> Sequence[Context]:
        """A puzzle for each demonstration, which is its test; the others stay demonstrations."""
        return [self._puzzle(task) for task in arc.leave_one_out(_of(context))]

    def mark(self, batch: Sequence[ToMark], grader: Grader) -> list[Mark]:
        """Two attempts a test by vote; grids are exact, so nobody has to grade them."""
        return [self._mark(*one) for one in batch]

    def graded_by(self, grader: Grader) -> str:
        """Exact grids are no opinion."""
        return "exact grids"

    def _mark(self, context: Context, exam: Exam, texts: Mapping[str, str]) -> Mark:
        task, form = _of(context), self.settings.few_shot.form
        read: dict[str, list[grids.Grid | None]] = collections.defaultdict(list)
        for one in exam.asked:
            if one.id in texts:
                read[one.question].append(_grid(texts[one.id], form, one.transform))
        answers = []
        for number, (test, output) in enumerate(zip(task.tests, task.solutions(), strict=True), 1):
            found = read[f"test {number}"]
            attempts = votes.vote(found)
            answers.append(
                {
                    "question": f"test {number}",
                    "attempts": [_listed(grid) for grid in attempts],
                    "solved": any(np.array_equal(grid, output) for grid in attempts),
                    "graded": max((votes.graded(grid, test) for grid in attempts), default=0.0),
                    "prompts": len(found),
                    "unreadable": sum(grid is None for grid in found),
                }
            )
        scores = {
            "solved": float(all(answer["solved"] for answer in answers)),
            "graded": float(np.mean([answer["graded"] for answer in answers])),
        }
        return Mark(answers=tuple(answers), scores=scores)

    def _named(self, source: str, ids: Sequence[str], split: Split) -> tuple[Puzzle, ...]:
        """The puzzles of a source with these ids, or all."""
        tasks = {task.id: task for task in arc.load(source)}
        missing = [id for id in ids if id not in tasks]
        if missing:
            raise SettingsError(
                f"few_shot.{split}_tasks names {missing[0]!r}, which {source} does not hold: "
                f"correct it, or set few_shot.{split} to where it is."
            )
        return tuple(self._puzzle(task) for id, task in tasks.items() if not ids or id in ids)

    def _puzzle(self, task: ArcTask) -> Puzzle:
        shown = prompt.show(task.demonstrations, self.settings.few_shot.form)
        return Puzzle(id=task.id, title=task.family or task.id, text=shown, task=task)

    def _make_examples(
        self, context: Puzzle, families: tuple[str, ...], outputs_only: bool, draw: int
    ) -> tuple[Chat, ...]:
        own = self.settings.few_shot
        made = examples.training_examples(
            context.task.demonstrations,
            families,
            seed=(self.settings.seed, zlib.crc32(context.id.encode()), draw),
            leave_out=own.leave_out,
            max_examples=own.max_examples,
        )
        return tuple(prompt.chat(example, own.form, outputs_only=outputs_only) for example in made)

    @property
    def _limits(self) -> directives_lib.Limits:
        return self.settings.few_shot.limits()


def random_recipe(limits: directives_lib.Limits, draw: tuple[int, str, int]) -> Recipe:
    """A recipe drawn evenly from those that `recipe.regex` accepts.

    Args:
      draw: seed, puzzle's id and number, from which it follows.
    """
    seed, id, number = draw
    generator = np.random.default_rng(
        [seed, zlib.crc32(b"recipe"), zlib.crc32(id.encode()), number]
    )
    flags = generator.integers(0, 2, size=len(FAMILIES) + 1).astype(bool).tolist()
    return Recipe(
        **dict(zip(FAMILIES, flags[:-1], strict=True)),
        outputs_only=flags[-1],
        learning_rate=float(generator.choice(limits.learning_rates())),
        epochs=int(generator.integers(limits.min_epochs, limits.max_epochs + 1)),
    )


def _of(context: Context) -> ArcTask:
    assert isinstance(context, Puzzle), "contexts of ARC are puzzles"
    return context.task


def _grid(text: str, form: grids.Form, asked: Transform) -> grids.Grid | None:
    """The grid in an answer, as one to the test itself; None where there is none."""
    try:
        return asked.undo(grids.read(text, form))
    except grids.GridError:
        return None


def _listed(grid: grids.Grid | None) -> list[list[int]] | None:
    return None if grid is None else grid.tolist()
