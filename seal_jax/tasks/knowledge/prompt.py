"""Prompts from template files: what the policy is asked to write, and what the learner is asked.

A template is a UTF-8 text file named `NAME.STYLE.txt`: `chat` is worded as a user's request,
`plain` as text that a base model continues. In it `{title}`, `{passage}` and `{question}` stand for
a context's text. Any other braces are ordinary characters unless they enclose a single word, which
is refused as a misspelt placeholder. Values are put in literally, in one pass: braces inside a
passage are never read as placeholders.

The template of an edit format begins with a header, which is not part of the prompt and ends at the
first empty line or line without "#":

    # split: lines
    # after: Statements:

`split` names the rule that makes training sequences of a self-edit (`parse.SPLIT_RULES`), or is
`none` for a format without a self-edit, whose template holds nothing else. `after` may be left out;
it names the line that what is trained on comes after (`parse.after_marker`). So a new format is a
new file in a directory of one's own: nothing has to be registered.
"""

import dataclasses
import difflib
import importlib.resources
import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from importlib.resources.abc import Traversable

from seal_jax.runs import text_file
from seal_jax.tasks.knowledge import parse

NO_SELF_EDIT = "none"

_PACKAGE = "seal_jax.tasks.knowledge"
_PLACEHOLDER = re.compile(r"\{([^\W\d]\w*|\s+\w+\s*|\w+\s+)\}")
_NAME = re.compile(r"[\w-]+")
_HEADER_LINE = re.compile(r"#[ \t]*(\w+)[ \t]*:(.*)")
_HEADER_KEYS = ("split", "after")
_STYLES = ("chat", "plain")
_QUESTION_TEMPLATE = "question"
_EDIT_PLACEHOLDERS = frozenset({"title", "passage"})
_QUESTION_PLACEHOLDERS = frozenset({"title", "question"})


class PromptError(ValueError):
    """A template or an edit format that cannot be used; the message says what to change."""


@dataclasses.dataclass(frozen=True)
class Prompts:
    """The two checked templates of a run, and how its self-edits are read.

    Attributes:
      edit: asks for a self-edit; "" where the format has none.
      question: asks a question without the passage.
      split: a key of `parse.SPLIT_RULES`, or `NO_SELF_EDIT`.
      after: the line that what is trained on comes after, or None.
    """

    edit: str
    question: str
    split: str
    after: str | None = None

    @property
    def writes(self) -> bool:
        """Whether the format has a self-edit."""
        return self.split != NO_SELF_EDIT


def load_prompts(
    edit_format: str,
    prompts_dir: str | os.PathLike | None = None,
    *,
    edit_style: str = "chat",
    question_style: str = "chat",
    topic_prefix: bool = True,
) -> Prompts:
    """Reads the templates of an edit format.

    Args:
        edit_format: the name of a template with a header: one of `edit_formats()`, or a file of
            one's own.
        prompts_dir: a directory whose templates go before those of the package; None for none.
        edit_style, question_style: "chat" or "plain".
        topic_prefix: whether a question comes under its topic; otherwise the line of the question's
            template that holds `{title}` is left out.

    Returns:
        The templates. The edit template holds `{title}` and `{passage}` and nothing of the
        questions; the question template holds `{title}` (unless left out) and `{question}` and not
        the passage.

    Raises:
        PromptError: unknown format, missing file, a header that is missing or wrong, or a template
            with an unknown or a missing placeholder.
    """
    text, source = _read(str(edit_format), edit_style, prompts_dir, edit=True)
    header, edit = _split_header(text, source)
    if header["split"] == NO_SELF_EDIT:
        if edit or len(header) > 1:
            raise PromptError(
                f"{source}: a format with '# split: {NO_SELF_EDIT}' asks for nothing; remove what "
                "follows that line, or name another rule."
            )
    else:
        check_template(edit, _EDIT_PLACEHOLDERS, source)
    question, question_source = _read(_QUESTION_TEMPLATE, question_style, prompts_dir)
    check_template(question, _QUESTION_PLACEHOLDERS, question_source)
    if not topic_prefix:
        question = _without_topic(question, question_source)
    return Prompts(edit=edit, question=question, **header)


def load_template(
    name: str,
    placeholders: frozenset[str],
    prompts_dir: str | os.PathLike | None = None,
    *,
    style: str | None = None,
    package: str = _PACKAGE,
) -> str:
    """Reads a template that has no header, such as that of a judge.

    Args:
        name: the file's name up to its style.
        placeholders: those that it must hold, and no others.
        prompts_dir: a directory whose templates go before those of the package; None for none.
        style: "chat" or "plain"; None for a file named `NAME.txt`.
        package: whose templates they are.

    Raises:
        PromptError: missing file, or an unknown or a missing placeholder.
    """
    template, source = _read(name, style, prompts_dir, package=package)
    check_template(template, placeholders, source)
    return template


def edit_formats(prompts_dir: str | os.PathLike | None = None) -> list[str]:
    """The names of all edit formats: the package's, and those of a directory of templates.

    >>> "implications" in edit_formats(), "question" in edit_formats()
    (True, False)
    """
    found = set()
    own = [pathlib.Path(prompts_dir).expanduser()] if prompts_dir else []
    for folder in (_packaged(), *own):
        for file in folder.iterdir():
            name, _, rest = file.name.partition(".")
            if rest in {f"{style}.txt" for style in _STYLES}:
                first = file.read_bytes().decode("utf-8-sig", "replace").partition("\n")[0]
                if _HEADER_LINE.match(first):
                    found.add(name)
    return sorted(found)


