"""How a command line names a config, changes its settings, and sweeps over them."""

import dataclasses
import json

import pytest

from seal_jax import api, cli
from seal_jax.cli import ending
from seal_jax.loop import evaluate, train
from seal_jax.loop.continual import run as continual
from seal_jax.runs import json_file, run_dir
from seal_jax.settings import Settings, config_dict, config_files


@pytest.fixture(autouse=True)
def called(monkeypatch, tmp_path):
    """(settings, flags) of the programs, in place of their work; away from the repository."""
    calls = []
    for module, name in ((train, "train"), (evaluate, "evaluate"), (continual, "continual")):
        monkeypatch.setattr(module, name, lambda *of, **named: calls.append((of[0], named)))
    monkeypatch.setattr(ending, "tell", lambda *_, **__: None)  # there is no run
    monkeypatch.chdir(tmp_path)
    return calls


def _error(arguments, capsys):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    return error


@pytest.mark.parametrize(
    "given",
    [
        ["knowledge:smoke"],
        ["--config=knowledge:smoke"],
        ["--config", "knowledge.py:smoke"],
        [f"--config={config_files.folder()}/knowledge.py:smoke"],
    ],
)
def test_a_packaged_config_has_one_name_everywhere(given, called):
    assert cli.main(["train", *given, "--workdir=w"]) == 0
    [(settings, _)] = called
    assert settings == api.configure("knowledge:smoke") == api.configure("knowledge.py:smoke")
    assert settings.inner.buckets == (32, 160)


def test_a_config_of_ones_own_has_its_path(called, tmp_path, monkeypatch):
    text = (config_files.folder() / "knowledge.py").read_text()
    (tmp_path / "knowledge.py").write_text(text.replace("config.inner.epochs = 3", "pass"))
    assert cli.main(["train", "knowledge.py", "--workdir=w"]) == 0
    assert cli.main(["train", "knowledge", "--workdir=w"]) == 0
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.main(["train", "~/knowledge.py:demo", "--workdir=w"]) == 0
    assert [settings.inner.epochs for settings, _ in called] == [10, 3, 10]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("knowlege:smoke", "there is no config 'knowlege:smoke': did you mean 'knowledge:smoke'?"),
        ("few-shot", "there is no config 'few-shot': did you mean 'few_shot'?"),
        ("squad-smoke", "there is no config 'squad-smoke': did you mean 'knowledge:squad-smoke'?"),
        ("configs/knowledge.py:demo", "did you mean 'knowledge:demo'?"),
        ("knowledge:smke", "no variant 'smke': did you mean 'smoke'? There are demo, implications"),
    ],
)
def test_near_misses_are_told(name, near, called, capsys):
    assert near in _error(["train", name, "--workdir=w"], capsys)
    with pytest.raises(ValueError, match="did you mean"):
        api.configure(name)
    assert not called


def test_near_misses_of_what_is_listed(capsys):
    assert "no variant 'smke' in knowledge: did you mean 'smoke'?" in (
        _error(["configs", "knowledge:smke"], capsys)
    )
    error = _error(["configs", "knowlege"], capsys)
    assert error.strip().endswith("did you mean 'knowledge'?")


def test_values_are_written_as_people_write_them(called):
    given = [
        "--config.evaluation.arms=base,edit_after", "--config.inner.buckets=16, 32",
        "--config.inner.lora.targets=('q_proj',)", "--config.few_shot.eval_tasks=25471111,",
        "--config.edits.directives=", "--config.inner.learning_rate=1", "--config.seed", "3",
        "--config.metrics.tensorboard", "--config.edits.append_passage=false",
    ]  # fmt: skip
    assert cli.main(["train", "--workdir=w", *given]) == 0
    [(settings, _)] = called
    assert settings.evaluation.arms == ("base", "edit_after")
    assert settings.inner.buckets == (16, 32)
    assert settings.inner.lora.targets == ("q_proj",)
    assert settings.few_shot.eval_tasks == ("25471111",)
    assert settings.edits.directives == ()
    assert (settings.inner.learning_rate, settings.seed) == (1.0, 3)
    assert settings.metrics.tensorboard and not settings.edits.append_passage


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("inner.buckets=16,x", "inner.buckets must be of type int, not 'x'"),
        ("inner.buckets=(16,", "inner.buckets takes values with commas between them"),
        ("inner.epochs=2.5", "inner.epochs must be of type int, not '2.5'"),
        ("edits.append_passage=yes", "edits.append_passage must be True or False, not 'yes'"),
        ("inner.decay=step", "inner.decay must be one of constant, linear, cosine"),
        ("inner.learning_rate=nan", "inner.learning_rate must be a finite number"),
        ("innr.epochs=1", "unknown setting 'innr.epochs': did you mean 'inner.epochs'?"),
    ],
)
def test_values_of_another_type_are_named(override, message, called, capsys):
    assert message in _error(["train", "--workdir=w", f"--config.{override}"], capsys)
    assert not called


