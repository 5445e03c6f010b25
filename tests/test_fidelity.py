"""docs/fidelity.md: every row of the paper is there, complete, and its settings are real ones."""

import ast
import pathlib
import re

import pytest

from seal_jax.settings import Settings, config_dict

_DOCUMENT = pathlib.Path(__file__).parent.parent / "docs" / "fidelity.md"
_TEXT = _DOCUMENT.read_text(encoding="utf-8")
_COLUMNS = ["item", "paper", "ours", "status", "why"]
_STATUS = {"same", "switch", "changed", "not run", "open"}
# What the paper and its reference implementation fix. An item is covered by the rows that begin
# with its name.
ITEMS = {
    "Knowledge incorporation": [
        "model",
        "policy rounds",
        "contexts of a round",
        "self-edits of a context",
        "evaluation seeds of a self-edit",
        "policy that a round samples, adapts and trains",
        "self-edit sampling: temperature",
        "self-edit sampling: top-p",
        "self-edit sampling: length",
        "selection",
        "sequences: lines",
        "sequences: preamble",
        "sequences: question and answer",
        "sequences: title prefix",
        "sequences: passage",
        "sequences: limits",
        "sequences (many passages): splitting",
        "sequences (many passages): completions",
        "loss: tokens",
        "loss: padding",
        "inner LoRA: rank and alpha",
        "inner LoRA: projections",
        "inner LoRA: dropout",
        "inner LoRA: epochs",
        "inner LoRA: learning rate",
        "inner LoRA: batch",
        "inner LoRA: order of sequences",
        "inner LoRA: AdamW",
        "inner LoRA: gradient clipping",
        "LoRA init",
        "answering: decoding",
        "answering: topic prefix",
        "answering: stop",
        "answering: questions of a passage",
        "grading",
        "grading: empty predictions",
        "reward",
        "M-step SFT: LoRA",
        "M-step SFT: recipe",
        "M-step SFT: loss",
        "M-step SFT: merge",
        "CPT n=200, v1",
        "CPT n=200 and n=2067, v2",
        "evaluation split",
        "sweeps",
        "self-edit formats",
        "format: chain of thought",
        "arm: base model",
        "arm: passage only",
        "arm: own synthetic data, no RL",
        "arm: GPT-4.1 synthetic data",
        "arm: SEAL",
        "entity-graph synthetic data",
        "Qwen2.5-3B",
        "format × round",
        "cost",
        "records: noise of the reward",
        "records: empty answers",
    ],
    "Few-shot learning": [
        "model",
        "tasks",
        "training ids",
        "evaluation ids",
        "self-edit",
        "sampling",
        "basic augmentations",
        "size augmentations",
        "chain augmentations",
        "repeat augmentations",
        "training examples",
        "inner LoRA",
        "evaluation",
        "M-step SFT",
        "results",
        "scoring of ARC",
    ],
    "Continual self-edits": [
        "sequences of passages",
        "start",
        "step",
        "results",
        "mitigations named",
    ],
}


def _rows(section):
    """The rows of a section's table, as lists of cells, without its head."""
    text = _TEXT.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    table = [line for line in text.split("\n") if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert cells[0] == _COLUMNS
    assert set("".join(cells[1])) == {"-"}
    return cells[2:]


_ROWS = [row for section in ITEMS for row in _rows(section)]


def _settings_named(text):
    """(key, default or None) of each setting between backticks."""
    return [
        match.groups() for match in re.finditer(r"`([a-z_]+(?:\.[a-z_0-9]+)+)(?:=([^`]*))?`", text)
    ]


_NAMED = sorted({named for row in _ROWS for named in _settings_named(row[2])}, key=str)


@pytest.mark.parametrize("section", ITEMS)
def test_every_item_of_the_paper_has_its_row(section):
    assert [row[0] for row in _rows(section)] == ITEMS[section]


@pytest.mark.parametrize("row", _ROWS, ids=lambda row: row[0])
def test_rows_are_complete(row):
    assert len(row) == len(_COLUMNS)
    item, paper, ours, status, why = row
    assert item and paper and ours
    assert status in _STATUS
    # What differs says why.
    assert why or status in ("same", "not run", "open")


def test_the_table_names_settings():
    assert len(_NAMED) > 40


@pytest.mark.parametrize(("key", "default"), _NAMED)
def test_settings_exist_and_have_the_default_that_is_named(key, default):
    assert key in config_dict.all_keys(), config_dict.unknown_key(key)
    if default is None:
        return
    value = Settings()
    for name in key.split("."):
        value = getattr(value, name)
    assert value == (default if isinstance(value, str) else ast.literal_eval(default))


def test_files_that_the_document_names_exist():
    root = _DOCUMENT.parent.parent
    links = re.findall(r"\]\(([^)#:]+)\)", _TEXT)
    paths = re.findall(r"`((?:seal_jax|configs)/[\w/]+\.py)", _TEXT)
    assert links and paths
    for path in [_DOCUMENT.parent / link for link in links] + [root / path for path in paths]:
        assert path.exists(), path


def test_it_says_that_numbers_are_not_compared_with_the_papers():
    opening = " ".join(_TEXT.partition("\n## ")[0].split())
    assert "No number that comes from them is set beside one of the paper's without saying so" in (
        opening
    )
