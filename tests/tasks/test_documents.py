"""Text and Markdown files of one's own: what is read of them, and how they are split."""

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from seal_jax.tasks import documents
from seal_jax.tasks.documents import Part
from seal_jax.tasks.splits import DataError
from seal_jax.tasks.texts import is_blank

TEXT = "# Öre\n\nThe tower fell.\n"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode("utf-8-sig"),
    ],
)
def test_text_files_as_people_have_them(tmp_path, content):
    path = tmp_path / "my.md"
    path.write_bytes(content)
    assert documents.read(path) == TEXT


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("Müller".encode("latin-1"), "not UTF-8 text .*line 1.*save it as UTF-8"),
        (TEXT.encode("utf-16-le"), "null bytes.*save it as UTF-8"),
        (b"%PDF-1.4\n\xd0\xd4", "a PDF: save its text as a .txt file"),
        (b"PK\x03\x04word/document.xml", "office document.*save its text"),
        (b"{\\rtf1\\ansi Rome fell.}", "rich text: save it as plain text"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not text: it holds null bytes"),
        (b"\xef\xbb\xbf \r\n\t", "the file is empty: give one with some text"),
        (b"", "the file is empty"),
    ],
)
def test_files_without_text_are_named(tmp_path, content, says):
    path = tmp_path / "my.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"my\.txt: .*{says}"):
        documents.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.txt: cannot read .*a text or Markdown file"):
        documents.read(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# A\n\nx\n\n## B\n", "A"),
        ("A\n=\nx\n", "red tower"),  # too short an underline
        ("The A\n=====\nx\n", "The A"),
        ("x\n\n# A\n", "red tower"),  # not what all of it is about
        ("# A\n\n# B\n", "red tower"),
        ("```\n# A\n```\n", "red tower"),
        ("---\ndate: 2024\ntitle: 'My tower'\n---\n# A\n", "My tower"),
        ("---\ndate: 2024\n---\n\n# A\n", "A"),
        ("#hashtag\n", "red tower"),
    ],
)
def test_titles_come_from_headings_or_names(text, title):
    assert documents.title_of(text, "some/red_tower.md") == title


def test_headings_lead_to_their_parts():
    text = (
        "before\n\n# Harbour\n\nIt is old.\n\n## Ships ##\n\nTen.\n\n### Sails\n\nRed.\n\n"
        "## Empty\n\n## Outer\n\n### Inner\n\nx\n\n## Tides\n\nLow\nand high.\n\n"
        "People\n------\n\nFew.\n"
    )
    assert documents.split(text, "Harbour", 50) == [
        Part("Harbour", "before"),
        Part("Harbour", "It is old."),
        Part("Harbour: Ships", "Ten."),
        Part("Harbour: Ships: Sails", "Red."),
        Part("Harbour", "Empty"),
        Part("Harbour: Outer: Inner", "x"),
        Part("Harbour: Tides", "Low\nand high."),
        Part("Harbour: People", "Few."),
    ]
    assert documents.split(text, "My notes", 50)[2].title == "My notes: Harbour: Ships"


def test_paragraphs_stay_whole_and_parts_are_about_equally_long():
    paragraphs = [f"{'word ' * 8}{name}." for name in "abcde"]
    parts = documents.split("\n\n\n".join(paragraphs), "T", 30)  # 45 words: 2 parts
    assert [part.text for part in parts] == [
        "\n\n\n".join(paragraphs[:3]), "\n\n\n".join(paragraphs[3:])
    ]  # fmt: skip


def test_long_paragraphs_are_cut_after_sentences():
    text = 'Dr. J. Smith paid 3.5 crowns, e.g. for "Ada". She left! Why? “Nobody knows.” It is so.'
    first, rest = [part.text for part in documents.split(text, "T", 9)]
    assert first == 'Dr. J. Smith paid 3.5 crowns, e.g. for "Ada".'
    parts = [part.text for part in documents.split(rest, "T", 3)]
    assert parts == ["She left! Why?", "“Nobody knows.”", "It is so."]


def test_a_text_without_sentences_is_cut_after_words():
    words = [f"w{i}" for i in range(25)]
    parts = documents.split(" ".join(words), "T", 10)
    assert [part.text.split() for part in parts] == [words[:10], words[10:20], words[20:]]


def test_scripts_without_spaces_are_cut_too():
    parts = [part.text for part in documents.split("塔倒了。没人知道。" + "塔" * 12, "T", 5)]
    assert parts == ["塔倒了。", "没人知道。", "塔" * 5, "塔" * 5, "塔" * 2]
    assert documents.count("x" * 31) == 2


def test_code_lists_and_tables_are_cut_between_lines():
    code = "```python\n# no heading\n\nx = 1. Then y\n```"
    assert documents.split(f"Code:\n{code}\nAfter.", "T", 50) == [
        Part("T", f"Code:\n{code}\nAfter.")
    ]
    assert [part.text for part in documents.split(f"Code:\n{code}\nAfter.", "T", 8)] == [
        "Code:\n```python\n# no heading",
        "x = 1. Then y\n```",
        "After.",
    ]
    table = "| ship | year |\n|---|---|\n| A. B | 1900 |\n| C | 1901 |"
    assert [part.text for part in documents.split(table, "T", 6)] == [
        "| ship | year |\n|---|---|", "| A. B | 1900 |", "| C | 1901 |"
    ]  # fmt: skip
    items = "1. One ship.\n   It is red.\n2. Another.\n- a third"
    assert [part.text for part in documents.split(items, "T", 7)] == [
        "1. One ship.\n   It is red.",
        "2. Another.\n- a third",
    ]


_LINES = st.sampled_from(
    ["```", "~~~", "- item a", "| a | b |", "", "", "  ", "x" * 70, "A b. C d e f! g", "\tcode",
     "1. 塔倒了。没人知道", "\u2028 sep\x0c", "e" + "\u0301" * 40]
)  # fmt: skip
_HEADINGS = st.builds("{} h{}h".format, st.sampled_from(["#", "##", "###"]), st.integers(0, 9))
_NAME = re.compile(r"#|h\d+h")


def _visible(text):
    return "".join(c for c in text if not is_blank(c))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(_LINES | _HEADINGS | st.text(max_size=40), max_size=25).map("\n".join),
    st.sampled_from(["T", "h1h"]),
    st.integers(1, 12),
)
def test_nothing_is_lost_and_every_part_fits(text, title, max_words):
    assume(not re.search(r"^\s*(==|--)", text, re.M))  # underlines of headings that are not named
    parts = documents.split(text, title, max_words)
    assert not any(is_blank(part.text) for part in parts)
    assert all(documents.count(part.text) <= max_words for part in parts)
    texts = "".join(part.text for part in parts)
    titles = "".join(part.title for part in parts)
    assert _NAME.sub("", _visible(texts)) == _NAME.sub("", _visible(text))
    assert {*re.findall(r"h\d+h", text)} <= {*re.findall(r"h\d+h", titles + texts)}
