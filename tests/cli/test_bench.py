"""`seal bench`, on the tiny model: from a file of texts to one table, JSON and a report."""

import json

import pytest

from seal_jax import api, cli

pytestmark = pytest.mark.usefixtures("few_devices")
SMALL = {
    "inner.lora.rank": 2,
    "inner.epochs": 1,
    "inner.candidates": 4,
    "inner.max_sequences": 8,
    "inner.buckets": (32, 64, 128),
    "answers.max_new_tokens": 2,
    "answers.prompt_buckets": (256,),
    "answers.questions_at_once": 1,
    "evaluation.bootstrap_draws": 200,
    "evaluation.unrelated": 1,
}


@pytest.fixture
def edits(tmp_path):
    """Two texts about each of two passages."""
    rows = [
        {
            "passage": f"Place {i} has {i + 3} mills.",
            "title": f"place {i}",
            "questions": [{"question": "How many mills?", "answer": f"{i + 3} mills"}],
            "source": source,
            "edit": text,
        }
        for i in range(2)
        for source, text in (("gpt", f"It has {i + 3} mills."), ("me", "Mills are there.\nMany."))
    ]
    path = tmp_path / "edits.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_command_and_the_api_say_the_same(edits, tmp_path, checkpoint, capsys):
    flags = [f"--config.{key}={value}" for key, value in SMALL.items()]
    flags += [f"--model={checkpoint}", f"--json={tmp_path / 'found.json'}"]
    assert cli.main(["bench", str(edits), f"--workdir={tmp_path / 'run'}", *flags]) == 0
    printed = capsys.readouterr().out
    assert "plan: 2 evaluation contexts in 5 arms\n" in printed
    main, costs = [line for line in printed.splitlines() if line.startswith("arm ")]
    assert main.split()[:3] == ["arm", "accuracy", "F1"]
    assert costs.split("  ")[-1] == "harm: loss on unrelated texts, nats a token"
    assert "facts a minute" in costs
    spent = [line for line in printed.splitlines() if "0.003 x 1" in line]
    assert [line.split("  ")[0] for line in spent] == ["passage only", "gpt", "me"]
    assert "dose: fixed; equal tokens\n" in printed
    assert "What came of it" in printed and "Of 2 sources" in printed.replace("\n", " ")
    report = (tmp_path / "run" / "report.html").read_text()
    for title in ("Sources of texts against each other", "Harm: rise of the loss on unrelated"):
        assert title in report
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found["bench"]["sources"]) == {"gpt", "me"}
    settings = api.configure("knowledge:bench", SMALL | {"model.path": str(checkpoint)})
    same = api.bench(settings, str(edits), str(tmp_path / "again"), quiet=True)
    assert {key: same[key] for key in ("arms", "pairs", "bench", "contexts", "unrelated")} == {
        key: found[key] for key in ("arms", "pairs", "bench", "contexts", "unrelated")
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workdir=w"], "bench needs a file of texts, and --workdir=DIR"),
        (["edits.jsonl"], "bench needs a file of texts, and --workdir=DIR"),
        (["none.jsonl", "--workdir=w"], "none.jsonl: cannot read the file"),
        (["edits.jsonl", "--workdir=w", "--tuned"], "did you mean 'tune'?"),
        (
            ["edits.jsonl", "--workdir=w", "--config.edits.directives=epochs"],
            "edits.directives say how many epochs there are",
        ),
        (
            ["edits.jsonl", "--workdir=w", "--config.prompts.edit_format=none"],
            "set prompts.edit_format to one that reads them",
        ),
        (
            ["edits.jsonl", "--workdir=w", "--config.evaluation.form=corpus"],
            "equal is for the form 'single'",
        ),
        (
            ["edits.jsonl", "--workdir=w", "--config.data.eval_path=x.json"],
            "edits has passages and questions of its own",
        ),
    ],
)
def test_what_cannot_be_is_refused(arguments, message, edits, monkeypatch, capsys):
    monkeypatch.chdir(edits.parent)
    assert cli.main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err
