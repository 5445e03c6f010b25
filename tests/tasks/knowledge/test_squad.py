"""The SQuAD v1.1 loader: what it keeps, what it skips and why, what it refuses."""

import json

import pytest

from seal_jax.tasks import splits
from seal_jax.tasks.knowledge import squad
from seal_jax.tasks.protocol import Question


def _qa(question_id, question="Who?", *answers):
    golds = answers or ("Ada",)
    return {
        "id": question_id,
        "question": question,
        "answers": [{"text": gold, "answer_start": 0} for gold in golds],
    }


def _article(title, *paragraphs):
    return {
        "title": title,
        "paragraphs": [{"context": text, "qas": list(qas)} for text, *qas in paragraphs],
    }


def _write(path, *articles):
    path.write_text(json.dumps({"version": "1.1", "data": articles}), encoding="utf-8")
    return path


def test_contexts_in_file_order(tmp_path):
    path = _write(
        tmp_path / "a.json",
        _article(
            "Old_ Rome",
            (" Rome {fell}.\n", _qa("1", " Who? ", " Ada ", "Ada L."), _qa("2", "When?", "476")),
            ("It burnt.", _qa("3")),
        ),
        _article("東京", ("It grew.", _qa("4"))),
    )
    contexts, skipped = squad.load(path)
    assert skipped == []
    assert [(c.title, c.text) for c in contexts] == [
        ("Old Rome", "Rome {fell}."),
        ("Old Rome", "It burnt."),
        ("東京", "It grew."),
    ]
    assert contexts[0].questions == (Question("1", "Who?", "Ada"), Question("2", "When?", "476"))
    # sha256 of "Old Rome\nRome {fell}." and so on, first ten digits.
    assert [c.id for c in contexts] == [
        "old-rome-000-1295002f14",
        "old-rome-001-6052575e11",
        "article-000-65e70bfe04",
    ]
    assert squad.load(str(path)) == (contexts, skipped)


def test_questions_keep_all_answers_that_can_be_read(tmp_path):
    path = _write(
        tmp_path / "a.json",
        _article("Rome", ("Fell.", _qa("1", "Who?", "Ada", " ", " A. L. ", "Ada"))),
    )
    ((context,), skipped) = squad.load(path)
    [question] = context.questions
    assert question == Question("1", "Who?", "Ada")
    assert question.golds == ("Ada", "A. L.", "Ada")
    assert skipped == []


def test_ids_do_not_depend_on_other_articles(tmp_path):
    rome = _article("Rome", ("Rome fell.", _qa("1")), ("It burnt.", _qa("2")))
    oslo = _article("Oslo", ("Oslo is cold.", _qa("3")))
    first, _ = squad.load(_write(tmp_path / "a.json", rome, oslo))
    second, _ = squad.load(_write(tmp_path / "b.json", oslo, rome))
    assert [c.id for c in first] == [second[i].id for i in (1, 2, 0)]


def test_passages_of_one_article_stay_apart_even_when_equal_or_listed_in_parts(tmp_path):
    path = _write(
        tmp_path / "a.json",
        _article("Rome", ("Same.", _qa("1")), ("Same.", _qa("2"))),
        _article("Oslo", ("Same.", _qa("3"))),
        _article("Rome", ("Same.", _qa("4"))),
        _article("Rome!", ("Same.", _qa("5"))),
    )
    contexts, _ = squad.load(path)
    assert len({c.id for c in contexts}) == 5


def test_what_is_skipped_and_why(tmp_path):
    path = _write(
        tmp_path / "a.json",
        _article(
            "Rome",
            (" \n", _qa("1")),
            ("No question.",),
            ("Bad questions.", _qa("2", " "), _qa("3", "Who?", " "), {**_qa("4"), "answers": []}),
            ("Half good.", _qa("5", ""), _qa("6", "Where?", "Here")),
        ),
    )
    contexts, skipped = squad.load(path)
    assert [(c.text, [q.id for q in c.questions]) for c in contexts] == [("Half good.", ["6"])]
    assert contexts[0].id.startswith("rome-003-")
    place = f"{path}: data[0] ('Rome'), paragraphs"
    assert [(s.where, s.reason) for s in skipped] == [
        (f"{place}[0]", "the passage is empty"),
        (f"{place}[1]", "the paragraph has no question that can be graded"),
        (f"{place}[2], qas[0]", "the question is empty"),
        (f"{place}[2], qas[1]", "the question has no answer"),
        (f"{place}[2], qas[2]", "the question has no answer"),
        (f"{place}[2]", "the paragraph has no question that can be graded"),
        (f"{place}[3], qas[0]", "the question is empty"),
    ]


