"""Contexts from a file or from a directory of files, each in one of the forms of docs/data.md."""

import math
from collections.abc import Iterator, Sequence

from seal_jax.runs import storage, text_file
from seal_jax.runs.storage import Location
from seal_jax.tasks import documents
from seal_jax.tasks.knowledge import squad
from seal_jax.tasks.protocol import Context, Skipped
from seal_jax.tasks.splits import DataError, choose, same_key

_DOCUMENTS = (".md", ".markdown", ".txt")
_PASSAGES = (".json", ".jsonl")
_OTHER = f"the file is none of {', '.join((*_DOCUMENTS, *_PASSAGES))} (docs/data.md)"


def load(
    path: str, *, silent: bool = False, max_words: int = 0
) -> tuple[list[Context], list[Skipped]]:
    """Reads the contexts of a file, or of all files in a directory and in those below it.

    A text or Markdown file is a document: its parts are contexts without questions, titled by its
    headings or its name. Hidden files and files of other forms in a directory are left out.

    Args:
      path: of it.
      silent: whether contexts without a question are kept.
      max_words: of a part of a document; see `squad.parts`.

    Raises:
      DataError: a file cannot be read, or is not in one of the forms (it is named); or nothing can
        be used.
    """
    taken, contexts, skipped, start = squad.Taken(), [], [], storage.locate(path)
    for file in _files(start):
        if _ending(file) in _DOCUMENTS:
            found, left_out = _document(file, silent, max_words, taken)
        elif file != start and _ending(file) not in _PASSAGES:
            found, left_out = [], [Skipped(str(file), _OTHER)]
        else:
            found, left_out = squad.read(file, silent=silent, max_words=max_words, taken=taken)
        contexts += found
        skipped += left_out
    squad.check_some(path, contexts, skipped, silent=silent)
    return contexts, skipped


def hold_out(contexts: Sequence[Context], share: float) -> tuple[list[Context], list[Context]]:
    """(training, evaluation) contexts: of so many of the documents or articles, at least one.

    Which they are depends on their titles alone.

    Raises:
      DataError: there is only one.
    """
    groups = sorted({same_key(context.group) for context in contexts})
    if len(groups) < 2:
        raise DataError("there is only one document, so none can be held out")
    count = min(max(math.floor(share * len(groups) + 0.5), 1), len(groups) - 1)
    held = set(choose(groups, count, seed=None, name="held-out documents"))
    sides: tuple[list[Context], list[Context]] = ([], [])
    for context in contexts:
        sides[same_key(context.group) in held].append(context)
    return sides


def is_own(path: str) -> bool:
    """Whether a path is a directory, or a document: what has no other file for the evaluation."""
    return _ending(storage.locate(path)) in _DOCUMENTS or storage.is_folder(storage.locate(path))


def _files(here: Location) -> Iterator[Location]:
    """The file itself, or those of a directory and of its directories, in the order of names."""
    if not storage.is_folder(here):
        yield here
        return
    for child in storage.children(here):
        if not child.name.startswith("."):
            yield from _files(child)


def _ending(file: Location) -> str:
    return f".{file.name.lower().rpartition('.')[2]}"


def _document(
    file: Location, silent: bool, max_words: int, taken: squad.Taken
) -> tuple[list[Context], list[Skipped]]:
    """The parts of a text or Markdown file; one that is empty or has to be asked has none."""
    text = text_file.read(file, error=DataError)
    found = squad.parts(documents.title_of(text, file.name), text, max_words, taken)
    if not found:
        return [], [Skipped(str(file), "the file is empty")]
    if not silent:
        return [], [Skipped(str(file), "a text has no questions of its own")]
    return found, []
