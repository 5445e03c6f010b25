"""Few-shot prompts: the words, and where the outputs are that may be trained on."""

import numpy as np
import pytest

from seal_jax.tasks.arc import prompt
from seal_jax.tasks.arc.arc import Example, Pair
from seal_jax.tasks.arc.grids import check

GRIDS = [check(rows) for rows in ([[0, 1], [2, 3]], [[4, 5, 6, 7]], [[8], [9]], [[0, 1, 2]])]
EXAMPLE = Example((Pair(GRIDS[0], GRIDS[1]), Pair(GRIDS[2], GRIDS[3])), Pair(GRIDS[1], GRIDS[0]))


def spanned(chat):
    return [chat.turns[turn][1][first:after] for turn, first, after in chat.spans]


@pytest.mark.parametrize(
    ("form", "grid_lines"),
    [
        ("digits", ["01\n23", "4567", "8\n9", "012", "4567"]),
        ("nested", ["[[0, 1], [2, 3]]", "[[4, 5, 6, 7]]", "[[8], [9]]", "[[0, 1, 2]]",
                    "[[4, 5, 6, 7]]"]),
    ],
)  # fmt: skip
def test_the_users_turn(form, grid_lines):
    one, two, three, four, asked = grid_lines
    turn = prompt.query(EXAMPLE.demonstrations, EXAMPLE.query.input, form)
    instruction, _, rest = turn.partition("\n\n")
    assert "rule" in instruction and "output grid only" in instruction
    assert rest == (
        f"Input:\n{one}\nOutput:\n{two}\n\nInput:\n{three}\nOutput:\n{four}\n\n"
        f"Input:\n{asked}\nOutput:"
    )
    assert prompt.answer(EXAMPLE.query.output, form) == one


def test_pairs_are_shown_as_they_stand_in_the_turn():
    shown = prompt.show(EXAMPLE.demonstrations, "digits")
    assert shown == "Input:\n01\n23\nOutput:\n4567\n\nInput:\n8\n9\nOutput:\n012"
    assert f"\n\n{shown}\n\n" in prompt.query(EXAMPLE.demonstrations, GRIDS[1], "digits")


@pytest.mark.parametrize("form", ["digits", "nested"])
def test_a_chat_is_the_query_and_its_answer(form):
    for outputs_only in (True, False):
        chat = prompt.chat(EXAMPLE, form, outputs_only=outputs_only)
        assert chat.turns == (
            ("user", prompt.query(EXAMPLE.demonstrations, EXAMPLE.query.input, form)),
            ("assistant", prompt.answer(EXAMPLE.query.output, form)),
        )
    assert chat.spans is None


@pytest.mark.parametrize(
    ("form", "outputs"),
    [
        ("digits", ["4567", "012", "01\n23"]),
        ("nested", ["[[4, 5, 6, 7]]", "[[0, 1, 2]]", "[[0, 1], [2, 3]]"]),
    ],
)
def test_the_spans_are_in_the_order_of_the_outputs(form, outputs):
    chat = prompt.chat(EXAMPLE, form, outputs_only=True)
    assert spanned(chat) == outputs
    assert [turn for turn, _, _ in chat.spans] == [0, 0, 1]


def test_grids_that_are_alike_are_told_apart():
    """An input equal to the output is not trained on, nor is the answer's copy in the prompt."""
    same = Pair(GRIDS[0], GRIDS[0])
    chat = prompt.chat(Example((same, same), same), "digits", outputs_only=True)
    assert spanned(chat) == ["01\n23"] * 3
    said = chat.turns[0][1]
    assert [said[first - 8 : after] for _, first, after in chat.spans[:2]] == (
        ["Output:\n01\n23"] * 2
    )


def test_without_demonstrations():
    chat = prompt.chat(Example((), EXAMPLE.query), "digits", outputs_only=True)
    assert chat.spans == ((1, 0, 5),)


def test_chats_are_compared_by_what_they_say():
    """They are looked up when they were turned into tokens already."""
    copies = Example(
        tuple(Pair(np.copy(pair.input), np.copy(pair.output)) for pair in EXAMPLE.demonstrations),
        EXAMPLE.query,
    )
    one, other = (prompt.chat(e, "digits", outputs_only=True) for e in (EXAMPLE, copies))
    assert one == other and hash(one) == hash(other)
    assert one != prompt.chat(EXAMPLE, "digits", outputs_only=False)


def test_outputs_that_are_not_known():
    unknown = Pair(GRIDS[0], None)
    for example in (Example((unknown,), EXAMPLE.query), Example(EXAMPLE.demonstrations, unknown)):
        for outputs_only in (True, False):
            with pytest.raises(prompt.PromptError, match=r"an output is not known"):
                prompt.chat(example, "digits", outputs_only=outputs_only)
    assert prompt.query(EXAMPLE.demonstrations, unknown.input, "digits")
    with pytest.raises(prompt.PromptError, match=r"an output is not known"):
        prompt.query((unknown,), GRIDS[0], "digits")
