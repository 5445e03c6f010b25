"""Texts of named sources about passages, from JSON lines: what `seal bench` compares.

A line is {"passage", "title", "questions": [{"question", "answer" or "answers"}], "edit": a text or
a list of texts, "source"}; docs/bench.md has them all. Lines about one passage belong together.
"""

import dataclasses
import json
from typing import Any

from seal_jax.runs import json_file
from seal_jax.tasks.knowledge import squad
from seal_jax.tasks.protocol import Context, Skipped
from seal_jax.tasks.splits import DataError, same_key
from seal_jax.tasks.texts import is_blank

_EXPECTED = (
    'an object with "passage", "title", "questions" (a list of {"question", "answer"}) and "edit" '
    "(a text, or a list of texts), as docs/bench.md shows"
)
_LONGEST = 40  # characters of a source's name, which heads a row of the table
UNNAMED = "edit"


@dataclasses.dataclass(frozen=True)
class Texts:
    """What a file has.

    Attributes:
      contexts: the passages that every source has a text about, in file order.
      skipped: the others, and questions that cannot be graded.
      sources: each source's texts by context id, in file order.
    """

    contexts: list[Context]
    skipped: list[Skipped]
    sources: dict[str, dict[str, list[str]]]


@dataclasses.dataclass
class _Passage:
    """What the lines so far say about a passage; `where` is the first of them."""

    where: str
    title: str
    text: str
    id: str = ""
    group: str = ""
    questions: list | None = None
    texts: dict[str, list[str]] = dataclasses.field(default_factory=dict)


def read(path: str) -> Texts:
    """Reads a file of texts about passages.

    Raises:
      DataError: the file cannot be read, or a line cannot be used; it is named.
    """
    passages: dict[tuple[str, str], _Passage] = {}
    for where, row in json_file.read_lines(path, error=DataError, expected=_EXPECTED):
        if not isinstance(row, dict):
            raise DataError(f"{where}: found {json_file.kind(row)}; expected {_EXPECTED}.")
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{where}: it holds half of a surrogate pair (a \\ud800 to \\udfff escape on its "
                "own), which is no character; remove it."
            ) from None
        text = _text(row, "passage", where)
        if is_blank(text):
            raise DataError(f"{where}: the passage is empty; take the line out.")
        title = squad.title_of({**row, "context": text}, where)
        key = (same_key(title), same_key(text))
        _add(passages.setdefault(key, _Passage(where, title, text)), row, where)
    return _together(path, list(passages.values()))


def _add(passage: _Passage, row: dict[str, Any], where: str) -> None:
    """What a line says about its passage."""
    for name in ("id", "group"):
        own, before = _text(row, name, where, ""), getattr(passage, name)
        if own and before and own != before:
            raise DataError(
                f'{where}: "{name}" is {own!r}, but {before!r} in an earlier line about the same '
                f"passage ({passage.where}); give both the same."
            )
        setattr(passage, name, own or before)
    asked = row.get("questions")
    if asked is not None:
        if passage.questions not in (None, asked):
            raise DataError(
                f"{where}: the questions differ from those of an earlier line about the same "
                f"passage ({passage.where}); give them once, or the same every time."
            )
        if not isinstance(asked, list):
            raise DataError(f'{where}: "questions" is {json_file.kind(asked)}; expected a list.')
        passage.questions = asked
    source = " ".join(_text(row, "source", where, UNNAMED).split())
    if is_blank(source) or len(source) > _LONGEST:
        raise DataError(
            f'{where}: "source" must be a name of 1 to {_LONGEST} characters, not {source!r}.'
        )
    texts = row.get("edit")
    texts = [texts] if isinstance(texts, str) else texts
    if not (isinstance(texts, list) and texts and all(isinstance(of, str) for of in texts)):
        given = json_file.kind(row["edit"]) if "edit" in row else f"missing (found: {sorted(row)})"
        raise DataError(f'{where}: "edit" is {given}; expected a text, or a list of texts.')
    passage.texts.setdefault(source, []).extend(texts)


def _together(path: str, passages: list[_Passage]) -> Texts:
    """The passages as contexts, with those that not every source has a text about left out."""
    names = dict.fromkeys(source for one in passages for source in one.texts)
    contexts: dict[str, Context] = {}
    sources: dict[str, dict[str, list[str]]] = {name: {} for name in names}
    taken, skipped = squad.Taken(), list[Skipped]()
    for one in passages:
        asked = [_question(of) for of in one.questions or ()]
        paragraph = {"context": one.text, "questions": asked}
        before = len(skipped)
        context = squad.context_of(one.title, paragraph, one.where, taken, skipped)
        if not context.questions:
            why = f" ({skipped[before].reason})" if len(skipped) > before else ""
            raise DataError(
                f"{one.where}: no question about the passage can be graded{why}: give it "
                '"questions": [{"question": ..., "answer": ...}], here or in another line about it.'
            )
        context = dataclasses.replace(context, id=one.id or context.id, article=one.group)
        if lacking := [name for name in names if name not in one.texts]:
            reason = f"no text of the source {lacking[0]!r}"
            skipped.append(Skipped(f"{one.where} ({one.title!r})", reason))
            continue
        if context.id in contexts:
            raise DataError(f'{one.where}: another passage has the "id" {context.id!r}, too.')
        contexts[context.id] = context
        for name, texts in one.texts.items():
            sources[name][context.id] = texts
    if not contexts:
        why = f": {skipped[-1].reason}, such as at {skipped[-1].where}" if skipped else ""
        raise DataError(f"{path}: no passage has a text of every source{why}.")
    return Texts(list(contexts.values()), skipped, sources)


def _question(entry: Any) -> Any:
    """A question of SQuAD's form, of one whose answers are texts."""
    answers = entry.get("answers") if isinstance(entry, dict) else None
    if not isinstance(answers, list):
        return entry
    return {**entry, "answers": [{"text": of} if isinstance(of, str) else of for of in answers]}


def _text(row: dict[str, Any], name: str, where: str, default: str | None = None) -> str:
    """A text of a line, without surrounding white space."""
    found = row.get(name, default)
    if not isinstance(found, str):
        given = json_file.kind(found) if name in row else f"missing (found: {sorted(row)})"
        raise DataError(f'{where}: "{name}" is {given}; expected {_EXPECTED}.')
    return found.strip()
