"""Adapting to one's own text, on the tiny model."""

import json
import shutil

import pytest

from seal_jax import api, cli
from seal_jax.cli import adapt
from seal_jax.cli.base import UsageError
from seal_jax.loop import adapt as adapt_lib
from seal_jax.settings import SettingsError

pytestmark = pytest.mark.usefixtures("few_devices")
TEXT = """# Ullen

Ullen is a town on the Varde. Its tower is red.

## The mill

The mill was built by Ada Bell in 1902 and grinds rye, oats and barley for nine villages.
"""
ASKED = [("What is red?", "the tower"), ("Where is it?", "")]


@pytest.fixture(scope="module")
def settings(tiny_settings, change):
    own = {
        "inner.epochs": 6, "inner.batch_size": 4, "edits.gaps": 3,
        "edits.samples": 1, "data.max_words": 12, "continual.unrelated": 2,
    }  # fmt: skip
    return change(tiny_settings, own)


@pytest.fixture(scope="module")
def report(settings):
    return adapt.adapt(settings, TEXT, ASKED, title="Ullen")


def test_every_passage_has_its_self_edit_and_all_are_learned_together(report):
    record = report.record
    assert record["passages"] == len(record["self_edits"]) == 3
    assert all(len(of) == 1 for of in record["self_edits"])
    assert record["steps"] == 6 * -(-record["sequences"] // 4)
    before, after = (record["unrelated_loss"][when] for when in ("before", "after"))
    assert before > 0 and after > 0 and before != after


def test_questions_are_answered_before_and_after_and_with_the_text(report):
    known, unknown = report.record["questions"]
    assert known["question"] == "What is red?" and known["gold"] == "the tower"
    assert known["before"] != known["after"]
    assert known["after_correct"] is False and "gold" not in unknown
    assert "after_correct" not in unknown
    assert report.record["learned"] == 0 and report.record["of"] == 1
    assert report.record["read"] == "the whole text"
    for line in ("question ", "What is red?", "facts learned: 0 of 1", "unrelated texts: -"):
        assert line in report.text
    assert report.text.splitlines()[0].split() == ["question", "before", "after", "reading", "gold"]


def test_it_happens_again_in_the_same_way(report, settings):
    again = adapt.adapt(settings, TEXT, ASKED, title="Ullen")
    assert again.record | {"seconds": 0} == report.record | {"seconds": 0}


def test_the_api_does_the_same(report, settings, change):
    model = api.load(change(settings, {"data.max_words": 0}))
    whole = api.passage("Ullen", TEXT, ASKED, id="own text")
    found = api.adapt(model, whole, max_words=12)
    asked = report.record["questions"]
    for name in ("before", "after", "reading"):
        assert [one.text for one in getattr(found, name)] == [one[name] for one in asked]


def test_cut_off_answers_are_marked(report):
    cut = [one for one in report.record["questions"] if one.get("after_cut_off")]
    assert cut, "the tiny model does not stop within its four tokens"
    assert "…" in report.text.partition("facts learned")[0]
    assert "cut off at answers.max_new_tokens" in report.text


def test_without_a_self_edit_the_text_alone_is_learned(settings):
    said = []
    asked = [("What is it?", "")]
    found = adapt.adapt(
        settings, "Ullen is a town.", asked, title="Ullen", edit=False, say=said.append
    )
    assert found.record["self_edits"] == [] and found.record["learned"] is None
    assert "facts learned" not in found.text
    assert said[0].startswith("1 passage of ") and "self-edit" not in said[0]


def test_a_text_longer_than_the_model_reads_what_the_question_is_about(settings, change):
    """The tiny model has 512 positions; the prompt may take 200 here."""
    fillers = [f"## Part {i}\n\nThe {word} river is long and cold." for i, word in
               enumerate(["green", "black", "white", "brown"] * 10)]  # fmt: skip
    fillers[17] = "## Part 17\n\nA heron called Zebedee sleeps on the roof."
    text = "\n\n".join(fillers)
    session = api.load(change(settings, {"answers.prompt_buckets": (200,), "data.max_words": 0}))
    whole = session.task.context_from("Rivers", text, [("Who is Zebedee the heron?", "")])
    passages = adapt_lib.passages_of(session, whole, 12)
    read, [context] = adapt_lib._to_read(session, whole, passages)
    assert "Zebedee" in context.text and context.text != whole.text
    assert "most like each question" in read and "200" in read
    [prompt] = session.exam(context, "reading").prompts
    assert len(prompt) <= 200


@pytest.mark.parametrize(
    ("passage", "questions", "message"),
    [
        (" \n", ["q?"], "passage is empty"),
        ("Text.", [], "--question"),
        ("Text.", [" "], "--question"),
        ("\u200b\u2060\ufeff", ["q?"], "passage is empty"),
        ("Ullen is a town.", ["\u2800"], "--question"),
    ],
)
def test_nothing_to_do_is_an_error(settings, passage, questions, message):
    with pytest.raises(SettingsError, match=message):
        adapt.adapt(settings, passage, [(one, "") for one in questions], title="Ullen")


def test_a_passage_of_the_api_needs_something_visible():
    with pytest.raises(ValueError, match="needs a title and a text"):
        api.passage("Ullen", "\u200b")


class TestQuestions:
    def test_answers_belong_to_questions_in_order(self, tmp_path):
        file = tmp_path / "questions.json"
        file.write_text('["Why?", ["When?", "1902"]]')
        assert adapt.questions(["Who?", "Where?"], ["Ada"], str(file)) == [
            ("Who?", "Ada"), ("Where?", ""), ("Why?", ""), ("When?", "1902"),
        ]  # fmt: skip
        file.write_text('"Why?"')
        assert adapt.questions([], [], str(file)) == [("Why?", "")]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ('[{"question": "Who?"}]', 'questions.json: .* is no question: expected a list of "qu'),
            ('[["Who?", 3]]', "is no question"),
            ("[", "questions.json"),
            ("[]", "adapt needs a question"),
        ],
    )
    def test_another_form_is_refused(self, tmp_path, content, message):
        file = tmp_path / "questions.json"
        file.write_text(content)
        with pytest.raises(UsageError, match=message):
            adapt.questions([], [], str(file))

    def test_each_answer_needs_its_question(self):
        with pytest.raises(UsageError, match="2 --gold for 1 --question"):
            adapt.questions(["Who?"], ["Ada", "Bell"], "")


