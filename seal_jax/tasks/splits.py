"""Which contexts of a file are used for what: fixed or seeded choices, all of them pure functions.

No choice depends on a clock, a device count or the hash seed of the Python process.
"""

import collections
import hashlib
import random
import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from seal_jax.tasks.protocol import Context, Skipped

_Item = TypeVar("_Item")


class DataError(ValueError):
    """A data file that cannot be used; the message names the place and what belongs there."""


Part = Literal["all", "development", "test", "paper", "like_paper"]

_OFFICIAL_PASSAGES, _OFFICIAL_QUESTIONS = 2067, 10570
_PAPER_SEED, _PAPER_PASSAGES, _PAPER_QUESTIONS = 42, 200, 974


class Chosen(NamedTuple):
    """Contexts, and how they differ from the paper's where those were meant ("" for not at all)."""

    contexts: list[Context]
    difference: str


def part_of(contexts: Sequence[Context], part: Part, share: float = 0.5) -> Chosen:
    """The part of a file that a run uses.

    Args:
      contexts: all contexts of the file, in its order.
      part: "all"; "development" or "test", see `article_halves`; "paper", the paper's evaluation
        split, which needs the official development file; "like_paper", the same choice on any file.
      share: see `article_halves`.

    Returns:
      The contexts, and for "like_paper" how they differ from the paper's.

    Raises:
      DataError: the part is empty, or the file is not the one that the paper's split needs.
    """
    if part == "all":
        return Chosen(list(contexts), "")
    if part in ("paper", "like_paper"):
        found = paper_split(contexts)
        if found.difference and part == "paper":
            raise DataError(
                f"this is not the paper's evaluation split: {found.difference}. Give SQuAD's "
                "official dev-v1.1.json, or ask for 'like_paper' to make the same choice on this "
                "file."
            )
        return found
    development, test = article_halves(contexts, share)
    return Chosen(development if part == "development" else test, "")


def paper_split(contexts: Sequence[Context]) -> Chosen:
    """The 200 evaluation passages of SEAL's knowledge incorporation (arXiv 2506.10943).

    SQuAD's development passages in file order are shuffled as Python's `random.shuffle` does after
    `random.seed(42)`, and the first 200 are taken, in shuffled order.

    Args:
      contexts: all contexts of the official development file, in its order and without limits on
        length. Of another file the same choice is made, and the difference is told.
    """
    order = list(range(len(contexts)))
    random.Random(_PAPER_SEED).shuffle(order)
    chosen = [contexts[i] for i in order[:_PAPER_PASSAGES]]
    passages, questions = len(contexts), _questions(contexts)
    difference = ""
    if (passages, questions) != (_OFFICIAL_PASSAGES, _OFFICIAL_QUESTIONS):
        difference = (
            f"the file has {passages} passages and {questions} questions, but the official "
            f"development file has {_OFFICIAL_PASSAGES} and {_OFFICIAL_QUESTIONS}"
        )
    elif _questions(chosen) != _PAPER_QUESTIONS:
        difference = (
            f"the {_PAPER_PASSAGES} passages have {_questions(chosen)} questions, but the paper's "
            f"have {_PAPER_QUESTIONS}, so the order of the file differs from the official one"
        )
    return Chosen(chosen, difference)


def article_halves(
    contexts: Sequence[Context], share: float = 0.5, *, seed: int = 0
) -> tuple[list[Context], list[Context]]:
    """Splits the articles in two, to choose settings on one half and to report on the other.

    Articles come in an order that hashes of seed and title give, and each goes to the half that
    has fewer passages so far: the halves differ by at most the passages of the largest article.
    The order of the file does not matter.

    Args:
      contexts: contexts of at least two articles.
      share: of the passages that are to be development; another one than 0.5 makes no halves.
      seed: another seed gives other halves.

    Returns:
      The development and the test contexts, each in the given order; they share no article.

    Raises:
      DataError: there is only one article.
    """
    sizes: dict[str, int] = {}
    for context in contexts:
        title = same_key(context.group)
        sizes[title] = sizes.get(title, 0) + 1
    if len(sizes) < 2:
        raise DataError(
            f"two halves without a common article need at least 2 articles; found {len(sizes)}."
        )
    development, counts = set(), [0, 0]
    for title in sorted(sizes, key=lambda title: _digest(f"{seed}\n{title}")):
        half = int(counts[1] * share < counts[0] * (1 - share))
        counts[half] += sizes[title]
        if half == 0:
            development.add(title)
    halves: tuple[list[Context], list[Context]] = ([], [])
    for context in contexts:
        halves[same_key(context.group) not in development].append(context)
    return halves


def choose(contexts: Sequence[_Item], count: int, *, seed: int | None, name: str) -> list[_Item]:
    """Draws contexts or texts without repetition, in an order that does not depend on count.

    Args:
      contexts: to draw from.
      count: how many.
      seed: None for one fixed choice.
      name: what they are for; another name is another draw.

    Raises:
      DataError: there are too few.
    """
    if not 0 <= count <= len(contexts):
        raise DataError(f"{name}: {count} contexts are wanted, but there are {len(contexts)}.")
    entropy = [zlib.crc32(name.encode())] if seed is None else [seed, zlib.crc32(name.encode())]
    order = np.random.default_rng(entropy).permutation(len(contexts))
    return [contexts[i] for i in order[:count]]


def rounds(
    contexts: Sequence[Context], *, count: int, rounds: int, seed: int
) -> list[list[Context]]:
    """Each round's training contexts; rounds share none, and further rounds change none.

    Raises:
      DataError: there are fewer than `count * rounds`.
    """
    drawn = choose(contexts, count * rounds, seed=seed, name="training contexts")
    return [drawn[r * count : (r + 1) * count] for r in range(rounds)]


def _questions(contexts: Sequence[Context]) -> int:
    return sum(len(context.questions) for context in contexts)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def check_disjoint(train: Iterable[Context], evaluation: Iterable[Context]) -> None:
    """Refuses splits that share an article or a passage.

    Titles are compared without regard to case, width, white space and underscores, passages
    without regard to case, width and white space.

    Raises:
      DataError: names the shared articles or the two ids of a shared passage.
    """
    train, evaluation = list(train), list(evaluation)
    train_titles = {same_key(context.group) for context in train}
    shared = sorted({c.group for c in evaluation if same_key(c.group) in train_titles})
    if shared:
        names = ", ".join(repr(title) for title in shared[:5])
        more = f" and {len(shared) - 5} more" if len(shared) > 5 else ""
        raise DataError(
            f"training and evaluation share {len(shared)} article(s): {names}{more}. They must be "
            "disjoint by article; take these articles out of one of the two files."
        )
    train_passages = {same_key(context.text): context.id for context in train}
    for context in evaluation:
        if (twin := train_passages.get(same_key(context.text))) is not None:
            raise DataError(
                f"the evaluation passage {context.id} is also the training passage {twin}, under "
                "another title; take it out of one of the two files."
            )


def count_reasons(skipped: Iterable[Skipped]) -> dict[str, int]:
    """How many parts were left out for each reason, for a report.

    >>> count_reasons([Skipped("a", "empty"), Skipped("b", "long"), Skipped("c", "empty")])
    {'empty': 2, 'long': 1}
    """
    return dict(collections.Counter(part.reason for part in skipped))


def same_key(text: str) -> str:
    """What spellings of one title or passage have in common: no case, width, underscores or spaces.

    >>> same_key("Old_Rome") == same_key(" OLD  ROME")
    True
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().replace("_", " ").split())
