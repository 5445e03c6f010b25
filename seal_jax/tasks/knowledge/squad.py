"""Passages and questions from files in the SQuAD v1.1 format.

Format: {"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers":
[{"text", "answer_start"}]}]}]}]} (Rajpurkar et al., arXiv 1606.05250). `answer_start` is not read.
A `Passage` has all gold answers of a question, a `Context` the first one only.
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

from seal_jax.tasks.protocol import Context, Question, Skipped
from seal_jax.tasks.splits import DataError, same_key
from seal_jax.tasks.texts import is_blank

_SIGNS = "#%&*/@\\§†‡"  # Unicode counts these as punctuation
_NAMES = {dict: "an object", list: "a list", str: "a string", type(None): "null"}


@dataclasses.dataclass(frozen=True)
class GoldQuestion:
    """A question with all of its gold answers, in the file's order; at least one."""

    id: str
    text: str
    answers: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Passage:
    """One paragraph of an article: `number` counts the article's paragraphs from 0."""

    id: str
    title: str
    number: int
    text: str
    questions: tuple[GoldQuestion, ...]

    def context(self) -> Context:
        """The passage as the outer loop takes it: with the first gold answer of each question."""
        questions = tuple(Question(q.id, q.text, q.answers[0]) for q in self.questions)
        return Context(id=self.id, title=self.title, text=self.text, questions=questions)


def load(path: str | os.PathLike | Traversable) -> tuple[list[Context], list[Skipped]]:
    """Reads a SQuAD v1.1 file.

    Args:
      path: the JSON file.

    Returns:
      The contexts in file order, and what was skipped; see `read`.

    Raises:
      DataError: see `read`.
    """
    passages, skipped = read(path)
    return [passage.context() for passage in passages], skipped


def read(path: str | os.PathLike | Traversable) -> tuple[list[Passage], list[Skipped]]:
    """Reads a SQuAD v1.1 file with all gold answers.

    Args:
      path: the JSON file.

    Returns:
      The passages in file order, and what was skipped: empty passages, paragraphs without
      questions, questions without text or whose first answer is missing or only punctuation (any
      sentence would hold it). A title's underscores become spaces; passages, questions and answers
      lose surrounding white space. An id is the slug of the title, the paragraph's number within
      the article and a hash of title and passage: it does not depend on the other articles of the
      file. A question id that a paragraph repeats gets "-2", "-3" and so on; a missing one is made
      from the context's.

    Raises:
      DataError: the file cannot be read, is not in the format, uses a question id in two
        paragraphs, or has no passage with a question.
    """
    file = pathlib.Path(path) if isinstance(path, str | os.PathLike) else path
    document = _read(file)
    passages, skipped = [], []
    # Paragraphs seen of each title: articles may be listed in parts.
    numbers: collections.Counter[str] = collections.Counter()
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
            passages.append(Passage(context_id, title, number, text, questions))
    if not passages:
        why = f" The first part left out: {skipped[0].reason}." if skipped else ""
        raise DataError(f"{file}: no passage with a question and an answer in the file.{why}")
    return passages, skipped


def distinct(contexts: Iterable[Context]) -> tuple[list[Context], list[Skipped]]:
    """Leaves out passages that repeat an earlier one, which would be counted or trained on twice.

    Passages are compared without regard to case, width and white space.

    Returns:
      The first context of each passage in the given order, and the others with the reason.
    """
    first: dict[str, str] = {}
    kept, skipped = [], []
    for context in contexts:
        twin = first.setdefault(same_key(context.text), context.id)
        if twin == context.id:
            kept.append(context)
        else:
            place = f"{context.id} (as {twin})"
            skipped.append(Skipped(place, "the passage repeats an earlier one"))
    return kept, skipped


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
    if isinstance(value, str):
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
) -> tuple[GoldQuestion, ...]:
    """The gradable questions of a paragraph; adds to `skipped` and `seen`."""
    questions = []
    own: collections.Counter[str] = collections.Counter()
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
        golds = [_text(gold, "text", f"{place}, answers[{n}]") for n, gold in enumerate(answers)]
        if is_blank(text):
            skipped.append(Skipped(place, "the question is empty"))
        elif not golds or is_blank(golds[0]):
            skipped.append(Skipped(place, "the question has no answer"))
        elif _is_punctuation(golds[0]):
            skipped.append(Skipped(place, "the answer is only punctuation"))
        else:
            visible = tuple(gold for gold in golds if not is_blank(gold))
            questions.append(GoldQuestion(question_id, text, visible))
    return tuple(questions)


def _is_punctuation(text: str) -> bool:
    """Whether nothing but marks of a sentence can be read; signs that mean something are no marks.

    >>> _is_punctuation(" ...?"), _is_punctuation("%"), _is_punctuation("+")
    (True, False, False)
    """
    return not any(unicodedata.category(c)[0] in "LMNS" or c in _SIGNS for c in text)


def _context_id(title: str, number: int, text: str) -> str:
    """An ASCII name that is safe in file names, e.g. "super-bowl-50-003-1f0c9a2b7d"."""
    ascii_title = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_title.lower()).strip("-")[:40].strip("-")
    digest = hashlib.sha256(f"{title}\n{text}".encode()).hexdigest()[:10]
    return f"{slug or 'article'}-{number:03d}-{digest}"
