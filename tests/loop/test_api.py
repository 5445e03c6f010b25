"""The public interface, and the tutorial that shows it."""

import json
import math
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import seal_jax
from seal_jax import api
from seal_jax.settings import SettingsError

ROOT = pathlib.Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.md"
NOTEBOOK = ROOT / "notebooks" / "tutorial.ipynb"


def code():
    (block,) = re.findall(r"```python\n(.*?)```", TUTORIAL.read_text(), flags=re.DOTALL)
    return block


def run_tutorial(block, folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {}
    exec(compile(block, str(TUTORIAL), "exec"), names)
    return names


def cells():
    """The code of the notebook, cell by cell."""
    found = json.loads(NOTEBOOK.read_text("utf-8"))
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
    of = [cell for cell in found["cells"] if cell["cell_type"] == "code"]
    return ["".join(cell["source"]) for cell in of], [cell["outputs"] for cell in of]


def test_the_notebook_runs_on_a_tiny_model(tiny_settings, tmp_path, monkeypatch, change, capsys):
    """As it stands, cell by cell, but for the model; its outputs are those of the demo's."""
    monkeypatch.setattr(
        seal_jax, "configure", lambda _, overrides: change(tiny_settings, overrides), raising=False
    )
    sources, outputs = cells()
    names = run_tutorial("\n".join(sources), tmp_path, monkeypatch)
    said = capsys.readouterr().out
    assert len(names["deltas"]) == 4 and said.count("nats a token") == 4
    assert (tmp_path / "bridge-adapter" / "adapter_model.safetensors").exists()
    shown = "".join("".join(one["text"]) for of in outputs for one in of)
    assert shown.count("nats a token") == 4 and "before: " in shown


def test_the_tutorial_runs_on_a_tiny_model(tiny_settings, tmp_path, monkeypatch, change, capsys):
    """As it stands, but for the model."""
    asked = []

    def configure(config, overrides):
        asked.append(api.configure(config, overrides))
        return change(tiny_settings, overrides)

    monkeypatch.setattr(seal_jax, "configure", configure, raising=False)
    names = run_tutorial(code(), tmp_path, monkeypatch)
    assert asked[0].edits.samples == 4 and asked[0].inner.epochs == 10
    assert len(names["edits"]) == len(names["deltas"]) == 4
    assert names["scores"][names["best"]] == max(names["scores"])
    assert len(set(names["scores"])) == len(set(names["edits"]))
    assert "after:" in capsys.readouterr().out
    assert (tmp_path / "bridge-adapter" / "adapter_model.safetensors").exists()
    kernel = names["parameters"]["layers"]["attn"]["q_proj"]["kernel"]
    moved = np.abs(kernel - names["model"].base["layers"]["attn"]["q_proj"]["kernel"])
    assert moved.max() > 1e-4


def test_the_tutorial_is_short():
    lines = [line for line in code().splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 34  # of which three are the passage, and one its import


@pytest.mark.long
def test_the_tutorial_runs_as_it_stands(smollm2_path, tmp_path):
    """In a process of its own, on one device: eight copies of the model would take too much."""
    script = tmp_path / "tutorial.py"
    script.write_text(
        code() + "print(seal_jax.mean_gold_log_likelihood(before), scores[best], sep='\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(TUTORIAL.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, after = map(float, done.stdout.splitlines()[-2:])
    assert after > before + 3


def test_nothing_heavy_is_imported():
    script = (
        "import sys, seal_jax; print(sorted({'jax', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_documented():
    for name in seal_jax.__all__:
        assert getattr(seal_jax, name).__doc__, name
        assert name in dir(seal_jax)
    with pytest.raises(AttributeError, match="no attribute 'adapt_me'"):
        getattr(seal_jax, "adapt_me")  # noqa: B009


def test_configure_changes_settings_and_refuses_unknown_ones():
    settings = seal_jax.configure("knowledge:smoke", {"inner.lora.rank": 3, "seed": 4})
    assert (settings.inner.lora.rank, settings.seed, settings.inner.epochs) == (3, 4, 1)
    with pytest.raises(SettingsError, match=r"did you mean 'inner.lora.rank'"):
        seal_jax.configure("knowledge:smoke", {"inner.lora.rnk": 3})
    with pytest.raises(SettingsError, match="group of settings"):
        seal_jax.configure("knowledge:smoke", {"inner": 3})
    with pytest.raises(ValueError, match="no variant 'small'"):
        seal_jax.configure("knowledge:small")
    with pytest.raises(SettingsError, match="there is no config 'absent"):
        seal_jax.configure("absent.py")


@pytest.mark.parametrize(
    "title, text, questions", [("", "text", ()), ("title", " ", ()), ("title", "text", [""])]
)
def test_empty_passages_are_refused(title, text, questions):
    with pytest.raises(SettingsError, match="needs a title and a text"):
        seal_jax.passage(title, text, questions)


@pytest.mark.fault("11")
def test_a_question_without_a_gold_answer_has_no_figures(tiny_settings):
    model = seal_jax.load(tiny_settings)
    questions = ["How long is it?", ("Where is it?", "Vell"), "How old is it?"]
    passage = seal_jax.passage("Osk", "The Osk is a long river.", questions)
    [records] = seal_jax.answers(model, [passage])
    for record in (records[0], records[2]):
        assert record["correct"] is record["gold_log_likelihood"] is None
        assert record["text"] or record["empty"]
    assert records[1]["correct"] in (True, False)
    assert seal_jax.mean_gold_log_likelihood(records) == records[1]["gold_log_likelihood"] < 0
    assert math.isnan(seal_jax.mean_gold_log_likelihood(records[:1]))
