"""Self-distillation: what is asked with the passage, and what is learned without it."""

import dataclasses

import pytest
from knowledge_tasks import knowledge_task

from seal_jax.tasks.knowledge import asking
from seal_jax.tasks.protocol import Context, Lesson, Question, Refusal, Reply, Tell
from seal_jax.tasks.sources import answered

SHIP = Context(
    id="ship",
    title="Ostravelle",
    text="She took slate from Naurim.",
    questions=(Question("q", "CANARY question?", "CANARY answer"),),
)
PORT = Context(id="port", title="Bexholt", text="Bexholt is a port.")
WRITTEN = (
    "Question 1: What did she take?\nAnswer: gold\nQuestion 2: Say it.\nQuestion 3: Who led her?"
)


class Model:
    """Writes the same questions about the ship each time and none about the port; reads them."""

    def __init__(self):
        self.asked, self.told = {}, []

    def __call__(self, request):
        if isinstance(request, Tell):
            return self.told.append(request.line)
        self.asked[request.name] = dict(request.prompts)
        if request.name == "distilled_questions":
            return {key: WRITTEN if "ship" in key else "I am a ship." for key in request.prompts}
        return {key: " " if key.endswith("1: 1") else f"said {key}" for key in request.prompts}


def _reply(task, question, answer):
    asked = Question("", question, "")
    reading = task.reading_query(SHIP, asked)
    return Reply(prompt=task.query(SHIP, asked), answer=answer, reading=reading)


@pytest.mark.parametrize("append", [True, False])
def test_the_reader_s_answers_are_learned_without_the_passage(append):
    """Two lists about a ship; the second answer of the second list is empty, and no lesson."""
    task, model = knowledge_task(append_passage=append), Model()
    found = answered(task.sources["self_distillation"].lessons([SHIP, PORT], 2), model)
    first, second = "What did she take?", "Who led her?"
    passage = ("Ostravelle\nShe took slate from Naurim.",) * append
    taught = [
        [_reply(task, first, "said ship: 0: 0"), _reply(task, second, "said ship: 0: 1")],
        [_reply(task, first, "said ship: 1: 0")],
    ]
    assert found[0] == [Lesson(sequences=(*of, *passage)) for of in taught]
    assert all(isinstance(one, Refusal) and not one.invalid for one in found[1])
    assert model.told == [
        "2 of 4 lists have no question that can be read, such as that of 'port: 0': nothing is "
        "learned of them"
    ]
    # The reader has the passage in its prompts; the learner and nobody else's questions do not.
    reader = model.asked["distilled_answers"]
    assert list(reader) == ["ship: 0: 0", "ship: 0: 1", "ship: 1: 0", "ship: 1: 1"]
    assert all(SHIP.text in one and "CANARY" not in one for one in reader.values())
    assert first in reader["ship: 0: 0"] and second in reader["ship: 0: 1"]
    learned = [one for lesson in found[0] for one in lesson.sequences if isinstance(one, Reply)]
    assert not any(SHIP.text in one.prompt for one in learned)
    assert all(SHIP.text in one.reading for one in learned)


@pytest.mark.parametrize(("passage", "times"), [("once", 1), ("per_completion", 2), ("none", 0)])
def test_one_delta_learns_all_answers(passage, times):
    task = knowledge_task()
    asking_ = task.sources["self_distillation"].together([SHIP, PORT], 2, passage)
    found = answered(asking_, Model())
    assert sum(isinstance(one, Reply) for one in found) == 3
    assert found.count("Ostravelle\nShe took slate from Naurim.") == times
    # Of the port there is nothing but the passage, which then is never left out.
    assert found.count("Bexholt\nBexholt is a port.") == 1


def test_fewer_questions_are_asked_where_data_asks_fewer():
    task = knowledge_task()
    task.settings = dataclasses.replace(
        task.settings, data=dataclasses.replace(task.settings.data, max_questions=1)
    )
    model = Model()
    answered(task.sources["self_distillation"].lessons([SHIP], 1), model)
    assert list(model.asked["distilled_answers"]) == ["ship: 0: 0"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (WRITTEN, ["What did she take?", "Who led her?"]),
        ("Question: Who?\nAnswer: x\nQuestion: Who was?\nQuestion: Who was?", ["Who was?"]),
        (f"Question 1: {'w ' * 39}who?\nQuestion 2: {'w ' * 40}who?", [f"{'w ' * 39}who?"]),
        ("She took slate.", []),
        ("", []),
    ],
)  # fmt: skip
def test_questions_are_read_whatever_their_answers(text, expected):
    assert asking.asked(text) == expected
