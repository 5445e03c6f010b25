"""What people type, and what their config files do: a sentence, never a traceback."""

import dataclasses
import re

import pytest

from seal_jax import cli
from seal_jax.cli.commands import COMMANDS
from seal_jax.loop import train
from seal_jax.settings import Data, Model, Prompts

SMOKE = "knowledge:smoke"
FILES = {
    "broken.py": "def get_config(:\n",
    "raises.py": "1 / 0\n",
    "without.py": "x = 1\n",
    "nothing.py": "def get_config(variant=''):\n    return None\n",
    "fails.py": "def get_config(variant=''):\n    return {}['seed']\n",
    "sweeps.py": "from seal_jax.settings import Settings, config_dict\n\nSWEEPS = {}\n\n\n"
    "def get_config():\n    return config_dict.to_config(Settings()).lock()\n",
}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder with config files, which is where commands run."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _error(arguments, capsys):
    """The one message of a command that is refused."""
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    return error


@pytest.mark.fault("S15")
@pytest.mark.parametrize("config, message", [
    ("/etc/passwd", "there is no config '/etc/passwd'"),
    ("broken.py", "config 'broken.py' fails with SyntaxError"),
    ("raises.py", "config 'raises.py' fails with ZeroDivisionError: division by zero"),
    ("without.py", "config 'without.py' fails with AttributeError: .* 'get_config'"),
    ("nothing.py", "config 'nothing.py': expected a get_config that returns a ConfigDict"),
    ("fails.py", "config 'fails.py' fails with KeyError: 'seed'"),
    ("http://host/c.py", "there is no config 'http://host/c.py'"),
    ("/etc", "there is no config '/etc'"),
    ("", "there is no config ''"),
])  # fmt: skip
def test_config_files_that_are_none(config, message, files, capsys):
    assert re.search(message, _error(["train", f"--config={config}", "--workdir=w"], capsys))


def test_a_config_file_has_nothing_of_one_that_was_loaded_before(files, capsys):
    assert cli.main(["train", "--config=sweeps.py", "--workdir=w", "--print_config"]) == 0
    assert "'get_config'" in _error(["train", "--config=without.py", "--workdir=w"], capsys)


@pytest.mark.fault("S15")
@pytest.mark.parametrize("sweeps, message", [
    ("3", "SWEEPS must be a dict"),
    ("{'a': {'seed': 3}}", "a sweep needs settings, and a tuple of values for each"),
    ("{'a': [1]}", "a sweep needs settings, and a tuple of values for each"),
])  # fmt: skip
def test_sweeps_that_are_none(sweeps, message, files, capsys):
    _sweep(sweeps, message, files, capsys)


@pytest.mark.fault("S15", control=True)
def test_a_sweep_over_values_of_another_type(files, capsys):
    _sweep("{'a': {'seed': [[]]}}", "seed must be of type int", files, capsys)


def _sweep(sweeps, message, files, capsys):
    text = FILES["sweeps.py"].replace("SWEEPS = {}", f"SWEEPS = {sweeps}")
    (files / "sweeps.py").write_text(text)
    arguments = ["train", "--config=sweeps.py", "--workdir=w", "--sweep=a"]
    assert message in _error(arguments, capsys)


@pytest.mark.fault("S15")
@pytest.mark.parametrize("override, message", [
    ("inner.lora.targets=('(',)", "targets '(' is not a regular expression: missing )"),
    ("restem.sft.lora.targets=('q_proj','*')", "targets '*' is not a regular expression"),
    ("model.path=http://host/model", "http://host/model: expected a local directory or gs://"),
    ("model.adapter=http://host/model", "http://host/model: expected a local directory or gs://"),
])  # fmt: skip
def test_settings_that_only_fail_later(override, message, files, checkpoint, capsys):
    path = [] if "model.path" in override else [f"--config.model.path={checkpoint}"]
    arguments = ["train", SMOKE, "--workdir=w", *path, f"--config.{override}"]
    assert message in _error(arguments, capsys)


@pytest.mark.fault("S15")
@pytest.mark.parametrize("arguments, message", [
    (["--topology=gpu:80gb", "--config.devices.model_axis=3"], "does not divide the 1 devices"),
    (["--topology=v5e:2x2", "--config.devices.model_axis=8"], "does not divide the 4 devices"),
])  # fmt: skip
def test_plans_that_cannot_be(arguments, message, capsys):
    model = "--config.model.path=Qwen2.5-7B"
    assert message in _error(["plan", SMOKE, model, *arguments], capsys)


@pytest.mark.fault("S15")
def test_config_files_of_a_folder_that_cannot_be_listed(files, capsys):
    assert "broken.py' fails with SyntaxError" in _error(["configs", "--dir=."], capsys)


PLACES = {
    "train": ("workdir", "reuse"),
    "evaluate": ("workdir", "reuse", "policy_from"),
    "continual": ("workdir", "policy_from"),
    "curate": ("workdir",),
    "adapt": ("passage", "questions", "model", "out", "base_model", "json"),
    "bench": ("edits", "workdir", "model", "reuse", "json"),
    "plan": ("json",),
    "doctor": ("out", "table"),
    "draw": ("workdir", "out"),
    "export": ("workdir", "out", "base_model"),
    "configs": ("dir",),
    "report": ("workdir", "out", "figures"),
    "compare": ("run", "json", "figures"),
    "analyze": ("source", "lines", "json"),
    "grade": ("rows", "json"),
    "select": ("scored", "out"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_tilde_is_the_home_directory_in_every_path(name, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ida")
    kind = COMMANDS[name]
    for field in dataclasses.fields(kind):
        if not isinstance(field.default, str | tuple):
            continue
        given = ("~/a", "~/b,~/c") if isinstance(field.default, tuple) else "~/a"
        found = getattr(kind(**{field.name: given}), field.name)
        written = ("/home/ida/a", "/home/ida/b,/home/ida/c") if given != "~/a" else "/home/ida/a"
        assert found == (written if field.name in PLACES[name] else given), field.name


def test_a_tilde_in_a_command_and_its_settings(monkeypatch, capsys):
    calls = []
    monkeypatch.setenv("HOME", "/home/ida")
    monkeypatch.setattr(train, "train", lambda *given, **named: calls.append((given, named)))
    data = "--config.data.train_path=~/squad.json"
    assert cli.main(["train", SMOKE, "--workdir=~/run", "--reuse=~/old", data]) == 0
    [((settings, workdir), named)] = calls
    assert (workdir, named["reuse"]) == ("/home/ida/run", ("/home/ida/old",))
    assert settings.data.train_path == "/home/ida/squad.json"
    assert Model(adapter="~/a").adapter == "/home/ida/a" == Prompts(dir="~/a").dir
    assert Data(train_path="tfds:squad/~").train_path == "tfds:squad/~"
