"""Continued pretraining: one model learns the texts of all passages, then answers all questions."""

from typing import Any

from seal_jax.core import delta as delta_lib
from seal_jax.core import restem
from seal_jax.loop import policies, stages
from seal_jax.loop.policies import Policy
from seal_jax.loop.run import Run
from seal_jax.loop.sources import Sources
from seal_jax.settings import Corpus

Record = dict[str, Any]


def learn_and_answer(
    run: Run,
    learner: Policy,
    sources: Sources,
    source: str,
    recipe: Corpus,
    *,
    stage: str,
    width: int,
) -> tuple[dict[str, list[Record]], Record]:
    """Trains the learner on a source's texts about all contexts, and asks every question.

    Where a run was killed before the last answer, the training goes on from its last kept state, or
    is done again.

    Args:
      recipe: settings.corpus, or another learning rate and number of epochs.
      stage: names it in the ledger and in the keys.

    Returns:
      Answer records by context id; the recipe and the number of tokens it was trained on.
    """
    rows = _rows(run, sources.corpus(source), recipe)
    if not rows:
        run.say(f"{stage}: nothing to train on, so the unadapted model answers")

    def trained():
        if not rows:
            return learner.params
        spec = recipe.spec()

        def train() -> delta_lib.Tree:
            delta, _ = policies.learn(
                run, learner.params, rows, recipe, stage=stage, name="pretraining", key="corpus"
            )
            return delta.tree

        tree = run.from_first(f"{stage}: pretraining", train, run.session.delta_shapes(spec))
        delta = delta_lib.Delta(tree, spec)
        return run.session.place(delta_lib.merge(learner.params, delta))

    asked = [context for context in sources.contexts if context.questions]
    answers = stages.answer(run, trained, asked, stage=stage, width=width)
    return answers, {
        "learning_rate": recipe.learning_rate,
        "epochs": recipe.epochs,
        "sequences": len(rows),
        "trained_tokens": recipe.epochs * sum(len(row.tokens) for row in rows),
    }


def _rows(run: Run, texts: list[str], recipe: Corpus) -> list[restem.Row]:
    """Texts as rows that are trained on from the second token; cut at the last bucket."""
    longest = recipe.buckets[-1]
    sequences = [run.session.encode(text) for text in texts]
    cut = sum(len(tokens) > longest for tokens in sequences)
    if cut:
        run.say(f"{cut} of {len(texts)} texts were cut at {longest} tokens (corpus.buckets)")
    return [
        restem.Row(tokens=tuple(tokens[:longest]), prompt_length=1)
        for tokens in sequences
        if len(tokens) > 1
    ]
