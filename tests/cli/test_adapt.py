"""Adapting to one's own text, on the tiny model."""

import pytest

from seal_jax import api, cli
from seal_jax.cli import adapt

pytestmark = pytest.mark.usefixtures("few_devices")


@pytest.fixture(scope="module")
def settings(tiny_settings, change):
    return change(tiny_settings, {"inner.epochs": 6})


def test_adapting_changes_the_answers(settings):
    passage = "Ullen is a town on the Varde. Its tower is red."
    adapted = adapt.adapt(settings, passage, ["What is red?", "Where is it?"], title="Ullen")
    assert len(adapted.before) == len(adapted.after) == 2
    assert adapted.before != adapted.after
    assert adapted.self_edit
    again = adapt.adapt(settings, passage, ["What is red?", "Where is it?"], title="Ullen")
    assert again == adapted


def test_without_a_self_edit_the_passage_alone_is_learned(settings):
    adapted = adapt.adapt(settings, "Ullen is a town.", ["What is it?"], title="Ullen", edit=False)
    assert adapted.self_edit == ""
    assert adapted.before != adapted.after


@pytest.mark.parametrize(
    ("passage", "questions", "message"),
    [
        (" \n", ["q?"], "passage is empty"),
        ("Text.", [], "--question"),
        ("Text.", [" "], "--question"),
    ],
)
def test_nothing_to_do_is_an_error(settings, passage, questions, message):
    with pytest.raises(ValueError, match=message):
        adapt.adapt(settings, passage, questions, title="Ullen")


@pytest.fixture
def read(monkeypatch, tmp_path):
    """(bytes of a file) -> the passage that the command takes from it, or its exit code."""
    monkeypatch.setenv("HOME", str(tmp_path))
    nothing = adapt.Adapted(self_edit="", before=[""], after=[""])

    def run(content, path="~/passage.txt"):
        (tmp_path / "passage.txt").write_bytes(content)
        taken = []

        def adapted(_, passage, *__, **___):
            taken.append(passage)
            return nothing

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
    ],
)
def test_a_file_that_is_no_text_is_named(read, tmp_path, capsys, content, reason):
    assert read(content, tmp_path / "passage.txt") == 2
    assert reason in capsys.readouterr().err


@pytest.mark.fault("23")
@pytest.mark.parametrize("passage", ["\u200b\u2060\ufeff", "\u3164\n", "\u2800"])
def test_a_passage_of_invisible_letters_is_empty(settings, passage):
    with pytest.raises(ValueError, match="passage is empty"):
        adapt.adapt(settings, passage, ["Where?"], title="Ullen")
    with pytest.raises(ValueError, match="--question"):
        adapt.adapt(settings, "Ullen is a town.", [passage], title="Ullen")
    with pytest.raises(ValueError, match="needs a title and a text"):
        api.passage("Ullen", passage)
