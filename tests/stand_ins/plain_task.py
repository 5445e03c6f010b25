"""The least that a task is: contexts, a prompt, and the defaults for the rest."""

from seal_jax.settings import config_dict
from seal_jax.tasks.base import Task
from seal_jax.tasks.protocol import Context, Question

TOWNS = (
    Context("ullen", "Ullen", "Ullen is on the Varde.", (Question("q1", "Where?", "the Varde"),)),
    Context(
        "osk",
        "Osk",
        "Osk is a river.",
        (Question("q2", "What?", "a river"), Question("q3", "Who?", "nobody")),
    ),
)


class Towns(Task):
    """Two towns, one to learn and one to be asked."""

    name = "towns"

    def contexts(self, split):
        return TOWNS[:1] if split == "train" else TOWNS[1:]

    def edit_prompt(self, context):
        return f"Write about {context.title}: {context.text}"


def plain_task(kind: type[Task] = Towns, **groups) -> Task:
    """A task under the default settings but for these, by group."""
    return kind(config_dict.from_config(groups))
