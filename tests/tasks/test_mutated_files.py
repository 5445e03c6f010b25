"""Data files with mistakes of every kind: each is read, or refused with a sentence."""

import copy
import json
import random

import pytest

from seal_jax.tasks.arc import arc
from seal_jax.tasks.knowledge import edits_file, squad
from seal_jax.tasks.splits import DataError

SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "R",
            "paragraphs": [
                {
                    "context": "Rome fell.",
                    "qas": [{"id": 1, "question": "Who?", "answers": [{"text": "Ada"}]}],
                }
            ],
        }
    ],
}
ROWS = [
    {"id": "1", "title": "R", "context": "c", "question": "q", "answers": {"text": ["a"]}},
    {"title": "R", "context": "c", "questions": [{"question": "q", "answer": "a"}]},
]
EDITS = [
    {"passage": "c", "title": "R", "questions": ROWS[1]["questions"], "edit": ["x"], "id": "1"},
    {"passage": "d", "title": "S", "questions": [{"question": "q", "answers": ["a"]}], "edit": "y"},
]
PAIR = {"input": [[0, 1]], "output": [[1]]}
TASK = {"train": [PAIR], "test": [PAIR]}
FORMS = [
    (squad.load, SQUAD),
    (squad.load, ROWS),
    (edits_file.read, EDITS),
    (arc.load, TASK),
    (arc.load, {"a": TASK, "b": TASK}),
    (arc.load, [TASK | {"id": 1}, TASK]),
    (arc.load, [PAIR] * 5),
]
VALUES = [None, True, 0, -1, 1e300, 10**30, "", "x", "\ud800", "\u200b", [], {}, [[]], {"text": []}]
NAMES = ("context", "paragraphs", "questions", "answers", "input", "output", "train", "title", "id")


def _places(value, place=()):
    yield place
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _places(value[key], (*place, key))


def _mutated(draw, value):
    value = copy.deepcopy(value)
    for _ in range(draw.randint(1, 3)):
        *parents, last = draw.choice(list(_places(value))) or (None,)
        if last is None:
            continue
        parent = value
        for key in parents:
            parent = parent[key]
        change = draw.random()
        if change < 0.3:
            del parent[last]
        elif change < 0.8 or isinstance(parent, list):
            parent[last] = copy.deepcopy(draw.choice([*VALUES, SQUAD, PAIR, TASK]))
        else:
            parent[draw.choice(NAMES)] = parent[last]
    return value if draw.random() < 0.95 else draw.choice(VALUES)


def _bytes(draw, value):
    text = json.dumps(value)
    if isinstance(value, list) and draw.random() < 0.3:
        text = "\n".join(map(json.dumps, value))
    data = bytearray(text.encode(draw.choice(["utf-8", "utf-8-sig", "utf-16"])))
    if data and draw.random() < 0.2:
        data[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(data)


@pytest.mark.parametrize(
    ("count", "seed"), [(60, 0), pytest.param(4000, 1, marks=pytest.mark.long)]
)
@pytest.mark.parametrize(("load", "value"), FORMS)
def test_a_mistake_is_read_or_refused(tmp_path, load, value, count, seed):
    draw = random.Random(seed)
    refused = 0
    for _ in range(count):
        path = tmp_path / draw.choice(["a.json", "a.jsonl", "challenges.json"])
        path.write_bytes(_bytes(draw, _mutated(draw, value)))
        try:
            assert load(path)
        except DataError as error:
            assert str(error).startswith(str(path))
            refused += 1
    assert count / 5 < refused < count
