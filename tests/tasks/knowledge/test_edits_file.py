"""Texts of named sources about passages: what lines say together, and what is refused."""

import json

import pytest
from knowledge_tasks import knowledge_task

from seal_jax.tasks.knowledge import edits_file, overlap
from seal_jax.tasks.protocol import Verdict
from seal_jax.tasks.splits import DataError

ASKED = [{"question": "What is red?", "answer": "the tower"}]
ROW = {"passage": "The tower is red.", "title": "Ullen", "questions": ASKED, "edit": "It is red."}


@pytest.fixture
def read(tmp_path):
    """(rows) -> what a file of them says; a text is a line as it is."""

    def run(*rows):
        path = tmp_path / "edits.jsonl"
        path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
        return edits_file.read(str(path))

    return run


def test_a_line_is_a_passage_with_questions_and_a_text(read):
    found = read(ROW)
    [context] = found.contexts
    assert (context.title, context.text, context.group) == ("Ullen", "The tower is red.", "Ullen")
    [question] = context.questions
    assert (question.text, question.answer) == ("What is red?", "the tower")
    assert found.sources == {"edit": {context.id: ["It is red."]}} and not found.skipped


def test_lines_about_one_passage_belong_together(read):
    silent = {"passage": " the tower  is RED. ", "title": "ullen"}
    found = read(
        silent | {"source": "gpt", "edit": "a"},
        ROW | {"group": "towns", "source": "seal", "edit": ["b", ""]},
        "",
        silent | {"source": "gpt", "edit": ["c"], "id": "ullen-1"},
    )
    [context] = found.contexts
    assert (context.id, context.group) == ("ullen-1", "towns") and len(context.questions) == 1
    assert found.sources == {"gpt": {"ullen-1": ["a", "c"]}, "seal": {"ullen-1": ["b", ""]}}


def test_passages_without_a_text_of_every_source_are_left_out_and_named(read):
    other = ROW | {"passage": "The mill is old.", "source": "gpt"}
    found = read(ROW | {"source": "gpt"}, ROW | {"source": "seal"}, other)
    assert [context.text for context in found.contexts] == ["The tower is red."]
    [skipped] = found.skipped
    assert skipped.reason == "no text of the source 'seal'" and "line 3 ('Ullen')" in skipped.where
    assert {name: len(of) for name, of in found.sources.items()} == {"gpt": 1, "seal": 1}


@pytest.mark.parametrize(
    ("answers", "golds"),
    [
        ({"answers": ["the tower", "tower"]}, ("the tower", "tower")),
        ({"answers": [{"text": "the tower"}]}, ("the tower",)),
        ({"answers": {"text": ["the tower"]}}, ("the tower",)),
    ],
)
def test_answers_may_be_several(read, answers, golds):
    [context] = read(ROW | {"questions": [{"question": "What is red?"} | answers]}).contexts
    assert context.questions[0].golds == golds


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["{"], "line 1: not JSON"),
        ([ROW, "[]"], "line 2: found a list; expected an object with"),
        (
            [{"title": "x", "edit": "y"}],
            r"line 1: \"passage\" is missing \(found: \['edit', 'title",
        ),
        ([ROW | {"passage": " "}], "line 1: the passage is empty"),
        ([ROW | {"passage": 3}], 'line 1: "passage" is 3'),
        ([ROW | {"edit": []}], 'line 1: "edit" is a list; expected a text, or a list of texts'),
        ([ROW | {"edit": [3]}], 'line 1: "edit" is a list'),
        ([{k: v for k, v in ROW.items() if k != "edit"}], 'line 1: "edit" is missing'),
        ([ROW | {"source": " "}], 'line 1: "source" must be a name of 1 to 40 characters'),
        ([ROW | {"source": "x" * 41}], 'line 1: "source" must be'),
        ([ROW | {"edit": "\ud800"}], "line 1: it holds half of a surrogate pair"),
        ([ROW, ROW | {"questions": ASKED * 2}], "line 2: the questions differ from .* line 1"),
        ([ROW | {"questions": "?"}], "line 1: \"questions\" is '\\?'; expected a list"),
        ([ROW | {"questions": []}], "line 1: no question about the passage can be graded: give"),
        (
            [ROW | {"questions": [{"question": "Who?", "answer": "?"}]}],
            r"line 1: no question .* graded \(the answer is only punctuation\)",
        ),
        ([ROW, ROW | {"group": "a"}, ROW | {"group": "b"}], "line 3: \"group\" is 'b', but 'a'"),
        (
            [ROW | {"id": "a"}, ROW | {"id": "a", "passage": "The mill is old."}],
            "line 2: another passage has the \"id\" 'a', too",
        ),
        (
            [ROW | {"source": "a"}, ROW | {"source": "b", "passage": "The mill is old."}],
            "no passage has a text of every source: no text of the source 'a'",
        ),
        ([""], "no passage has a text of every source"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_line(read, rows, message):
    with pytest.raises(DataError, match=message):
        read(*rows)


@pytest.mark.parametrize("name", ["passage", "teacher", "entity_graph"])
def test_a_source_has_no_name_of_an_arm(tmp_path, name):
    path = tmp_path / "edits.jsonl"
    path.write_text(json.dumps(ROW | {"source": name}))
    with pytest.raises(DataError, match=f"edits.jsonl: the source '{name}' has the name of an arm"):
        knowledge_task(edits=path).sources  # noqa: B018


class TestOfATask:
    @pytest.fixture
    def task(self, tmp_path):
        path = tmp_path / "edits.jsonl"
        rows = [
            ROW | {"passage": f"The tower {i} is red.", "title": f"Ullen {i}", "edit": texts}
            for i, texts in enumerate([["a", "b\nc"], ["d", "e", "f"]])
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return knowledge_task(edits=path)

    def test_as_many_texts_are_learned_of_each_passage(self, task):
        asking = task.sources["edit"].lessons(task.contexts("eval"), 8)
        assert next(asking).line == "the first 2 about each are used, and 1 more left out"
        with pytest.raises(StopIteration) as done:
            asking.send(None)
        lessons = done.value.value
        assert [len(of) for of in lessons] == [2, 2]
        assert lessons[0][1].sequences == (
            "Ullen 0\nb", "Ullen 0\nc", "Ullen 0\nThe tower 0 is red.",
        )  # fmt: skip

    def test_answers_have_the_f1_of_their_words(self, task):
        [context, _] = task.contexts("eval")

        class Deaf:
            name = "deaf"

            def grade(self, answers):
                return [Verdict(correct=False, empty=False) for _ in answers]

        exam = task.exam(context, "adapted")
        [mark] = task.mark([(context, exam, {exam.asked[0].id: "a red tower"})], Deaf())
        assert mark.answers[0]["f1"] == pytest.approx(2 / 3) == mark.scores["f1"]


def test_f1_is_that_of_the_best_gold_answer():
    assert overlap.f1("The Red tower!", ["red tower", "x"]) == 1.0
    assert overlap.f1("a red red tower", ["tower, red"]) == pytest.approx(0.8)
    assert overlap.f1("mill", ["tower"]) == 0.0 and overlap.f1("the", ["a"]) == 1.0
