"""From a self-edit to training sequences.

The rules are those of SEAL's knowledge-incorporation experiments (Zweiger et al., arXiv
2506.10943): a single passage trains on the lines of the self-edit and on the passage; runs over
many passages train on whole completions. A split rule is a function from text to a list of
pieces without surrounding white space; text with nothing visible in it has no pieces.
"""

import re
import types
from collections.abc import Callable, Mapping, Sequence

from seal_jax.tasks.protocol import Passage
from seal_jax.tasks.texts import is_blank

# The number of a list, not the start of a decimal: "1. Rome" and "1.Rome", but not "1.5 million".
_FIRST_ITEM = re.compile(r"1\.(?!\d)")
# At the start of a line, with or without markup before it, or after a sentence on the same line.
_QUESTION = re.compile(
    r"(?:^[ \t#*>_-]*|(?<=[.?!])[ \t]+)Question[ \t]+\d+[ \t]*:", re.IGNORECASE | re.MULTILINE
)
# What some models write instead; only where no question has a number.
_UNNUMBERED = re.compile(r"^[ \t#*>_-]*Question[ \t*_]*:", re.IGNORECASE | re.MULTILINE)
_DASHES = re.compile(r"^[ \t]*-{3,}[ \t]*$", re.MULTILINE)


def split_lines(text: str) -> list[str]:
    """Every non-empty line; without the first one where the second starts with "1.".

    Such a first line is a preamble ("Here is the list:"). The numbers of a list stay in the text,
    and lines of dashes only separate others, as in every rule but "whole".

    >>> split_lines("1. Rome fell.\\n\\n  2. It was sacked.\\n")
    ['1. Rome fell.', '2. It was sacked.']
    >>> split_lines("Here is a list:\\n\\n1. Rome fell.\\n2. It was sacked.")
    ['1. Rome fell.', '2. It was sacked.']
    >>> split_lines("Rome fell.\\n1.5 million people left.")
    ['Rome fell.', '1.5 million people left.']
    """
    lines = [line for line in _visible(text.splitlines()) if not _DASHES.fullmatch(line)]
    if len(lines) > 1 and _FIRST_ITEM.match(lines[1]):
        return lines[1:]
    return lines


def split_questions(text: str) -> list[str]:
    """One piece for each "Question N:" with what follows it; the whole text where there is none.

    Where no question has a number, a line that begins with "Question:" starts a piece. A single
    line before the first question is a preamble and is dropped; more than one line before it is
    kept as a piece of its own.

    >>> split_questions("Question 1: Who?\\nAnswer: Ada.\\n\\nQuestion 2: Where?\\nAnswer: Rome.")
    ['Question 1: Who?\\nAnswer: Ada.', 'Question 2: Where?\\nAnswer: Rome.']
    >>> split_questions("A quiz:\\nQuestion 1: Who? Answer: Ada. Question 2: Where? Answer: Rome.")
    ['Question 1: Who? Answer: Ada.', 'Question 2: Where? Answer: Rome.']
    """
    text = _DASHES.sub("", text)
    starts = [match.start() for match in _QUESTION.finditer(text)]
    starts = starts or [match.start() for match in _UNNUMBERED.finditer(text)]
    if not starts:
        return split_whole(text)
    before = text[: starts[0]]
    head = [before] if len(_visible(before.splitlines())) > 1 else []
    ends = [*starts[1:], len(text)]
    return _visible(head + [text[start:end] for start, end in zip(starts, ends, strict=True)])


def split_dashes(text: str) -> list[str]:
    """The pieces between lines that hold only three or more dashes (many-passage runs).

    >>> split_dashes("Rome fell.\\nIt burnt.\\n---\\nRome was sacked --- twice.")
    ['Rome fell.\\nIt burnt.', 'Rome was sacked --- twice.']
    """
    return _visible(_DASHES.split(text))


def split_whole(text: str) -> list[str]:
    """The whole completion as one piece (many-passage runs).

    >>> split_whole("1. Rome fell.\\n2. It burnt.\\n"), split_whole(" \\n")
    (['1. Rome fell.\\n2. It burnt.'], [])
    """
    return _visible([text])


SPLIT_RULES: Mapping[str, Callable[[str], list[str]]] = types.MappingProxyType(
    {
        "lines": split_lines,
        "questions": split_questions,
        "dashes": split_dashes,
        "whole": split_whole,
    }
)


