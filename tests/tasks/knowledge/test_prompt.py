"""Templates: the package's own, another directory, and every way to get one wrong."""

import pytest

from seal_jax.tasks.knowledge import parse, prompt


def _write(directory, edit="{title} {passage}", question="{title} {question}"):
    (directory / "implications.chat.txt").write_text(edit, encoding="utf-8")
    (directory / "question.chat.txt").write_text(question, encoding="utf-8")
    return directory


@pytest.mark.parametrize("edit_format", prompt.EDIT_FORMATS)
def test_packaged_templates(edit_format):
    prompts = prompt.load_prompts(edit_format)
    edit = prompt.render(prompts.edit, {"title": "<T>", "passage": "<P>"})
    assert edit.count("<T>") == 1
    assert edit.count("<P>") == 1
    assert "{" not in edit
    question = prompt.render(prompts.question, {"title": "<T>", "question": "<Q>"})
    assert question.startswith("Topic: <T>\n<Q>\n")
    assert prompts.split in parse.SPLIT_RULES


def test_formats_ask_for_different_things_and_split_as_they_ask():
    assert {name: prompt.load_prompts(name).split for name in prompt.EDIT_FORMATS} == {
        "implications": "lines",
        "rewrite": "lines",
        "self_qa": "questions",
    }
    assert len({prompt.load_prompts(name).edit for name in prompt.EDIT_FORMATS}) == 3
    assert "Question 1:" in prompt.load_prompts("self_qa").edit


def test_another_directory_replaces_the_packaged_templates(tmp_path):
    _write(tmp_path, "About {title}:\r\n{passage}\n\n", "{question} ({title})\n")
    prompts = prompt.load_prompts("implications", tmp_path)
    assert prompts == prompt.Prompts(
        edit="About {title}:\n{passage}", question="{question} ({title})", split="lines"
    )


@pytest.mark.parametrize(
    "text",
    ["{title}", "{passage}", "{question}", "{", "}}", "{x!r:>10}", "\\1 \\g<0>", "%s $title"],
)
def test_braces_and_escapes_in_values_are_literal(text):
    template = "[{title}|{passage}]"
    assert prompt.render(template, {"title": text, "passage": text}) == f"[{text}|{text}]"


def test_other_braces_in_a_template_are_literal(tmp_path):
    edit = 'Like {"a": {"b": 1}} or {} or {0}: {title} {passage}'
    prompts = prompt.load_prompts("implications", _write(tmp_path, edit))
    assert prompt.render(prompts.edit, {"title": "T", "passage": "P"}) == (
        'Like {"a": {"b": 1}} or {} or {0}: T P'
    )


@pytest.mark.parametrize(
    ("edit", "question", "message"),
    [
        ("{title}", "{title} {question}", r"implications\.chat\.txt.*\{passage\} is missing"),
        ("{passage}", "{title} {question}", r"implications\.chat\.txt.*\{title\} is missing"),
        (
            "{title} {passage} {topic}",
            "",
            r"implications\.chat\.txt.*unknown placeholder \{topic\}",
        ),
        (
            "{title} {passage} {question}",
            "",
            r"implications\.chat\.txt.*unknown placeholder \{question\}",
        ),
        ("{title} {passage} {Title}", "", r"unknown placeholder \{Title\}"),
        ("{title} { passage }", "", r"unknown placeholder \{ passage \}"),
        ("{title} {passage}", "{title}", r"question\.chat\.txt.*\{question\} is missing"),
        ("{title} {passage}", "{question}", r"question\.chat\.txt.*\{title\} is missing"),
        (
            "{title} {passage}",
            "{title} {passage} {question}",
            r"question\.chat\.txt.*unknown placeholder \{passage\}",
        ),
        ("", "{title} {question}", r"implications\.chat\.txt.*missing"),
    ],
)
def test_wrong_placeholders_are_named(tmp_path, edit, question, message):
    with pytest.raises(prompt.PromptError, match=message):
        prompt.load_prompts("implications", _write(tmp_path, edit, question))


def test_missing_file_is_named(tmp_path):
    _write(tmp_path)
    (tmp_path / "question.chat.txt").unlink()
    with pytest.raises(
        prompt.PromptError, match=r"question\.chat\.txt: cannot read.*must hold this file"
    ):
        prompt.load_prompts("implications", tmp_path)


def test_template_that_is_not_utf8(tmp_path):
    (_write(tmp_path) / "implications.chat.txt").write_bytes(b"\xff\xfe{title}")
    with pytest.raises(prompt.PromptError, match="save it as UTF-8"):
        prompt.load_prompts("implications", tmp_path)


def test_unknown_format_names_the_nearest():
    with pytest.raises(prompt.PromptError, match=r"'implication'.*Did you mean 'implications'"):
        prompt.load_prompts("implication")
