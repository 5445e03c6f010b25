"""What passes between loop and tasks refuses what cannot be."""

import pytest

from seal_jax.tasks.protocol import Chat, Verdict


@pytest.mark.parametrize(
    "turns", [(), (("assistant", "a"),), (("user", "q"),), (("user", "q"), ("user", "q"))]
)
def test_a_chat_answers_something(turns):
    with pytest.raises(ValueError, match=r"needs turns to answer, and ends with the assistant's"):
        Chat(turns=turns)


def test_a_verdict_that_is_none_says_why():
    with pytest.raises(ValueError, match=r"ungraded verdict .* needs the reason why"):
        Verdict(correct=None, empty=False)
    for correct in (True, False):
        with pytest.raises(ValueError, match=r"only an ungraded verdict"):
            Verdict(correct=correct, empty=False, retry=True)
