"""What the arms are adapted to: passages, self-edits of each editor, and other people's texts."""

from collections.abc import Mapping, Sequence

from seal_jax.programs import stages, writing
from seal_jax.programs.policies import Policy
from seal_jax.programs.stages import Run
from seal_jax.programs.writing import Edit
from seal_jax.tasks.base import Context


class Sources:
    """Training texts about contexts, by source; each is written once and may have many learners.

    Sources: "passage"; "passage_steps", the passage as often as the base model's self-edit has
    sequences (so it takes as many optimizer steps); the name of a policy, for its self-edits.

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
        return [
            [task.sequences(context, text) for text in of_context]
            for context, of_context in zip(self.contexts, self.texts(source), strict=True)
        ]

    def corpus(self, source: str) -> list[str]:
        """Training sequences about all contexts together, for continued pretraining."""
        run, task = self._run, self._run.session.task
        how = run.session.settings.corpus.passage
        if source == "passage":
            return [text for c in self.contexts for text in task.corpus_sequences(c, [], "once")]
        if source == "passage_steps":
            base = [
                len(task.corpus_sequences(context, texts, how))
                for context, texts in zip(self.contexts, self.texts("base"), strict=True)
            ]
            return [
                text
                for context, count in zip(self.contexts, base, strict=True)
                for text in task.corpus_sequences(context, [], "once") * max(count, 1)
            ]
        return [
            text
            for context, texts in zip(self.contexts, self.texts(source), strict=True)
            for text in task.corpus_sequences(context, texts, how)
        ]
