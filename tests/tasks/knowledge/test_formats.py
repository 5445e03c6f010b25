"""The forms in which people have passages and questions, and files that are none of them."""

import json

import pytest
from knowledge_tasks import knowledge_task

from seal_jax.tasks import splits
from seal_jax.tasks.knowledge import squad
from seal_jax.tasks.protocol import Question

fault = pytest.mark.fault


def _row(id, question, *answers, title="Old_Rome", context="Rome fell."):
    """A question as Hugging Face's SQuAD has it."""
    golds = {"text": list(answers), "answer_start": [0] * len(answers)}
    row = {"id": id, "title": title, "context": context, "question": question, "answers": golds}
    return {key: value for key, value in row.items() if value is not None}


ROWS = [
    _row("1", "Who?", "Ada", "Ada L."),
    _row("2", "When?", "476"),
    _row("3", "Where?", "Oslo", title="Oslo", context="Oslo is cold."),
    _row("4", "What?", "It", context="It burnt."),
    _row("5", "Why?", "War"),  # of the first passage again
    _row("6", "How?"),  # SQuAD 2.0's impossible ones have no answers there
]
SEAL = [
    {
        "title": "Old_Rome",
        "context": "Rome fell.",
        "questions": [{"question": "Who?", "answer": "Ada"}, {"question": "?", "answer": " "}],
        "completions": ["not read"],
    }
]


def _squad(*qas, title="Rome", **more):
    return {
        "version": "v2.0",
        "data": [{"title": title, "paragraphs": [{"context": "Rome fell.", "qas": list(qas)}]}],
        **more,
    }


def _qa(id, **more):
    return {"id": id, "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}], **more}


def _written(tmp_path, value, name="data.json", encoding="utf-8"):
    text = value if isinstance(value, str) else json.dumps(value)
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def _lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@fault("25")
@pytest.mark.parametrize(
    ("content", "name"),
    [(ROWS, "list.json"), (_lines(ROWS), "lines.jsonl"), (_lines(ROWS), "by_to_json.json"),
     ({"data": ROWS}, "data.json")],
)  # fmt: skip
def test_rows_of_hugging_face(tmp_path, content, name):
    contexts, skipped = squad.load(_written(tmp_path, content, name))
    assert [(c.title, c.text, [q.id for q in c.questions]) for c in contexts] == [
        ("Old Rome", "Rome fell.", ["1", "2", "5"]),
        ("Oslo", "Oslo is cold.", ["3"]),
        ("Old Rome", "It burnt.", ["4"]),
    ]
    assert contexts[0].questions[0] == Question("1", "Who?", "Ada")
    assert contexts[0].questions[0].golds == ("Ada", "Ada L.")
    assert [part.reason for part in skipped] == ["the question has no answer"]
    # The same passages in SQuAD's own form are the same contexts.
    assert contexts[0].id.startswith("old-rome-000-") and contexts[2].id.startswith("old-rome-001-")


@fault("25")
def test_one_row_is_a_file_of_lines_too(tmp_path):
    [context], _ = squad.load(_written(tmp_path, _lines(ROWS[:1]), "one.jsonl"))
    assert context.questions == (Question("1", "Who?", "Ada"),)


@fault("25")
@pytest.mark.parametrize("content", [SEAL, _lines(SEAL), {"data": SEAL}, SEAL[0]])
def test_the_list_of_seal_itself(tmp_path, content):
    [context], skipped = squad.load(_written(tmp_path, content))
    assert (context.title, context.text) == ("Old Rome", "Rome fell.")
    assert context.questions == (Question(f"{context.id}-q0", "Who?", "Ada"),)
    assert [part.reason for part in skipped] == ["the question has no answer"]


@fault("25")
def test_impossible_questions_of_squad_2_are_not_asked(tmp_path):
    plausible = {"plausible_answers": [{"text": "Ida", "answer_start": 0}]}
    document = _squad(
        _qa("1", is_impossible=False),
        {**_qa("2", is_impossible=True, **plausible), "answers": []},
        _qa("3", is_impossible=True),
    )
    [context], skipped = squad.load(_written(tmp_path, document))
    assert [question.id for question in context.questions] == ["1"]
    assert [part.reason for part in skipped] == ["the question is marked as impossible"] * 2


@fault("25")
def test_ids_that_are_numbers_or_repeated(tmp_path):
    document = _squad(_qa(7), _qa(7), _qa(None), _qa("7-2"))
    document["data"].append(
        {"title": "Oslo", "paragraphs": [{"context": "Cold.", "qas": [_qa("7")]}]}
    )
    first, second = squad.load(_written(tmp_path, document))[0]
    ids = [question.id for question in (*first.questions, *second.questions)]
    assert ids == ["7", "7-2", f"{first.id}-q2", "7-2-2", "7-3"]


@fault("25")
@pytest.mark.parametrize("title", [None, " _ ", ""])
def test_without_a_title_the_first_words_are_one(tmp_path, title):
    text = "The Osk is a long river of the north, and it is cold."
    rows = [_row(i, "Who?", "Ada", title=title, context=text) for i in range(2)]
    [context], _ = squad.load(_written(tmp_path, rows))
    assert context.title == "The Osk is a long river of the"
    assert len(context.questions) == 2
    article = _squad(_qa("1"), title=title)
    [context], _ = squad.load(_written(tmp_path, article))
    assert context.title == "Rome fell."


@fault("25")
def test_passages_without_a_title_share_no_article(tmp_path):
    files = {
        name: _written(tmp_path, [_row(i, "Who?", "Ada", title=None, context=f"{name} {i} fell.")
                                  for i in range(3)], f"{name}.json")
        for name in ("train_path", "eval_path")
    }  # fmt: skip
    task = knowledge_task(**files)
    every = [*task.contexts("train"), *task.contexts("eval")]
    assert len({context.group for context in every}) == 6


@fault("S16")
@pytest.mark.parametrize(
    "text",
    [
        '{"data": [], "data": []}',
        '{"data": [{"title": "R", "title": "S", "paragraphs": []}]}',
        '[{"context": "x", "question": "?", "answers": {"text": ["a"], "text": ["b"]}}]',
        '{"context": "x", "question": "?", "answers": {"text": []}}\n{"id": 1, "id": 2}',
    ],
)
def test_an_object_with_a_key_twice_is_refused(tmp_path, text):
    with pytest.raises(splits.DataError, match=r"data\.json.*has the key '\w+' twice"):
        squad.load(_written(tmp_path, text))


@fault("S6")
@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"data": ' + '{"a": ' * 100_000,
        '{"data": ' + "[" * 500 + "]" * 500 + "}",
        '{"data": []}\n' + "[" * 100_000,
    ],
)
def test_what_is_nested_too_deeply_is_refused(tmp_path, text):
    with pytest.raises(splits.DataError, match=r"data\.json.*nested more than 100 deep"):
        squad.load(_written(tmp_path, text))


