"""Entity-graph synthetic data: texts about pairs and triples of the entities of a passage.

After EntiGraph (Yang et al., arXiv 2409.07431), the synthetic data that SEAL is compared with on
many passages (arXiv 2506.10943): a model lists the entities of a passage, and then writes, for some
pairs and triples of them, how they are related. Everything here is text; who writes it is the
caller's choice.
"""

import ast
import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from seal_jax.tasks.knowledge import parse, prompt
from seal_jax.tasks.knowledge.words import words
from seal_jax.tasks.protocol import (
    Context,
    Lesson,
    Lessons,
    Passage,
    Request,
    Sequence_,
    Tell,
    Write,
)

if TYPE_CHECKING:
    from seal_jax.tasks.knowledge.task import KnowledgeTask

_MAX_WORDS = 8  # a longer line is a sentence, not a name
_BULLET = re.compile(r"^[\s#>]*(?:[-*+\u2022\u00b7\u2013]+|\(?\d{1,3}[.):](?!\d))?\s*")
_SEPARATOR = re.compile(r"\s*[,;\u3001\uff0c]\s*")
_AFTER_NAME = re.compile(r"\s*(?:[:\uff1a]|\s[-\u2013\u2014]+\s|\()\s*")
_QUOTED = re.compile(r'"((?:[^"\\\n]|\\.)*+)("?)')  # one that is never ended is read once
_AND = re.compile(r"^(?:and|or)\s+", re.IGNORECASE)
_OUTER = " \t\"'`*_.,;:[]{}\u201c\u201d\u2018\u2019"


def listed(names: Sequence[str]) -> str:
    """Names as they stand in a sentence.

    >>> listed(["Ada"]), listed(["Ada", "Rome"]), listed(["Ada", "Rome", "1815"])
    ('Ada', 'Ada and Rome', 'Ada, Rome and 1815')
    """
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def parse_entities(reply: str, context: Context, *, limit: int = 20) -> list[str]:
    """The entities that a reply lists: a JSON list, lines with or without bullets, or commas.

    Only names whose words stand together in the passage or its title are kept (without regard to
    case, punctuation, articles, accents and the way numbers are written): a text about what the
    passage does not name would be made up. The same comparison finds duplicates.

    Args:
      reply: of the model that was asked.
      context: whose passage and title the names must be in.
      limit: at most so many are kept, the first.

    >>> ada = Context("1", "Ada", "Ada Lovelace met Babbage in 1833.", ())
    >>> parse_entities("1. Ada Lovelace\\n2. **babbage**: an inventor\\n3. London", ada)
    ['Ada Lovelace', 'babbage']
    """
    source = _bounded(f"{context.title}\n{context.text}")
    kept: dict[str, str] = {}
    for readings in _items(reply, source):
        found = [[name for name in names if _bounded(name) in source] for names in readings]
        for name in max(found, key=len, default=[]):
            kept.setdefault(_bounded(name), name)
    return list(kept.values())[:limit]


def choose_groups(
    names: Sequence[str], *, pairs: int, triples: int, seed: int, context_id: str
) -> list[tuple[str, ...]]:
    """Chooses pairs, then triples, of entities; of too few, all that there are.

    The choice depends on the seed, the context and the names alone: not on their order, on other
    contexts, or on how many are chosen (five pairs are the first five of ten).

    Args:
      names: different entities; those of a group are in their order.
      pairs, triples: how many are wanted.
      seed: of the run.
      context_id: of the passage.

    >>> choose_groups(["Ada", "Rome"], pairs=2, triples=1, seed=0, context_id="a")
    [('Ada', 'Rome')]
    """
    keys = {name: _bounded(name) for name in names}

    def rank(group: tuple[str, ...]) -> bytes:
        named = json.dumps([seed, context_id, *sorted(keys[name] for name in group)])
        return hashlib.sha256(named.encode()).digest()

    return [
        group
        for size, wanted in ((2, pairs), (3, triples))
        for group in sorted(itertools.combinations(names, size), key=rank)[:wanted]
    ]


