"""Passages and questions from JSON files of SQuAD and of those who use it.

- SQuAD v1.1 and v2.0: {"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question",
  "answers": [{"text"}], "is_impossible"}]}]}]} (Rajpurkar et al., arXiv 1606.05250 and 1806.03822);
- rows, as Hugging Face exports them: {"id", "title", "context", "question", "answers": {"text":
  [...]}}, in a list, as JSON lines, or as its viewer has them, {"rows": [{"row": ...}]};
- SEAL's own: a list of {"title", "context", "questions": [{"question", "answer"}]};
- texts without questions: {"title", "text"} in a list or as JSON lines, split like documents.

Other keys are not read.
"""

import collections
import dataclasses
import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from importlib.resources.abc import Traversable
from typing import Any

from seal_jax.runs import json_file
from seal_jax.tasks import documents
from seal_jax.tasks.protocol import Context, Question, Skipped
from seal_jax.tasks.splits import DataError, same_key
from seal_jax.tasks.texts import is_blank

_SIGNS = "#%&*/@\\§†‡"  # Unicode counts these as punctuation
_NAMES: dict[type, str] = {list: "a list", str: "a string"}
_EXPECTED = (
    'passages in the form of SQuAD: {"data": [{"title", "paragraphs": [...]}]}, or another form of '
    "docs/data.md (.txt and .md files hold texts)"
)
_TITLE_WORDS = 8  # of a passage without a title
_PART_WORDS = 150  # of a document, at most, where the settings do not say
_EMPTY = "the passage is empty"
_NO_QUESTION = "the paragraph has no question that can be graded"


@dataclasses.dataclass(frozen=True)
class Taken:
    """What files that are read together share: passages of each title so far, and question ids."""

    numbers: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    ids: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


def load(path: str | os.PathLike | Traversable) -> tuple[list[Context], list[Skipped]]:
    """Reads a file of passages and questions; see `read`.

    Raises:
      DataError: the file cannot be read, is not in one of the forms, or has no passage with a
        question.
    """
    contexts, skipped = read(path)
    check_some(path, contexts, skipped)
    return contexts, skipped


def read(
    path: str | os.PathLike | Traversable,
    *,
    silent: bool = False,
    max_words: int = 0,
    taken: Taken | None = None,
) -> tuple[list[Context], list[Skipped]]:
    """Reads a file of passages.

    Args:
      path: the JSON file, of one of the forms above.
      silent: whether passages without a question are kept.
      max_words: see `parts`.
      taken: of the files that were read before.

    Returns:
      The contexts in file order, and what was skipped: empty passages, paragraphs without
      questions, questions without text, marked as impossible, or whose first answer is missing or
      only punctuation (any sentence would hold it). A title's underscores become spaces; without
      one it is the passage's first words. Passages, questions and answers lose surrounding white
      space. An id is the slug of the title, the paragraph's number within the article and a hash of
      title and passage: it does not depend on the other articles of the file. A question id that
      was there before gets "-2", "-3" and so on; a missing one is made from the context's.

    Raises:
      DataError: the file cannot be read, or is not in one of the forms.
    """
    document = json_file.read(path, error=DataError, expected=_EXPECTED, unique=True, lines=True)
    items, at = document if isinstance(document, list) else [document], f"{path}: "
    if isinstance(document, dict) and "rows" in document:
        rows = _field(document, "rows", list, f"{path}: the file")
        items, at = [of.get("row", of) if isinstance(of, dict) else of for of in rows], at + "rows"
    elif isinstance(document, dict) and not {"context", "text"} & document.keys():
        items, at = _field(document, "data", list, f"{path}: the file"), f"{path}: data"
    contexts, skipped = [], []
    # Paragraphs seen of each title: articles may be listed in parts.
    taken = taken or Taken()
    for place, title, paragraph in _paragraphs(items, at):
        if isinstance(paragraph, dict) and "text" in paragraph and "context" not in paragraph:
            found = parts(title, _text(paragraph, "text", place), max_words, taken)
            contexts += found if silent else []
            if not (found and silent):
                skipped.append(Skipped(place, _NO_QUESTION if found else _EMPTY))
            continue
        context = context_of(title, paragraph, place, taken, skipped)
        if is_blank(context.text):
            skipped.append(Skipped(place, _EMPTY))
        elif not context.questions and not silent:
            skipped.append(Skipped(place, _NO_QUESTION))
        else:
            contexts.append(context)
    return contexts, skipped


def context_of(
    title: str, paragraph: dict, place: str, taken: Taken, skipped: list[Skipped]
) -> Context:
    """The context of {"context", "questions" or "qas"}, with the questions that can be graded.

    Args:
      place: where it is, for messages.
      taken, skipped: are added to.
    """
    number = taken.numbers[title]
    taken.numbers[title] += 1
    text = _text(paragraph, "context", place)
    context_id = _context_id(title, number, text)
    qas = _field(paragraph, "questions" if "questions" in paragraph else "qas", list, place)
    asked = () if is_blank(text) else _questions(qas, context_id, place, skipped, taken.ids)
    return Context(context_id, title, text, asked)


def parts(title: str, text: str, max_words: int, taken: Taken) -> list[Context]:
    """The parts of a document as contexts without questions, the document their group.

    Args:
      max_words: of a part; 0 is 150, about a passage of SQuAD's.
    """
    found = []
    for part in documents.split(text, title, max_words or _PART_WORDS):
        number = taken.numbers[title]
        taken.numbers[title] += 1
        context_id = _context_id(title, number, f"{part.title}\n{part.text}")
        found.append(Context(context_id, part.title, part.text, article=title))
    return found