@fault("S6")
def test_a_number_of_too_many_digits_is_refused(tmp_path):
    with pytest.raises(splits.DataError, match=r"data\.json: .*a number with too many digits"):
        squad.load(_written(tmp_path, '{"data": ' + "1" * 5000 + "}"))


@fault("23")
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_unicode_files_with_a_mark_are_read(tmp_path, encoding):
    [context], _ = squad.load(_written(tmp_path, _squad(_qa("1")), encoding=encoding))
    assert context.text == "Rome fell."


@fault("23", control=True)
def test_a_mark_of_utf_8_is_no_text(tmp_path):
    [context], _ = squad.load(_written(tmp_path, _squad(_qa("1")), encoding="utf-8-sig"))
    assert context.text == "Rome fell."


@fault("23")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{\n"title": "Köln"}'.encode("latin-1"), "not UTF-8 text .*, line 2.*iconv -f LATIN1"),
        (json.dumps(_squad()).encode("utf-16-le"), "null bytes, as .* UTF-16 without"),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF: save its text"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"\x1f\x8b\x08\x00rest", "compressed with gzip: unpack it"),
        (b"PAR1rest", "a Parquet file: export it as JSON"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS pointer.*git lfs pull"),
    ],
)  # fmt: skip
def test_files_that_hold_no_text_are_named(tmp_path, content, reason):
    path = tmp_path / "data.json"
    path.write_bytes(content)
    with pytest.raises(splits.DataError, match=rf"data\.json: .*{reason}"):
        squad.load(path)


@fault("23")
@pytest.mark.parametrize("text", ["\u3164\u3164", "\u2800 \n", "\u034f\u200b", "\uffa0\u115f"])
def test_letters_that_show_nothing_are_blank(tmp_path, text):
    """Of which a passage, a question or an answer may be made, like zero-width spaces."""
    rows = [_row("1", "Who?", "Ada", context=text), _row("2", "Who?", text), _row("3", text, "Ada")]
    _, skipped = squad.load(_written(tmp_path, [*rows, *ROWS[:1]]))
    assert {part.reason for part in skipped} == {
        "the passage is empty",
        "the question has no answer",
        "the question is empty",
    }


@fault("23")
def test_the_home_directory_in_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    _written(tmp_path, _squad(_qa("1")), "train.json")
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "mine.chat.txt").write_text("# split: lines\n<{title}> {passage}")
    task = knowledge_task(train_path="~/train.json", prompts_dir="~/prompts", edit_format="mine")
    [context] = task.contexts("train")
    assert task.edit_prompt(context) == "<Rome> Rome fell."


def test_other_lines_of_a_broken_file_are_named(tmp_path):
    text = _lines(ROWS[:2]) + '\n{"id": '
    with pytest.raises(splits.DataError, match=r"data\.json, line 4: not JSON: Expecting value"):
        squad.load(_written(tmp_path, text))


def test_an_answer_that_is_no_text_is_refused(tmp_path):
    for bad, message in (
        ({"answers": {"text": "Ada"}}, r'"text" must be a list'),
        ({"answers": {"text": [5]}}, r'answers\[0\]: "text" must be a string, found 5'),
        ({"answers": None, "answer": 5}, r'"answers" must be a list, found null'),
    ):
        with pytest.raises(splits.DataError, match=rf"\[0\], qas\[0\].*{message}"):
            squad.load(_written(tmp_path, [{"context": "x", "question": "?", **bad}]))