@pytest.fixture
def results(monkeypatch):
    """Runs that end at once; their settings."""
    ran = []

    def program(settings, workdir, **_):
        ran.append(settings)
        run_dir.open_run(workdir, config_dict.recorded(settings)).close()
        found = {"arms": {"base": {"gold_log_likelihood": -settings.inner.learning_rate}}}
        json_file.write_json(f"{workdir}/results.json", found)
        return found

    monkeypatch.setattr(train, "train", program)
    return ran


def test_a_sweep_on_the_command_line(results, tmp_path, capsys):
    sweep = [
        "--sweep.inner.learning_rate=1e-3,3e-3",
        "--sweep.evaluation.arms=('base',),('prompt',)",
    ]
    given = ["train", "knowledge:smoke", "--workdir=w", "--config.seed=7", *sweep]
    assert cli.main(given) == 0
    points = [(of.inner.learning_rate, of.evaluation.arms) for of in results]
    arms = (("base",), ("prompt",))
    assert points == [(rate, one) for rate in (1e-3, 3e-3) for one in arms]
    assert {(of.seed, of.inner.buckets) for of in results} == {(7, (32, 160))}
    rows = capsys.readouterr().out.splitlines()[-4:]
    assert rows[0].split() == ["inner.learning_rate=0.001,evaluation.arms=base", "-0.001"]
    assert len(json.loads((tmp_path / "w" / "sweep.json").read_text())["points"]) == 4
    assert cli.main(given) == 0 and len(results) == 4  # all of them are finished


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--sweep.inner.epoch=1,2"],
            "unknown setting 'inner.epoch': did you mean 'inner.epochs'?",
        ),
        (["--sweep.inner=1,2"], "'inner' is a group of settings"),
        (["--sweep.inner.epochs=1,two"], "inner.epochs must be of type int, not 'two'"),
        (["--sweep.inner.epochs=1,1"], "two points of the sweep have one directory"),
        (["--sweep.inner.epochs=1,0"], "inner.epochs=0: inner: epochs must be at least 1"),
        (["--sweep.inner.buckets=16,32"], "inner.buckets is a tuple itself: write its values as"),
        (["--sweep.inner.epochs=1,2", "--sweep=dose"], "are two sweeps: give one"),
        (["--sweep.seed=1,2", "--config.seed=3"], "seed is set by --config.seed and by the sweep"),
        (["--sweep=seeds", "--config.seed=3"], "seed is set by --config.seed and by the sweep"),
        (["--sweep=does"], "--sweep=does: did you mean 'dose'?"),
    ],
)
def test_sweeps_that_are_refused(arguments, message, results, capsys):
    assert message in _error(["train", "--workdir=w", *arguments], capsys)
    assert not results


def test_what_runs_nothing_has_no_sweep(capsys):
    assert "plan has no flag 'sweep.seed'" in _error(["plan", "--sweep.seed=1,2"], capsys)


@pytest.fixture
def run(tmp_path):
    """A run of settings that no config has."""
    settings = api.configure("knowledge:smoke", {"inner.epochs": 7, "seed": 5})
    given = {"policy_from": "", "policy_version": 0}
    run_dir.open_run(tmp_path / "run", config_dict.recorded(settings) | given).close()
    (tmp_path / "run" / "ledger").mkdir()
    return settings


def test_an_evaluation_has_the_settings_of_the_run_whose_policy_it_tests(run, called, capsys):
    assert cli.main(["evaluate", "--policy_from=run", "--workdir=w"]) == 0
    given = ["--config.inner.epochs=2", "--config.evaluation.arms=base,edit_after"]
    assert cli.main(["evaluate", "--policy_from=run", "--workdir=w", *given]) == 0
    assert cli.main(["evaluate", "knowledge:squad", "--policy_from=run", "--workdir=w"]) == 0
    (inherited, named), (changed, _), (other, _) = called
    assert inherited == run and named["policy_from"] == "run"
    assert (changed.inner.epochs, changed.seed) == (2, 5)
    assert dataclasses.replace(changed, inner=run.inner, evaluation=run.evaluation) == run
    assert other == api.configure("knowledge:squad")
    assert cli.main(["evaluate", "--policy_from=run", "--print_config", *given]) == 0
    shown = dict(line.split(" = ", 1) for line in capsys.readouterr().out.splitlines())
    assert shown["seed"].split() == ["5", "#", "run"]
    assert shown["inner.epochs"].split() == ["2", "#", "override"]


def test_dashes_are_as_good_as_underscores(called):
    assert cli.main(["evaluate", "knowledge:demo", "--policy-from=a-b", "--workdir", "w-1"]) == 0
    [(_, named)] = called
    assert named["policy_from"] == "a-b"


def test_an_evaluation_without_a_run_has_a_config(called, capsys):
    assert cli.main(["evaluate", "--workdir=w"]) == 0
    assert called[0][0] == api.configure("knowledge:demo") != Settings()
    error = _error(["evaluate", "--policy_from=none", "--workdir=w"], capsys)
    assert "--policy_from=none is not the directory of a run" in error


def test_the_continual_experiment_keeps_its_config(run, called):
    assert cli.main(["continual", "--policy_from=run", "--workdir=w"]) == 0
    assert called[0][0] == api.configure("continual:demo")
