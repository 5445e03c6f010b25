"""No text of data, models or files reaches the terminal with its control characters."""

import ast
import io
import json
import logging
import pathlib
import re
import sys
import types

import pytest

import seal_jax
from seal_jax import cli
from seal_jax.cli import adapt
from seal_jax.loop.adapt import Answer
from seal_jax.loop.run import Run
from seal_jax.reports import analysis_table, compare_table, draw
from seal_jax.runtime import hosts, interruption, terminal
from seal_jax.runtime.progress import Progress
from seal_jax.tasks.protocol import Context, Question

# Turns the screen red, renames the window, clears the screen by 8-bit codes, hides what follows.
EVIL = "\x1b[31mred\x1b]0;title\x07 \x9b2J\r over\b\x7f \u202etxt"
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def _clean(text):
    """Whether a text was printed and holds nothing that a terminal obeys."""
    return "red" in text and not HIDDEN.search(text)


@pytest.mark.fault("S13")
def test_everything_but_text_is_spelled_out():
    assert terminal.visible("a\tb\nc é 漢 🙂") == "a\tb\nc é 漢 🙂"
    assert terminal.visible("a\r\nb") == "a\nb"
    assert terminal.visible("\x1b\x9b\x7f\ud800\u2028") == r"\u001b\u009b\u007f\ud800\u2028"
    every = "".join(map(chr, range(0x300))) + "\ud83d\udc00"
    shown = terminal.visible(every)
    assert not HIDDEN.search(shown)
    shown.encode()


@pytest.mark.fault("S13", control=True)
def test_json_stays_the_same_json():
    value = {"text": EVIL + '"\\'}
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert json.loads(terminal.visible(text)) == value


@pytest.mark.fault("S13")
def test_no_text_fails_for_the_streams_encoding():
    for encoding in ("ascii", "latin-1", "utf-8"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        terminal.say("é 漢 \ud800", file=stream)
        assert stream.buffer.getvalue().decode(encoding).endswith("\\ud800\n")


@pytest.mark.fault("S13")
def test_only_one_place_prints():
    """Whatever else prints would pass its texts by."""
    package = pathlib.Path(seal_jax.__file__).parent
    found = [
        f"{path.relative_to(package)}:{node.lineno}"
        for path in sorted(package.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and (
            getattr(node.func, "id", "") == "print"
            or ast.unparse(node.func) in ("sys.stdout.write", "sys.stderr.write")
        )
    ]
    assert [place.split(":")[0] for place in found] == [
        "runtime/terminal.py",
        "weights/demo_model.py",  # a path of our own
    ]


@pytest.mark.fault("S13")
def test_what_adapt_says(tmp_path, monkeypatch, capsys):
    answers = {name: [Answer(EVIL, True, False)] for name in ("before", "after", "reading")}
    found = types.SimpleNamespace(**answers)
    whole = Context("c", "t", "x", (Question("q", EVIL, EVIL),))

    def adapted(*_, say, **named):
        say(EVIL)
        return adapt.Report(text=adapt._table(found, whole), record={})

    monkeypatch.setattr(adapt, "adapt", adapted)
    (tmp_path / "passage.txt").write_text("A passage.")
    arguments = [f"--passage={tmp_path}/passage.txt", f"--question={EVIL}", f"--out={tmp_path}/x"]
    assert cli.main(["adapt", *arguments]) == 0
    printed = capsys.readouterr().out
    assert _clean(printed) and printed.count(r"\u001b[31mred") == 6


@pytest.mark.fault("S13")
def test_what_a_run_says(capsys):
    Run.say(types.SimpleNamespace(quiet=False), f"self-edit of 'x':\n{EVIL}")
    assert _clean(capsys.readouterr().out)


@pytest.mark.fault("S13")
@pytest.mark.parametrize("is_terminal", [False, True])
def test_lines_of_progress(is_terminal):
    stream = io.StringIO()
    stream.isatty = lambda: is_terminal
    with Progress(2, f"stage {EVIL}", stream=stream) as progress:
        progress.update(2, last=EVIL)
    shown = stream.getvalue()
    if is_terminal:  # the bar itself returns to the start of its line
        shown = shown.replace("\r", "").replace("\x1b[A", "")
    assert _clean(shown)


@pytest.mark.fault("S13")
@pytest.mark.parametrize(
    "arguments",
    [
        ["report", f"--workdir={EVIL}"],
        ["compare", EVIL, "b"],
        ["analyze", EVIL],
        ["select", f"--scored={EVIL}"],
        ["draw", f"--workdir={EVIL}", "--task=a", "--out=b.png"],
        pytest.param([EVIL], marks=pytest.mark.fault("S13", control=True)),
        pytest.param(["report", EVIL], marks=pytest.mark.fault("S13", control=True)),
    ],
)
def test_errors(arguments, capsys):
    assert cli.main(arguments) == 2
    assert _clean(capsys.readouterr().err)


@pytest.mark.fault("S13")
def test_what_is_picked_and_what_is_not(tmp_path, capsys):
    stats = {"adapter_mean": 1.0, "baseline_mean": 0.0}
    document = [
        {"title": EVIL, "prompt": EVIL, "completions": [{"text": EVIL, "stats": stats}]},
        {"title": EVIL, "prompt": "p", "completions": [{"text": EVIL}]},
    ]
    path = tmp_path / "scored.json"
    path.write_text(json.dumps(document))
    assert cli.main(["select", f"--scored={path}"]) == 0
    printed = capsys.readouterr()
    assert _clean(printed.out) and _clean(printed.err)
    assert json.loads(printed.out) == {"prompt": EVIL, "completion": EVIL}


@pytest.mark.fault("S13")
@pytest.mark.parametrize(
    ("command", "module", "name"),
    [
        (["analyze", "a"], analysis_table, "table"),
        (["compare", "a", "b"], compare_table, "table"),
        (["draw", "--workdir=a", "--task=b", "--out=c"], draw, "draw"),
    ],
)
def test_tables_and_lines_of_reports(command, module, name, monkeypatch, capsys):
    from seal_jax.reports import analyze, compare

    monkeypatch.setattr(analyze, "analyze", lambda *given, **named: {})
    monkeypatch.setattr(compare, "compare", lambda *given, **named: {})
    monkeypatch.setattr(module, name, lambda *given, **named: f"a {EVIL} b")
    assert cli.main(command) == 0
    assert _clean(capsys.readouterr().out)


@pytest.mark.fault("S13")
def test_warnings_and_ends(monkeypatch, capfd):
    assert cli.main(["--help"]) == 0  # which sets up the logs
    record = logging.LogRecord("root", logging.WARNING, "x.py", 1, "%s is gone", (EVIL,), None)
    stream = io.StringIO()
    monkeypatch.setattr(logging.lastResort, "_stderr", stream, raising=False)
    monkeypatch.setattr(sys, "stderr", stream)
    logging.lastResort.handle(record)
    assert _clean(stream.getvalue())
    hosts._say(f"host {EVIL} is lost")
    assert _clean(capfd.readouterr().err)
    monkeypatch.setattr(interruption, "_asked", [types.SimpleNamespace(name=EVIL)])
    interruption._drop("asked twice", lambda code: None)
    assert _clean(stream.getvalue())
