"""Self-edits to sequences: every rule with literal input and output."""

import json
import time

import pytest

from seal_jax.tasks.knowledge import parse

LINES = [
    ("two lines", "Rome fell.\nIt burnt.", ["Rome fell.", "It burnt."]),
    ("blank lines and margins", "\n  1. a\n\n \t\n2. b  \n\n", ["1. a", "2. b"]),
    ("preamble before 1.", "Here you are:\n1. a\n2. b", ["1. a", "2. b"]),
    ("preamble, blank line, 1.", "Here you are:\n\n 1. a\n2. b", ["1. a", "2. b"]),
    ("no space after 1.", "List:\n1.Rome fell", ["1.Rome fell"]),
    ("a decimal is no list", "Rome fell.\n1.5 million left.", ["Rome fell.", "1.5 million left."]),
    ("1. on the first line", "1. a\n2. b", ["1. a", "2. b"]),
    ("bullets keep their preamble", "List:\n- a", ["List:", "- a"]),
    ("10. is not 1.", "List:\n10. a", ["List:", "10. a"]),
    ("only the first line can go", "x\ny\n1. a", ["x", "y", "1. a"]),
    ("windows line ends", "List:\r\n1. a\r\n2. b\r\n", ["1. a", "2. b"]),
    ("unicode line separator", "a\u2028b", ["a", "b"]),
    ("one preamble-like line alone", "List:", ["List:"]),
    ("invisible lines", "a\n\u200b\n\x00\nb", ["a", "b"]),
    ("other scripts", "一、东京是首都。\nमुंबई बड़ा शहर है।", ["一、东京是首都。", "मुंबई बड़ा शहर है।"]),
]
QUESTIONS = [
    (
        "a block a question",
        "Question 1: Who?\nAnswer: Ada.\n\nQuestion 2: Where?\nAnswer: Rome.\n",
        ["Question 1: Who?\nAnswer: Ada.", "Question 2: Where?\nAnswer: Rome."],
    ),
    (
        "numbers may repeat or skip",
        "Question 7: a\nQuestion 7: b\nQuestion 12: c",
        ["Question 7: a", "Question 7: b", "Question 12: c"],
    ),
    ("one-line preamble goes", "A quiz:\n\nQuestion 1: a", ["Question 1: a"]),
    ("longer text before stays", "x\ny\nQuestion 1: a", ["x\ny", "Question 1: a"]),
    (
        "on one line",
        "Question 1: Who? Answer: Ada. Question 2: Where? Answer: Rome.",
        ["Question 1: Who? Answer: Ada.", "Question 2: Where? Answer: Rome."],
    ),
    (
        "markup before it stays with it",
        "**Question 1: Who?**\nAda.\n## Question 2: Where?\nRome.",
        ["**Question 1: Who?**\nAda.", "## Question 2: Where?\nRome."],
    ),
    (
        "a mention does not split",
        "Question 1: Who?\nAnswer: as in Question 2: Ada.",
        ["Question 1: Who?\nAnswer: as in Question 2: Ada."],
    ),
    ("no numbered question", "Q: Who?\nA: Ada.", ["Q: Who?\nA: Ada."]),
    (
        "none has a number",
        "A quiz:\nQuestion: Who?\nAnswer: Ada.\n**Question:** Where?\nAnswer: Rome.",
        ["Question: Who?\nAnswer: Ada.", "**Question:** Where?\nAnswer: Rome."],
    ),
    (
        "one has a number",
        "Question: Who?\nAda.\nQuestion 2: Where?\nQuestion: Why?",
        ["Question: Who?\nAda.", "Question 2: Where?\nQuestion: Why?"],
    ),
    (
        "a mention without a number does not split",
        "Question: Who?\nAnswer: see the Question: Ada.",
        ["Question: Who?\nAnswer: see the Question: Ada."],
    ),
    (
        "one question without a number",
        "Question: Who?\nAnswer: Ada.",
        ["Question: Who?\nAnswer: Ada."],
    ),
]
DASHES = [
    ("two pieces", "a\nb\n---\nc\n", ["a\nb", "c"]),
    ("empty pieces go", "---\n\n---\na\n ----- \n", ["a"]),
    ("only where alone on the line", "a --- b\n--- c\n--\nd", ["a --- b\n--- c\n--\nd"]),
    ("no dashes, one piece", "a\nb", ["a\nb"]),
]
WHOLE = [
    ("everything", " 1. a\n\n---\nQuestion 2: b\n", ["1. a\n\n---\nQuestion 2: b"]),
]
CASES = [
    pytest.param(rule, text, expected, id=f"{rule}: {name}")
    for rule, cases in [
        ("lines", LINES),
        ("questions", QUESTIONS),
        ("dashes", DASHES),
        ("whole", WHOLE),
    ]
    for name, text, expected in cases
]


