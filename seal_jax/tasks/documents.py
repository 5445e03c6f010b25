"""Documents of one's own: any text or Markdown file, in parts that are short enough to learn."""

import dataclasses
import math
import os
import pathlib
import re
from collections.abc import Iterator

from seal_jax.runs import text_file
from seal_jax.tasks.splits import DataError
from seal_jax.tasks.texts import is_blank

_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.+?)[ \t]*#*[ \t]*\n?")
_UNDERLINE = re.compile(r" {0,3}(={2,}|-{2,})[ \t]*\n?")  # of a heading, which is the line before
_FRONT_TITLE = re.compile(r"---\n(?:(?!---).*\n)*?title:[ \t]*([\"']?)(.+?)\1[ \t]*\n")
_TITLE_LINE = re.compile(r"\s*([^\n]{1,70}[^\s.!?:;,…])[ \t]*\n[ \t]*\n")  # of a plain text
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_LINE = re.compile(r"^", re.M)
_ITEM = re.compile(r"^(?=[ \t]*(?:\||(?:[-*+•>]|\d+[.)])[ \t]))", re.M)  # of a list, a table
# Scripts without spaces have a word a character; what is longer than any word is several.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]{{1,30}}")
# Not after an initial or a title, nor where the next word is in lower case.
_SENTENCE_END = re.compile(
    r"(?<!\b\w)(?<!\b[DMS][rt])(?<!\bMrs)(?<!\bNo)[.!?…][.!?…\"'”’»)\]]*\s+(?![a-z])"
    r"|[。！？][。！？”’」』)]*\s*"
)


@dataclasses.dataclass(frozen=True)
class Part:
    """A passage of a document, under the headings that lead to it."""

    title: str
    text: str


def read(path: str | os.PathLike[str]) -> str:
    """The text of a document, in whatever way `text_file.read` takes it.

    Raises:
      DataError: the file cannot be read, is no text (PDF, office documents, other binary files), is
        in another encoding than UTF-8, or is blank; the message names it and what to do.
    """
    text = text_file.read(path, error=DataError, expected="a text or Markdown file")
    if is_blank(text):
        raise DataError(f"{path}: the file is empty: give one with some text.")
    return text


def title_of(text: str, path: str | os.PathLike[str]) -> str:
    """What a document is about: its heading that all others are below, or the file's name.

    Of a text without headings it is the first line, where that is short and stands alone.

    >>> title_of("# The red tower\\n\\nAda built it.\\n\\n## Later\\n\\nIt fell.", "notes.md")
    'The red tower'
    >>> title_of("Ada built it.", "texts/red_tower.txt")
    'red tower'
    >>> title_of("Ada Bell\\n\\nShe built it.", "texts/red_tower.txt")
    'Ada Bell'
    """
    if front := _FRONT_TITLE.match(text):
        return front[2]
    (_, _, before), *sections = _sections(text)
    level, heading, _ = sections[0] if sections else (7, "", [])
    if not sections and (line := _TITLE_LINE.match(text)):
        return line[1]
    alone = all(other > level for other, _, _ in sections[1:])
    opens = is_blank("".join(before)) or before[0].startswith("---\n")
    if heading and alone and opens:
        return heading
    return " ".join(pathlib.Path(path).stem.replace("_", " ").split())


