"""The knowledge task: the protocol, the limits, and that nothing leaks."""

import inspect
import json

import pytest
from knowledge_tasks import knowledge_task

from seal_jax.tasks.base import Task
from seal_jax.tasks.knowledge import prompt
from seal_jax.tasks.splits import DataError

CANARY = "CANARY"


def _write(path, prefix, words=(3, 5, 8)):
    """Articles with one passage each, and a canary in every question and answer."""
    data = [
        {
            "title": f"{prefix}_{i}",
            "paragraphs": [
                {
                    "context": " ".join(["word"] * n) + ".",
                    "qas": [
                        {
                            "id": f"{prefix}{i}-{k}",
                            "question": f"{CANARY} question {prefix}{i}{k}?",
                            "answers": [{"text": f"{CANARY} answer {i}{k}", "answer_start": 0}],
                        }
                        for k in range(2)
                    ],
                }
            ],
        }
        for i, n in enumerate(words)
    ]
    path.write_text(json.dumps({"version": "1.1", "data": data}), encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path):
    paths = {
        "train_path": _write(tmp_path / "train.json", "Train", (3, 5, 8)),
        "eval_path": _write(tmp_path / "eval.json", "Eval", (4, 6, 9)),
    }
    return paths


def test_its_methods_take_what_the_base_class_says(files):
    task = knowledge_task(**files)
    assert isinstance(task, Task)
    for name, method in inspect.getmembers(Task, inspect.isfunction):
        if not name.startswith("_"):
            expected = list(inspect.signature(method).parameters)[1:]
            assert list(inspect.signature(getattr(task, name)).parameters) == expected, name


def test_contexts_of_each_split_in_file_order(files):
    task = knowledge_task(**files)
    assert [c.title for c in task.contexts("train")] == ["Train 0", "Train 1", "Train 2"]
    assert [c.title for c in task.contexts("eval")] == ["Eval 0", "Eval 1", "Eval 2"]


def test_the_caller_cannot_change_the_task(files):
    task = knowledge_task(**files)
    task.contexts("train").clear()
    assert len(task.contexts("train")) == 3


def test_nothing_leaks(files):
    """Canaries in all questions and answers reach no policy prompt and no training sequence."""
    for edit_format in sorted(set(prompt.edit_formats()) - {"none"}):
        for options in ({}, {"append_passage": False}, {"title_prefix": False}):
            task = knowledge_task(**files, edit_format=edit_format, **options)
            for split in ("train", "eval"):
                for context in task.contexts(split):
                    texts = [
                        task.edit_prompt(context),
                        *task.sequences(context, "1. one\n2. two"),
                        *task.sequences(context, "Question 1: a\nAnswer: b\nQuestion 2: c"),
                        *task.context_sequences(context),
                        *task.read_many(context, ["one", "two\n---\nthree"], "once"),
                    ]
                    assert len(texts) > 3
                    assert not [text for text in texts if CANARY in text]
                    # The canaries are there to be leaked, and the query never has the passage.
                    for question in context.questions:
                        assert CANARY in task.query(context, question)
                        assert CANARY in question.answer
                        assert context.text not in task.query(context, question)
                        assert question.answer not in task.query(context, question)


def test_texts(files):
    task = knowledge_task(**files)
    context = task.contexts("train")[0]
    assert task.edit_prompt(context).count("word word word.") == 1
    assert "Train 0" in task.edit_prompt(context)
    assert task.sequences(context, "List:\n1. a\n2. b") == [
        "Train 0\n1. a",
        "Train 0\n2. b",
        "Train 0\nword word word.",
    ]
    assert task.context_sequences(context) == ["Train 0\nword word word."]
    query = task.query(context, context.questions[1])
    assert query.startswith("Topic: Train 0\nCANARY question Train01?\n")