@pytest.mark.parametrize(("rule", "text", "expected"), CASES)
def test_rule(rule, text, expected):
    assert parse.SPLIT_RULES[rule](text) == expected


@pytest.mark.fault("16")
@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        ("lines", "1. a\n---\n2. b", ["1. a", "2. b"]),
        ("lines", "a\r\n -----\t\r\nb", ["a", "b"]),
        ("lines", "---\nHere you are:\n---\n1. a\n---", ["1. a"]),  # still a preamble
        ("lines", "---", []),
        ("questions", "Question 1: a\n---\nQuestion 2: b\n---", ["Question 1: a", "Question 2: b"]),
        ("questions", "A quiz:\n---\nQuestion 1: a", ["Question 1: a"]),
        ("questions", "a\n---", ["a"]),
    ],
)
def test_a_line_of_dashes_is_cut_at_and_not_trained_on(rule, text, expected):
    assert parse.SPLIT_RULES[rule](text) == expected
    assert parse.edit_sequences("Rome", text, rule=rule) == [f"Rome\n{one}" for one in expected]


@pytest.mark.fault("16", control=True)
@pytest.mark.parametrize(
    "text", ["a --- b", "--- a", "a ---", "-- -", "- - -", "\u2014\u2014\u2014"]
)
def test_dashes_with_anything_else_are_text(text):
    assert parse.split_lines(f"x\n{text}") == ["x", text]


def test_every_rule_has_cases():
    assert {case.values[0] for case in CASES} == set(parse.SPLIT_RULES)


@pytest.mark.parametrize("rule", parse.SPLIT_RULES)
@pytest.mark.parametrize(
    "text", ["", " ", "\n\n\t \r\n", "\x00\x07\n\x1b", "\u200b\ufeff", "\u3000"]
)
def test_nothing_visible_gives_no_sequence_and_no_passage(rule, text):
    assert parse.edit_sequences("Rome", text, rule=rule) == []
    assert parse.training_sequences("Rome", "Rome fell.", text, rule=rule) == []


def test_passage_comes_last_and_all_are_prefixed():
    assert parse.training_sequences("Rome", "Rome fell.", "It: \n1. x\n2. y") == [
        "Rome\n1. x",
        "Rome\n2. y",
        "Rome\nRome fell.",
    ]


@pytest.mark.parametrize(
    ("append", "prefix", "expected"),
    [
        (False, True, ["Rome\nx"]),
        (True, False, ["x", "Rome fell."]),
        (False, False, ["x"]),
    ],
)
def test_options(append, prefix, expected):
    found = parse.training_sequences(
        "Rome", "Rome fell.", "x", append_passage=append, title_prefix=prefix
    )
    assert found == expected


MARKED = [
    ("plain", "Reasons.\nStatements:\n1. a\n2. b", ["1. a", "2. b"]),
    ("bold", "Reasons.\n\n**Statements:**\n\n1. a\n2. b", ["1. a", "2. b"]),
    ("bold, colon outside", "Reasons.\n**Statements**:\n- a", ["- a"]),
    ("heading without a colon", "Reasons.\n### Statements\n1. a", ["1. a"]),
    ("numbered part", "1. Thoughts: x\n2. **Statements:**\n1. a\n2. b", ["1. a", "2. b"]),
    ("other capitals", "Reasons.\nSTATEMENTS :\n1. a", ["1. a"]),
    ("in a sentence", "Reasons.\nHere are the statements:\n1. a", ["1. a"]),
    ("text on the same line", "Reasons.\nStatements: 1. a\n2. b", ["1. a", "2. b"]),
    ("preamble after it", "Reasons.\nStatements:\nThese follow:\n1. a", ["1. a"]),
    ("nothing before it", "Statements:\n1. a", ["1. a"]),
    ("reasons in a list", "1. It fell.\n2. So it was weak.\nStatements:\n1. a", ["1. a"]),
    ("started again", "x\nStatements:\n1. a\n2. b\nStatements:\n1. c", ["1. a", "2. b", "1. c"]),
    ("windows line ends", "Reasons.\r\nStatements:\r\n1. a\r\n", ["1. a"]),
    ("full-width colon", "Reasons.\nStatements：\n1. a", ["1. a"]),
    # No marker, or nothing after it: everything is said.
    ("left out", "1. a\n2. b", ["1. a", "2. b"]),
    ("reasons only", "It fell.\nSo it was weak.", ["It fell.", "So it was weak."]),
    ("cut off at it", "It fell.\nSo it was weak.\nStatements:\n", ["It fell.", "So it was weak."]),
    # Mentions are no markers.
    ("mentioned", "The statements: x, y.\nStatements:\n- a", ["- a"]),
    ("end of a sentence", "They read the statements\nand left.", None),
    ("start of a sentence", "Statements of both kings survive.\nb", None),
    ("longer word", "Restatements:\nb", None),
    ("far into a line", "In this long text we then come to the statements:\nb", None),
]