def split(text: str, title: str, max_words: int) -> list[Part]:
    """The parts of a document: by headings, and where a section is longer by what it consists of.

    Paragraphs, lists, tables and code stay whole where they fit; then sentences and lines do, then
    words. Sections are cut into parts of about equal length. Every character that is not white
    space is in a part, in order; headings are in the titles of those below them.

    Args:
      text: of a plain text or a Markdown document.
      title: of the document, from which the headings of Markdown lead on.
      max_words: the most words of a part's text, as counted by `count`.

    >>> split("# Oslo\\n\\nIt is cold.\\n\\n## Port\\n\\nShips come. Few stay.", "Oslo", 3)
    [Part(title='Oslo', text='It is cold.'), Part(title='Oslo: Port', text='Ships come.'), \
Part(title='Oslo: Port', text='Few stay.')]
    """
    sections = list(_sections(text))
    parts, path = [], {0: title}
    for i, (level, heading, blocks) in enumerate(sections):
        if level:
            path = {of: name for of, name in path.items() if of < level}
            if heading != title or len(path) > 1:  # the document's own is there already
                path[level] = heading
        leads_on = i + 1 < len(sections) and sections[i + 1][0] > level
        if is_blank("".join(blocks)) and heading and not leads_on:
            path.pop(level, None)
            blocks = [heading]
        pieces = [piece for block in blocks for piece in _pieces(block, max_words)]
        parts += [Part(": ".join(path.values()), text) for text in _packed(pieces, max_words)]
    return parts


def sentences(text: str) -> list[str]:
    """The sentences of a text, without white space around them.

    >>> sentences("Ada built it, says Dr. Bell. It is red.")
    ['Ada built it, says Dr. Bell.', 'It is red.']
    """
    return [one.strip() for one in _cut(text, [end.end() for end in _SENTENCE_END.finditer(text)])]


def count(text: str) -> int:
    """The words of a text; of scripts without spaces, the characters.

    >>> count("The tower fell."), count("塔倒了")
    (3, 3)
    """
    return len(_WORD.findall(text))


def _sections(text: str) -> Iterator[tuple[int, str, list[str]]]:
    """(level, heading, blocks) of each section; what comes before the headings has level 0."""
    level, heading, blocks = 0, "", [""]
    fence, between = "", False  # within code, and whether the last line ended a block
    for line in text.splitlines(keepends=True):
        opened = _FENCE.match(line)
        if not fence and (found := _HEADING.fullmatch(line)):
            yield level, heading, blocks
            level, heading, blocks, between = len(found[1]), found[2], [""], False
            continue
        if not fence and _UNDERLINE.fullmatch(line) and _is_line(blocks[-1]) and not between:
            yield level, heading, blocks[:-1]
            level, heading, blocks = (1 if "=" in line else 2), blocks[-1].strip(), [""]
            continue
        if not fence and (opened or (between and line.strip())):
            blocks.append("")
        blocks[-1] += line
        between = not fence and not line.strip()
        if opened and not fence:
            fence = opened[1]
        elif opened and opened[1].startswith(fence):
            fence, between = "", True
    yield level, heading, blocks


def _is_line(block: str) -> bool:
    return bool(block.strip()) and "\n" not in block.strip("\n")


def _pieces(text: str, max_words: int) -> list[str]:
    """A block whole if it fits; else its items or lines, else its sentences, else some words."""
    if count(text) <= max_words:
        return [text]
    for boundary in (_LINE if _FENCE.match(text) else _ITEM, _SENTENCE_END):
        pieces = _cut(text, [found.end() for found in boundary.finditer(text)])
        if len(pieces) > 1:
            return [one for piece in pieces for one in _pieces(piece, max_words)]
    return _cut(text, [word.start() for word in _WORD.finditer(text)][max_words::max_words])


def _cut(text: str, places: list[int]) -> list[str]:
    """A text cut at some places; what is white space alone is left out."""
    ends = zip([0, *places], [*places, len(text)], strict=True)
    return [text[start:end] for start, end in ends if text[start:end].strip()]


def _packed(pieces: list[str], max_words: int) -> Iterator[str]:
    """Texts of consecutive pieces, as few as fit and about equally long."""
    counts = [count(piece) for piece in pieces]
    goal = sum(counts) / max(math.ceil(sum(counts) / max_words), 1)
    texts, words = [""], 0
    for piece, more in zip(pieces, counts, strict=True):
        if words and (words + more > max_words or words + more / 2 > goal):
            texts.append("")
            words = 0
        texts[-1] += piece
        words += more
    return (text.strip("\n").rstrip() for text in texts if not is_blank(text))
