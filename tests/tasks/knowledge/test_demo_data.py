"""The demo passages: form, size, questions that stand alone, and files that share nothing."""

import calendar
import contextlib
import hashlib
import importlib.resources
import itertools
import json
import re

import pytest
from knowledge_tasks import knowledge_task

from configs import continual, knowledge
from seal_jax.settings import config_dict
from seal_jax.tasks.knowledge import squad
from seal_jax.tasks.knowledge.task import KnowledgeTask
from seal_jax.tasks.splits import DataError

CONTEXTS = {"train": 24, "eval": 12, "confirm": 12, "reserve": 12}
# A passage that is changed after it was run, or because of a run, confirms nothing.
SHA256 = {
    "confirm": "3f825473ee6c186135c003e049b252a28817d61a382bede6af4002c4ed8ed6ac",
    "reserve": "a25a188affa1d639132402e32b8fc80b9a35251e5af4455d4ce1074f4b5a1594",
}
# Capitalised words that two passages may share, because they name nothing invented.
MONTHS_AND_DAYS = {name.lower() for name in [*calendar.month_name, *calendar.day_name]}


def read(split):
    data = importlib.resources.files("seal_jax") / "tasks" / "knowledge" / "data"
    return json.loads((data / f"demo_{split}.json").read_text(encoding="utf-8"))


def words(text):
    """Lower-case words and numbers; a hyphen or an apostrophe does not end a word."""
    return re.findall(r"[^\W_]+(?:['-][^\W_]+)*", text.lower())


def contains(text, phrase):
    """Whether `phrase` occurs in `text` word for word."""
    inside, wanted = words(text), words(phrase)
    return any(inside[i : i + len(wanted)] == wanted for i in range(len(inside)))


def title_names(title):
    """The capitalised words of a title: its invented name, and "Bridge" or "Comet" beside it."""
    return {word.lower() for word in title.split() if word[0].isupper()} - {"the"}


def inner_names(context):
    """Capitalised words that do not open a sentence."""
    found = re.findall(r"(?<![.!?]\s)(?<!\A)\b[A-Z][^\W\d_]+", context)
    return {word.lower() for word in found} - MONTHS_AND_DAYS


ARTICLES = {split: read(split)["data"] for split in CONTEXTS}
EVERY_ARTICLE = [article for articles in ARTICLES.values() for article in articles]
PASSAGES = [
    pytest.param(article["title"], passage["context"], passage["qas"], id=article["title"])
    for article in EVERY_ARTICLE
    for passage in article["paragraphs"]
]


@pytest.mark.parametrize("split", CONTEXTS)
def test_squad_form(split):
    file = read(split)
    assert set(file) == {"version", "data"}
    assert file["version"] == "1.1"
    for article in file["data"]:
        assert set(article) == {"title", "paragraphs"}
        for passage in article["paragraphs"]:
            assert set(passage) == {"context", "qas"}
            for qa in passage["qas"]:
                assert set(qa) == {"id", "question", "answers"}
                assert [set(answer) for answer in qa["answers"]] == [{"text", "answer_start"}]


@pytest.mark.parametrize(("split", "count"), CONTEXTS.items())
def test_one_passage_an_article(split, count):
    assert [len(article["paragraphs"]) for article in ARTICLES[split]] == [1] * count


@pytest.mark.parametrize(("title", "context", "qas"), PASSAGES)
def test_lengths(title, context, qas):
    assert 70 <= len(context.split()) <= 120
    assert 4 <= len(qas) <= 5
    assert context == " ".join(context.split())


@pytest.mark.parametrize(("title", "context", "qas"), PASSAGES)
def test_answers_are_whole_word_spans(title, context, qas):
    for qa in qas:
        (answer,) = qa["answers"]
        start, end = answer["answer_start"], answer["answer_start"] + len(answer["text"])
        assert context[start:end] == answer["text"]
        assert not re.search(r"[\w-]\Z", context[:start]), "the span starts inside a word"
        assert not re.match(r"[\w-]", context[end:]), "the span ends inside a word"
        assert 1 <= len(answer["text"].split()) <= 5


