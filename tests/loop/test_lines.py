"""Credit per line: by hand, and of a planted line on a tiny model."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from seal_jax import cli
from seal_jax.loop import lines
from seal_jax.runs import ledger, run_dir
from seal_jax.settings import config_dict
from seal_jax.tasks import registry

TEXT = "answer 0 answer 1 answer 0 answer 1 answer 0 answer 1"
NOISE = ("It lies by a hill.", "Snow melts in the spring.", "Nobody has seen it.")


def test_credit_by_hand():
    """Three deltas, five questions, of which the first, third and fifth give credit."""
    full = [[-1.0, 7.0, -2.0, 7.0, -3.0], [-1.0, 7.0, -1.0, 7.0, -1.0], [0.0, 7.0, 0.0, 7.0, None]]
    without = [[-2.0, 0.0, -4.0, 0.0, -3.0], [-1.0, 0.0, -1.0, 0.0, -7.0], [-2.0] + [0.0] * 4]
    one = np.eye(1, dtype=bool)
    pairs = zip(full, without, strict=True)
    gains = [lines.added(one, whole, [part], penalty=0.0)[0] for whole, part in pairs]
    found = lines.credit(gains, seed=0, draws=500)
    # Gains of 1, 2, 0; 0, 0, 6; 2, 0: 11 over the 8 that both have.
    assert found["difference"] == 1.375
    low, high = found["interval"]
    assert low < 1.375 < high


def test_ridge_regression_by_hand():
    """Lines worth 3 and -1, left out alone and together; of a second question one part is known.

    (X'X + I) = [[3, 1], [1, 3]] and X'y = [3 + 2, -1 + 2]: [14, -2] / 8. Of the other question
    only the first line was left out: 4 / (1 + 1).
    """
    left_out = np.array([[1, 0], [0, 1], [1, 1]], bool)
    parts = [[-3.0, -4.0], [1.0, None], [-2.0, None]]
    found = lines.added(left_out, [0.0, 0.0], parts, penalty=1.0)
    np.testing.assert_allclose(found, [[1.75, 2.0], [-0.25, np.nan]])
    exact = lines.added(left_out, [0.0, 0.0], parts, penalty=0.0)[:, 0]
    np.testing.assert_allclose(exact, [3.0, -1.0])


def test_eight_halves_find_the_planted_harmful_line():
    """Of seven lines that add up, with noise; 24 parts in all that lack 3."""
    truth_N = np.array([0.5, 0.4, -1.0, 0.6, 0.3, 0.5, 0.4])
    random, gains = np.random.default_rng(0), []
    for r in range(3):
        left_out = lines.random_halves(7, 8, (r,))
        assert left_out.shape == (8, 7) and len(np.unique(left_out, axis=0)) == 8
        assert set(left_out.sum(axis=1)) == {3}
        parts = -(left_out @ truth_N[:, None]) + random.normal(0, 0.1, (8, 1))
        gains.append(lines.added(left_out, [0.0], parts, penalty=1.0))
    credits = [lines.credit(of, seed=0, draws=100)["difference"] for of in zip(*gains, strict=True)]
    assert lines.harms(dict(enumerate(credits))) == {2}
    assert len(lines.random_halves(3, 8, (0,))) == 3, "there are no more"


def test_what_leaving_out_keeps():
    assert lines.harms({0: 0.5, 1: -0.1, 2: 0.0}) == {1, 2}
    assert lines.harms({0: 0.5, 1: 0.1}) == set()
    assert lines.harms({0: -0.5, 1: -0.1}) == {0}, "one is left to learn"
    assert lines.harms({0: 0.5, 1: None}) == set(), "what is not known stays"
    assert lines.harms({0: None, 1: None}) == set()


def test_random_lines_have_about_as_many_tokens_and_are_never_all():
    lengths = {0: 10, 2: 10, 3: 10, 5: 10}
    drawn = [lines.as_many(lengths, 20, (1, n)) for n in range(200)]
    assert {len(of) for of in drawn} == {2}
    counts = [sum(n in of for of in drawn) for n in lengths]
    assert min(counts) > 70, "each in half of them"  # 100, standard deviation 7
    assert lines.as_many({0: 5, 1: 5}, 10, (0,)) in ({0}, {1})
    assert lines.as_many({0: 50, 1: 50}, 10, (0,)) == set(), "none is nearer than one"
    assert lines.as_many(lengths, 20, (1, 3)) == drawn[3]


@pytest.fixture(scope="module")
def settings(tiny_settings, change, squad_file):
    return change(
        tiny_settings,
        {
            "data.train_path": squad_file("train", 8, 4),
            "data.max_questions": 4,
            "restem.rounds": 1,
            "restem.contexts_per_round": 3,
            "edits.samples": 2,
            "inner.max_sequences": 5,
            "inner.learning_rate": 1e-2,
            "evaluation.bootstrap_draws": 500,
        },
    )


@pytest.fixture(scope="module")
def written(settings, tmp_path_factory):
    """(planted) -> the directory of a run whose self-edits have it among three other lines."""

    def make(planted):
        workdir = tmp_path_factory.mktemp("written") / "run"
        contexts = registry.open_task(settings).contexts("train")
        edits = [
            {
                "context": context.id,
                "index": m,
                "tokens": [5],
                "text": "\n".join([*NOISE[: m + 1], planted, *NOISE[m + 1 :]]),
                "stopped": True,
            }
            for context in contexts
            for m in range(2)
        ]
        stage = {"kind": "round", "round": 1}
        with (
            run_dir.open_run(str(workdir), config_dict.recorded(settings)) as directory,
            ledger.Ledger(directory.ledger_path) as records,
        ):
            records.append("edits", "round 1/0", {"edits": edits, "stage": stage})
        return str(workdir)

    return make


@pytest.fixture(scope="module")
def found(written, tmp_path_factory):
    """What is found where a line holds the answers, and the directories of source and result."""
    source, workdir = written(TEXT), str(tmp_path_factory.mktemp("lines") / "run")
    return lines.analyze(source, workdir, edits=4, deltas=5, quiet=True), source, workdir


def test_the_line_with_the_answers_has_the_credit(found):
    results, _, _ = found
    assert results["self_edits"] == 4 and len(results["lines"]) == 4 * 4
    first = [line["index"] for line in results["lines"][::4]]
    assert first == [0, 0, 0, 1], "one of each context before a second one"
    for n in range(0, 16, 4):
        of = results["lines"][n : n + 4]
        [planted] = [line for line in of if TEXT in line["line"]]
        assert planted["kept"] and planted["credit"] > 0.1
        others = [line["credit"] for line in of if line is not planted]
        assert planted["credit"] > max(others) + 0.1
    assert all(line["kept"] == (line["credit"] > 0) for line in results["lines"])


def test_random_halves_give_it_to_the_same_line(found, tmp_path):
    _, source, _ = found
    results = lines.analyze(source, str(tmp_path / "run"), edits=4, deltas=5, halves=6, quiet=True)
    for n in range(0, 16, 4):
        of = results["lines"][n : n + 4]
        assert TEXT in max(of, key=lambda line: line["credit"])["line"]
    assert results["credit_tokens"] != found[0]["credit_tokens"] > 0


def test_leaving_out_the_others_gains_over_random_lines_of_as_many_tokens(found):
    results, _, _ = found
    assert results["pruned"] > 0
    assert results["pruned_minus_random"]["difference"] > 0.1


def test_a_line_of_the_same_letters_in_another_order_has_no_credit(written, tmp_path):
    results = lines.analyze(
        written(TEXT[::-1]), str(tmp_path / "run"), edits=4, deltas=5, quiet=True
    )
    planted = [line["credit"] for line in results["lines"] if TEXT[::-1] in line["line"]]
    assert len(planted) == 4
    assert abs(sum(planted) / 4) < 0.1  # it is 0.5 of the line as it is


def test_the_command_continues_and_shows_a_table(found, tmp_path, capsys):
    """Of a copy without its results: nothing is tried again, and the results are the same."""
    results, source, workdir = found
    copied = tmp_path / "copy"
    shutil.copytree(workdir, copied)
    before = {path.name for path in (copied / "ledger").iterdir()}
    (copied / "results.json").unlink()
    out = tmp_path / "lines.json"
    assert (
        cli.main(
            ["analyze", source, f"--lines={copied}", "--edits=4", "--deltas=5", f"--json={out}"]
        )
        == 0
    )
    assert "less without random ones of as many tokens" in capsys.readouterr().out
    assert {path.name for path in (copied / "ledger").iterdir()} == before
    stored = [json.loads(path.read_text()) for path in (out, pathlib.Path(workdir, "results.json"))]
    assert stored[0]["lines"] == stored[1]["lines"] and len(results["lines"]) == 16
    assert cli.main(["analyze", source, f"--lines={copied}", "--edits=4", "--deltas=5"]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_what_cannot_be_credited_is_refused(settings, change, written, tmp_path):
    with pytest.raises(ValueError, match="is not the directory of a run"):
        lines.analyze(str(tmp_path), str(tmp_path / "a"), quiet=True)
    none = change(settings, {"restem.rounds": 0})
    with run_dir.open_run(str(tmp_path / "none"), config_dict.recorded(none)) as directory:
        directory.ledger_path.mkdir()
    with pytest.raises(ValueError, match="has no round"):
        lines.analyze(str(tmp_path / "none"), str(tmp_path / "b"), quiet=True)
