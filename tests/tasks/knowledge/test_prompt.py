"""Templates: the package's own, another directory, and every way to get one wrong."""

import pytest

from seal_jax.tasks.knowledge import prompt


def _write(directory, edit="{title} {passage}", question="{title}\n{question}", header="lines"):
    head = f"# split: {header}\n" if header else ""
    (directory / "implications.chat.txt").write_text(head + edit, encoding="utf-8")
    (directory / "question.chat.txt").write_text(question, encoding="utf-8")
    return directory


FORMATS = {
    "implications": ("lines", None),
    "implications_long": ("lines", None),
    "implications_very_long": ("lines", None),
    "rewrite": ("lines", None),
    "self_qa": ("questions", None),
    "chain_of_thought": ("lines", "Statements:"),
    "study": ("lines", "Notes:"),
    "none": ("none", None),
}


def test_the_packaged_formats():
    assert prompt.edit_formats() == sorted(FORMATS)


@pytest.mark.parametrize("style", ["chat", "plain"])
@pytest.mark.parametrize("edit_format", FORMATS)
def test_packaged_templates(edit_format, style):
    prompts = prompt.load_prompts(edit_format, edit_style=style, question_style=style)
    assert (prompts.split, prompts.after) == FORMATS[edit_format]
    assert prompts.writes == (edit_format != "none")
    if not prompts.writes:
        assert prompts.edit == ""
        return
    edit = prompt.render(prompts.edit, {"title": "<T>", "passage": "<P>"})
    assert edit.count("<T>") >= 1
    assert edit.count("<P>") == 1
    assert "{" not in edit
    assert not edit.startswith("#")
    if prompts.after:
        assert prompts.after in edit  # the prompt asks for the line that the parser looks for
    if prompts.split == "questions":
        assert "Question 1:" in edit


@pytest.mark.parametrize("style", ["chat", "plain"])
def test_formats_ask_for_different_things(style):
    texts = {prompt.load_prompts(name, edit_style=style).edit for name in FORMATS}
    assert len(texts) == len(FORMATS)


def test_the_two_forms_of_a_format_differ_and_so_do_the_questions():
    for name in set(FORMATS) - {"none"}:
        chat, plain = (
            prompt.load_prompts(name, edit_style=style, question_style=style)
            for style in ("chat", "plain")
        )
        assert chat.edit != plain.edit, name
        assert chat.question != plain.question


@pytest.mark.parametrize(
    ("style", "topic_prefix", "expected"),
    [
        ("chat", True, "Topic: <T>\n<Q>\nGive only the answer, in a few words."),
        ("chat", False, "<Q>\nGive only the answer, in a few words."),
        ("plain", True, "Topic: <T>\nQuestion: <Q>\nAnswer:"),
        ("plain", False, "Question: <Q>\nAnswer:"),
    ],
)
def test_the_topic_of_a_question_can_be_left_out(style, topic_prefix, expected):
    prompts = prompt.load_prompts("implications", question_style=style, topic_prefix=topic_prefix)
    found = prompt.render(prompts.question, {"title": "<T>", "question": "<Q>"})
    assert found == expected


def test_a_topic_on_the_line_of_the_question_cannot_be_left_out(tmp_path):
    _write(tmp_path, question="About {title}: {question}")
    prompt.load_prompts("implications", tmp_path)
    with pytest.raises(prompt.PromptError, match=r"question\.chat\.txt.*line of its own"):
        prompt.load_prompts("implications", tmp_path, topic_prefix=False)


def test_another_directory_goes_before_the_packaged_templates(tmp_path):
    _write(tmp_path, "About {title}:\r\n{passage}\n\n", "{question} ({title})\n")
    prompts = prompt.load_prompts("implications", tmp_path)
    assert prompts == prompt.Prompts(
        edit="About {title}:\n{passage}", question="{question} ({title})", split="lines"
    )
    assert prompt.load_prompts("rewrite", tmp_path).edit == prompt.load_prompts("rewrite").edit


