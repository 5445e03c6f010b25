"""Input that nobody hopes for, through the whole data side: nothing crashes, all is recorded."""

import dataclasses
import json

import cut_lessons
import pytest
from knowledge_tasks import knowledge_task

from seal_jax.judges.local import grade
from seal_jax.runs import json_file
from seal_jax.tasks import splits
from seal_jax.tasks.knowledge import prompt
from seal_jax.tasks.protocol import Refusal

LONG = " ".join(f"word{i}" for i in range(10_000))
SCRIPTS = {
    "東京": "東京は日本の首都で、人口は約1400万人である。",
    "القاهرة": "القاهرة هي عاصمة مصر وتقع على نهر النيل.",
    "दिल्ली": "दिल्ली भारत की राजधानी है।",
    "🗼 Tower": "Zalgo t̷e̵x̶t̸ and a family 👨‍👩‍👧 by the tower.",
}


WRITTEN = [name for name in prompt.edit_formats() if name != "none"]  # formats of self-edits


def _qa(question_id, question="Who?", *answers):
    golds = [{"text": text, "answer_start": 0} for text in answers]
    return {"id": question_id, "question": question, "answers": golds}


def _task(tmp_path, *articles, **options):
    """A task whose training file has these (title, passage, questions)."""
    data = [
        {"title": title, "paragraphs": [{"context": text, "qas": qas}]}
        for title, text, qas in articles
    ]
    train = tmp_path / "train.json"
    train.write_text(json.dumps({"data": data}), encoding="utf-8")
    return knowledge_task(train_path=train, **options)


def _good(number=0):
    return (f"Good {number}", f"Rome {number} fell.", [_qa(f"good{number}", "Who?", "Ada")])


def _places(task):
    return [(part.where.rpartition("/")[2], part.reason) for part in task.skipped("train")]


@pytest.mark.parametrize(
    ("passage", "qas", "reasons"),
    [
        ("", [_qa("1", "Who?", "Ada")], ["the passage is empty"]),
        ("\u0000\u001b\u200b \n", [_qa("1", "Who?", "Ada")], ["the passage is empty"]),
        ("Rome.", [], ["the paragraph has no question that can be graded"]),
        (
            "Rome.",
            [_qa("1"), _qa("2", "Who?", "\u0007"), _qa("3", "\u200b", "Ada")],
            ["the question has no answer"] * 2
            + ["the question is empty", "the paragraph has no question that can be graded"],
        ),
        (
            "Rome.",
            [
                _qa("1", "Who?", "..."),
                _qa("2", "Who?", "。"),
                _qa("3", "Who?", "\u201c \u201d", "Ada"),
            ],
            ["the answer is only punctuation"] * 3
            + ["the paragraph has no question that can be graded"],
        ),
    ],
)
def test_what_cannot_be_used_is_left_out_with_its_reason(tmp_path, passage, qas, reasons):
    task = _task(tmp_path, ("Bad", passage, qas), _good())
    assert [context.title for context in task.contexts("train")] == ["Good 0"]
    assert [reason for _, reason in _places(task)] == reasons
    assert all(place.startswith("train.json: data[0] ('Bad')") for place, _ in _places(task))


@pytest.mark.parametrize("answer", ["+", "50%", "%", "C#", "#", "€", "½", "л", "見"])
def test_answers_that_mean_something_are_kept(tmp_path, answer):
    task = _task(tmp_path, ("Signs", "Some signs.", [_qa("1", "Which?", answer)]))
    (question,) = task.contexts("train")[0].questions
    assert grade.grade(question.answer, f"It is {answer} here").correct
    assert not grade.grade(question.answer, "It is so").correct


@pytest.mark.parametrize("prediction", [".", "...", "?!", "。", "- -"])
def test_predictions_of_punctuation_are_empty_and_wrong(prediction):
    verdict = grade.grade("Rome", prediction)
    assert (verdict.correct, verdict.empty) == (False, True)


def test_repeated_passages_are_used_once(tmp_path):
    twin = ("Other title", " ROME 0  fell.", [_qa("twin", "Who?", "Ida")])
    task = _task(tmp_path, _good(), _good(1), twin)
    first, second = task.contexts("train")
    assert [first.title, second.title] == ["Good 0", "Good 1"]
    ((place, reason),) = _places(task)
    assert place.startswith("other-title-000-") and place.endswith(f" (as {first.id})")
    assert reason == "the passage repeats an earlier one"


def test_a_very_long_passage_is_whole_until_a_limit_leaves_it_out(tmp_path):
    long = ("Long", LONG, [_qa("1", "Which?", "word9")])
    task = _task(tmp_path, long, _good())
    context = task.contexts("train")[0]
    assert (context.text, task.skipped("train")) == (LONG, [])
    assert LONG in task.edit_prompt(context)
    limited = _task(tmp_path, long, _good(), max_words=400)
    assert [c.title for c in limited.contexts("train")] == ["Good 0"]
    assert _places(limited) == [
        (f"{context.id} (10000 words)", "the passage has more words than data.max_words (400)")
    ]
    short = _task(tmp_path, long, _good(), min_words=4)
    assert [c.title for c in short.contexts("train")] == ["Long"]
    assert splits.count_reasons(short.skipped("train")) == {
        "the passage has fewer words than data.min_words (4)": 1
    }