@pytest.mark.parametrize("self_edit", ["", "  \n\t\n", "\x00\x1b", "\u200b"])
def test_a_self_edit_that_says_nothing_gives_no_sequences(files, self_edit):
    for edit_format in sorted(set(prompt.edit_formats()) - {"none"}):
        task = knowledge_task(**files, edit_format=edit_format)
        assert task.sequences(task.contexts("train")[0], self_edit) == []


def test_the_format_without_a_self_edit(files):
    task = knowledge_task(**files, edit_format="none", append_passage=False)
    context = task.contexts("train")[0]
    assert not task.writes
    assert knowledge_task(**files).writes
    with pytest.raises(prompt.PromptError, match=r"no self-edit to ask for.*prompts\.edit_format"):
        task.edit_prompt(context)
    for self_edit in ("", "1. one\n2. two"):
        assert task.sequences(context, self_edit) == ["Train 0\nword word word."]
        assert task.read_many(context, [self_edit], "once") == ["Train 0\nword word word."]
    assert CANARY in task.query(context, context.questions[0])


def test_chain_of_thought_trains_on_the_statements_only(files):
    task = knowledge_task(**files, edit_format="chain_of_thought", append_passage=False)
    context = task.contexts("train")[0]
    text = "Thoughts: x\n\n**Statements:**\n1. a\n2. b"
    assert task.sequences(context, text) == ["Train 0\n1. a", "Train 0\n2. b"]
    assert task.read_many(context, [text], "none") == ["Train 0\n1. a\n2. b"]


def test_sequences_of_many_passages(files):
    context = knowledge_task(**files).contexts("train")[0]
    texts = ["1. a\n2. b", "c\n---\nd"]
    task = knowledge_task(**files, edit_format="self_qa", append_passage=False, title_prefix=False)
    assert task.read_many(context, texts, "once") == ["1. a\n2. b", "c", "d", "word word word."]
    assert knowledge_task(**files).read_many(context, texts, "per_completion") == [
        "Train 0\n1. a\n2. b",
        "Train 0\nword word word.",
        "Train 0\nc",
        "Train 0\nd",
        "Train 0\nword word word.",
    ]


def test_questions_without_their_topic(files):
    for style in ("chat", "plain"):
        task = knowledge_task(**files, question_style=style, topic_prefix=False)
        context = task.contexts("train")[0]
        query = task.query(context, context.questions[0])
        assert context.title not in query
        assert context.questions[0].text in query


def test_options(files):
    task = knowledge_task(**files, append_passage=False, title_prefix=False, edit_format="self_qa")
    context = task.contexts("train")[0]
    assert task.sequences(context, "Question 1: a\nb\nQuestion 2: c") == [
        "Question 1: a\nb",
        "Question 2: c",
    ]
    assert task.context_sequences(context) == ["word word word."]


def test_limits(files):
    def titles(split, **limits):
        return [c.title for c in knowledge_task(**files, **limits).contexts(split)]

    assert titles("train", max_train=2) == ["Train 0", "Train 1"]
    assert titles("eval", max_train=2) == ["Eval 0", "Eval 1", "Eval 2"]
    assert titles("eval", max_eval=1) == ["Eval 0"]
    assert titles("train", max_train=99) == ["Train 0", "Train 1", "Train 2"]
    assert titles("train", min_words=5, max_words=8) == ["Train 1", "Train 2"]
    assert titles("eval", min_words=5, max_words=8) == ["Eval 1"]
    assert titles("train", min_words=4, max_train=1) == ["Train 1"]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_train": -1}, "data: max_train_contexts must be 0 or more, not -1"),
        ({"max_eval": -1}, "data: max_eval_contexts must be 0 or more, not -1"),
        ({"min_words": -1}, "data: min_words must be 0 or more, not -1"),
        ({"max_words": 1.5}, "data.max_words must be of type int"),
        ({"min_words": True}, "data.min_words must be of type int"),
        ({"min_words": 9, "max_words": 4}, r"min_words \(9\) must not exceed max_words \(4\)"),
        ({"min_words": 10}, "no training passage .* 3 passages have 3 to 8"),
        ({"max_words": 3}, "no evaluation passage .* 3 passages have 4 to 9"),
    ],
)
def test_limits_that_leave_nothing_are_refused(files, limits, message):
    with pytest.raises(ValueError, match=message):
        knowledge_task(**files, **limits)


