"""What the arms are adapted to: passages, self-edits of each editor, and other people's texts."""

from collections.abc import Mapping, Sequence
from typing import Any

from seal_jax.judges import teacher
from seal_jax.loop import stages, writing
from seal_jax.loop.policies import Policy
from seal_jax.loop.run import Run
from seal_jax.loop.writing import Edit
from seal_jax.tasks.knowledge import entity_graph
from seal_jax.tasks.protocol import Context
from seal_jax.weights import tokenizer

Record = dict[str, Any]


class Sources:
    """Training texts about contexts, by source; each is written once and may have many learners.

    Sources: "passage"; "passage_steps", the passage as often as the base model's self-edit has
    sequences (so it takes as many optimizer steps); "entity_graph", the base model's texts about
    pairs and triples of the passage's entities; "teacher", a stronger model's texts (see
    settings.Teacher); the name of a policy, for its self-edits.

    Attributes:
      contexts: what they are about.
      written: self-edits [C][M] of each editor that has been asked.
    """

    def __init__(
        self, run: Run, policies: Mapping[str, Policy], contexts: Sequence[Context], prefix: str
    ):
        """Args: prefix: names the contexts in the ledger and in the keys, e.g. "eval"."""
        self.contexts = contexts
        self.written: dict[str, list[list[Edit]]] = {}
        self._run = run
        self._policies = policies
        self._prefix = prefix

    def edits(self, editor: str) -> list[list[Edit]]:
        """Fresh self-edits [C][M] of a policy; all editors draw with the same keys."""
        if editor not in self.written:
            self.written[editor] = stages.sample(
                self._run,
                self._policies[editor].params,
                writing.edit_prompts(self._run.session, self.contexts),
                stage=f"{self._prefix} edits {editor}",
                samples=self._run.session.settings.evaluation.edits,
                draw=self._prefix,
            )
        return self.written[editor]

    def texts(self, source: str) -> list[list[str]]:
        """The texts [C][M] of a source, before they are split into sequences."""
        if source == "entity_graph":
            return self._entity_graph()
        if source == "teacher":
            return self._taught()
        return [[edit.text for edit in of_context] for of_context in self.edits(source)]

    def sequences(self, source: str) -> list[list[list[str]]]:
        """Training sequences [C][M][N] for one delta a text; the passage is among them."""
        task = self._run.session.task
        if source == "passage":
            return [[task.passage_sequences(context)] for context in self.contexts]
        if source == "passage_steps":
            return [
                [task.passage_sequences(context) * max(len(texts), 1) for texts in of_context]
                for context, of_context in zip(self.contexts, self.sequences("base"), strict=True)
            ]
        found = zip(self.contexts, self.texts(source), strict=True)
        if source == "entity_graph":  # one delta learns all of a passage's texts
            prefix = self._run.session.settings.edits.title_prefix
            return [
                [entity_graph.sequences(context, texts, title_prefix=prefix)]
                for context, texts in found
            ]
        return [[task.sequences(context, text) for text in texts] for context, texts in found]

    def corpus(self, source: str) -> list[str]:
        """Training sequences about all contexts together, for continued pretraining."""
        run, task = self._run, self._run.session.task
        how = run.session.settings.corpus.passage
        if source == "passage":
            return [text for c in self.contexts for text in task.corpus_sequences(c, [])]
        if source == "passage_steps":
            base = [
                len(task.corpus_sequences(context, texts, passage=how))
                for context, texts in zip(self.contexts, self.texts("base"), strict=True)
            ]
            return [
                text
                for context, count in zip(self.contexts, base, strict=True)
                for text in task.corpus_sequences(context, []) * max(count, 1)
            ]
        return [
            text
            for context, texts in zip(self.contexts, self.texts(source), strict=True)
            for text in task.corpus_sequences(context, texts, passage=how)
        ]

    def _taught(self) -> list[list[str]]:
        """The teacher's texts: `evaluation.edits` of each context; "" where one is missing."""
        run, settings = self._run, self._run.session.settings
        prompts = {c.id: run.session.task.edit_prompt(c) for c in self.contexts}
        count = settings.evaluation.edits

        def work() -> Record:
            if settings.teacher.file:
                found = teacher.read_completions(settings.teacher.file, prompts)
            else:
                found = teacher.ask_teacher(settings.teacher.endpoint, prompts, samples=count)
            return {"texts": found.texts, "failed": found.failed}

        record = run.once("teacher", self._prefix, work)
        texts = [record["texts"][context.id][:count] for context in self.contexts]
        missing = sum(count - len(of) for of in texts)
        if missing:
            run.say(f"{self._prefix}: {missing} of the teacher's texts are missing")
        return [[*of, *[""] * (count - len(of))] for of in texts]

    def _entity_graph(self) -> list[list[str]]:
        """The base model lists each passage's entities, then writes about pairs and triples."""
        session, held = self._run.session, self._run.session.settings.evaluation
        style = session.settings.edits.prompt_style
        templates = entity_graph.load_templates(session.settings.prompts.dir or None, style=style)
        lists = self._write(
            "entities", {c.id: entity_graph.entities_prompt(templates, c) for c in self.contexts}
        )
        groups = [
            entity_graph.choose_groups(
                entity_graph.parse_entities(reply, context).names,
                pairs=held.entity_pairs,
                triples=held.entity_triples,
                seed=session.settings.seed,
                context_id=context.id,
            )
            for context, reply in zip(self.contexts, lists, strict=True)
        ]
        short = sum(bool(chosen.shortfall) for chosen in groups)
        self._run.say(
            f"{self._prefix}: {short} of {len(groups)} passages have fewer entities than pairs and "
            "triples ask for"
        )
        turns = {
            f"{context.id}: {entity_graph.listed(group)}": (
                c,
                entity_graph.relation_prompt(templates, context, group),
            )
            for c, (context, chosen) in enumerate(zip(self.contexts, groups, strict=True))
            for group in chosen
        }
        written = self._write("relations", {name: turn for name, (_, turn) in turns.items()})
        texts: list[list[str]] = [[] for _ in self.contexts]
        for (c, _), text in zip(turns.values(), written, strict=True):
            texts[c].append(text)
        return texts

    def _write(self, what: str, turns: Mapping[str, str]) -> list[str]:
        """One text of the base model for each user's turn; their names are those of the keys."""
        session = self._run.session
        style = session.settings.edits.prompt_style
        prompts = [
            writing.Prompt(name, tokenizer.chat_prompt(session.tokenizer, turn, style))
            for name, turn in turns.items()
        ]
        if not prompts:
            return []
        found = stages.sample(
            self._run,
            self._policies["base"].params,
            prompts,
            stage=f"{self._prefix} {what}",
            samples=1,
        )
        return [of[0].text for of in found]
