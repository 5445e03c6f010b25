"""One E-step's work through the programs: sample self-edits, adapt, answer and grade."""

import dataclasses
import time

from configs import knowledge
from seal_jax.doctor import models
from seal_jax.loop import session as session_lib
from seal_jax.loop import trials, writing
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
        self._session = session_lib.open_session(self._settings)
        self._runs = 0

    def run(self) -> dict:
        """Self-edits of fresh contexts, tried and graded."""
        session, settings = self._session, self._settings
        limit = settings.data.max_questions
        first = self._runs * _CONTEXTS
        contexts = [
            dataclasses.replace(context, questions=context.questions[:limit])
            for context in session.task.contexts("train")[first : first + _CONTEXTS]
        ]
        self._runs += 1
        width = session.query_width(session.task.contexts("train"))
        compiled = self._compiles.count
        start = time.perf_counter()
        edits = writing.sample(
            session,
            session.base,
            writing.edit_prompts(session, contexts),
            draw="bench",
            samples=settings.edits.samples,
        )
        by_id = {context.id: context for context in contexts}
        candidates = []
        for edit in edits:
            context = by_id[edit.context]
            texts = session.task.sequences(context, edit.text)
            candidates.append(
                trials.Candidate(
                    context=context,
                    index=edit.index,
                    replicate=0,
                    trimmed=trials.tokenize(session, texts),
                )
            )
        said = [candidate for candidate in candidates if candidate.lengths]
        questions, size = 0, settings.inner.candidates
        for index in range(0, len(said), size):
            tried = trials.try_group(
                session, session.base, said[index : index + size], draw="bench", width=width
            )
            questions += sum(len(trial["answers"]) for trial in tried["trials"])
        return {
            "seconds": time.perf_counter() - start,
            "self_edits": len(edits),
            "questions": questions,
            "compiles": self._compiles.count - compiled,
            "what": f"{_CONTEXTS} contexts x {settings.edits.samples} self-edits of the demo, "
            f"{_EPOCHS} epoch, {limit} questions each; all seven projections",
        }
