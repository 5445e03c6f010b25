"""Run directories that are damaged, nested too deeply, or hold values of other types."""

import copy
import itertools
import json
import pathlib
import shutil

import numpy as np
import pytest

from seal_jax import cli
from seal_jax.reports import select
from seal_jax.runs import json_file, ledger, results_file, run_dir

from . import made_runs
from .conftest import some_answers

DEEP = "[" * 100_000
OTHERS = [None, True, 3, -1e308, "x", [], {}, [[1]], {"a": 1}, [None], "\x1b[31m"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run with rounds and arms."""
    return made_runs.knowledge(tmp_path_factory.mktemp("made") / "run", rounds=1, replicates=2)


@pytest.fixture
def run(made, tmp_path):
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def _commands(run, out):
    return (
        ["report", f"--workdir={run}", f"--out={out}"],
        ["compare", str(run), f"{run}2", "--draws=20"],
        ["analyze", str(run), "--draws=20"],
    )


def _second(run):
    """Another run of the same settings, to compare the first one with."""
    shutil.copytree(run, f"{run}2")


def _said(command, capsys):
    """The exit code of a command, and what it says; any traceback is raised here."""
    code = cli.main(command)
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    assert code == 0 or (code == 2 and printed.err.startswith("error: "))
    return code, printed.err


@pytest.mark.fault("S11")
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda text: text.replace('"accuracy"', '"acuracy"', 1), "checksum does not match"),
        (lambda text: text.replace("local-2", "local-3"), "checksum does not match"),
        (lambda text: text[:-40], "damaged: "),
        (lambda text: "", "damaged: "),
        (lambda text: f"[{text}]", "expected a JSON object"),
        (lambda text: DEEP, "nested too deeply"),
        (lambda text: "\x00" * len(text), "damaged: "),
    ],
)
def test_damaged_results_say_what_repairs_them(change, why, run, tmp_path, capsys):
    results = run / "results.json"
    results_file.write(results, json.loads(results.read_text()))
    _second(run)
    for command in _commands(run, tmp_path / "page.html"):
        assert _said(command, capsys)[0] == 0
    results.write_text(change(results.read_text()))
    for command in _commands(run, tmp_path / "page.html")[:2]:
        code, said = _said(command, capsys)
        assert code == 2 and "results.json is damaged: " in said and why in said
        assert "Delete it and repeat the command that made the run" in said
    # So says that command itself, as long as the file is there.
    config = run_dir.read_config(run)
    with pytest.raises(results_file.DamagedError, match="Delete it and repeat the command"):
        run_dir.open_run(run, config)
    results.unlink()
    with run_dir.open_run(run, config) as opened:
        assert opened.resumed


@pytest.mark.fault("S11")
def test_every_flipped_character_of_results_is_noticed(tmp_path):
    path = tmp_path / "results.json"
    written = results_file.write(path, {"arms": {"base": {"accuracy": 0.5}}, "seed": 1})
    assert results_file.read(path) == written
    text = path.read_text()
    assert '"sha256"' in text
    for place, flipped in itertools.product(range(len(text)), ("0", "z")):
        if text[place] in (flipped, " ", "\n"):
            continue
        path.write_text(text[:place] + flipped + text[place + 1 :])
        # A renamed checksum is the one thing that hides it: such results are those of a version
        # that wrote none.
        if '"sha256"' in path.read_text():
            with pytest.raises(results_file.DamagedError):
                results_file.read(path)


@pytest.mark.fault("S11", control=True)
def test_results_without_a_checksum_are_read(tmp_path):
    json_file.write_json(tmp_path / "results.json", {"seed": 1})
    assert results_file.read(tmp_path / "results.json") == {"seed": 1}
    assert results_file.read(tmp_path / "none.json") == {}


@pytest.mark.fault("S6")
@pytest.mark.parametrize("name", ["config.json", "results.json", "timing.json", "ledger"])
def test_deep_json_in_a_run_is_a_sentence(name, run, tmp_path, capsys):
    _second(run)
    file = min((run / "ledger").glob("*-edits.json")) if name == "ledger" else run / name
    for text in (DEEP, '{"a":' * 100_000, '{"contexts": ' + "[" * 900 + "]" * 900 + "}"):
        file.write_text(text)
        for command in _commands(run, tmp_path / "page.html"):
            code, said = _said(command, capsys)
            needless = ("compare", "results.json"), ("analyze", "results.json")
            if (command[0], name) in needless or (command[0], name) == ("analyze", "config.json"):
                continue  # what is not read, or not needed
            assert code == 2 or len(text) < 10_000, command
            assert str(run) in said or not code


@pytest.mark.fault("S6")
def test_numbers_of_too_many_digits_name_the_file(tmp_path):
    (tmp_path / "scored.json").write_text(f"[{'9' * 5000}]")
    with pytest.raises(
        ValueError, match=r"scored\.json: the JSON holds a number with too many digits"
    ):
        select.select(str(tmp_path / "scored.json"), None)


def _places(value, path=()):
    """The paths of all values in a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(item, (*path, key))


def _changed(value, path, other):
    """The JSON value with another one, or nothing, at a path."""
    value = copy.deepcopy(value)
    if not path:
        return other
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    if other == "gone":
        del parent[path[-1]]
    else:
        parent[path[-1]] = other
    return value


def _write_ledger(folder, kind, place, other):
    """The ledger anew, with another value in the first record of a kind."""
    with ledger.Ledger(folder / "ledger", read_only=True) as opened:
        segments = opened.segments()
    shutil.rmtree(folder / "ledger")
    done = False
    with ledger.Ledger(folder / "ledger") as opened:
        for segment in segments:
            record = segment.record
            if segment.kind == kind and not done:
                record, done = _changed(record, place, other), True
            if isinstance(record, dict):
                opened.append(segment.kind, segment.key, record)


def _fuzz(run, tmp_path, capsys, count, seed):
    """Runs the reports on values of other types; returns how many ended with a sentence."""
    rng = np.random.default_rng(seed)
    whole = tmp_path / "whole"
    shutil.copytree(run, whole)
    _second(run)
    files = ["config.json", "results.json", "results.json", "timing.json"]
    files += ["edits", "trials", "answers", "selection", "policy", "plan", "marks"]
    refused = 0
    for number in range(count):
        shutil.rmtree(run)
        shutil.copytree(whole, run)
        name = files[number % len(files)]
        if name.endswith(".json"):
            value = json.loads((run / name).read_text())
        else:
            with ledger.Ledger(run / "ledger", read_only=True) as opened:
                value = opened.segments(name)[0].record
        # As many at the top as below: there are far more below.
        depth = int(rng.integers(0, 6))
        places = [place for place in _places(value) if len(place) <= depth and place]
        if not places:
            continue
        place = places[int(rng.integers(len(places)))]
        other = [*OTHERS, "gone"][int(rng.integers(len(OTHERS) + 1))]
        if name.endswith(".json"):
            (run / name).write_text(json.dumps(_changed(value, place, other)))
        else:
            _write_ledger(run, name, place, other)
        for command in _commands(run, tmp_path / "page.html"):
            try:
                refused += _said(command, capsys)[0] == 2
            except Exception as error:
                raise AssertionError(f"{command[0]} with {name}{place} = {other!r}") from error
    return refused


@pytest.mark.fault("S6")
def test_values_of_other_types_in_a_run_are_a_sentence(run, tmp_path, capsys):
    assert _fuzz(run, tmp_path, capsys, count=44, seed=0) > 10


@pytest.mark.long
@pytest.mark.fault("S6")
def test_values_of_other_types_in_many_runs_are_a_sentence(run, tmp_path, capsys):
    assert _fuzz(run, tmp_path, capsys, count=2000, seed=1) > 100


@pytest.mark.fault("S6")
@pytest.mark.parametrize("other", [None, 3, [1], {"trials": [3]}])
def test_records_of_another_form_are_a_sentence_to_draw(other, tmp_path, capsys):
    run = made_runs.few_shot(tmp_path / "run")
    _write_ledger(run, "trials", ("trials",), other)
    code, said = _said(["draw", f"--workdir={run}", "--task=aa", f"--out={tmp_path}/a.png"], capsys)
    assert code == 2 and str(run) in said


@pytest.mark.fault("S6")
@pytest.mark.parametrize(
    ("key", "other"),
    [
        ("contexts", {"c0": 3}),
        ("contexts", {"c0": {"group": "g", "arms": {"base": []}}}),
        ("metrics", "accuracy"),
        ("metrics", [{"name": "accuracy"}]),
        ("words", None),
        pytest.param("grader", None, marks=pytest.mark.fault("S6", control=True)),
        ("pairs", [{"names": 3}]),
        ("versions", []),
    ],
)
def test_results_of_another_form_name_the_run(key, other, write_run, capsys):
    one, two = (write_run(name, {"base": some_answers([[-1.0], [-2.0]] * 2)}) for name in "ab")
    path = pathlib.Path(one, "results.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: other}))
    code, said = _said(["compare", one, two, "--draws=20"], capsys)
    if code:  # what is of no use to it may be of any form
        assert one in said
        assert ("hold something else than a run writes" in said) or "judged" in said
    else:
        assert key in ("pairs", "versions", "words", "grader")
