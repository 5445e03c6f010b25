"""One E-step's work by the public functions: sample self-edits, adapt, answer and grade."""

import dataclasses
import time

from configs import knowledge
from seal_jax import api
from seal_jax.doctor import models
from seal_jax.runtime import metrics
from seal_jax.settings import config_dict

_CONTEXTS = 2
_EPOCHS = 1
_SEQUENCES = 6
_BUCKETS = (32, 64, 160)


def open_worker(spec: models.Spec) -> "Round":
    return Round(spec)


class Round:
    """A session of `implications` with fewer epochs and buckets; `run` may be called again."""

    def __init__(self, spec: models.Spec):
        settings = config_dict.from_config(knowledge.get_config("implications"))
        self._settings = dataclasses.replace(
            settings,
            model=dataclasses.replace(settings.model, path=spec.model, dtype=spec.dtype),
            edits=dataclasses.replace(settings.edits, contexts_per_batch=_CONTEXTS),
            inner=dataclasses.replace(
                settings.inner, epochs=_EPOCHS, max_sequences=_SEQUENCES, buckets=_BUCKETS
            ),
        )
        self._compiles = metrics.Compiles()
        self._model = api.load(self._settings)
        self._runs = 0

    def run(self) -> dict:
        """Self-edits of fresh contexts, tried and graded."""
        model, limit = self._model, self._settings.data.max_questions
        first = self._runs * _CONTEXTS
        contexts = [
            dataclasses.replace(context, questions=context.questions[:limit])
            for context in model.task.contexts("train")[first : first + _CONTEXTS]
        ]
        self._runs += 1
        compiled = self._compiles.count
        start = time.perf_counter()
        edits = api.self_edits(model, contexts, draw="bench")
        lessons = [
            (context, edit) for context, of in zip(contexts, edits, strict=True) for edit in of
        ]
        learned = api.learn(model, lessons, draw="bench")
        deltas = [one.delta for one in learned if one.delta is not None]
        asked = [of for of, one in zip(lessons, learned, strict=True) if one.delta is not None]
        answers = api.answers(model, [context for context, _ in asked], deltas, draw="bench")
        return {
            "seconds": time.perf_counter() - start,
            "self_edits": len(lessons),
            "questions": sum(map(len, answers)),
            "compiles": self._compiles.count - compiled,
            "what": f"{_CONTEXTS} contexts x {self._settings.edits.samples} self-edits of "
            f"`implications`, {_EPOCHS} epoch, {limit} questions each; all seven projections",
        }