def test_missing_question_ids_are_made(tmp_path):
    qa = _qa("x")
    del qa["id"]
    contexts, _ = squad.load(_write(tmp_path / "a.json", _article("Rome", ("Fell.", qa, qa))))
    context = contexts[0]
    assert [q.id for q in context.questions] == [f"{context.id}-q0", f"{context.id}-q1"]


def test_a_question_asked_twice_of_one_paragraph_is_kept_twice(tmp_path):
    path = _write(
        tmp_path / "a.json",
        _article("Rome", ("Fell.", _qa("1"), _qa("2"), _qa("1", "Who?", "Ida"), _qa("1"))),
    )
    contexts, _ = squad.load(path)
    assert [(q.id, q.answer) for q in contexts[0].questions] == [
        ("1", "Ada"),
        ("2", "Ada"),
        ("1-2", "Ida"),
        ("1-3", "Ada"),
    ]


GOOD = {"context": "Fell.", "qas": [_qa("1")]}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "no passage with a question"),
        ("x", r"found 'x'; expected passages in the form of SQuAD"),
        ({"version": "1"}, r'the file: "data" is missing; expected a list .*\[\'version\'\]'),
        ({"data": {}}, r'"data" must be a list, found an object'),
        ({"data": []}, "no passage with a question"),
        ({"data": ["x"]}, r"data\[0\]: found 'x'; expected passages in the form of SQuAD"),
        ({"data": [{"title": 5, "paragraphs": []}]}, r'"title" must be a string, found 5'),
        ({"data": [{"title": "R"}]}, r'data\[0\] \(\'R\'\): "paragraphs" is missing'),
        (
            {"data": [{"title": "R", "paragraphs": [GOOD, {"qas": []}]}]},
            r'\(\'R\'\), paragraphs\[1\]: "context" is missing',
        ),
        (
            {"data": [{"title": "R", "paragraphs": [{"context": 3, "qas": []}]}]},
            r'paragraphs\[0\]: "context" must be a string, found 3',
        ),
        (
            {"data": [{"title": "R", "paragraphs": [{"context": "x"}]}]},
            r'paragraphs\[0\]: "qas" is missing',
        ),
        (
            {"data": [{"title": "R", "paragraphs": [{"context": "x", "qas": [{"id": "1"}]}]}]},
            r'paragraphs\[0\], qas\[0\]: "question" is missing',
        ),
        (
            {
                "data": [
                    {
                        "title": "R",
                        "paragraphs": [
                            {"context": "x", "qas": [{"question": "?", "answers": "a"}]}
                        ],
                    }
                ]
            },
            r"qas\[0\]: \"answers\" must be a list, found 'a'",
        ),
        (
            {
                "data": [
                    {
                        "title": "R",
                        "paragraphs": [
                            {"context": "x", "qas": [{"question": "?", "answers": ["a"]}]}
                        ],
                    }
                ]
            },
            r'answers\[0\]: expected an object with "text"',
        ),
        (
            {"data": [{"title": "R", "paragraphs": [{"context": "x \ud800", "qas": []}]}]},
            r'"context" holds half of a surrogate pair',
        ),
        (
            {"data": [{"title": "R", "paragraphs": [{"context": "", "qas": []}]}]},
            "no passage with a question.*the passage is empty",
        ),
    ],
)
def test_malformed_documents(tmp_path, document, message):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(splits.DataError, match=rf"bad\.json.*{message}"):
        squad.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON: .*line 1, column 1"),
        (b'{"data": []}\n{"data": []}', r"\[0\] .*: \"paragraphs\" is missing"),
        (b'[]\n{"data": []}', "not JSON: Extra data at line 2"),
        (b'{"data": "\xff"}', r"not UTF-8 text \(invalid start byte, line 1\); save it as UTF-8"),
    ],
)
def test_files_that_are_not_json(tmp_path, content, message):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(splits.DataError, match=rf"bad\.json: {message}"):
        squad.load(path)


def test_missing_file_and_directory(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(splits.DataError, match=r"cannot read the file.*Check the path"):
            squad.load(path)


def test_real_files(shared_data):
    train, skipped_train = squad.load(shared_data / "squad" / "squad-v1.1-train.json")
    evaluation, skipped_eval = squad.load(shared_data / "squad" / "squad-v1.1-validation.json")
    assert (skipped_train, skipped_eval) == ([], [])
    counts = [
        (len(split), sum(len(c.questions) for c in split), len({c.title for c in split}))
        for split in (train, evaluation)
    ]
    assert counts == [(943, 5165, 22), (534, 2600, 12)]
    assert len({c.id for c in train + evaluation}) == 943 + 534
    assert len({q.id for c in train + evaluation for q in c.questions}) == 5165 + 2600
    assert train[0].title == "1973 oil crisis"
    splits.check_disjoint(train, evaluation)
