"""What --help and --version say, and that they say it without jax."""

import re
import subprocess
import sys

import pytest

import seal_jax
from seal_jax import cli
from seal_jax.cli.commands import COMMANDS
from seal_jax.planning import workload
from seal_jax.settings import config_dict, reference


@pytest.fixture
def say(capsys, monkeypatch):
    """(arguments) -> what a command prints, on lines that are not wrapped."""
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*arguments):
        assert cli.main(list(arguments)) == 0
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help", "inner"], ["configs"]])
def test_jax_is_not_loaded(arguments):
    code = (
        f"import sys; from seal_jax import cli; assert not cli.main({arguments}); "
        "sys.exit(any(name in sys.modules for name in ('jax', 'flax', 'transformers')))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_the_version(say):
    assert say("--version") == f"seal_jax {seal_jax.__version__}\n"
    assert re.fullmatch(r"\d+\.\d+\.\d+", seal_jax.__version__)


def test_every_command_is_listed(say):
    listed = [line.split()[0] for line in say("--help").splitlines() if line.startswith("  ")]
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_flags_have_a_line_each(name, say):
    shown = dict(re.findall(r"^  --([\w.=A-Z]+)  +(.+)$", say(name, "--help"), re.M))
    keyed = {field: f"{flag}.KEY=VALUE" for flag, (field, _) in COMMANDS[name].keyed().items()}
    assert shown.keys() == {keyed.get(flag, flag) for flag in COMMANDS[name].help()}
    assert list(shown)[-1] == "traceback"
    assert say("help", name) == say("--help", name) == say(name, "-h")


def test_flags_tell_their_choices_and_defaults(say):
    what = "Merged weights, or a PEFT adapter. (policy | adapter; default: policy)"
    assert re.search(rf"--what +{re.escape(what)}", say("export", "--help"))
    assert "(default: knowledge:demo)" in say("train", "--help")


def test_groups_of_settings_are_named_and_shown_a_line_a_key(say):
    every = say("train", "--help")
    for group in reference.groups():
        own = group.settings if not group.name else [group]
        names = [of.key if not group.name else of.name for of in own]
        assert all(f"\n  {name} " in every for name in names)
    lines = say("train", "--help", "inner").splitlines()
    assert lines[0] == "The inner loop: a LoRA update on one self-edit's sequences."
    assert any(line.startswith("  inner.batch_size  ") for line in lines)
    [epochs] = [line for line in lines if line.startswith("  inner.epochs ")]
    assert re.fullmatch(r"  inner\.epochs +passes over the sequences\. \(default: 10\)", epochs)
    assert "(default: q_proj,v_proj)" in say("train", "--help", "inner.lora.targets")
    assert say("plan", "--help", "restem.sft.lora").count("\n") == 3


def test_a_narrow_terminal_has_shorter_lines(say, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = say("train", "--help", "inner").splitlines()
    assert max(map(len, lines)) <= 80
    words = " ".join(" ".join(lines).split())
    assert "what the learning rate does after the warm-up:" in words


def test_the_config_of_a_command_line_is_no_group(say):
    assert say("train", "--help", "knowledge:smoke") == say("train", "--help")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--help", "innr"], "no group of settings 'innr': did you mean 'inner'?"),
        (["train", "--help", "inner.epoch"], "did you mean 'inner.epochs'?"),
        (["grade", "--help", "inner"], "grade has no settings"),
        (["help", "trian"], "unknown command 'trian': did you mean 'train'?"),
    ],
)
def test_what_there_is_no_help_about(arguments, message, capsys):
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_the_lengths_of_a_plan_are_shown_as_they_are(say):
    printed = say("plan", "--help")
    for name, tokens in vars(workload.Workload()).items():
        if f"--{name} " in printed:
            assert re.search(rf"--{name} .*\({tokens}\)\.", printed), name
    assert "--edit_tokens " in printed


def test_every_setting_has_a_meaning():
    settings = [of for group in reference.groups() for of in group.settings]
    assert [of.key for of in settings] == [
        *(key for key in config_dict.all_keys() if "." not in key),
        *(key for key in config_dict.all_keys() if "." in key),
    ]
    assert [of.key for of in settings if not of.meaning] == []
