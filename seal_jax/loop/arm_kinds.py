"""What the arms of an evaluation are. Nothing here needs the model, so reports can read it."""

from collections.abc import Mapping
from typing import NamedTuple


class Kind(NamedTuple):
    """What an arm is.

    Attributes:
      label: for tables.
      learner: the policy that is adapted and asked: "base", "policy" (after RL), or a control's.
      source: what it is adapted to (see the `Sources` of its domain): "" nothing; in knowledge
        incorporation "prompt" is nothing but the passage stands in the prompt.
    """

    label: str
    learner: str
    source: str


KNOWLEDGE: Mapping[str, Kind] = {
    "base": Kind("base model", "base", ""),
    "prompt": Kind("passage in the prompt", "base", "prompt"),
    "passage": Kind("passage only", "base", "passage"),
    "passage_steps": Kind("passage only, as many steps", "base", "passage_steps"),
    "teacher": Kind("a teacher's texts", "base", "teacher"),
    "entity_graph": Kind("entity graph", "base", "entity_graph"),
    "edit_before": Kind("self-edit before RL", "base", "base"),
    "policy": Kind("RL policy, unadapted", "policy", ""),
    "edit_before_policy": Kind("base's self-edit, RL learner", "policy", "base"),
    "edit_after_base": Kind("RL's self-edit, base learner", "base", "policy"),
    "edit_after": Kind("self-edit after RL", "policy", "policy"),
    "policy_random": Kind("random-selection policy, unadapted", "random", ""),
    "edit_random": Kind("self-edit, M-step on random ones", "random", "random"),
    "policy_longest": Kind("longest-selection policy, unadapted", "longest", ""),
    "edit_longest": Kind("self-edit, M-step on the longest", "longest", "longest"),
}
FEW_SHOT: Mapping[str, Kind] = {
    "in_context": Kind("in-context learning", "base", ""),
    "random": Kind("random recipes", "base", "random"),
    "fixed": Kind("best fixed recipe", "base", "fixed"),
    "oracle": Kind("oracle recipe", "base", "oracle"),
    "edit_before": Kind("self-edit before RL", "base", "base"),
    "in_context_policy": Kind("RL policy, in context", "policy", ""),
    "edit_before_policy": Kind("base's self-edit, RL learner", "policy", "base"),
    "edit_after_base": Kind("RL's self-edit, base learner", "base", "policy"),
    "edit_after": Kind("self-edit after RL", "policy", "policy"),
}
