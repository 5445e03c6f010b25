"""Directories of texts, Markdown and JSON: what becomes a context, and which are held out."""

import json
import pathlib
import re

import pytest
from knowledge_tasks import knowledge_task

from seal_jax.settings import config_dict
from seal_jax.tasks import splits
from seal_jax.tasks.knowledge import files
from seal_jax.tasks.knowledge.task import KnowledgeTask

SQUAD = {
    "data": [
        {
            "title": "Rome",
            "paragraphs": [
                {
                    "context": "Rome fell.",
                    "qas": [
                        {"id": "1", "question": "What fell?", "answers": [{"text": "Rome"}]},
                        {"id": "2", "question": "Who?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ]
}
ROW = {"id": "1", "title": "Oslo", "context": "Oslo is cold.", "question": "What is cold?",
       "answers": {"text": ["Oslo"]}}  # fmt: skip
TOWER = " ".join(f"Stone {i} of the tower fell." for i in range(30))
VIEWED = ROW | {"title": "Bergen", "context": "Bergen is wet.", "question": "What is wet?"}
SEAL = [{"title": "Riga", "context": "Riga is old.",
         "questions": [{"question": "What is old?", "answer": "Riga"}]}]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A directory with one file of each form, and others."""
    files = {
        "harbour_rules.md": "# Harbour\n\nShips come.\n\n## Fees\n\nTen crowns.\n",
        "notes/red_tower.txt": TOWER,
        "rows.jsonl": json.dumps(ROW) + "\n",
        "viewer.json": json.dumps({"rows": [{"row_idx": 0, "row": VIEWED}]}),
        "seal.json": json.dumps(SEAL),
        "squad.json": json.dumps(SQUAD),
        "texts.jsonl": json.dumps({"title": "Lake", "text": "# Depth\n\nIt is deep."}) + "\n",
        "empty.md": "\n",
        "picture.png": "",
        ".hidden.md": "secret",
    }
    for name, text in files.items():
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_text(text)
    return tmp_path / "own"


def _task(**data):
    data = {name: str(of) if name.endswith("_path") else of for name, of in data.items()}
    return KnowledgeTask(config_dict.from_config({"data": data}))


def _every(task):
    return sorted([*task.contexts("train"), *task.contexts("eval")], key=lambda c: c.id)


def test_every_form_in_a_directory(folder):
    task = _task(train_path=folder, questions="policy")
    found = _every(task)
    assert [(c.group, c.title) for c in found] == [
        ("Bergen", "Bergen"), ("Harbour", "Harbour"), ("Harbour", "Harbour: Fees"),
        ("Lake", "Lake: Depth"), ("Oslo", "Oslo"), ("red tower", "red tower"),
        ("red tower", "red tower"), ("Riga", "Riga"), ("Rome", "Rome"),
    ]  # fmt: skip
    assert all(len(context.text.split()) <= 150 for context in found)
    # Questions are written about all of them, so that those of the data are not asked.
    assert not any(context.questions for context in found)
    reasons = splits.count_reasons(task.skipped("train"))
    assert reasons.pop("the question is marked as impossible") == 1
    assert reasons.pop("the file is empty") == 1
    assert list(reasons) == [
        "the file is none of .md, .markdown, .txt, .json, .jsonl (docs/data.md)"
    ]


def test_questions_of_the_files_are_asked(folder):
    task = _task(train_path=folder)
    asked = {c.title: [q.text for q in c.questions] for c in _every(task)}
    assert asked == {
        "Bergen": ["What is wet?"],
        "Oslo": ["What is cold?"],
        "Riga": ["What is old?"],
        "Rome": ["What fell?"],
    }
    ids = [question.id for context in _every(task) for question in context.questions]
    assert len(set(ids)) == 4  # "1" is there three times
    assert splits.count_reasons(task.skipped("train"))["a text has no questions of its own"] == 2


def test_max_words_is_the_length_of_parts(folder):
    task = _task(
        train_path=folder / "notes",
        questions="policy",
        max_words=10,
        eval_path=folder / "seal.json",
    )
    parts = [context.text for context in task.contexts("train")]
    assert " ".join(parts).split() == TOWER.split()
    assert max(len(part.split()) for part in parts) <= 10


def test_a_share_of_the_documents_is_held_out(folder):
    for share, count in ((0.01, 1), (0.5, 4), (0.99, 6)):
        task = _task(train_path=folder, questions="policy", held_out=share)
        sides = [{c.group for c in task.contexts(split)} for split in ("train", "eval")]
        assert len(sides[1]) == count and not sides[0] & sides[1]
        assert sides[0] | sides[1] == {c.group for c in _every(task)}


def test_other_evaluation_data_leaves_all_documents_for_training(folder):
    task = _task(train_path=folder / "harbour_rules.md", eval_path=folder / "seal.json",
                 questions="teacher")  # fmt: skip
    assert [c.title for c in task.contexts("train")] == ["Harbour", "Harbour: Fees"]
    assert [c.title for c in task.contexts("eval")] == ["Riga"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("notes", r"own/notes: no passage with a question.*data\.questions='policy' or 'teacher'"),
        ("harbour_rules.md", r"no passage with a question.*data\.questions='policy'"),
        ("texts.jsonl", r"no passage with a question.*data\.questions='policy'"),
        ("picture.png", r"picture\.png: not JSON.*form of SQuAD.*\.txt and \.md files"),
    ],
)
def test_data_without_questions_is_refused_where_they_are_needed(folder, name, reason):
    with pytest.raises(splits.DataError, match=reason):
        knowledge_task(train_path=folder / name)


def test_a_document_alone_cannot_be_held_out(folder):
    with pytest.raises(splits.DataError, match=r"rules\.md: there is only one.*data\.eval_path"):
        _task(train_path=folder / "harbour_rules.md", questions="policy")


def test_a_file_in_a_directory_that_cannot_be_read_is_named(folder):
    (folder / "notes" / "latin.txt").write_bytes("Köln".encode("latin-1"))
    with pytest.raises(splits.DataError, match=r"notes/latin\.txt: not UTF-8 text"):
        _task(train_path=folder, questions="policy")


def test_a_reward_without_questions_needs_none(folder):
    data = {"train_path": str(folder)}
    reward = {"kind": "length", "replicates": 1}
    task = KnowledgeTask(config_dict.from_config({"data": data, "reward": reward}))
    assert {"Harbour", "red tower", "Rome"} <= {c.group for c in _every(task)}

    # Of what is held out, those with questions are asked, if any has one.
    notes = (folder / "notes").rename(folder.parent / "notes")
    for path, titles in (("texts.jsonl", {"Lake"}), ("", {"Bergen", "Oslo", "Riga", "Rome"})):
        data = {"train_path": str(notes), "eval_path": str(folder / path)}
        task = KnowledgeTask(config_dict.from_config({"data": data, "reward": reward}))
        assert {context.group for context in task.contexts("eval")} == titles


def test_ids_do_not_depend_on_other_files(folder):
    before = {c.id for c in _every(_task(train_path=folder, questions="policy"))}
    (folder / "a_new_one.md").write_text("A new text.")
    (folder / "b_copy.md").write_text("A new text.")  # is left out
    after = {c.id for c in _every(_task(train_path=folder, questions="policy"))}
    assert before < after and len(after) == len(before) + 1


def test_the_forms_in_the_docs_are_read(tmp_path):
    docs = pathlib.Path(__file__).parents[3] / "docs" / "data.md"
    forms = docs.read_text().partition("\n## Forms")[2].partition("\n## The TFDS")[0]
    blocks = re.findall(r"```(\w+)\n(.*?)```", forms, re.S)
    endings = {"text": "txt", "markdown": "md", "json": "jsonl"}
    found = []
    for number, (language, block) in enumerate(blocks):
        path = tmp_path / f"{number}.{endings[language]}"
        path.write_text(block)
        contexts, skipped = files.load(str(path), silent=True)
        found.append((len(contexts), sum(len(c.questions) for c in contexts), len(skipped)))
        assert block.count("\n") >= 5
    assert found == [(1, 0, 0), (2, 0, 0), (5, 0, 0), (3, 4, 1), (1, 1, 1), (1, 2, 0)]
