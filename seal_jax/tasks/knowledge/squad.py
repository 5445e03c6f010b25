"""Passages and questions from files in the SQuAD v1.1 format.

Format: {"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers":
[{"text", "answer_start"}]}]}]}]} (Rajpurkar et al., arXiv 1606.05250). Only the first gold answer
is used, and `answer_start` is not read.
"""

import collections
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import unicodedata
from collections.abc import Iterable
from importlib.resources.abc import Traversable
from typing import Any

from seal_jax.tasks.base import Context, Question
from seal_jax.tasks.knowledge.parse import is_blank

_NAMES = {dict: "an object", list: "a list", str: "a string", type(None): "null"}


class DataError(ValueError):
    """A data file that cannot be used; the message names the place and what belongs there."""


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A part of a file that was left out: where it is (article, paragraph, question) and why."""

    where: str
    reason: str


def load(path: str | os.PathLike | Traversable) -> tuple[list[Context], list[Skipped]]:
    """Reads a SQuAD v1.1 file.

    Args:
      path: the JSON file.

    Returns:
      The contexts in file order, and what was skipped: empty passages, paragraphs without
      questions, questions without text or without an answer. A title's underscores become
      spaces; passages, questions and answers lose surrounding white space. An id is the slug of
      the title, the paragraph's number within the article and a hash of title and passage: it
      does not depend on the other articles of the file. A question id that a paragraph repeats
      gets "-2", "-3" and so on; a missing one is made from the context's.

    Raises:
      DataError: the file cannot be read, is not in the format, uses a question id in two
        paragraphs, or has no passage with a question.
    """
    file = pathlib.Path(path) if isinstance(path, str | os.PathLike) else path
    document = _read(file)
    contexts, skipped = [], []
    numbers = (
        collections.Counter()
    )  # paragraphs seen of each title: articles may be listed in parts
    seen_questions: dict[str, str] = {}
    for i, article in enumerate(_field(document, "data", list, f"{file}: the file")):
        where = f"{file}: data[{i}]"
        title = " ".join(_field(article, "title", str, where).replace("_", " ").split())
        if is_blank(title):
            raise DataError(f'{where}: "title" is empty; give the article a name.')
        where = f"{where} ({title!r})"
        for j, paragraph in enumerate(_field(article, "paragraphs", list, where)):
            number = numbers[title]
            numbers[title] += 1
            place = f"{where}, paragraphs[{j}]"
            text = _text(paragraph, "context", place)
            context_id = _context_id(title, number, text)
            qas = _field(paragraph, "qas", list, place)
            if is_blank(text):
                skipped.append(Skipped(place, "the passage is empty"))
                continue
            questions = _questions(qas, context_id, place, skipped, seen_questions)
            if not questions:
                skipped.append(Skipped(place, "the paragraph has no question that can be graded"))
                continue
            contexts.append(Context(id=context_id, title=title, text=text, questions=questions))
    if not contexts:
        why = f" The first part left out: {skipped[0].reason}." if skipped else ""
        raise DataError(f"{file}: no passage with a question and an answer in the file.{why}")
    return contexts, skipped


def check_disjoint(train: Iterable[Context], evaluation: Iterable[Context]) -> None:
    """Refuses splits that share an article or a passage.

    Titles are compared without regard to case, width, white space and underscores, passages
    without regard to case, width and white space.

    Raises:
      DataError: names the shared articles or the two ids of a shared passage.
    """
    train, evaluation = list(train), list(evaluation)
    train_titles = {_key(context.title) for context in train}
    shared = sorted({c.title for c in evaluation if _key(c.title) in train_titles})
    if shared:
        names = ", ".join(repr(title) for title in shared[:5])
        more = f" and {len(shared) - 5} more" if len(shared) > 5 else ""
        raise DataError(
            f"training and evaluation share {len(shared)} article(s): {names}{more}. They must be "
            "disjoint by article; take these articles out of one of the two files."
        )
    train_passages = {_key(context.text): context.id for context in train}
    for context in evaluation:
        if (twin := train_passages.get(_key(context.text))) is not None:
            raise DataError(
                f"the evaluation passage {context.id} is also the training passage {twin}, under "
                "another title; take it out of one of the two files."
            )


def _read(file: pathlib.Path | Traversable) -> Any:
    """The parsed JSON of a file."""
    try:
        return json.loads(file.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise DataError(
            f"{file}: cannot read the data file ({error.strerror}); expected a SQuAD v1.1 JSON "
            "file. Check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text ({error.reason}); save it as UTF-8.") from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file}: not JSON: {error.msg} at line {error.lineno}, column {error.colno}; expected "
            'one object {"data": [...]} in the SQuAD v1.1 format.'
        ) from None


def _field(parent: Any, name: str, kind: type, where: str) -> Any:
    """`parent[name]`, which must be of the given kind."""
    if not isinstance(parent, dict):
        raise DataError(
            f'{where}: expected an object with "{name}" (SQuAD v1.1 format), found '
            f"{_NAMES.get(type(parent), type(parent).__name__)}."
        )
    if name not in parent:
        raise DataError(
            f'{where}: "{name}" is missing; expected {_NAMES[kind]} (SQuAD v1.1 format). '
            f"Keys found: {sorted(parent)}."
        )
    value = parent[name]
    if not isinstance(value, kind):
        raise DataError(
            f'{where}: "{name}" must be {_NAMES[kind]}, found '
            f"{_NAMES.get(type(value), type(value).__name__)}."
        )
    if kind is str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise DataError(
                f'{where}: "{name}" holds half of a surrogate pair (a \\ud800 to \\udfff escape on '
                "its own), which is no character; remove it."
            ) from None
    return value


def _text(parent: Any, name: str, where: str) -> str:
    """A string field without surrounding white space."""
    return _field(parent, name, str, where).strip()


def _questions(
    qas: list, context_id: str, where: str, skipped: list[Skipped], seen: dict[str, str]
) -> tuple[Question, ...]:
    """The gradable questions of a paragraph; adds to `skipped` and `seen`."""
    questions = []
    own = collections.Counter()
    for k, entry in enumerate(qas):
        place = f"{where}, qas[{k}]"
        text = _text(entry, "question", place)
        answers = _field(entry, "answers", list, place)
        question_id = _text(entry, "id", place) if "id" in entry else f"{context_id}-q{k}"
        own[question_id] += 1
        if own[question_id] > 1:  # SQuAD asks some questions twice of one paragraph
            question_id = f"{question_id}-{own[question_id]}"
        if question_id in seen:
            raise DataError(
                f"{place}: the question id {question_id!r} is already used by "
                f"{seen[question_id]}; ids must be unique within the file."
            )
        seen[question_id] = place
        answer = _text(answers[0], "text", f"{place}, answers[0]") if answers else ""
        if is_blank(text):
            skipped.append(Skipped(place, "the question is empty"))
        elif is_blank(answer):
            skipped.append(Skipped(place, "the question has no answer"))
        else:
            questions.append(Question(id=question_id, text=text, answer=answer))
    return tuple(questions)


def _context_id(title: str, number: int, text: str) -> str:
    """An ASCII name that is safe in file names, e.g. "super-bowl-50-003-1f0c9a2b7d"."""
    ascii_title = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_title.lower()).strip("-")[:40].strip("-")
    digest = hashlib.sha256(f"{title}\n{text}".encode()).hexdigest()[:10]
    return f"{slug or 'article'}-{number:03d}-{digest}"


def _key(text: str) -> str:
    """What two spellings of a title or passage have in common."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().replace("_", " ").split())
