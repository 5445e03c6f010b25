"""A task domain of its own: what a model learns of invented rivers from their data sheets.

Three names are for the settings of a run:

    --config.task=seal_jax_rivers:Rivers
    --config.reward.kind=seal_jax_rivers:least_known
    --config.restem.rule=seal_jax_rivers:gain_per_character
"""

import importlib.resources
import json
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from seal_jax.settings import Settings
from seal_jax.tasks.protocol import Context, Question, Skipped, Split

_ASKED = {
    "length_km": "How many kilometres long is it?",
    "rises": "Where does it rise?",
    "mouth": "Where does it end?",
    "tributary": "Which river joins it?",
    "gauge": "Where is its water level measured?",
}
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


class Rivers:
    """The `seal_jax.tasks.protocol.Task`: a context is a river's data sheet.

    Its prompts are worded so that they do as a chat's turn and as a text to continue. A self-edit
    is taken apart into sentences, each a training sequence under the river's name.
    """

    def __init__(self, settings: Settings):
        """Reads the data sheets. Of the settings it heeds edits.append_passage."""
        file = importlib.resources.files(__name__) / "rivers.json"
        sheets = json.loads(file.read_text(encoding="utf-8"))
        self._contexts = {split: [_context(s) for s in of] for split, of in sheets.items()}
        self._append_passage = settings.edits.append_passage

    @property
    def writes(self) -> bool:
        return True

    def contexts(self, split: Split) -> Sequence[Context]:
        return self._contexts[split]

    def skipped(self, split: Split) -> Sequence[Skipped]:
        return []

    def difference(self, split: Split) -> str:
        return "invented rivers, which no paper has"

    def edit_prompt(self, context: Context) -> str:
        return (
            f"Data sheet of a river.\n\n{context.title}\n{context.text}\n\n"
            f"The same in whole sentences, and how the data hang together. Every sentence names "
            f"the {context.title}.\n"
        )

    def sequences(self, context: Context, self_edit: str) -> list[str]:
        said = [part.strip() for part in _SENTENCE_END.split(self_edit)]
        said = [f"{context.title}: {part}" for part in said if re.search(r"\w", part)]
        return said + self.passage_sequences(context) if said and self._append_passage else said

    def passage_sequences(self, context: Context) -> list[str]:
        return [f"{context.title}\n{context.text}"]

    def query(self, context: Context, question: Question) -> str:
        return f"A question about the {context.title}. {question.text}\nIn a few words:"

    def reading_query(self, context: Context, question: Question) -> str:
        return f"{context.title}\n{context.text}\n\n{self.query(context, question)}"

    def corpus_sequences(
        self,
        context: Context,
        completions: Sequence[str],
        *,
        passage: Literal["once", "per_completion", "none"] = "once",
    ) -> list[str]:
        sheet = self.passage_sequences(context)
        if not completions:
            return sheet
        times = {"once": 1, "per_completion": len(completions), "none": 0}[passage]
        return [f"{context.title}\n{text}" for text in completions if text.strip()] + sheet * times


def _context(sheet: dict[str, Any]) -> Context:
    """A river's sheet as text, with a question a line of it."""
    title = f"river {sheet['name']}"
    text = "\n".join(f"{key.replace('_', ' ')}: {sheet[key]}" for key in _ASKED)
    questions = [Question(f"{title}/{key}", ask, str(sheet[key])) for key, ask in _ASKED.items()]
    return Context(id=title, title=title, text=text, questions=tuple(questions))


def least_known(answers: Sequence[dict[str, Any]]) -> float | None:
    """A reward: the log-likelihood of the gold answer that the adapted model knows least.

    >>> least_known([{"gold_log_likelihood": -2.0}, {"gold_log_likelihood": -7.5}])
    -7.5
    """
    believed = [answer["gold_log_likelihood"] for answer in answers]
    return None if None in believed else min(believed)


def gain_per_character(
    rewards_CxM: np.ndarray, baselines_C: np.ndarray, lengths_CxM: np.ndarray
) -> np.ndarray:
    """A selection: self-edits weigh as much as they gain over the unadapted model per character.

    Those that gain nothing weigh 0; the weights of a context sum to 1 otherwise.

    >>> gain_per_character(np.array([[-3.0, -2.0, np.nan]]), np.array([-4.0]),
    ...                    np.array([[10.0, 10.0, 10.0]])).round(3).tolist()
    [[0.333, 0.667, 0.0]]
    """
    gains_CxM = np.nan_to_num(rewards_CxM - baselines_C[:, None], nan=0.0).clip(min=0.0)
    shares_CxM = gains_CxM / np.maximum(lengths_CxM, 1.0)
    sums_Cx1 = shares_CxM.sum(axis=1, keepdims=True)
    return shares_CxM / np.where(sums_Cx1 > 0, sums_Cx1, 1.0)