def test_splits_that_share_an_article_are_refused_even_beyond_the_limits(files, tmp_path):
    both = json.loads(files["eval_path"].read_text("utf-8"))
    extra = json.loads(_write(tmp_path / "x.json", "Train").read_text("utf-8"))["data"][2]
    both["data"].append(extra)
    files["eval_path"].write_text(json.dumps(both), encoding="utf-8")
    with pytest.raises(DataError, match=r"share 1 article.*'Train 2'"):
        knowledge_task(**files, max_train=1, max_eval=1)


def test_what_the_loader_skipped_can_be_asked_for(files):
    document = json.loads(files["train_path"].read_text("utf-8"))
    document["data"][1]["paragraphs"][0]["qas"] = []
    files["train_path"].write_text(json.dumps(document), encoding="utf-8")
    task = knowledge_task(**files)
    assert [s.reason for s in task.skipped("train")] == [
        "the paragraph has no question that can be graded"
    ]
    assert task.skipped("eval") == []


def test_other_templates(files, tmp_path):
    directory = tmp_path / "prompts"
    directory.mkdir()
    (directory / "rewrite.chat.txt").write_text(
        "# split: lines\n<{title}> <{passage}>", encoding="utf-8"
    )
    (directory / "question.chat.txt").write_text("{title}? {question}", encoding="utf-8")
    task = knowledge_task(**files, edit_format="rewrite", prompts_dir=directory)
    context = task.contexts("train")[0]
    assert task.edit_prompt(context) == "<Train 0> <word word word.>"
    assert task.query(context, context.questions[0]) == "Train 0? CANARY question Train00?"


def test_packaged_passages_are_the_default():
    task = knowledge_task()
    assert len(task.contexts("train")) >= 12
    assert len(task.contexts("eval")) >= 12
    assert task.skipped("train") == task.skipped("eval") == []


def test_real_files(shared_data):
    squads = shared_data / "squad"
    task = knowledge_task(
        train_path=squads / "squad-v1.1-train.json",
        eval_path=squads / "squad-v1.1-validation.json",
        max_eval=12,
        min_words=70,
        max_words=120,
    )
    assert len(task.contexts("eval")) == 12
    for context in task.contexts("train") + task.contexts("eval"):
        assert 70 <= len(context.text.split()) <= 120
        assert context.text in task.edit_prompt(context)
        assert task.context_sequences(context) == [f"{context.title}\n{context.text}"]


def test_settings_are_tuned_on_the_other_half_of_the_articles(tmp_path):
    path = _write(tmp_path / "many.json", "Many", (10, 11, 12, 13, 14, 15))
    train = _write(tmp_path / "train.json", "Train")
    task = knowledge_task(train_path=train, eval_path=path, eval_part="test")
    tuned = {context.title for context in task.development()}
    asked = {context.title for context in task.contexts("eval")}
    assert len(tuned) == len(asked) == 3 and not tuned & asked


def test_an_exam_asks_without_the_passage_or_with_it(files):
    task = knowledge_task(**files)
    context = task.contexts("eval")[0]
    for view in ("adapted", "unadapted", "reading"):
        exam = task.exam(context, view)
        put = task.reading_query if view == "reading" else task.query
        assert [(one.id, one.prompt) for one in exam.asked] == [
            (question.id, put(context, question)) for question in context.questions
        ]
        assert [one.gold for one in exam.scored] == [q.answer for q in context.questions]
        assert all((context.text in one.prompt) == (view == "reading") for one in exam.asked)
