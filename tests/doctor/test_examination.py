"""The doctor's tiny form: what it compares, what it writes, and that no failure ends it."""

import json
import os
import subprocess
import sys
import types

import pytest

from seal_jax.cli import main
from seal_jax.doctor import examination, report, rows, worker
from seal_jax.doctor.worker import Worker, WorkerError

# What the machine of a benchmark may lack: the rest of the package's requirements.
_ABSENT = "ml_collections", "gguf", "tensorflow_datasets", "array_record", "orbax", "transformers"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("doctor") / "doctor.json"


@pytest.fixture(scope="module")
def found(out):
    """What the tiny form writes, where little is installed."""
    hide = f"import runpy, sys; sys.modules.update(dict.fromkeys({_ABSENT}))"
    program = f"{hide}; runpy.run_module('seal_jax.doctor', run_name='__main__')"
    flags = [flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag]
    done = subprocess.run(
        [sys.executable, "-c", program, "--tiny", "--minutes=30", f"--out={out}"],
        env={**os.environ, "XLA_FLAGS": " ".join(flags)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "verdict: works" in done.stdout
    return json.loads(out.read_text())


def test_every_row_has_figures(found):
    statuses = {name: row["status"] for name, row in found["rows"].items()}
    assert set(statuses) == {row.name for row in rows.rows(tiny=True)}
    assert {of for name, of in statuses.items() if not name.startswith("PEFT")} == {"ok"}
    assert found["verdict"]["word"] == "works"
    machine = found["rows"]["machine"]
    assert machine["platform"] == "cpu" and machine["packages"]["jax"]
    assert set(machine["attention"].values()) == {"blocks of queries"}
    assert machine["float32_products"]["highest"] < 1e-6


def test_two_compilations_agree_and_bfloat16_is_as_far_off_as_expected(found):
    exact, rounded = (found["rows"][f"parity, llama, {of}"] for of in ("float32", "bfloat16"))
    assert exact["same_tokens"] == 1 and max(exact["errors"].values()) < 1e-4
    assert rounded["errors"]["logits"] > 1e-3  # so it was computed in bfloat16
    assert rounded["allowed"]["logits"] < 0.2  # and a wrong mask or scale would be seen


def test_an_evaluation_compiles_nothing_after_its_first_group_and_has_a_plan(found):
    row = found["rows"]["evaluation, tiny"]
    assert row["compiles"] == 0 and row["answers"] == 2 * 5
    assert row["programs"].keys() == {"inner update", "answers", "log-likelihoods"}
    assert all(of["seconds"] > 0 < of["memory_bytes"] for of in row["programs"].values())
    assert row["hourly"] == pytest.approx(3600 * 2 / row["seconds"])


def test_the_same_command_measures_nothing_again(found, out, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(rows, "rates", lambda of: asked.append("rates"))
    machine = found["rows"]["machine"]
    monkeypatch.setattr(rows, "facts", lambda of: dict(machine, result="the same machine"))
    assert main(["doctor", "--tiny", f"--out={out}"]) == 0
    again = json.loads(out.read_text())
    assert not asked and "verdict: works" in capsys.readouterr().out
    assert again["rows"]["rates"] == found["rows"]["rates"]


def test_the_table_of_a_file(found, out, capsys):
    assert main(["doctor", f"--table={out}"]) == 0
    text = capsys.readouterr().out
    assert "| rates | " in text and "Verdict: works." in text
    assert text.count("\n|") == len(found["rows"]) + 2
    assert text.index("| machine") < text.index("| rates") < text.index("| PEFT")


@pytest.fixture
def examined(tmp_path, monkeypatch):
    """Examines with rows that are given, and returns the record."""

    def examine(*given, minutes=1.0):
        made = [rows.Row(name, measure) for name, measure in given]
        monkeypatch.setattr(rows, "rows", lambda *, tiny: made)
        out, said = tmp_path / "doctor.json", []
        return examination.examine(minutes=minutes, out=str(out), tiny=True, say=said.append)

    return examine


def _raise(error):
    raise error


def test_a_row_that_fails_says_why_and_the_next_one_is_measured(examined):
    found = examined(
        ("machine", lambda of: {"device": "x"}),
        ("crashes", lambda of: of.ask("tests.doctor.no_such_worker", None, "call")),
        ("has no room", lambda of: _raise(rows.Skipped("too small"))),
        ("needs another", lambda of: {"value": of.rows["crashes"]["flops"]}),
        ("cannot be written", lambda of: {"value": float("nan")}),
        ("parity, last", lambda of: {"result": "fine"}),
    )
    assert {name: row["status"] for name, row in found["rows"].items()} == {
        "machine": "ok",
        "crashes": "failed",
        "has no room": "skipped",
        "needs another": "failed",
        "cannot be written": "failed",
        "parity, last": "ok",
    }
    assert "no_such_worker" in found["rows"]["crashes"]["reason"]
    assert found["verdict"]["word"] == "works, but for what failed"


def test_wrong_results_are_the_verdict(examined):
    found = examined(
        ("machine", lambda of: {"device": "x"}),
        ("parity, a", lambda of: {"wrong": ["logits 3e-01 off"]}),
        ("parity, b", lambda of: {}),
    )
    assert found["verdict"]["word"].startswith("WRONG RESULTS")
    assert "parity, a: logits 3e-01 off" in found["verdict"]["lines"]
    assert report.is_wrong(found)


def test_no_row_is_begun_without_time_and_a_restart_goes_on(examined):
    measured = []
    given = [
        ("machine", lambda of: {"device": "x"}),
        ("parity, a", lambda of: measured.append("a") or {"value": 1}),
    ]
    found = examined(*given, minutes=0.01)
    assert found["rows"]["parity, a"]["status"] == "not reached" and not measured
    assert found["verdict"]["word"] == "no verdict: nothing was compared with the CPU"
    for _ in range(2):
        assert examined(*given)["rows"]["parity, a"]["value"] == 1
    assert measured == ["a"]
    examined(("machine", lambda of: {"device": "another"}), given[1])
    assert measured == ["a", "a"]


def test_another_file_is_kept(examined, tmp_path):
    (tmp_path / "doctor.json").write_text('{"rows": {}}')
    with pytest.raises(ValueError, match="no file of `seal doctor`"):
        examined(("machine", lambda of: {}))


def test_a_worker_has_its_own_platform_even_where_jax_was_imported_before(monkeypatch):
    settings = []
    jax = types.SimpleNamespace(
        config=types.SimpleNamespace(update=lambda *of: settings.append(of))
    )
    monkeypatch.setitem(sys.modules, "jax", jax)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    worker._set({"JAX_PLATFORMS": "cpu", "XLA_FLAGS": os.environ["XLA_FLAGS"]})
    assert settings == [("jax_platforms", "cpu")] and os.environ["JAX_PLATFORMS"] == "cpu"


def test_a_worker_that_takes_too_long_is_ended():
    waiting = Worker("tests.doctor.slow_worker", None)
    assert waiting.call("wait", 0)["waited"] == 0
    with pytest.raises(WorkerError, match="did not end within 0 s"):
        waiting.call("wait", 60, within=0.2)
    assert not waiting.alive