@dataclasses.dataclass(frozen=True)
class EntityGraph:
    """The base model lists each passage's entities, then writes about pairs and triples of them.

    Attributes:
      task: of whose passages.
    """

    task: "KnowledgeTask"
    label: str = "entity graph"

    def lessons(self, contexts: Sequence[Context], count: int) -> Generator[Request, Any, Lessons]:
        """One lesson a passage: all texts about it, and the passage."""
        texts = yield from self._texts(contexts)
        return [
            [Lesson(sequences=tuple(self._sequences(context, of, "once")))]
            for context, of in zip(contexts, texts, strict=True)
        ]

    def together(
        self, contexts: Sequence[Context], count: int, passage: Passage
    ) -> Generator[Request, Any, list[Sequence_]]:
        """The texts about all passages."""
        texts = yield from self._texts(contexts)
        found = zip(contexts, texts, strict=True)
        return [one for context, of in found for one in self.task.read_many(context, of, passage)]

    def _sequences(self, context: Context, texts: Sequence[str], passage: Passage) -> list[str]:
        prefix = self.task.settings.edits.title_prefix
        return parse.corpus_sequences(
            context.title, context.text, texts, passage=passage, title_prefix=prefix
        )

    def _texts(self, contexts: Sequence[Context]) -> Generator[Request, Any, list[list[str]]]:
        settings = self.task.settings
        held, style = settings.evaluation, settings.edits.prompt_style

        def template(name: str, *more: str) -> str:
            placeholders = frozenset({"title", "passage", *more})
            folder = settings.prompts.dir or None
            return prompt.load_template(name, placeholders, folder, style=style)

        def put(template: str, context: Context, **more: str) -> str:
            return prompt.render(
                template, {"title": context.title, "passage": context.text, **more}
            )

        entities, relation = template("entities"), template("relation", "entities")
        asked = {context.id: put(entities, context) for context in contexts}
        lists = yield Write("entities", asked)
        wanted, short = held.entity_pairs + held.entity_triples, []
        prompts: dict[str, str] = {}
        names: list[list[str]] = []
        for context in contexts:
            groups = choose_groups(
                parse_entities(lists[context.id], context),
                pairs=held.entity_pairs,
                triples=held.entity_triples,
                seed=settings.seed,
                context_id=context.id,
            )
            if len(groups) < wanted:
                short.append(context.title)
            own = {
                f"{context.id}: {listed(group)}": put(relation, context, entities=listed(group))
                for group in groups
            }
            prompts |= own
            names.append(list(own))
        if short:
            yield Tell(
                f"{len(short)} of {len(contexts)} passages have too few entities for {wanted} "
                f"pairs and triples, such as {short[0]!r}: fewer texts are asked for"
            )
        texts = yield Write("relations", prompts)
        return [[texts[name] for name in of] for of in names]


def _items(reply: str, source: str) -> Iterable[list[list[str]]]:
    """For each line or element of a reply, the ways to read it as names, the likeliest first."""
    strings = _json_strings(reply)
    if strings is not None:
        yield from ([_names([string])] for string in strings)
        return
    # Runs of white space shrink first: the patterns below take quadratic time on them.
    lines = [" ".join(line.split()) for line in reply.splitlines() if not parse.is_blank(line)]
    for line in lines:
        text = _BULLET.sub("", line)
        whole, parts = _names([text]), _names(_SEPARATOR.split(text))
        # In a list of lines a comma belongs to the name ("May 5, 1891"); else it separates names.
        if len(lines) > 2 and whole and _bounded(whole[0]) in source:
            yield [whole]
        else:
            head, *rest = _AFTER_NAME.split(text, maxsplit=1)
            yield [_names([head]), parts, _names(_SEPARATOR.split("".join(rest)))]


def _names(texts: Iterable[str]) -> list[str]:
    """What could be a name among texts, without punctuation and an "and" round it."""
    names = [_AND.sub("", text.strip(_OUTER)) for text in texts]
    return [name for name in names if words(name) and len(name.split()) <= _MAX_WORDS]


def _json_strings(reply: str) -> list[str] | None:
    """The strings of the first quoted list in a reply, whole or cut off; None without one."""
    start = re.search(r"\[\s*[\"'{]", reply)
    if start is None:
        return None
    text = reply[start.start() :]
    for read in (_json_list, _python_list):
        value = read(text)
        if value is not None:
            return [string for item in value if (string := _first_string(item)) is not None]
    return [match[1] for match in _QUOTED.finditer(text) if match[2]]


def _json_list(text: str) -> list | None:
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except (ValueError, RecursionError):
        return None


def _python_list(text: str) -> list | None:
    try:
        return ast.literal_eval(text[: text.index("]") + 1])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _first_string(item: Any) -> str | None:
    """An element of a list as a name: itself, or the first string of an object or list."""
    if isinstance(item, str):
        return item
    values = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    return next((value for value in values if isinstance(value, str)), None)


def stands_in(phrase: str, text: str) -> bool:
    """Whether the words of a phrase stand together in a text, spelt this way or another."""
    return _bounded(phrase) in _bounded(text)


def _bounded(text: str) -> str:
    """The words that count, each between spaces, so that "Ada" is not found in "Adam"."""
    return f" {' '.join(words(text))} "
