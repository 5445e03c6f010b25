"""What mitigations are compared with: the start, all passages at once, a delta a passage."""

import functools
from collections.abc import Sequence
from typing import Any

from seal_jax.loop.continual import updates
from seal_jax.loop.continual.outcomes import Arm
from seal_jax.loop.continual.updates import Group
from seal_jax.loop.stage import Stage

Record = dict[str, Any]


def bound(name: str, groups: Sequence[Group]) -> Arm:
    """The marks of models that do not learn one passage after another.

    Args:
      name: "start", the model that the sequences start from; "joint", one update on the start's
        self-edits of all passages of a sequence together; "separate", an update a passage, each
        from the start, that answers for its own passage alone.
    """
    run, stage, records = groups[0].run, Stage(kind="continual", what=name), []
    with run.stage(stage, "", len(groups), "group") as progress:
        for group in groups:
            key = f"{name}/{group.number}"
            replayed = run.ledger.find("retest", key) is not None
            work = functools.partial(_of_group, name, group, key)
            records.append(updates.retested(run, key, work, stage))
            progress.update(1, replayed=replayed)
    return Arm(
        name=name,
        end=[row for record in records for row in record["rows"]],
        unrelated_S=[loss for record in records for loss in record.get("unrelated", ())],
        keeps_old_data=name == "joint",
    )


def _of_group(name: str, group: Group, key: str) -> Record:
    texts = [] if name == "start" else _texts(group)
    learn = functools.partial(updates.learn_at_once, group, texts=texts)
    together_K = learn(range(group.steps)) if name == "joint" else None
    models = (
        (step, learn([step]) if name == "separate" else together_K) for step in range(group.steps)
    )
    record = updates.asked(group, key, models)
    if name != "separate":  # which has no one model at the end
        record["unrelated"] = updates.unrelated_losses(group, together_K)
    return record


def _texts(group: Group) -> list[list[str]]:
    """The start's self-edits, [step][sequence]."""
    write = functools.partial(updates.write_edits, group, updates.nothing(group))
    return [
        group.run.once(
            "edits",
            f"continual start/{group.number}/{step}",
            functools.partial(write, step),
            stage=Stage(kind="continual", what="start"),
        )["texts"]
        for step in range(group.steps)
    ]