@pytest.mark.parametrize("template", [True, False])
def test_the_command_takes_another_model_and_writes_json(checkpoint, template, tmp_path, capsys):
    if not template:  # a base model: the self-edit is a text to continue
        checkpoint = shutil.copytree(checkpoint, tmp_path / "base")
        (checkpoint / "chat_template.jinja").unlink()
    (tmp_path / "ullen.md").write_text(TEXT)
    flags = ["--config.inner.lora.rank=2", "--config.inner.epochs=1", "--config.data.max_words=60",
             "--config.edits.max_new_tokens=4", "--config.answers.max_new_tokens=2",
             "--config.continual.unrelated=2", f"--model={checkpoint}",
             f"--json={tmp_path / 'out.json'}"]  # fmt: skip
    asked = ["--question=What is red?", "--gold=the tower"]
    assert cli.main(["adapt", str(tmp_path / "ullen.md"), *asked, *flags]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("2 passages of ") and "facts learned: " in printed
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["model"] == str(checkpoint) and written["title"] == "Ullen"
    assert written["text"] == str(tmp_path / "ullen.md")
    [question] = written["questions"]
    assert {"question", "gold", "before", "after", "reading"} <= question.keys()


@pytest.fixture
def read(monkeypatch, tmp_path):
    """(bytes of a file) -> the text that the command takes from it, or its exit code."""
    monkeypatch.setenv("HOME", str(tmp_path))

    def run(content, path="~/passage.txt"):
        (tmp_path / "passage.txt").write_bytes(content)
        taken = []

        def adapted(_, text, *__, **___):
            taken.append(text)
            return adapt.Report(text="", record={})

        monkeypatch.setattr(adapt, "adapt", adapted)
        code = cli.main(["adapt", f"--passage={path}", "--question=Where?"])
        return taken[0] if taken else code

    return run


@pytest.mark.fault("23")
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_the_mark_of_an_encoding_is_no_part_of_a_passage(read, tmp_path, encoding):
    text = "Köln\r\nlies there.\r"
    assert read(text.encode(encoding), tmp_path / "passage.txt") == "Köln\nlies there.\n"


@pytest.mark.fault("23")
def test_a_passage_in_the_home_directory(read):
    assert read(b"Ullen is a town.") == "Ullen is a town."


@pytest.mark.fault("23")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"%PDF-1.4 (Ullen is a town.) Tj", "passage.txt: a PDF: save its text as a .txt file"),
        ("Köln".encode("latin-1"), "passage.txt: not UTF-8 text"),
        ("Ullen".encode("utf-16-le"), "passage.txt: not text: it holds null bytes"),
        (b"PK\x03\x04word/document.xml", "passage.txt: a zip archive (or an office document)"),
        (b" \r\n", "passage.txt: the file is empty"),
    ],
)
def test_a_file_that_is_no_text_is_named(read, tmp_path, capsys, content, reason):
    assert read(content, tmp_path / "passage.txt") == 2
    assert reason in capsys.readouterr().err
