"""A task domain of its own: what a model learns of invented rivers from their data sheets.

Three names are for the settings of a run:

    --config.task=seal_jax_rivers:Rivers
    --config.reward.kind=seal_jax_rivers:least_known
    --config.restem.rule=seal_jax_rivers:gain_per_character
"""

import dataclasses
import importlib.resources
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seal_jax.tasks.base import Task
from seal_jax.tasks.protocol import Context, Exam, Metric, Question, Split, View

_ASKED = {
    "length_km": "How many kilometres long is it?",
    "rises": "Where does it rise?",
    "mouth": "Where does it end?",
    "tributary": "Which river joins it?",
    "gauge": "Where is its water level measured?",
}
_WORDINGS = ("", "Please answer this. ", "The answer is wanted on one line. ")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


class Rivers(Task):
    """A context is a river's data sheet; a self-edit is taken apart into sentences.

    Each question is asked in three wordings, whose answers are voted over.
    """

    name = "rivers"
    context_word = "river"
    metrics = (
        *Task.metrics,
        Metric(name="whole_sheet", label="whole sheet", share=True, per="context"),
    )

    def contexts(self, split: Split) -> Sequence[Context]:
        file = importlib.resources.files(__name__) / "rivers.json"
        return [_context(sheet) for sheet in json.loads(file.read_text(encoding="utf-8"))[split]]

    def difference(self, split: Split) -> str:
        return "invented rivers, which no paper has"

    def edit_prompt(self, context: Context) -> str:
        return (
            f"Data sheet of a river.\n\n{context.title}\n{context.text}\n\n"
            f"The same in whole sentences, and how the data hang together. Every sentence names "
            f"the {context.title}.\n"
        )

    def sequences(self, context: Context, body: str) -> list[str]:
        said = [part.strip() for part in _SENTENCE_END.split(body) if re.search(r"\w", part)]
        own = self.context_sequences(context) if said and self.settings.edits.append_passage else []
        return [f"{context.title}: {part}" for part in said] + own

    def context_sequences(self, context: Context) -> list[str]:
        return [f"{context.title}\n{context.text}"]

    def query(self, context: Context, question: Question) -> str:
        return f"A question about the {context.title}. {question.text}\nIn a few words:"

    def exam(self, context: Context, view: View) -> Exam:
        plain = super().exam(context, view)
        asked = tuple(
            dataclasses.replace(one, id=f"{one.id}/{number}", prompt=wording + one.prompt)
            for one in plain.asked
            for number, wording in enumerate(_WORDINGS)
        )
        return dataclasses.replace(plain, asked=asked)

    def more_scores(
        self, context: Context, answers: Sequence[Mapping[str, Any]]
    ) -> dict[str, float | None]:
        verdicts = [answer["correct"] for answer in answers]
        return {"whole_sheet": None if None in verdicts else float(all(verdicts))}


def _context(sheet: Mapping[str, Any]) -> Context:
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
