"""Synthetic data by a stronger model: from a file of completions, or asked of an endpoint."""

import collections
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping

from seal_jax.judges import chat_reply, endpoint
from seal_jax.judges.endpoint import Completion
from seal_jax.runs import json_file
from seal_jax.settings.endpoint import EndpointSettings
from seal_jax.tasks import generated

_EXPECTED = (
    'an object with "completion" (the teacher\'s text) and either "context" (a context\'s '
    'id) or "prompt" (what the teacher was asked), all strings'
)
_SHOWN = 5


class TeacherError(ValueError):
    """A file of completions that cannot be used; the message says what belongs there."""


@dataclasses.dataclass(frozen=True)
class Taught:
    """What a teacher wrote.

    Attributes:
      texts: by context id, its completions in order; every context is there, if with none.
      failed: by context id, why completions are missing; only contexts that miss some.
      thoughts: by context id, what the teacher only thought; only contexts with some.
      cut_off: contexts with completions that end at the length limit.
    """

    texts: dict[str, list[str]]
    failed: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    thoughts: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    cut_off: list[str] = dataclasses.field(default_factory=list)

    def add(self, context: str, completion: str, cut_off: bool = False) -> None:
        """Adds a completion; see `generated.read`."""
        said = generated.read(completion)
        self.texts[context].append(said.text)
        if said.thoughts:
            self.thoughts.setdefault(context, []).append(said.thoughts)
        if cut_off and context not in self.cut_off:
            self.cut_off.append(context)


def read_completions(path: str | os.PathLike[str], prompts: Mapping[str, str]) -> Taught:
    """Reads a teacher's completions from JSON lines.

    A line is an object with "completion" and either "context", a context's id, or "prompt", the
    very text that was asked (which counts where the id is none of those wanted). Several lines may
    be about one context. Other keys are ignored, and so are lines about other contexts: one file
    may serve many runs.

    Args:
      path: the file.
      prompts: by id of the contexts that are wanted, what the teacher is asked about each.

    Raises:
      TeacherError: the file cannot be read, a line is not of this form (it is named), or contexts
        have no completion (they are named, with how many have).
    """
    of_prompt = collections.defaultdict(list)
    for context, prompt in prompts.items():
        of_prompt[prompt.strip()].append(context)
    found, lines = Taught({context: [] for context in prompts}), 0
    texts = found.texts
    for row in _rows(path):
        lines += 1
        named = row.get("context")
        asked = row.get("prompt", "").strip()
        for context in [named] if named in texts else of_prompt.get(asked, []):
            found.add(context, chat_reply.whole(row["completion"]))
    if missing := [context for context, of in texts.items() if not of]:
        names = ", ".join(repr(context) for context in missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise TeacherError(
            f"{path}: {len(texts) - len(missing)} of {len(texts)} contexts have a completion among "
            f"its {lines} lines; none is about {names}{more}. Add lines for them: expected "
            f"{_EXPECTED}."
        )
    return found


def ask_teacher(
    settings: EndpointSettings,
    prompts: Mapping[str, str],
    *,
    samples: int = 1,
    system: str = "",
    report: Callable[[Completion], None] | None = None,
) -> Taught:
    """Asks an endpoint for completions of every context's prompt.

    With a `cache_dir` a later call asks only for what is missing, and more samples add to those
    that are there.

    Args:
      settings: the endpoint.
      prompts: by context id, what the teacher is asked.
      samples: completions a context.
      system: the system's turn before each prompt; "" for none.
      report: see `endpoint.complete`.

    Raises:
      EndpointError: the endpoint cannot complete anything.
    """
    asked = [context for context in prompts for _ in range(samples)]
    completions = endpoint.complete(
        settings, [prompts[context] for context in asked], system=system, report=report
    )
    found = Taught({context: [] for context in prompts})
    for context, completion in zip(asked, completions, strict=True):
        if completion.text is not None:
            found.add(context, completion.text, completion.truncated)
        else:
            found.failed.setdefault(context, []).append(completion.reason or "")
    return found


def _rows(path: str | os.PathLike[str]) -> Iterator[dict[str, str]]:
    """The lines of a file that are not blank, checked."""
    for where, row in json_file.read_lines(path, error=TeacherError, expected=_EXPECTED):
        if not isinstance(row, dict) or not {"context", "prompt"} & row.keys():
            raise TeacherError(f"{where}: expected {_EXPECTED}.")
        for name in ("completion", "context", "prompt"):
            if (name in row or name == "completion") and not isinstance(row.get(name), str):
                found = type(row[name]).__name__ if name in row else "missing"
                raise TeacherError(f'{where}: "{name}" is {found}; expected {_EXPECTED}.')
        yield row