def check_template(template: str, placeholders: frozenset[str], source: str) -> None:
    """Raises PromptError unless `template` uses exactly `placeholders`; `source` names the file."""
    expected = ", ".join(f"{{{name}}}" for name in sorted(placeholders))
    found = [match.group(1) for match in _PLACEHOLDER.finditer(template)]
    for name in found:
        if name not in placeholders:
            raise PromptError(
                f"{source}: unknown placeholder {{{name}}}; this template takes exactly "
                f"{expected}. Rename it, or remove the braces."
            )
    for name in sorted(placeholders.difference(found)):
        raise PromptError(
            f"{source}: the placeholder {{{name}}} is missing; this template needs {expected}."
        )


def render(template: str, values: Mapping[str, str]) -> str:
    """Puts `values` into a template, literally and in one pass.

    >>> render("Topic: {title}\\n{question}", {"title": "Sets", "question": "Is {title} empty?"})
    'Topic: Sets\\nIs {title} empty?'
    """
    return _PLACEHOLDER.sub(lambda match: values[match.group(1)], template)


def _split_header(text: str, source: str) -> tuple[dict[str, str], str]:
    """The checked header of an edit format's template, and the prompt after it."""
    lines = text.split("\n")
    count = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    header: dict[str, str] = {}
    for line in lines[:count]:
        match = _HEADER_LINE.fullmatch(line)
        key = match.group(1) if match else line
        if match is None or key not in _HEADER_KEYS:
            raise PromptError(
                f"{source}: {key!r} is no key of the header; expected lines such as "
                f"'# split: lines' with {_either(_HEADER_KEYS)}. A prompt that begins with '#' "
                "needs an empty line before it."
            )
        if key in header:
            raise PromptError(f"{source}: the header gives {key!r} twice; remove one of them.")
        header[key] = match.group(2).strip()
    rules = (*parse.SPLIT_RULES, NO_SELF_EDIT)
    if "split" not in header:
        raise PromptError(
            f"{source}: the header is missing; the template of an edit format begins with the line "
            f"'# split: RULE', where RULE is {_either(rules)}."
        )
    if header["split"] not in rules:
        raise PromptError(
            f"{source}: unknown rule in '# split: {header['split']}'; expected {_either(rules)}."
            + _hint(header["split"], rules)
        )
    if header.get("after") is not None and not header["after"].strip(" :"):
        raise PromptError(
            f"{source}: '# after:' names no line; write the words that stand on it, such as "
            "'# after: Statements:', or remove it."
        )
    return header, "\n".join(lines[count:]).strip("\n")


def _without_topic(question: str, source: str) -> str:
    """The question's template without the line of the topic."""
    kept = [line for line in question.split("\n") if "{title}" not in line]
    if not any("{question}" in line for line in kept):
        raise PromptError(
            f"{source}: questions are to be asked without their topic, but {{title}} shares a line "
            "with {question}; put it on a line of its own, or switch the topic on again."
        )
    return "\n".join(kept)


def _read(
    name: str,
    style: str | None,
    prompts_dir: str | os.PathLike | None,
    *,
    edit: bool = False,
    package: str = _PACKAGE,
) -> tuple[str, str]:
    """A template without its final newlines, and the name of its file for messages."""
    file = _find(name, style, prompts_dir, edit, package)
    return text_file.read(file, error=PromptError).rstrip("\n"), str(file)


def _find(
    name: str, style: str | None, prompts_dir: str | os.PathLike | None, edit: bool, package: str
) -> pathlib.Path | Traversable:
    """The file of a template, the directory's before the package's."""
    if style is not None and style not in _STYLES:
        raise PromptError(f"unknown prompt style {style!r}; expected {_either(_STYLES)}.")
    wanted = f"{name}.{style}.txt" if style else f"{name}.txt"
    if prompts_dir is not None:
        folder = pathlib.Path(prompts_dir).expanduser()
        if not folder.is_dir():
            raise PromptError(
                f"{folder}: there is no such directory of templates; check prompts.dir."
            )
        # Another style of the same template is an oversight, not a wish for the package's.
        names = {wanted, f"{name}.txt", *(f"{name}.{other}.txt" for other in _STYLES)}
        there = sorted(file.name for file in folder.iterdir() if file.name in names)
        if wanted in there:
            return folder / wanted
        if there:
            raise PromptError(
                f"{folder}: this run needs {wanted}, but the directory has only "
                f"{' and '.join(there)}. Add the file, or change the prompt style."
            )
    file = _packaged(package) / wanted
    if _NAME.fullmatch(name) and file.is_file():
        return file
    if not edit:
        raise PromptError(f"unknown template {wanted!r}.")
    known = edit_formats(prompts_dir)
    raise PromptError(
        f"unknown edit format {name!r}: there is no template {wanted} in "
        f"{'the package' if prompts_dir is None else f'{prompts_dir} or the package'}; expected "
        f"{_either(known)}.{_hint(name, known)}"
    )


def _packaged(package: str = _PACKAGE) -> Traversable:
    """The directory of a package's templates."""
    return importlib.resources.files(package) / "templates"


def _either(names: Iterable[str]) -> str:
    return f"one of {', '.join(names)}"


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
