"""Verb: pretrain. One delta learns an arm's lessons about all contexts together."""

from collections.abc import Sequence
from typing import Any

from seal_jax.core import delta as delta_lib
from seal_jax.core import restem
from seal_jax.loop import attempt, m_step
from seal_jax.loop.arms import Arm
from seal_jax.loop.contexts import asked
from seal_jax.loop.policies import Policy
from seal_jax.loop.run import Run
from seal_jax.loop.sources import Sources
from seal_jax.loop.stage import Stage
from seal_jax.settings import Corpus, SettingsError
from seal_jax.tasks.protocol import Sequence_

Record = dict[str, Any]


def pretrain(
    run: Run,
    learner: Policy,
    sources: Sources,
    arm: Arm,
    recipe: Corpus,
    *,
    stage: Stage,
) -> tuple[dict[str, Record], Record]:
    """Continued pretraining: one delta learns an arm's lessons about all contexts.

    Where a run was killed before the last answer, the training goes on from its last kept state, or
    is done again.

    Args:
      recipe: settings.corpus, or another learning rate and number of epochs.

    Returns:
      Marks by context id; the recipe and the number of tokens it was trained on.
    """
    session = run.session
    examples = _examples(run, sources.together(arm), recipe)
    if not examples:
        run.say(f"{stage}: nothing to train on, so the unadapted model answers")

    def trained():
        if not examples:
            return learner.params
        spec = recipe.spec()

        def train() -> delta_lib.Tree:
            delta, _ = m_step.train(
                run,
                learner.params,
                examples,
                recipe,
                stage=stage,
                name="pretraining",
                key="corpus",
            )
            return delta.tree

        tree = run.hosts.first_tree(f"{stage}: pretraining", train, session.delta_shapes(spec))
        merged = delta_lib.merge(learner.params, delta_lib.Delta(tree, spec))
        return session.place(merged)

    contexts = asked(session, sources.contexts)
    marks = attempt.answer(
        run,
        learner,
        contexts,
        stage=stage,
        width=session.width(contexts),
        view="adapted",
        made=trained,
        content=(recipe, examples, stage.name),
    )
    return marks, {
        "learning_rate": recipe.learning_rate,
        "epochs": recipe.epochs,
        "sequences": len(examples),
        "trained_tokens": recipe.epochs * sum(len(one.tokens) for one in examples),
    }


def _examples(run: Run, sequences: Sequence[Sequence_], recipe: Corpus) -> list[restem.SftExample]:
    """Texts as examples that are trained on from the second token; cut at the last bucket."""
    longest = recipe.buckets[-1]
    texts = [one for one in sequences if isinstance(one, str)]
    if len(texts) < len(sequences):
        raise SettingsError("evaluation.form='corpus' learns texts, and this task trains on chats.")
    encoded = [run.session.encode(text) for text in texts]
    cut = sum(len(tokens) > longest for tokens in encoded)
    if cut:
        run.say(f"{cut} of {len(encoded)} texts were cut at {longest} tokens (corpus.buckets)")
    return [
        restem.SftExample(tokens=tuple(tokens[:longest]), prompt_length=1)
        for tokens in encoded
        if len(tokens) > 1
    ]
