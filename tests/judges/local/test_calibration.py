"""Agreement arithmetic, the fit, cross-validation by question, and the published figures."""

import json

import numpy as np
import pytest

from seal_jax.judges.local import calibration, grade
from seal_jax.judges.local.calibration import NAMES, Table
from seal_jax.judges.local.grade import THRESHOLD, WEIGHTS, decide


def _table(values_N, judged_N, fold_N=None, ruled_N=None):
    """A table with one feature that differs, "recall"."""
    features_NxF = np.zeros((len(values_N), len(NAMES)))
    features_NxF[:, NAMES.index("recall")] = values_N
    features_NxF[:, NAMES.index("bias")] = 1
    ruled_N = np.full(len(values_N), -1) if ruled_N is None else np.array(ruled_N)
    fold_N = np.zeros(len(values_N)) if fold_N is None else np.array(fold_N)
    return Table(features_NxF, ruled_N, np.array(judged_N, bool), fold_N)


def test_agreement_by_hand():
    # 10 rows: 4 both yes, 1 only grader, 2 only judge, 3 both no. Equal 0.7; by chance
    # 0.5 * 0.6 + 0.5 * 0.4 = 0.5; kappa (0.7 - 0.5) / 0.5 = 0.4.
    predicted = [True] * 5 + [False] * 5
    judged = [True] * 4 + [False] + [True] * 2 + [False] * 3
    found = calibration.agreement(predicted, judged)
    assert found.pop("confusion") == {
        "both_correct": 4, "only_grader": 1, "only_judge": 2, "both_wrong": 3
    }  # fmt: skip
    assert found == pytest.approx(
        {"agreement": 0.7, "kappa": 0.4, "precision": 0.8, "recall": 4 / 6}
    )


def test_agreement_where_nothing_is_defined():
    found = calibration.agreement([False, False], [False, False])
    del found["confusion"]
    assert found == {"agreement": 1.0, "kappa": 0.0, "precision": 0.0, "recall": 0.0}


def test_fit_has_no_gradient_left(monkeypatch):
    monkeypatch.setattr(calibration, "PENALTY", 2.0)
    rng = np.random.default_rng(0)
    values_N = rng.normal(1, 3, size=200)
    judged_N = values_N + rng.normal(0, 3, size=200) > 1
    found = calibration.fit(_table(values_N, judged_N))
    # d/dw of the mean log loss plus the penalty, and d/d bias of the log loss, are 0.
    error_N = 1 / (1 + np.exp(-(found["recall"] * values_N + found["bias"]))) - judged_N
    assert error_N.sum() == pytest.approx(0, abs=1e-6)
    assert error_N @ values_N == pytest.approx(-2 * found["recall"], abs=1e-6)
    assert {found[name] for name in NAMES if name not in ("recall", "bias")} == {0}


def test_rules_come_first_and_are_not_fitted():
    values_N = [0, 0, 1, 1] * 20 + [1] * 40
    judged_N = [False, False, True, True] * 20 + [False] * 40
    table = _table(values_N, judged_N, ruled_N=[-1] * 80 + [0] * 40)
    weights = calibration.fit(table)
    assert weights == pytest.approx(calibration.fit(_table(values_N[:80], judged_N[:80])))
    assert calibration.verdicts(table, weights).tolist() == judged_N


def test_cross_validation_fits_on_other_questions_only():
    # In one fold larger is correct, in the other smaller: each is judged by the other's rule, and
    # every held-out verdict is wrong.
    values_N = [0, 1] * 200
    judged_N = [False, True] * 100 + [True, False] * 100
    table = _table(values_N, judged_N, [3] * 200 + [7] * 200)
    found = calibration.cross_validate(table)
    assert not (found == table.judged_N).any()


def test_tabulate_holds_rules_and_features():
    rows = [
        {"question": "", "gold": "12", "prediction": "14", "correct": False},
        {"question": "", "gold": "12", "prediction": "12", "correct": True},
        {"question": "", "gold": "12", "prediction": "...", "correct": False},
        {"question": "", "gold": "salt mine", "prediction": "a mine", "correct": True},
    ]
    decisions = [decide(row["gold"], row["prediction"], row["question"]) for row in rows]
    table = calibration.tabulate(rows, decisions)
    assert table.ruled_N.tolist() == [0, 1, 0, -1]
    assert table.judged_N.tolist() == [False, True, False, True]
    assert table.fold_N.tolist() == [calibration.question_fold("", calibration.FOLDS)] * 4
    assert table.features_NxF[3, NAMES.index("recall")] == 0.5
    assert not table.features_NxF[:3].any()
    # The same verdicts as one by one.
    expected = [decision.verdict.correct for decision in decisions]
    assert calibration.verdicts(table, WEIGHTS).tolist() == expected


def test_published_figures(shared_data):
    """docs/grading.md, and that the weights in the code are those that the command prints."""
    rows = calibration.read_rows(str(shared_data / "grading" / "verdicts.jsonl"))
    found = calibration.report(
        rows, [decide(r["gold"], r["prediction"], r["question"]) for r in rows]
    )
    assert (found["n"], found["questions"], found["judged"]) == (3538, 613, 3538)
    held_out = found["cross_validated"]
    figures = ("agreement", "kappa", "precision", "recall")
    assert [round(held_out[name], 3) for name in figures] == [0.895, 0.773, 0.862, 0.848]
    assert held_out["confusion"] == {
        "both_correct": 1096,
        "only_grader": 175,
        "only_judge": 196,
        "both_wrong": 2071,
    }
    assert found["fit"]["threshold"] == THRESHOLD
    fitted = found["fit"]["weights"] | {"bias": found["fit"]["bias"]}
    assert fitted == pytest.approx(dict(WEIGHTS), abs=0.02)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"question": "q"}', "line 1: expected an object"),
        ("[1]", "line 1: expected an object"),
        ('\n{"question": "q", ', "line 2: not JSON"),
        ('{"question": "q", "gold": "g", "prediction": 3}', "line 1: expected an object"),
        ('{"question": "q", "gold": "g", "prediction": "p", "correct": "yes"}', "boolean correct"),
        ('{"question": "q", "gold": "g", "prediction": "p", "correct": null}', "boolean correct"),
        ("", "no rows"),
        (b"\xe9", "not UTF-8"),
    ],
)
def test_what_is_wrong_with_the_rows_is_said(tmp_path, content, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(calibration.RowsError, match=message):
        calibration.read_rows(str(path))


def test_rows_without_a_verdict_are_rows(tmp_path):
    row = {"question": "q", "gold": "g", "prediction": "p"}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n\n" + json.dumps({**row, "correct": True}))
    assert calibration.read_rows(str(path)) == [row, {**row, "correct": True}]


@pytest.mark.fault("23")
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_rows_in_other_encodings_with_a_mark_are_read(tmp_path, encoding):
    row = {"question": "q", "gold": "Köln", "prediction": "p"}
    path = tmp_path / "rows.jsonl"
    path.write_bytes((json.dumps(row, ensure_ascii=False) + "\r\n").encode(encoding))
    assert calibration.read_rows(str(path)) == [row]


@pytest.mark.fault("23", control=True)
def test_rows_with_a_mark_of_utf_8_are_read(tmp_path):
    row = {"question": "q", "gold": "g", "prediction": "p"}
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json.dumps(row).encode("utf-8-sig"))
    assert calibration.read_rows(str(path)) == [row]


def test_the_name_of_the_grader_is_in_the_report():
    assert calibration.report([], [])["grader"] == grade.GRADER == "local-3"