def _tokens(sequences):
    """One token a word."""
    return [list(range(len(sequence.split()))) for sequence in sequences]


@pytest.mark.parametrize("edit_format", WRITTEN)
def test_what_is_cut_off_long_sequences_is_counted(tmp_path, edit_format):
    options = {"edit_format": edit_format}
    task = _task(tmp_path, ("Long", LONG, [_qa("1", "Which?", "word9")]), **options)
    context = task.contexts("train")[0]
    giant = "Rome fell. " * 50_000
    found = cut_lessons.cut(
        _tokens(task.sequences(context, giant)), max_sequences=64, max_tokens=2048
    )
    # The title is a word of both: 100,001 of the edit and 10,001 of the passage.
    assert [len(sequence) for sequence in found.sequences] == [2048, 2048]
    assert (found.dropped_sequences, found.dropped_tokens) == (0, 100_001 + 10_001 - 2 * 2048)


def test_of_too_many_lines_the_first_and_the_passage_stay(tmp_path):
    task = _task(tmp_path, _good())
    context = task.contexts("train")[0]
    sequences = task.sequences(context, "\n".join(f"{i}. fact" for i in range(1, 501)))
    assert len(sequences) == 501
    words = [sequence.split() for sequence in sequences]
    found = cut_lessons.cut(words, max_sequences=64, max_tokens=2048)
    assert (found.dropped_sequences, found.dropped_tokens) == (437, 0)
    assert found.sequences[62] == ("Good", "0", "63.", "fact")
    assert found.sequences[63] == ("Good", "0", "Rome", "0", "fell.")


@pytest.mark.parametrize("self_edit", ["", " \t\r\n\u3000", "\n" * 500, "\u0000\u200b\u2028"])
def test_self_edits_that_say_nothing_take_no_step(tmp_path, self_edit):
    for edit_format in WRITTEN:
        task = _task(tmp_path, _good(), edit_format=edit_format)
        sequences = task.sequences(task.contexts("train")[0], self_edit)
        found = cut_lessons.cut(_tokens(sequences), max_sequences=4, max_tokens=8)
        assert isinstance(found, Refusal) and not found.invalid


def test_other_scripts_come_through_unchanged(tmp_path):
    articles = [(title, text, [_qa(title, f"{title}?", text)]) for title, text in SCRIPTS.items()]
    task = _task(tmp_path, *articles)
    contexts = task.contexts("train")
    assert {context.title: context.text for context in contexts} == SCRIPTS
    assert len({context.id for context in contexts}) == len(SCRIPTS)
    for context in contexts:
        assert context.id.isascii() and "/" not in context.id
        assert context.text in task.edit_prompt(context)
        assert task.sequences(context, context.text) == [f"{context.title}\n{context.text}"] * 2
        assert grade.grade(context.questions[0].answer, f"- {context.text}").correct


def test_control_characters_come_through_and_into_records(tmp_path):
    title, text = "Ro\u0001me\u2028II\n", "NUL \u0000, bell \u0007, escape \u001b[31m.\r\nEnd"
    task = _task(tmp_path, (title, text, [_qa("1", "Which\u0000?", "bell \u0007")]))
    (context,) = task.contexts("train")
    assert (context.title, context.text) == ("Ro\u0001me II", text)
    assert text in task.edit_prompt(context)
    assert task.sequences(context, "a\u0000b\n\u0007\nc") == [
        "Ro\u0001me II\na\u0000b",
        "Ro\u0001me II\nc",
        f"Ro\u0001me II\n{text}",
    ]
    record = json_file.encode(dataclasses.asdict(context))
    assert record.isascii() and json.loads(record)["text"] == text
    assert context.id.isprintable()


def test_parts_of_a_file(tmp_path):
    articles = [_good(number) for number in range(6)]
    halves = [
        {context.title for context in _task(tmp_path, *articles, train_part=part).contexts("train")}
        for part in ("development", "test")
    ]
    assert [len(half) for half in halves] == [3, 3]
    assert halves[0] | halves[1] == {title for title, *_ in articles}
    like = _task(tmp_path, *articles, train_part="like_paper")
    assert "6 passages and 6 questions" in like.difference("train")
    assert like.difference("eval") == ""
    with pytest.raises(splits.DataError, match=r"train\.json: this is not the paper's"):
        _task(tmp_path, *articles, train_part="paper")


def test_one_file_may_be_both_splits_in_halves_but_not_whole(tmp_path):
    _task(tmp_path, *[_good(number) for number in range(6)])
    file = tmp_path / "train.json"
    task = knowledge_task(
        train_path=file, eval_path=file, train_part="development", eval_part="test"
    )
    assert len(task.contexts("train")) == len(task.contexts("eval")) == 3
    with pytest.raises(splits.DataError, match=r"share 6 article\(s\)"):
        knowledge_task(train_path=file, eval_path=file)
    with pytest.raises(splits.DataError, match=r"share 3 article\(s\)"):
        knowledge_task(train_path=file, eval_path=file, eval_part="test")
