"""What mitigations are compared with: the start, all passages at once, a delta a passage."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from seal_jax.loop.continual import updates
from seal_jax.loop.continual.outcomes import Arm, Start
from seal_jax.loop.continual.updates import Group
from seal_jax.loop.stage import Stage

Record = dict[str, Any]


def start(groups: Sequence[Group]) -> Start:
    """The marks of the model that the sequences start from."""

    def work(group: Group) -> Record:
        asked = [
            updates.ask(group, None, group.at(step), f"start/{group.number}/{step}")
            for step in range(group.steps)
        ]
        return {
            "rows": [[of[k] for of in asked] for k in range(len(group.sequences))],
            "unrelated": updates.unrelated_losses(group, None),
        }

    records = _each_group("start", groups, work)
    return Start(
        marks=[row for record in records for row in record["rows"]],
        unrelated_S=[loss for record in records for loss in record["unrelated"]],
    )


def joint(groups: Sequence[Group]) -> Arm:
    """One update on the start's self-edits of all passages of a sequence together."""

    def work(group: Group) -> Record:
        steps = range(group.steps)
        total_K = updates.learn_at_once(group, steps, _texts(group))
        asked = [
            updates.ask(group, total_K, group.at(step), f"joint/{group.number}/{step}")
            for step in steps
        ]
        return {
            "rows": [[of[k] for of in asked] for k in range(len(group.sequences))],
            "unrelated": updates.unrelated_losses(group, total_K),
        }

    records = _each_group("joint", groups, work)
    return Arm(
        name="joint",
        end=[row for record in records for row in record["rows"]],
        unrelated_S=[loss for record in records for loss in record["unrelated"]],
        keeps_old_data=True,
    )


def separate(groups: Sequence[Group]) -> Arm:
    """An update a passage, each from the start, that answers for its own passage alone."""

    def work(group: Group) -> Record:
        texts = _texts(group)
        asked = [
            updates.ask(
                group,
                updates.learn_at_once(group, [step], texts),
                group.at(step),
                f"separate/{group.number}/{step}",
            )
            for step in range(group.steps)
        ]
        return {"rows": [[of[k] for of in asked] for k in range(len(group.sequences))]}

    records = _each_group("separate", groups, work)
    return Arm(name="separate", end=[row for record in records for row in record["rows"]])


BOUNDS: Mapping[str, Callable[[Sequence[Group]], Arm]] = {"joint": joint, "separate": separate}


def _texts(group: Group) -> list[list[str]]:
    """The start's self-edits, [step][sequence]."""
    total_K = updates.nothing(group)

    def work(step: int) -> Record:
        return updates.write_edits(group, total_K, step)

    return [
        group.run.once(
            "edits",
            f"continual start/{group.number}/{step}",
            functools.partial(work, step),
            stage=Stage(kind="continual", what="start"),
        )["texts"]
        for step in range(group.steps)
    ]


def _each_group(
    name: str, groups: Sequence[Group], work: Callable[[Group], Record]
) -> list[Record]:
    """A record of each group, from the ledger or made now."""
    run = groups[0].run
    records, ungraded = [], len(run.ungraded)
    with run.stage(f"continual {name}", len(groups), "group") as progress:
        for group in groups:
            make = functools.partial(work, group)
            records.append(updates.retested(run, name, f"{name}/{group.number}", make, ungraded))
            progress.update(1)
    return records