def check_some(
    path: object, contexts: Sequence[Context], skipped: Sequence[Skipped], *, silent: bool = False
) -> None:
    """Refuses data without a context that can be used.

    Raises:
      DataError: says why the first part was left out, and what to do.
    """
    if contexts:
        return
    why = f" The first part left out: {skipped[0].reason}." if skipped else ""
    if silent:
        raise DataError(f"{path}: no passage with some text.{why}")
    raise DataError(
        f"{path}: no passage with a question and an answer in the file.{why} Where there are none, "
        "data.questions='policy' or 'teacher' has them written."
    )


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


def _paragraphs(items: list, at: str) -> list[tuple[str, str, dict]]:
    """(place, title, paragraph) of all articles, passages and rows; rows of one passage are one."""
    found: list[tuple[str, str, dict]] = []
    rows: dict[tuple[str, str], list] = {}
    for i, item in enumerate(items):
        where = f"{at}[{i}]"
        title = title_of(item, where)
        if "text" in item and not {"context", "paragraphs"} & item.keys():
            asked = {"question", "questions", "qas"} & item.keys()
            item = {**item, "context": item["text"]} if asked else item
        if {"context", "text"}.isdisjoint(item):
            where += f" ({title!r})"
            for j, paragraph in enumerate(_field(item, "paragraphs", list, where)):
                found.append((f"{where}, paragraphs[{j}]", title, paragraph))
        elif "question" not in item:
            found.append((where, title, item))
        elif (key := (title, _field(item, "context", str, where))) in rows:
            rows[key].append(item)
        else:
            rows[key] = [item]
            found.append((where, title, {"context": key[1], "qas": rows[key]}))
    return found


def title_of(item: Any, where: str) -> str:
    """The title of an article, passage or row; the first words of its text where it has none."""
    if not isinstance(item, dict):
        raise DataError(f"{where}: found {json_file.kind(item)}; expected {_EXPECTED}.")
    given = "" if item.get("title") is None else _field(item, "title", str, where)
    title = " ".join(given.replace("_", " ").split())
    if not is_blank(title):
        return title
    parts = item.get("paragraphs")
    first = parts[0] if isinstance(parts, list) and parts else item
    text = first.get("context", first.get("text")) if isinstance(first, dict) else ""
    return " ".join(str(text).split()[:_TITLE_WORDS]) or "untitled"


def _field(parent: Any, name: str, kind: type, where: str) -> Any:
    """`parent[name]`, which must be of the given kind."""
    if not isinstance(parent, dict):
        raise DataError(
            f'{where}: expected an object with "{name}" (SQuAD format), found '
            f"{json_file.kind(parent)}."
        )
    if name not in parent:
        raise DataError(
            f'{where}: "{name}" is missing; expected {_NAMES[kind]} (SQuAD v1.1 format). '
            f"Keys found: {sorted(parent)}."
        )
    value = parent[name]
    if not isinstance(value, kind):
        raise DataError(f'{where}: "{name}" must be {_NAMES[kind]}, found {json_file.kind(value)}.')
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
    qas: list, context_id: str, where: str, skipped: list[Skipped], ids: collections.Counter[str]
) -> tuple[Question, ...]:
    """The gradable questions of a paragraph; adds to `skipped` and `ids`."""
    questions = []
    for k, entry in enumerate(qas):
        place = f"{where}, qas[{k}]"
        text = _text(entry, "question", place)
        golds = _golds(entry, place)
        question_id = _fresh(_id(entry, place) or f"{context_id}-q{k}", ids)
        if is_blank(text):
            skipped.append(Skipped(place, "the question is empty"))
        elif entry.get("is_impossible"):
            skipped.append(Skipped(place, "the question is marked as impossible"))
        elif not golds or is_blank(golds[0]):
            skipped.append(Skipped(place, "the question has no answer"))
        elif _is_punctuation(golds[0]):
            skipped.append(Skipped(place, "the answer is only punctuation"))
        else:
            visible = tuple(gold for gold in golds if not is_blank(gold))
            questions.append(Question(question_id, text, visible[0], visible))
    return tuple(questions)


def _golds(entry: dict, place: str) -> list[str]:
    """The gold answers: SEAL's one, SQuAD's list of objects, or Hugging Face's object of lists."""
    if "answers" not in entry and "answer" in entry:
        return [_text(entry, "answer", place)]
    answers = entry.get("answers")
    if isinstance(answers, dict):
        texts = _field(answers, "text", list, f"{place}, answers")
        answers = [{"text": text} for text in texts]
    else:
        answers = _field(entry, "answers", list, place)
    return [_text(gold, "text", f"{place}, answers[{n}]") for n, gold in enumerate(answers)]


def _id(entry: dict, place: str) -> str:
    """The id of a question; "" where it has none."""
    given = entry.get("id")
    if given is None or isinstance(given, int):
        return "" if given is None else str(given)
    return _text(entry, "id", place)


def _fresh(id: str, counts: collections.Counter[str]) -> str:
    """The id; with "-2" and so on where it was there before, as in SQuAD itself."""
    counts[id] += 1
    while counts[id] > 1:
        id = f"{id}-{counts[id]}"
        counts[id] += 1
    return id


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
