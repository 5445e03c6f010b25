"""Prompts from template files: what the policy is asked to write, and what the learner is asked.

A template is a UTF-8 text file in which `{title}`, `{passage}` and `{question}` stand for a
context's text. Any other braces are ordinary characters unless they enclose a single word, which
is refused as a misspelt placeholder. Values are put in literally, in one pass: braces inside a
passage are never read as placeholders.
"""

import dataclasses
import difflib
import importlib.resources
import os
import pathlib
import re
import types
from collections.abc import Mapping

_PLACEHOLDER = re.compile(r"\{([^\W\d]\w*|\s+\w+\s*|\w+\s+)\}")
_QUESTION_TEMPLATE = "question"
_EDIT_PLACEHOLDERS = frozenset({"title", "passage"})
_QUESTION_PLACEHOLDERS = frozenset({"title", "question"})


class PromptError(ValueError):
    """A template or an edit format that cannot be used; the message says what to change."""


@dataclasses.dataclass(frozen=True)
class EditFormat:
    """How a self-edit is asked for (the template's name) and split (a parse rule)."""

    template: str
    split: str


EDIT_FORMATS: Mapping[str, EditFormat] = types.MappingProxyType(
    {
        "implications": EditFormat(template="implications", split="lines"),
        "rewrite": EditFormat(template="rewrite", split="lines"),
        "self_qa": EditFormat(template="self_qa", split="questions"),
    }
)


@dataclasses.dataclass(frozen=True)
class Prompts:
    """The two checked templates of a run and the rule that splits its self-edits."""

    edit: str
    question: str
    split: str


def load_prompts(
    edit_format: str,
    prompts_dir: str | os.PathLike | None = None,
    *,
    edit_style: str = "chat",
    question_style: str = "chat",
) -> Prompts:
    """Reads the templates of an edit format.

    A template's file is named after what it asks for and its style: `implications.chat.txt` is
    worded as a user's request, `implications.plain.txt` as text that a base model continues.

    Args:
        edit_format: a key of `EDIT_FORMATS`.
        prompts_dir: a directory that holds the format's template and that of the question; None
            for the templates of the package.
        edit_style, question_style: "chat" or "plain".

    Returns:
        The templates. The edit template holds `{title}` and `{passage}` and nothing of the
        questions; the question template holds `{title}` and `{question}` and not the passage.

    Raises:
        PromptError: unknown format, missing file, or a template with an unknown or a missing
            placeholder.
    """
    if edit_format not in EDIT_FORMATS:
        close = difflib.get_close_matches(str(edit_format), EDIT_FORMATS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise PromptError(
            f"unknown edit format {edit_format!r}; expected one of {sorted(EDIT_FORMATS)}.{hint}"
        )
    chosen = EDIT_FORMATS[edit_format]
    return Prompts(
        edit=_load(f"{chosen.template}.{edit_style}.txt", _EDIT_PLACEHOLDERS, prompts_dir),
        question=_load(
            f"{_QUESTION_TEMPLATE}.{question_style}.txt", _QUESTION_PLACEHOLDERS, prompts_dir
        ),
        split=chosen.split,
    )


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


def _load(name: str, placeholders: frozenset[str], prompts_dir: str | os.PathLike | None) -> str:
    """A checked template without its final newlines."""
    if prompts_dir is None:
        file = importlib.resources.files("seal_jax.tasks.knowledge") / "templates" / name
        source = f"templates/{name} of seal_jax.tasks.knowledge"
    else:
        file = pathlib.Path(prompts_dir) / name
        source = str(file)
    try:
        template = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise PromptError(
            f"{source}: cannot read the template ({error.strerror}). The prompts directory must "
            f"hold this file; copy the one in the package and change it."
        ) from error
    except UnicodeDecodeError as error:
        raise PromptError(f"{source}: not UTF-8 text ({error.reason}); save it as UTF-8.") from None
    template = template.replace("\r\n", "\n").rstrip("\n")
    check_template(template, placeholders, source)
    return template
