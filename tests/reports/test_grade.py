"""The grade command: one JSON line, the rows that differ, and errors."""

import json

import pytest

from seal_jax import cli
from seal_jax.reports import grade

ROWS = [
    {"question": "Where?", "gold": "Rome", "prediction": "Rome", "correct": True},
    {"question": "Where?", "gold": "Rome", "prediction": "Paris", "correct": True},
    {"question": "Whither?", "gold": "Rome", "prediction": " ", "correct": False},
]


def _write(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    return str(path)


def test_one_json_line(tmp_path, capsys):
    path = _write(tmp_path / "rows.jsonl", ROWS)
    assert cli.main(["grade", f"--rows={path}"]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1 and not printed.err
    found = json.loads(printed.out)
    assert (found["n"], found["questions"], found["judged"], found["empty"]) == (3, 2, 3, 1)
    assert (found["precision"], found["recall"]) == (1.0, 0.5)
    assert found["agreement"] == pytest.approx(2 / 3)
    # By chance: 1/3 * 2/3 + 2/3 * 1/3 = 4/9; (6/9 - 4/9) / (5/9) = 0.4.
    assert found["kappa"] == pytest.approx(0.4)
    assert found["confusion"]["only_judge"] == 1
    assert "cross_validated" not in found  # far too few questions


def test_show_prints_the_rows_that_differ_before_the_summary(tmp_path, capsys):
    path = _write(tmp_path / "rows.jsonl", ROWS)
    assert cli.main(["grade", f"--rows={path}", "--show"]) == 0
    shown, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert {name: shown[name] for name in ROWS[1]} == ROWS[1]
    assert (shown["graded"], shown["by"]) == (False, "weights")
    assert 0 < shown["probability"] < 0.5
    assert summary["n"] == 3


def test_rows_without_a_verdict_are_graded(tmp_path):
    rows = [{name: row[name] for name in ("question", "gold", "prediction")} for row in ROWS]
    lines = []
    found = grade.grade_rows(
        _write(tmp_path / "rows.jsonl", rows), show=True, write=lambda line: lines.append(line)
    )
    assert found == json.loads(lines[-1])
    assert [json.loads(line)["graded"] for line in lines[:-1]] == [True, False, False]
    assert [json.loads(line)["by"] for line in lines[:-1]] == ["same words", "weights", "empty"]
    assert (found["n"], found["judged"], found["graded_correct"]) == (3, 0, 1)
    assert not {"agreement", "kappa"} & found.keys()


def test_agreement_is_that_of_the_judged_rows(tmp_path):
    unjudged = {"question": "Where?", "gold": "Rome", "prediction": "Oslo"}
    path = _write(tmp_path / "rows.jsonl", [*ROWS, unjudged])
    found = grade.grade_rows(path, show=False, write=lambda line: None)
    assert (found["n"], found["judged"]) == (4, 3)
    assert found["agreement"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grade"], "grade needs --rows=FILE.jsonl"),
        (["grade", "--rows=no/such.jsonl"], "no/such.jsonl: cannot read the file"),
        (["grade", "--rows={bad}"], "line 2: expected an object"),
        (["grade", "--rows={bad}", "--config=x"], "config"),
        (["grade", "{bad}"], "unexpected argument"),
    ],
)
def test_mistakes_are_one_message(tmp_path, capsys, arguments, message):
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps(ROWS[0]) + '\n{"gold": 1}\n')
    assert cli.main([argument.format(bad=bad) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and "Traceback" not in printed.err
    assert message in printed.err
    assert not printed.out


def test_help_has_no_settings(capsys):
    assert cli.main(["grade", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "--rows:" in printed and "--show:" in printed
    assert "settings:" not in printed
