"""Few-shot runs as rounds: the same programs as of knowledge incorporation, at other shapes.

How long texts are is counted in the tasks that a run names, without a tokenizer: a digit, a line's
end or a word is a token. SmolLM2's takes as many, and 33 to 41 more for its chat template in 200
of ARC's tasks; one that joins digits, such as Llama 3's, takes fewer.
"""

import dataclasses
import math
import re
import statistics
from collections.abc import Iterable, Sequence

from seal_jax.planning.workload import Workload
from seal_jax.settings import Settings, SettingsError
from seal_jax.tasks.arc import arc, examples, prompt, recipe, votes
from seal_jax.tasks.arc.arc import ArcTask

_TOKEN = re.compile(r" ?[A-Za-z]+|[0-9]|\n+|[^\w\s]+|\s|\w")
_CHAT = 40
_SEED = (0,)  # of orders and choices, which change lengths but little


def tokens(text: str) -> int:
    r"""About how many tokens a text has.

    >>> tokens("Input:\n10\n01")
    8
    """
    return len(_TOKEN.findall(text))


def as_round(settings: Settings) -> Settings:
    """A few-shot run's settings, with those of a knowledge run's that its rounds go by.

    Every round has all training tasks; a recipe takes as many epochs as the oracle's.
    """
    few_shot = settings.few_shot
    oracle = recipe.parse(few_shot.oracle, few_shot.limits())
    inner = dataclasses.replace(
        settings.inner, max_sequences=max(2, few_shot.max_examples), epochs=oracle.epochs
    )
    restem = dataclasses.replace(settings.restem, contexts_per_round=len(_tasks(settings)))
    data = dataclasses.replace(settings.data, max_questions=0)
    return dataclasses.replace(settings, inner=inner, restem=restem, data=data)


def workload(settings: Settings) -> Workload:
    """Lengths of the run's prompts, of its recipes and of the examples that the oracle makes.

    Raises:
      SettingsError: none of the tasks that the run names is where it looks, or no example fits.
      ArcError: see `arc.load`.
    """
    few_shot = settings.few_shot
    tasks, evaluated = _tasks(settings), _tasks(settings, "eval")
    lengths = _lengths(settings, tasks)
    # Longer ones are left out of a run as well.
    fitting = [[n for n in of if n <= settings.inner.buckets[-1]] for of in lengths]
    if not any(fitting):
        raise SettingsError(
            "no training example fits the largest of inner.buckets: raise it to "
            f"{min(map(min, lengths))} or more."
        )
    count, example = _mean(map(len, fitting)), _mean(n for of in fitting for n in of)
    edit = tokens(few_shot.oracle)
    return Workload(
        longest_prompt=max(_edit_prompt(task, settings) for task in tasks),
        edit_tokens=edit,
        longest_edit=edit,
        lines=max(1, count - 1),
        line_tokens=example,
        passage_tokens=example,
        question_tokens=max(_query(task, few_shot.form) for task in [*tasks, *evaluated]),
        questions=_mean(_prompts(task, settings) for task in tasks),
        golds=_mean(len(task.tests) for task in tasks),
    )


def note(settings: Settings) -> str:
    """How long the examples are that a run and its evaluation learn from, and how many do not fit.

    They are counted in one draw.
    """
    tasks = [*_tasks(settings), *_tasks(settings, "eval")]
    lengths = [length for of in _lengths(settings, tasks) for length in of]
    limit = settings.inner.buckets[-1]
    over = sum(length > limit for length in lengths)
    left_out = f"{over:,} are longer than" if over else "all fit"
    return (
        f"the longest of the {len(lengths):,} examples that the oracle makes of the training and "
        f"evaluation tasks has {max(lengths):,} tokens; {left_out} the last of inner.buckets "
        f"({limit:,})" + (", and would be left out." if over else ".")
    )


def _lengths(settings: Settings, tasks: Sequence[ArcTask]) -> list[list[int]]:
    """Tokens of the examples that the oracle makes of each task."""
    few_shot = settings.few_shot
    oracle = recipe.parse(few_shot.oracle, few_shot.limits())
    families = {name: getattr(oracle, name) for name in ("basic", "size", "chain", "repeat")}
    data = examples.DataSettings(
        **families, leave_out=few_shot.leave_out, max_examples=few_shot.max_examples
    )
    made = [examples.training_examples(task.demonstrations, data, seed=_SEED) for task in tasks]
    return [[_example(example, few_shot.form) for example in of] for of in made]


def _tasks(settings: Settings, split: str = "train") -> Sequence[ArcTask]:
    few_shot = settings.few_shot
    source, ids = {
        "train": (few_shot.train, few_shot.train_tasks),
        "eval": (few_shot.eval, few_shot.eval_tasks),
    }[split]
    found = [task for task in arc.load(source) if not ids or task.id in ids]
    if not found:
        raise SettingsError(f"{source} holds no task of few_shot.{split}_tasks: correct them.")
    return found


def _mean(numbers: Iterable[int]) -> int:
    return max(1, math.ceil(statistics.mean(numbers)))


def _example(example: examples.Example, form) -> int:
    asked = prompt.query(example.demonstrations, example.query.input, form)
    return tokens(asked + prompt.answer(example.query.output, form)) + _CHAT


def _query(task: ArcTask, form) -> int:
    asked = (prompt.query(task.demonstrations, test.input, form) for test in task.tests)
    return max(map(tokens, asked)) + _CHAT


def _edit_prompt(task: ArcTask, settings: Settings) -> int:
    shown = prompt.show(task.demonstrations, settings.few_shot.form)
    return tokens(recipe.request(shown, settings.few_shot.limits())) + _CHAT


def _prompts(task: ArcTask, settings: Settings) -> int:
    """How many ways there are to ask for all tests of a task."""
    few_shot = settings.few_shot
    return sum(
        len(
            votes.variants(
                task,
                test,
                seed=_SEED,
                leave_one_out=few_shot.leave_one_out,
                permutations=few_shot.permutations,
                transforms=few_shot.transforms,
            )
        )
        for test in range(len(task.tests))
    )
