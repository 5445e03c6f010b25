"""Sweeps: grids of settings, a run a point, one table."""

import json

import pytest

from seal_jax.runs import json_file, run_dir
from seal_jax.settings import Settings, SettingsError, config_dict, config_files, sweeps

GRID = {"inner.lora.rank": (8, 16), "seed": (0, 1)}


@pytest.fixture
def config():
    return config_dict.to_config(Settings())


class Program:
    """Plays a run: it records its settings and leaves results behind."""

    def __init__(self):
        self.runs = []

    def __call__(self, settings, workdir):
        self.runs.append((settings.inner.lora.rank, settings.seed, workdir))
        value = -float(settings.inner.lora.rank) - settings.seed
        results = {"arms": {"base": {"gold_log_likelihood": value}}}
        recorded = config_dict.recorded(settings) | {"policy_from": ""}
        run_dir.open_run(workdir, recorded, overwrite=True).close()
        json_file.write_json(f"{workdir}/results.json", results)
        return results


@pytest.fixture
def program():
    return Program()


def test_every_point_is_run_once(config, program, tmp_path):
    workdir, said = str(tmp_path / "sweep"), []
    outcome = sweeps.run(GRID, config, workdir, program, say=said.append)
    assert [(rank, seed) for rank, seed, _ in program.runs] == [(8, 0), (8, 1), (16, 0), (16, 1)]
    assert program.runs[1][2] == f"{workdir}/inner.lora.rank=8,seed=1"
    assert json.loads((tmp_path / "sweep" / "sweep.json").read_text()) == outcome
    assert [point["figures"]["base"] for point in outcome["points"]] == [-8, -9, -16, -17]
    assert config.inner.lora.rank == Settings().inner.lora.rank  # it was not changed
    rows = said[-1].strip().splitlines()
    assert rows[0] == "gold log-likelihood of each arm, in nats"
    assert rows[1].split() == ["base"]
    assert rows[-1].split() == ["inner.lora.rank=16,seed=1", "-17.000"]
    # Again: nothing is left to do, and the outcome is the same.
    assert sweeps.run(GRID, config, workdir, program, say=said.append) == outcome
    assert len(program.runs) == 4
    sweeps.run(GRID, config, workdir, program, overwrite=True, say=said.append)
    assert len(program.runs) == 8


def test_another_config_is_not_taken_for_the_same(config, program, tmp_path):
    workdir = str(tmp_path / "sweep")
    sweeps.run({"seed": (0,)}, config, workdir, program, say=lambda line: None)
    config.inner.epochs = 2
    sweeps.run({"seed": (0,)}, config, workdir, program, say=lambda line: None)
    assert len(program.runs) == 2


@pytest.mark.parametrize(
    "grid, message",
    [
        ({}, "a sweep needs settings"),
        ({"seed": ()}, "a sweep needs settings"),
        ({"inner.rnk": (1,)}, "did you mean"),
        ({"inner.lora.rank": (8, 0)}, "inner.lora.rank=0: .*rank must be at least 1"),
        ({"inner.epochs": ("many",)}, "must be of type int"),
        ({"data.train_path": ("a/b", "a:b")}, "look alike"),
    ],
)
def test_impossible_sweeps_run_nothing(config, program, tmp_path, grid, message):
    with pytest.raises(SettingsError, match=message):
        sweeps.run(grid, config, str(tmp_path / "sweep"), program, say=lambda line: None)
    assert not program.runs


def test_figures_of_the_continual_experiment():
    share = {"retained_share": {"value": 0.5}}
    results = {"continual": {"kl": {"summary": {"gold_log_likelihood": share}}}}
    assert sweeps.figures(results) == {"kl": 0.5}
    assert sweeps._caption(results) == "retained share under each mitigation"


def test_a_missing_figure_is_a_dash():
    records = [
        {"settings": {"seed": 0}, "figures": {"base": -1.0}},
        {"settings": {"seed": 1}, "figures": {"kl": None}},
    ]
    rows = [line.split() for line in sweeps.table(records).splitlines()]
    assert rows == [["base", "kl"], ["seed=0", "-1.000", "-"], ["seed=1", "-", "-"]]


@pytest.mark.parametrize("name", ["knowledge", "few_shot", "continual"])
def test_the_sweeps_of_the_projects_configs_can_be_run(name):
    module = config_files.load(config_files.find(name)[0])
    for grid in getattr(module, "SWEEPS", {}).values():
        found = sweeps.points(grid)
        assert len(sweeps.settings_of(config_files.made(name), found)) == len(found)