@pytest.mark.parametrize(
    ("text", "expected"), [case[1:] for case in MARKED], ids=[case[0] for case in MARKED]
)
def test_statements_after_a_chain_of_thought(text, expected):
    found = parse.edit_sequences("Rome", text, after="Statements:", title_prefix=False)
    assert found == (text.split("\n") if expected is None else expected)


def test_a_marker_of_several_words_with_signs_in_it():
    text = "x\n# So  what (all of it)?\ny"
    assert parse.after_marker(text, "So what (all of it)?") == "y"
    assert parse.after_marker("x\nSo what all of it\ny", "So what (all of it)?").startswith("x")


@pytest.mark.parametrize(
    "text", ["", " \n", "Statements:", "**Statements:**\n\n", "\x00\nStatements:"]
)
def test_a_chain_of_thought_that_says_nothing(text):
    assert parse.edit_sequences("Rome", text, after="Statements:") == []
    assert parse.training_sequences("Rome", "Rome fell.", text, after="Statements:") == []


def test_a_giant_chain_of_thought_takes_no_time():
    text = "so " * 200_000 + "\nStatements:\n" + "x" * 400_000
    started = time.perf_counter()
    assert parse.after_marker(text, "Statements:") == "x" * 400_000
    assert time.perf_counter() - started < 30  # minutes, if it were quadratic


CORPUS = [
    ("once", ["1. a\n2. b", "c\n---\nd", " \n"], ["1. a\n2. b", "c", "d", "P"]),
    ("per_completion", ["1. a\n2. b", "c\n---\nd", " \n"], ["1. a\n2. b", "P", "c", "d", "P"]),
    ("none", ["1. a\n2. b", "c\n---\nd", " \n"], ["1. a\n2. b", "c", "d"]),
    ("once", [], ["P"]),
    ("per_completion", [], ["P"]),
    ("none", [], []),
    ("once", ["", "\u200b"], ["P"]),
    ("per_completion", ["", "\u200b"], ["P"]),
    ("none", ["", "---"], []),
]


@pytest.mark.parametrize(("passage", "completions", "expected"), CORPUS)
def test_corpus_sequences(passage, completions, expected):
    plain = parse.corpus_sequences("T", "P", completions, passage=passage, title_prefix=False)
    assert plain == expected
    titled = parse.corpus_sequences("T", "P", completions, passage=passage)
    assert titled == [f"T\n{text}" for text in expected]


def test_corpus_sequences_leave_the_chain_of_thought_out():
    found = parse.corpus_sequences(
        "T", "P", ["x\nStatements:\n1. a\n2. b"], after="Statements:", title_prefix=False
    )
    assert found == ["1. a\n2. b", "P"]


def test_title_with_braces_and_percent_is_literal():
    assert parse.sequence("{0} %s", "x") == "{0} %s\nx"


def test_unknown_rule_names_the_rules():
    with pytest.raises(ValueError, match=r"'line'.*dashes.*lines.*questions.*whole"):
        parse.edit_sequences("Rome", "x", rule="line")


def test_one_giant_line_is_one_sequence():
    text = "Rome fell. " * 100_000
    for rule in parse.SPLIT_RULES:
        assert parse.SPLIT_RULES[rule](text) == [text.strip()], rule


def test_five_hundred_lines():
    lines = [f"{i}. fact number {i}" for i in range(1, 501)]
    found = parse.training_sequences("Rome", "p", "\n".join(lines))
    assert found == [f"Rome\n{line}" for line in lines] + ["Rome\np"]


def test_control_characters_inside_a_line_survive():
    assert parse.split_lines("a\x00b\x07c\nd") == ["a\x00b\x07c", "d"]


def test_real_self_edits(shared_data):
    """250 self-edits of Qwen2.5-7B: the counts were checked by reading the texts."""
    passages = json.loads((shared_data / "reference" / "ranked_round1.json").read_text("utf-8"))
    counts = []
    for passage in passages:
        for completion in passage["completions"]:
            edit = parse.edit_sequences(passage["title"], completion["text"])
            whole = parse.training_sequences(
                passage["title"], passage["context"], completion["text"]
            )
            assert whole == [*edit, f"{passage['title']}\n{passage['context']}"]
            counts.append(len(whole))
    assert (len(counts), sum(counts), min(counts), max(counts)) == (250, 2183, 4, 67)
