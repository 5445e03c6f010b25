"""What a passage says, sentence by sentence, and as questions: its sentences with a gap.

A model that has learned a sentence by heart may still not answer when it is asked about it. Here a
sentence is asked in its own words, "A card costs what a year?", and what is left out of it is the
answer. What may be left out is what stands between function words and punctuation marks: names and
numbers come first.
"""

import re
from typing import NamedTuple

from seal_jax.tasks import documents
from seal_jax.tasks.knowledge.numerals import to_digits
from seal_jax.tasks.knowledge.words import MONTHS, STOP_WORDS, words
from seal_jax.tasks.protocol import Context, Question

_PLACES = frozenset(("in", "at", "to", "from", "of", "on", "the"))  # come before names of no people
_LONGEST = 4  # words that are left out
_WORDS_AROUND = 9  # of a gap, on either side: longer sentences are shortened
_MARKUP = re.compile(r"^[ \t]*(?:#{1,6}|[-*+•>]|\d+[.)])[ \t]+|\*+|__+|`", re.M)
_EDGES = "\"'“”‘’«»()[]{}.,;:!?…"


class Gap(NamedTuple):
    """A sentence without some of its words, and these words."""

    question: str
    answer: str


def sentences(text: str) -> list[str]:
    """The sentences of a text, and its other lines, without the marks of lists and tables.

    >>> sentences("- Ada built it. It is red.\\n- 3 eggs")
    ['Ada built it.', 'It is red.', '3 eggs']
    """
    lines = [" ".join(line.replace("|", " ").split()) for line in _MARKUP.sub("", text).split("\n")]
    found = [one for line in lines for one in documents.sentences(line)]
    return [one for one in found if re.search(r"\w", one)]


def gaps(text: str, most: int, title: str = "") -> list[Gap]:
    """At most so many of the gaps that a text can have, in order; names and numbers come first.

    What its title says is never left out: it is what all questions are about.

    >>> gaps("The tower was built by Ada Bell in 1902.", 2)
    [Gap(question='The tower was built by who in 1902.', answer='Ada Bell'), \
Gap(question='The tower was built by Ada Bell in which year.', answer='1902')]
    """
    named = set(words(title))
    found = [
        gap
        for sentence in sentences(text)
        for gap in _of_sentence(sentence)
        if not named.issuperset(words(gap[1].answer))
    ]
    telling = [gap for tells, gap in found if tells]
    others = [gap for tells, gap in found if not tells]
    room = max(most - len(telling), 0)
    kept = {*_spread(telling, most), *_spread(others, room)}
    return [gap for _, gap in found if gap in kept][:most]


def questions(context: Context, most: int) -> tuple[Question, ...]:
    """`gaps` of a context as questions with their answers, each asked once."""
    found = {gap.question: gap.answer for gap in gaps(context.text, most, context.title)}
    return tuple(
        Question(f"{context.id}-gap-{i}", asked, answer)
        for i, (asked, answer) in enumerate(found.items())
    )


def _of_sentence(sentence: str) -> list[tuple[bool, Gap]]:
    """(whether a name or a number is left out, the gap) for each run of content words."""
    said = sentence.split()
    cores = [word.strip(_EDGES) for word in said]
    kinds = [_kind(core, i) for i, core in enumerate(cores)]
    runs: list[list[int]] = [[]]
    for i, (word, kind) in enumerate(zip(said, kinds, strict=True)):
        so_far = [kinds[j] for j in runs[-1]]
        if so_far and not _goes_on(so_far, kind, cores[i]):
            runs.append([])
        if kind:
            runs[-1].append(i)
        if not kind or word[-1] in ",.;:!?)":
            runs.append([])
    found = []
    for run in runs:
        if not run or len(run) == len(said) or len(run) > _LONGEST:
            continue
        first, last = run[0], run[-1] + 1
        left_out = " ".join(said[first:last])
        answer = left_out.strip(_EDGES)
        before, _, after = left_out.partition(answer)
        left = said[max(0, first - _WORDS_AROUND) : first]
        right = said[last : last + _WORDS_AROUND]
        question = " ".join([*left, f"{before}{_asked(cores, kinds, run)}{after}", *right])
        tells = any(kinds[i] == "number" or (kinds[i] == "name" and i > 0) for i in run)
        found.append((tells, Gap(question, answer)))
    return found


def _kind(core: str, place: int) -> str:
    """What a word is: "number", "name", "word", or "" for a function word."""
    if not core or (core.lower() in STOP_WORDS and (place == 0 or core.islower())):
        return ""
    if core[0].isdigit() or to_digits([core.lower()]) != [core.lower()]:
        return "number"
    return "name" if core[0].isupper() else "word"


def _asked(cores: list[str], kinds: list[str], run: list[int]) -> str:
    """The question word in the place of a run of words."""
    first, *more = run
    if kinds[first] == "number" and not any(cores[i].lower() in MONTHS for i in more):
        if not more and re.fullmatch(r"1\d{3}|20\d\d", cores[first]):
            return "which year"
        return " ".join(["how many", *(cores[i] for i in more if kinds[i] == "word")])
    before = cores[first - 1].lower() if first else ""
    if len(run) > 1 and all(kinds[i] == "name" for i in run) and before not in _PLACES:
        return "who"
    return "what"


def _goes_on(run: list[str], kind: str, core: str) -> bool:
    """Whether a word belongs to the run before it: a name, a date, a number with its unit."""
    if run[-1] == "number":
        return kind in ("number", "word") or core.lower() in MONTHS
    if kind == "number":
        return run[-1] == "name"
    return kind == run[-1] and "number" not in run


def _spread(items: list[Gap], most: int) -> list[Gap]:
    """At most so many of them, spread evenly."""
    if len(items) <= most:
        return items
    return [items[i * len(items) // most] for i in range(most)]
