"""The rubric: what the judge sees, and the scores of tidy and untidy replies."""

import time

import pytest

from seal_jax.judges import rubric
from seal_jax.judges.chat_reply import Completion
from seal_jax.tasks.knowledge import prompt
from seal_jax.tasks.protocol import Context, Question

CONTEXT = Context(
    "1", "Rome", "Rome fell in 476.", (Question("q", "CANARY question?", "CANARY answer"),)
)
THREE = "Coverage: {}\nFaithfulness: {}\nSelf-containedness: {}"
SCORES = [
    (THREE.format(4, 5, 3), 4.0),
    (THREE.format("4/5", "5 / 5", "3 out of 5"), 4.0),
    (THREE.format("4 - most of it", "5, all 7 lines are true", "3. In 2 lines 'he'"), 4.0),
    (THREE.format(4.5, "4.5.", "3.0"), 4.0),
    (THREE.format("[4]", "(5)", "**3**"), 4.0),
    (THREE.format("\n4", "\n5", "\n3"), 4.0),
    ("**Coverage (1-5):** 4\n**Faithfulness (1 to 5):** 5\n**Self-contained (1–5):** 3", 4.0),
    ("- coverage = 4; faithfulness = 5; self containedness = 3", 4.0),
    ("1. Coverage: 4\n2. Faithfulness: 5\n3. Self-containedness: 3", 4.0),
    ('```json\n{"coverage": 4, "faithfulness": 5, "self_containedness": 3}\n```', 4.0),
    ("| Coverage | 4 |\n| Faithfulness | 5 |\n| Self-containedness | 3 |", 4.0),
    ("Coverage            :            4\nFaithfulness : 5\nSelf-containedness : 3", 4.0),
    ("Coverage is 4, faithfulness is 5 and self-containedness is 3.", 4.0),
    ("Coverage：4\nFaithfulness：5\nSelf-containedness：3", 4.0),
    ("Self-containedness: 1\nCoverage: 4\nFaithfulness: 4", 3.0),  # any order
    (f"<think>{THREE.format(1, 1, 1)}</think>\n{THREE.format(4, 5, 3)}", 4.0),
    (f"{THREE.format(1, 1, 1)}\nOn a second look:\n{THREE.format(4, 5, 3)}", 4.0),
    (f"{THREE.format(4, 5, 3)}\nOverall: 2", 4.0),  # the criteria come first
    ("4 5 3", 4.0),
    ("4, 5, 3\n", 4.0),
    ("4\n5\n3", 4.0),
    ("Coverage: 4\nFaithfulness: 5\nOverall score: 2/5", 2.0),
    ("Score: 4", 4.0),
    ("**Rating:** 4 / 5\nThe notes have 12 lines.", 4.0),
    ("4", 4.0),
    (" 4/5\n", 4.0),
    ("4. The notes are good.", 4.0),
    ("I'd give it a 4.", 4.0),
    ("They deserve 4 out of 5!", 4.0),
    ("These notes score a 4.", 4.0),
    ("1", 1.0),
    ("5", 5.0),
]
NO_SCORES = [
    "",
    " \n",
    "The notes are good.",
    THREE.format("", "", ""),
    THREE.format("", 5, 3),
    THREE.format(4, 5, ""),
    THREE.format("1-5", "1-5", "1-5"),
    THREE.format("1 to 5", "1 to 5", "1 to 5"),
    THREE.format(4, 5, 6),
    THREE.format(0, 5, 5),
    THREE.format("8/10", "9/10", "7/10"),
    THREE.format("-4", "-4", "-4"),
    THREE.format("80%", "90%", "70%"),
    THREE.format("four", "five", "three"),
    "Coverage: 4",
    "Coverage: 4\nFaithfulness: 5",
    "I give coverage: 4",
    "Score: 9",
    "Score: 4 of 10",
    "0",
    "6",
    "55",
    "4 5",
    "The notes leave out 2 facts.",
    "2 lines are false.",
    "In 1476 it fell.",
    "The notes are to be judged. It's about giving a score of 5, not just a number.",
    f"<think>{THREE.format(4, 5, 3)}",  # cut off while thinking
]


@pytest.mark.parametrize(("reply", "expected"), SCORES)
def test_scores(reply, expected):
    assert rubric.parse_score(reply) == pytest.approx(expected)


@pytest.mark.parametrize("reply", NO_SCORES)
def test_replies_without_a_score(reply):
    assert rubric.parse_score(reply) is None


@pytest.mark.fault("3")
def test_scores_that_the_judge_only_thinks_of_do_not_count():
    thought = "Coverage: 1\nFaithfulness: 1\nSelf-containedness: 1\n</think>\n"
    assert (
        rubric.parse_score(f"{thought}Coverage: 5\nFaithfulness: 4\nSelf-containedness: 3") == 4.0
    )
    assert rubric.parse_score(f"[THINK]{thought}") is None


def test_the_judge_sees_title_passage_and_self_edit_only():
    found = rubric.rubric_prompt(rubric.load_template(), CONTEXT, "1. It {title} fell.\n2. {x}")
    assert found.count("Rome fell in 476.") == 1
    assert "1. It {title} fell.\n2. {x}" in found
    assert "about Rome" in found
    assert "CANARY" not in found


def test_the_template_asks_for_what_the_parser_reads():
    template = rubric.load_template()
    asked = template[template.index("Answer with") :]
    reply = asked.partition("\n")[2].replace(":", ": 4")
    assert rubric.parse_score(reply) == 4.0
    assert rubric.parse_score(asked) is None  # a judge that repeats the request gives no score
    assert rubric.parse_score(template) is None


def test_a_template_of_ones_own(tmp_path):
    path = tmp_path / "rubric.txt"
    path.write_text("{title} {passage} {self_edit}: 1 to 5?", encoding="utf-8")
    assert rubric.rubric_prompt(rubric.load_template(tmp_path), CONTEXT, "x") == (
        "Rome Rome fell in 476. x: 1 to 5?"
    )
    path.write_text("{title} {passage}", encoding="utf-8")
    with pytest.raises(prompt.PromptError, match=r"rubric\.txt.*\{self_edit\} is missing"):
        rubric.load_template(tmp_path)


@pytest.mark.parametrize("filler", ["coverage ", "4 ", " ", "*", "\n", "(", "coverage*", "<think>"])
def test_a_giant_reply_takes_no_time(filler):
    started = time.perf_counter()
    assert rubric.parse_score("Coverage" + filler * 100_000 + "x") is None
    assert time.perf_counter() - started < 30  # minutes, if it were quadratic


@pytest.mark.fault("S7")
@pytest.mark.parametrize("filler", ["_ ", "_ _\n", "__ "])
def test_a_label_that_never_comes_takes_no_time(filler):
    started = time.perf_counter()
    assert rubric.parse_score(filler * (24_000 // len(filler))) is None
    assert time.perf_counter() - started < 3


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        pytest.param(THREE.format(4, 5, 3), None, marks=pytest.mark.fault("9")),  # or 3.5
        pytest.param("4", None, marks=pytest.mark.fault("9")),
        pytest.param("Overall: 3\nOverall: 1", 3.0, marks=pytest.mark.fault("9")),
        (f"{THREE.format(4, 5, 3)}\nThe notes are", 4.0),
        ("Coverage: 4\nFaithfulness: 5\nSelf-cont", None),
    ],
)
def test_the_last_line_of_a_reply_that_is_cut_off_does_not_count(reply, score):
    found = rubric._read(Completion(reply, truncated=True))
    assert found.score == score and (score is not None or "no score" in found.reason)