@pytest.mark.parametrize(("title", "context", "qas"), PASSAGES)
def test_no_question_or_title_gives_an_answer_away(title, context, qas):
    answers = [qa["answers"][0]["text"] for qa in qas]
    assert len({answer.lower() for answer in answers}) == len(answers)
    for answer in answers:
        assert not contains(title, answer)
        for qa in qas:
            assert not contains(qa["question"], answer), qa["question"]


@pytest.mark.parametrize(("title", "context", "qas"), PASSAGES)
def test_every_question_names_its_subject(title, context, qas):
    for qa in qas:
        assert qa["question"].endswith("?")
        for name in title_names(title):
            assert re.search(rf"\b{name}", qa["question"].lower()), qa["question"]


def test_ids_are_unique():
    ids = [qa["id"] for a in EVERY_ARTICLE for p in a["paragraphs"] for qa in p["qas"]]
    assert len(set(ids)) == len(ids)


def test_titles_are_distinct_within_and_between_the_files():
    titles = [article["title"].lower() for article in EVERY_ARTICLE]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(("here", "there"), [*itertools.permutations(CONTEXTS, 2)])
def test_no_title_name_crosses_the_split(here, there):
    names = set().union(*(title_names(article["title"]) for article in ARTICLES[here]))
    text = json.dumps(ARTICLES[there], ensure_ascii=False).lower()
    assert [name for name in sorted(names) if re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize(("here", "there"), [*itertools.combinations(CONTEXTS, 2)])
def test_no_answer_is_in_two_files(here, there):
    one, other = (
        {
            qa["answers"][0]["text"].lower()
            for article in ARTICLES[split]
            for passage in article["paragraphs"]
            for qa in passage["qas"]
        }
        for split in (here, there)
    )
    assert not one & other


def test_no_two_passages_share_an_invented_name():
    named = [
        (article["title"], inner_names(passage["context"]) | title_names(article["title"]))
        for article in EVERY_ARTICLE
        for passage in article["paragraphs"]
    ]
    assert all(names for _, names in named)
    for (title, names), (other_title, other_names) in itertools.combinations(named, 2):
        assert not names & other_names, f"{title} and {other_title}"


@pytest.mark.parametrize(("split", "expected"), SHA256.items())
def test_the_passages_that_are_held_back_are_as_they_were_written(split, expected):
    data = importlib.resources.files("seal_jax") / "tasks" / "knowledge" / "data"
    assert hashlib.sha256((data / f"demo_{split}.json").read_bytes()).hexdigest() == expected


@pytest.fixture
def opened(monkeypatch):
    """The names of the packaged files that have been read, in order."""
    names, load = [], squad.load

    def recorded(file, *args, **kwargs):
        names.append(file.name)
        return load(file, *args, **kwargs)

    monkeypatch.setattr(squad, "load", recorded)
    return names


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(module.get_config(variant), id=f"{module.__name__}:{variant}")
        for module in (knowledge, continual)
        for variant in module.VARIANTS
    ],
)
def test_no_config_opens_what_is_held_back(config, opened):
    with contextlib.suppress(DataError):  # "paper" is a part of another file
        KnowledgeTask(config_dict.from_config(config)).development()
    assert set(opened) == {"demo_train.json", "demo_eval.json"}


@pytest.mark.parametrize("split", SHA256)
def test_what_is_held_back_is_asked_for_by_name(split, opened):
    task = knowledge_task(eval_path=f"demo:{split}")
    assert opened == ["demo_train.json", f"demo_{split}.json"]
    titles = [article["title"] for article in ARTICLES[split]]
    assert [context.title for context in task.contexts("eval")] == titles


@pytest.mark.parametrize(
    ("key", "path"),
    [("eval_path", "demo:"), ("eval_path", "demo:comfirm"), ("train_path", "demo:confirm")],
)
def test_other_names_of_demo_passages_are_refused(key, path):
    with pytest.raises(DataError, match=rf"data\.{key}={path}: .*only data\.eval_path takes"):
        knowledge_task(**{key: path})