def test_a_new_format_is_a_new_file(tmp_path):
    (tmp_path / "riddles.chat.txt").write_text(
        "# split: dashes\n# after:  The riddles\n\n# Riddles on {title}\n\n{passage}\n", "utf-8"
    )
    prompts = prompt.load_prompts("riddles", tmp_path)
    assert prompts.edit == "# Riddles on {title}\n\n{passage}"
    assert (prompts.split, prompts.after) == ("dashes", "The riddles")
    assert prompts.question == prompt.load_prompts("implications").question
    assert prompt.edit_formats(tmp_path) == sorted([*FORMATS, "riddles"])


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path):
    (tmp_path / "mine.chat.txt").write_text("# split: lines\n{title} {passage}", "utf-8-sig")
    assert prompt.load_prompts("mine", tmp_path).edit == "{title} {passage}"
    assert "mine" in prompt.edit_formats(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{title} {passage}", r"mine\.chat\.txt: the header is missing.*'# split: RULE'.*lines"),
        ("\n# split: lines\n{title} {passage}", "the header is missing"),
        ("# after: X\n{title} {passage}", "the header is missing"),
        ("# split: line\n{title} {passage}", r"'# split: line'; expected one of lines.*'lines'\?"),
        ("# split:\n{title} {passage}", r"unknown rule in '# split: '"),
        ("# rule: lines\n{title} {passage}", r"'rule' is no key.*one of split, after"),
        ("# split: lines\n# Notes\n{title} {passage}", r"'# Notes' is no key.*empty line before"),
        ("# split: lines\n# split: whole\n{title} {passage}", "gives 'split' twice"),
        ("# split: lines\n# after: :\n{title} {passage}", "'# after:' names no line"),
        ("# split: none\n{title} {passage}", "asks for nothing; remove"),
        ("# split: none\n# after: X", "asks for nothing; remove"),
        ("# split: lines\n", r"mine\.chat\.txt.*missing"),
        ("", "the header is missing"),
    ],
)
def test_wrong_headers_are_named(tmp_path, text, message):
    (tmp_path / "mine.chat.txt").write_text(text, encoding="utf-8")
    with pytest.raises(prompt.PromptError, match=message):
        prompt.load_prompts("mine", tmp_path)


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
        ("", "{title} {question}", r"implications\.chat\.txt.*\{passage\} is missing"),
    ],
)
def test_wrong_placeholders_are_named(tmp_path, edit, question, message):
    with pytest.raises(prompt.PromptError, match=message):
        prompt.load_prompts("implications", _write(tmp_path, edit, question))


def test_the_wrong_style_of_a_file_is_no_reason_to_take_the_packages(tmp_path):
    _write(tmp_path)
    with pytest.raises(
        prompt.PromptError, match=r"needs question\.plain\.txt.*only question\.chat\.txt"
    ):
        prompt.load_prompts("implications", tmp_path, question_style="plain")
    (tmp_path / "mine.txt").write_text("# split: lines\n{title} {passage}", encoding="utf-8")
    with pytest.raises(prompt.PromptError, match=r"needs mine\.chat\.txt.*only mine\.txt"):
        prompt.load_prompts("mine", tmp_path)


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(prompt.PromptError, match=r"nowhere: there is no such directory"):
        prompt.load_prompts("implications", tmp_path / "nowhere")


def test_a_template_that_cannot_be_read(tmp_path):
    (tmp_path / "implications.chat.txt").mkdir()
    with pytest.raises(prompt.PromptError, match=r"implications\.chat\.txt: cannot read"):
        prompt.load_prompts("implications", tmp_path)


def test_template_that_is_not_utf8(tmp_path):
    (_write(tmp_path) / "implications.chat.txt").write_bytes(b"\xff\xfe{title}")
    with pytest.raises(prompt.PromptError, match="save it as UTF-8"):
        prompt.load_prompts("implications", tmp_path)


def test_unknown_format_names_the_nearest(tmp_path):
    with pytest.raises(
        prompt.PromptError, match=r"'implication'.*in the package.*Did you mean 'implications'"
    ):
        prompt.load_prompts("implication")
    _write(tmp_path).joinpath("mine.chat.txt").write_text("# split: lines\n", encoding="utf-8")
    with pytest.raises(prompt.PromptError, match=r"'mines'.*or the package.*'mine'\?"):
        prompt.load_prompts("mines", tmp_path)


@pytest.mark.parametrize("name", ["../question", "", ".", "a/b", "../templates/implications"])
def test_a_format_is_a_name_and_no_path(name, tmp_path):
    with pytest.raises(prompt.PromptError, match="unknown edit format"):
        prompt.load_prompts(name, tmp_path)


def test_the_question_is_no_edit_format():
    with pytest.raises(prompt.PromptError, match="the header is missing"):
        prompt.load_prompts("question")


def test_unknown_style():
    with pytest.raises(prompt.PromptError, match="'base'; expected one of chat, plain"):
        prompt.load_prompts("implications", edit_style="base")


def test_templates_without_a_header(tmp_path):
    (tmp_path / "judge.txt").write_text("# {passage}\n", encoding="utf-8")
    assert prompt.load_template("judge", frozenset({"passage"}), tmp_path) == "# {passage}"
    with pytest.raises(prompt.PromptError, match=r"judge\.txt: unknown placeholder \{passage\}"):
        prompt.load_template("judge", frozenset({"title"}), tmp_path)
    with pytest.raises(prompt.PromptError, match=r"unknown template 'judges\.txt'"):
        prompt.load_template("judges", frozenset({"passage"}), tmp_path)