def after_marker(text: str, marker: str) -> str:
    """What comes after the line of a marker, such as the statements after a chain of thought.

    The line may carry markup, a number, a few words before the marker ("Here are the statements:")
    and text after its colon. Later lines of the same kind are taken out: a model that starts again
    has written more statements. A text without the marker, or with nothing visible after it, is
    given back whole, without such lines: its author reasoned and stopped, or left the label out,
    and whether such a self-edit teaches anything is for the reward to say.

    Args:
        text: a self-edit.
        marker: the words of the line; a final colon, and capitals, do not matter.

    >>> after_marker("It fell, so it was weak.\\n**Statements:**\\n1. Rome fell.", "Statements:")
    '1. Rome fell.'
    >>> after_marker("1. Rome fell.", "Statements:")
    '1. Rome fell.'
    """
    words = r"[ \t]+".join(re.escape(word) for word in marker.rstrip(" :").split())
    colon = r"[ \t*_]*[:\uff1a][ \t*_]*"
    line = re.compile(
        rf"^[ \t#*>_-]*+(?:\d+[.)][ \t*_]*+)?"  # "_" is a letter too: nothing is given back
        rf"(?:{words}(?:{colon}|[ \t*_]*$)|(?:[\w'\u2019]+[ \t]+){{1,5}}{words}{colon}$)",
        re.IGNORECASE | re.MULTILINE,
    )
    before, *after = line.split(text)
    kept = after if any(not is_blank(piece) for piece in after) else [before]
    return "\n".join(_visible(kept))


def sequence(title: str, text: str, *, title_prefix: bool = True) -> str:
    """One training sequence: `text`, after its title on a line of its own.

    >>> sequence("Rome", "Rome fell.")
    'Rome\\nRome fell.'
    """
    return f"{title}\n{text}" if title_prefix else text


def edit_sequences(
    title: str,
    self_edit: str,
    *,
    rule: str = "lines",
    after: str | None = None,
    title_prefix: bool = True,
) -> list[str]:
    """The sequences that the self-edit itself gives; empty where nothing visible is in it.

    Args:
        title: of the context.
        self_edit: the policy's text.
        rule: a key of `SPLIT_RULES`.
        after: only what follows this line is split (`after_marker`); None for everything.
        title_prefix: whether "title\\n" precedes every sequence.

    Raises:
        ValueError: `rule` is not a key of `SPLIT_RULES`.

    >>> edit_sequences("Rome", "1. Rome fell.\\n2. It burnt.")
    ['Rome\\n1. Rome fell.', 'Rome\\n2. It burnt.']
    """
    if rule not in SPLIT_RULES:
        raise ValueError(f"unknown split rule {rule!r}; expected one of {sorted(SPLIT_RULES)}.")
    said = self_edit if after is None else after_marker(self_edit, after)
    return [sequence(title, piece, title_prefix=title_prefix) for piece in SPLIT_RULES[rule](said)]


def training_sequences(
    title: str,
    passage: str,
    self_edit: str,
    *,
    rule: str = "lines",
    after: str | None = None,
    append_passage: bool = True,
    title_prefix: bool = True,
) -> list[str]:
    """The sequences of a self-edit, then the passage, all prefixed by the title.

    A self-edit that says nothing gives an empty list, without the passage: such a candidate has
    nothing of its own to be rewarded for, and must not earn the passage-only arm's reward.

    Args:
        title, passage: the context.
        self_edit: the policy's text.
        rule, after, title_prefix: see `edit_sequences`.
        append_passage: whether the passage comes last.

    >>> training_sequences("Rome", "Rome fell in 476.", "List:\\n1. Rome fell.")
    ['Rome\\n1. Rome fell.', 'Rome\\nRome fell in 476.']
    >>> training_sequences("Rome", "Rome fell in 476.", " \\n ")
    []
    """
    edit = edit_sequences(title, self_edit, rule=rule, after=after, title_prefix=title_prefix)
    if not edit or not append_passage:
        return edit
    return [*edit, sequence(title, passage, title_prefix=title_prefix)]


def corpus_sequences(
    title: str,
    text: str,
    completions: Sequence[str],
    *,
    passage: Passage = "once",
    after: str | None = None,
    title_prefix: bool = True,
) -> list[str]:
    """The sequences of one passage in continued pretraining over many passages.

    A completion is one sequence, or several where lines of dashes split it.

    Args:
        title, text: the context and its passage.
        completions: self-edits, or a teacher's texts, about the passage; blank ones are left out.
        passage: how often the passage itself is there: "once", at the end (the paper's second
            version); "per_completion", after each completion that is not blank (its first
            version); or "none". The first two give it at least once, so that none is lost.
        after, title_prefix: see `edit_sequences`.

    >>> corpus_sequences("Rome", "Rome fell in 476.", ["It fell.\\n---\\nIt burnt.", "It is old."])
    ['Rome\\nIt fell.', 'Rome\\nIt burnt.', 'Rome\\nIt is old.', 'Rome\\nRome fell in 476.']
    """
    own = sequence(title, text, title_prefix=title_prefix)
    found = []
    for completion in completions:
        pieces = edit_sequences(
            title, completion, rule="dashes", after=after, title_prefix=title_prefix
        )
        found += pieces
        if pieces and passage == "per_completion":
            found.append(own)
    if passage == "once" or (passage == "per_completion" and not found):
        found.append(own)
    return found


def _visible(pieces: list[str]) -> list[str]:
    """The pieces with something to read in them, without surrounding white space."""
    return [piece.strip() for piece in pieces if not is_blank(piece)]
