"""Which contexts count as solved."""

import pytest

from seal_jax.loop import curate


def tried(value):
    """A record whose score is this; "failed" has no answers."""
    if value == "failed":
        return {"answers": [], "reason": "diverged"}
    return {"answers": [{}], "scores": {"solved": value}, "reason": None}


@pytest.mark.fault("11")
@pytest.mark.parametrize(
    ("values", "solved", "mean"),
    [
        ([1, 1.0], True, 1.0),
        ([1, None], False, 1.0),  # ungraded: nobody knows
        ([None], False, None),
        ([1, 0.5], False, 0.75),
        ([1, "failed"], False, 0.5),
    ],
)
def test_a_context_is_solved_where_every_question_is_known_to_be(values, solved, mean):
    records = [tried(value) for value in values]
    assert curate._solved(records, "solved") is solved
    assert curate._summary(records, ["solved"])["solved"] == mean
