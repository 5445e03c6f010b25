"""A teacher's completions, from a file and from an endpoint."""

import json

import pytest

from seal_jax.judges import teacher
from seal_jax.judges.teacher import Taught, TeacherError
from seal_jax.settings.endpoint import EndpointSettings

PROMPTS = {"rome-0": "About Rome:\n", "oslo-0": "About Oslo:", "lima-0": "About Lima:"}


@pytest.fixture
def file(tmp_path):
    """(rows or text) -> the path of a file with them."""

    def write(content):
        path = tmp_path / "completions.jsonl"
        if not isinstance(content, bytes):
            if not isinstance(content, str):
                content = "\n".join(map(json.dumps, content))
            content = content.encode()
        path.write_bytes(content)
        return path

    return write


def row(completion, **about):
    return {"completion": completion, **about}


def test_completions_by_context_and_by_prompt(file):
    path = file([
        row("1. It fell.", context="rome-0", model="m"),
        row("1. It is cold.", prompt="About Oslo:\n"),
        row("2. It\u2028burnt.", prompt="About Rome:"),
        row("elsewhere", context="paris-0"),
        row("also elsewhere", prompt="About Paris:"),
        row("half \ud800", context="its own id", prompt="About Lima:"),
    ])  # fmt: skip
    text = path.read_text().replace("\\u2028", "\u2028")  # no end of a line in JSON lines
    path.write_text(f"\ufeff\n{text}\n\n", "utf-8")
    assert teacher.read_completions(path, PROMPTS) == Taught(
        texts={
            "rome-0": ["1. It fell.", "2. It\u2028burnt."],
            "oslo-0": ["1. It is cold."],
            "lima-0": ["half ?"],
        },
        failed={},
    )


@pytest.mark.fault("3")
def test_thoughts_of_a_teacher_are_kept_apart(file, endpoint_server):
    path = file([
        row("<think>Rome?</think>\n1. It fell.", context="rome-0"),
        row("Oslo?\n</think>\n1. It is cold.", context="oslo-0"),
        row("<think>Lima", context="lima-0"),
    ])  # fmt: skip
    found = teacher.read_completions(path, PROMPTS)
    assert found.texts == {"rome-0": ["1. It fell."], "oslo-0": ["1. It is cold."], "lima-0": [""]}
    assert found.thoughts == {"rome-0": ["Rome?"], "oslo-0": ["Oslo?"], "lima-0": ["Lima"]}
    cut = endpoint_server.completion("<think>Oslo?</think>It is", finish_reason="length")
    endpoint_server.script["About Oslo:"] = [(200, cut)]
    settings = EndpointSettings(base_url=endpoint_server.url, model="t", attempts=1)
    asked = teacher.ask_teacher(settings, {"oslo-0": "About Oslo:"})
    assert asked.texts == {"oslo-0": ["It is"]} and asked.cut_off == ["oslo-0"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'a'}", "not JSON"),
        ('["text"]', 'expected an object with "completion"'),
        ('{"completion": "x"}', 'either "context"'),
        ('{"context": "rome-0"}', '"completion" is missing'),
        ('{"context": "rome-0", "completion": null}', '"completion" is NoneType'),
        ('{"context": 3, "completion": "x"}', '"context" is int'),
        ('{"context": "rome-0", "prompt": [], "completion": "x"}', '"prompt" is list'),
    ],
)
def test_a_wrong_line_is_named(file, line, message):
    path = file(f"{json.dumps(row('x', context='rome-0'))}\n\n{line}\n")
    with pytest.raises(TeacherError, match=message) as caught:
        teacher.read_completions(path, PROMPTS)
    assert f"{path}, line 3: " in str(caught.value)
    assert "(what the teacher was asked)" in str(caught.value)


def test_missing_contexts_are_named_together(file):
    prompts = {f"c{i}": f"p{i}" for i in range(9)}
    path = file([row("x", context="c1"), row("y", context="other"), row("z", context="c1")])
    message = (
        "1 of 9 contexts have a completion among its 3 lines; none is about "
        "'c0', 'c2', 'c3', 'c4', 'c5' and 3 more"
    )
    with pytest.raises(TeacherError, match=message):
        teacher.read_completions(path, prompts)
    with pytest.raises(TeacherError, match=r"0 of 1 contexts .* 0 lines; none is about 'c0'. Add"):
        teacher.read_completions(file(""), {"c0": "p0"})


@pytest.mark.fault("23")
def test_a_file_of_another_encoding_with_a_mark_is_read(file):
    path = file(json.dumps(row("It fell.", context="c0")).encode("utf-16"))
    assert teacher.read_completions(path, {"c0": "p0"}).texts == {"c0": ["It fell."]}


def test_a_file_that_cannot_be_read(file, tmp_path):
    with pytest.raises(TeacherError, match=r"cannot read the file .*Check the path"):
        teacher.read_completions(tmp_path / "absent.jsonl", PROMPTS)
    with pytest.raises(TeacherError, match="not UTF-8"):
        teacher.read_completions(file(b'{"completion": "\xff"}'), PROMPTS)


def test_asking_an_endpoint(endpoint_server, tmp_path):
    settings = EndpointSettings(
        base_url=endpoint_server.url, model="m", concurrency=1, cache_dir=str(tmp_path)
    )
    prompts = {"a": "about a", "b": "about b"}
    endpoint_server.script = {"about b": ["B", (400, "")]}
    found = teacher.ask_teacher(settings, prompts, samples=2, system="Teach.")
    assert found == Taught(
        texts={"a": ["about a #1", "about a #2"], "b": ["B"]}, failed={"b": ["status 400"]}
    )
    endpoint_server.script = {}
    seen = []
    again = teacher.ask_teacher(settings, prompts, samples=3, system="Teach.", report=seen.append)
    assert again.texts["a"][:2] == ["about a #1", "about a #2"]
    assert [len(texts) for texts in again.texts.values()] == [3, 3] and not again.failed
    assert sum(completion.cached for completion in seen) == 3
    assert len(endpoint_server.requests) == 7
    assert endpoint_server.requests[0][1]["messages"][0] == {"role": "system", "content": "Teach."}
