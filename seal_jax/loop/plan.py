"""What a job will do, for the person who waits for it."""

from collections.abc import Sequence

from seal_jax.loop import arms
from seal_jax.loop.session import Session
from seal_jax.tasks.protocol import Context


def describe(
    session: Session, rounds: Sequence[Sequence[Context]], held_out: Sequence[Context]
) -> str:
    """The plan in one or two lines, with about how many tokens the inner loops will train on."""
    settings = session.settings
    held, tuning = settings.evaluation, settings.tuning
    longest = settings.edits.max_new_tokens

    def tokens(contexts: Sequence[Context], edits: int, edit_tokens: int) -> int:
        own = sum(
            len(session.encode(text))
            for c in contexts
            for text in session.task.passage_sequences(c)
        )
        return settings.inner.epochs * edits * (own + edit_tokens * len(contexts))

    measured = settings.reward.needs_inner_loop
    each = f" x {settings.reward.replicates} inner loops" if measured else ""
    adapted = [name for name in held.arms if arms.KINDS[name].source not in ("", "prompt")]
    lines = [
        f"plan: {len(rounds)} rounds of {settings.restem.contexts_per_round} contexts x "
        f"{settings.edits.samples} self-edits{each}, then {len(held_out)} evaluation contexts in "
        f"{len(held.arms)} arms"
    ]
    if settings.reward.kind != "pattern" and held.form == "single":
        loops = settings.edits.samples * settings.reward.replicates * measured
        total = sum(tokens(chosen, loops, longest) for chosen in rounds)
        for name in adapted:
            of_passage = arms.KINDS[name].source == "passage"
            total += tokens(held_out, 1 if of_passage else held.edits, 0 if of_passage else longest)
        lines.append(
            f"plan: about {total:,} inner-loop tokens, if every self-edit is {longest} tokens long"
        )
    if tuning.epochs:
        lines.append(
            f"plan: before that {len(adapted)} arms try {len(tuning.learning_rates)} learning "
            f"rates x {len(tuning.epochs)} epochs on {tuning.contexts} development contexts"
        )
    return "\n".join(lines)
