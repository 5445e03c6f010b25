"""The grade command: a table, figures for machines, the rows that differ, and errors."""

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


def test_a_table(tmp_path, capsys):
    path = _write(tmp_path / "rows.jsonl", ROWS)
    assert cli.main(["grade", path]) == 0
    printed = capsys.readouterr()
    assert not printed.err
    rows = [line.split() for line in printed.out.splitlines() if line]
    assert rows == [
        "local-3 on 3 answers to 2 questions".split(),
        ["correct", "1"],
        ["wrong", "2"],
        "of them empty 1".split(),
        "not in English 0".split(),
        "3 judged answers agreement kappa precision recall".split(),
        "as it is 0.667 0.400 1.000 0.500".split(),
        "judge: correct judge: wrong".split(),
        "grader: correct 1 0".split(),
        "grader: wrong 1 1".split(),
    ]


def test_figures_for_machines(tmp_path, capsys):
    path = _write(tmp_path / "rows.jsonl", ROWS)
    assert cli.main(["grade", f"--rows={path}", "--json=-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n"], found["questions"], found["judged"], found["empty"]) == (3, 2, 3, 1)
    assert (found["precision"], found["recall"]) == (1.0, 0.5)
    assert found["agreement"] == pytest.approx(2 / 3)
    # By chance: 1/3 * 2/3 + 2/3 * 1/3 = 4/9; (6/9 - 4/9) / (5/9) = 0.4.
    assert found["kappa"] == pytest.approx(0.4)
    assert found["confusion"]["only_judge"] == 1
    assert "cross_validated" not in found  # far too few questions
    assert "rows" not in found
    assert cli.main(["grade", path, "--show", f"--json={tmp_path}/found.json"]) == 0
    [shown] = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert json.loads(capsys.readouterr().out.splitlines()[0]) == shown
    assert {name: shown[name] for name in ROWS[1]} == ROWS[1]
    assert (shown["graded"], shown["by"]) == (False, "weights")
    assert 0 < shown["probability"] < 0.5


def test_rows_without_a_verdict_are_graded(tmp_path):
    rows = [{name: row[name] for name in ("question", "gold", "prediction")} for row in ROWS]
    found = grade.grade_rows(_write(tmp_path / "rows.jsonl", rows), show=True)
    assert [row["graded"] for row in found["rows"]] == [True, False, False]
    assert [row["by"] for row in found["rows"]] == ["same words", "weights", "empty"]
    assert (found["n"], found["judged"], found["graded_correct"]) == (3, 0, 1)
    assert not {"agreement", "kappa"} & found.keys()
    assert grade.table(found).endswith("not in English  0")


def test_agreement_is_that_of_the_judged_rows(tmp_path):
    unjudged = {"question": "Where?", "gold": "Rome", "prediction": "Oslo"}
    found = grade.grade_rows(_write(tmp_path / "rows.jsonl", [*ROWS, unjudged]))
    assert (found["n"], found["judged"]) == (4, 3)
    assert found["agreement"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grade"], "grade needs --rows=FILE.jsonl"),
        (["grade", "--rows=no/such.jsonl"], "no/such.jsonl: cannot read the file"),
        (["grade", "--rows={bad}"], "line 2: expected an object"),
        (["grade", "--rows={bad}", "--config=x"], "config"),
        (["grade", "{bad}", "{bad}"], "unexpected argument"),
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
