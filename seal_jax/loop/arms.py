"""What is compared: arms, each a source, a learner, a scope and a view.

    source    what is learned: nothing; the task's own (`Task.sources`); or an editor's self-edits
    learner   the policy that is adapted and asked: "base", "policy" (after RL), or a control's
    scope     a delta for each context, or one for all of them (evaluation.form)
    view      what is asked: the exam of an adapted or unadapted model, or of one that reads

Editor and learner may differ, so that better self-edits and a better learner can be told apart:
"edit_after_base", RL's self-edits learned by the base model, against "edit_before" is what RL did
to the self-edits; "edit_after" is SEAL as published. Where self-edits have directives, text and
directives may be of different self-edits, too.
"""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Literal

from seal_jax.settings import SettingsError
from seal_jax.tasks.base import Task
from seal_jax.tasks.protocol import Context, View

Control = Literal["random", "longest"]  # M-steps that know no reward; also selection rules
CONTROLS: tuple[Control, ...] = ("random", "longest")
POLICIES = ("base", "policy", *CONTROLS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """One row of the comparison.

    Attributes:
      label: for tables.
      learner: the policy that is adapted and asked.
      source: the task's source that it learns; "" for none.
      editor: the policy whose self-edits it learns; "" for none.
      head: whose directives these are learned under: their own (""), the "policy"'s of the same
        context, the editor's of another context ("permuted"), or those that earned the most in the
        rounds ("constant").
      view: what it is asked.
    """

    label: str
    learner: str = "base"
    source: str = ""
    editor: str = ""
    head: Literal["", "policy", "permuted", "constant"] = ""
    view: View = "adapted"

    @property
    def policies(self) -> set[str]:
        """The policies that it needs: directives of the rounds are those of its rounds."""
        return {self.learner, self.editor, "policy" if self.head else ""} - {""}

    @property
    def editors(self) -> list[str]:
        """The policies of which it needs self-edits."""
        of = [self.editor, "policy" if self.head == "policy" else ""]
        return list(dict.fromkeys(filter(None, of)))

    @property
    def learns(self) -> bool:
        """Whether anything is learned."""
        return bool(self.source or self.editor)


# Arms that every task has: the models as they are, and editors with learners.
_PLAIN = {
    "base": Arm(label="base model", view="unadapted"),
    "prompt": Arm(label="passage in the prompt", view="reading"),
}
EDITED = {
    "edit_before": Arm(label="self-edit before RL", editor="base"),
    "policy": Arm(label="RL policy, unadapted", learner="policy", view="unadapted"),
    "edit_before_policy": Arm(
        label="base's self-edit, RL learner", learner="policy", editor="base"
    ),
    "edit_after_base": Arm(label="RL's self-edit, base learner", editor="policy"),
    "edit_after": Arm(label="self-edit after RL", learner="policy", editor="policy"),
    "policy_random": Arm(
        label="random-selection policy, unadapted", learner="random", view="unadapted"
    ),
    "edit_random_base": Arm(label="random-selection self-edit, base learner", editor="random"),
    "edit_random": Arm(label="self-edit, M-step on random ones", learner="random", editor="random"),
    "policy_longest": Arm(
        label="longest-selection policy, unadapted", learner="longest", view="unadapted"
    ),
    "edit_longest_base": Arm(label="longest-selection self-edit, base learner", editor="longest"),
    "edit_longest": Arm(
        label="self-edit, M-step on the longest", learner="longest", editor="longest"
    ),
}

# Of self-edits with directives: is it more than one constant that the policy has found? Compared
# with "edit_after_base", which has the same learner.
DIRECTED = {
    "edit_before_constant": Arm(
        label="base's self-edit, best tried directives", editor="base", head="constant"
    ),
    "edit_before_directed": Arm(
        label="base's self-edit, RL's directives", editor="base", head="policy"
    ),
    "edit_after_constant": Arm(
        label="RL's self-edit, best tried directives", editor="policy", head="constant"
    ),
    "edit_after_permuted": Arm(
        label="RL's self-edit, RL's directives permuted", editor="policy", head="permuted"
    ),
}


def table(task: Task) -> dict[str, Arm]:
    """Every arm of a task by its name, in the order of tables.

    Raises:
      SettingsError: a source has the name of an arm that every task has.
    """
    own = {name: Arm(label=source.label, source=name) for name, source in task.sources.items()}
    edited = EDITED | DIRECTED if task.directs else EDITED
    if taken := own.keys() & {*_PLAIN, *edited}:
        raise SettingsError(
            f"task={task.settings.task}: its source {min(taken)!r} has the name of an arm that "
            "every task has: call it something else."
        )
    return {
        name: dataclasses.replace(arm, label=task.labels.get(name, arm.label))
        for name, arm in {**_PLAIN, **own, **edited}.items()
    }


def controls(names: Sequence[str]) -> list[Control]:
    """The control policies that arms of these names need."""
    edited = {EDITED[name].editor for name in names if name in EDITED}
    return [control for control in CONTROLS if control in edited]


def rows(task: Task, names: Sequence[str], known: Sequence[str]) -> dict[str, Arm]:
    """The arms that can be run with the policies that are known, in the order of `table`.

    Each learner but the base brings its unadapted row.
    """
    every, unknown = table(task), set(POLICIES) - set(known)
    chosen = {name for name in names if not unknown & every[name].policies}
    learners = {every[name].learner for name in chosen} - {"base"}
    return {
        name: arm
        for name, arm in every.items()
        if name in chosen or (arm.view == "unadapted" and arm.learner in learners)
    }


def check(task: Task, names: Sequence[str], form: str) -> None:
    """Refuses arms that the task does not have, or that need self-edits where it has none.

    Raises:
      SettingsError: names them, and what there is.
    """
    every = table(task)
    unknown = [name for name in names if name not in every]
    if unknown:
        raise SettingsError(
            f"evaluation.arms must be of {', '.join(every)}, not {', '.join(unknown)}."
        )
    if form == "corpus" and task.directs:
        raise SettingsError("evaluation.form='corpus' is for self-edits without directives.")
    if not task.writes:
        asking = [n for n in names if every[n].editor or n in ("passage_steps", "teacher")]
        if asking:
            raise SettingsError(
                f"{without_self_edit(task)}: leave {', '.join(asking)} out of evaluation.arms."
            )


def without_self_edit(task: Task) -> str:
    """What of the settings has no self-edit, for an error."""
    settings = task.settings
    if settings.task == "knowledge":
        return f"prompts.edit_format={settings.prompts.edit_format!r} has no self-edit"
    return f"task={settings.task} has no self-edit"


def derangement(contexts: Sequence[Context]) -> list[int]:
    """For each context i, the other one whose questions the delta of i is asked.

    The pairing is fixed by the contexts alone, leaves none in its place, and pairs no two contexts
    of one group unless a group has more than half of them.
    """
    count = len(contexts)
    order = sorted(range(count), key=lambda i: (contexts[i].group, i))
    largest = max(collections.Counter(context.group for context in contexts).values())
    shift = largest % count or 1
    return [
        pair for _, pair in sorted((order[k], order[(k + shift) % count]) for k in range(count))
    ]
