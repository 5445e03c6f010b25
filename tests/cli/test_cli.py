"""The command line: dispatch, overrides, and errors for the person at the terminal."""

import os
import signal
import sys
import time

import pytest

from seal_jax import cli
from seal_jax.cli import adapt
from seal_jax.loop import curate, evaluate, export, train
from seal_jax.loop.continual import run as continual
from seal_jax.runtime import interruption

_SMOKE = "knowledge:smoke"


@pytest.fixture
def called(monkeypatch):
    """What the programs were called with, in place of their work."""
    calls = []
    for module, name in (
        (train, "train"),
        (evaluate, "evaluate"),
        (curate, "curate"),
        (continual, "continual"),
    ):
        monkeypatch.setattr(
            module, name, lambda *args, name=name, **named: calls.append((name, args, named))
        )
    return calls


def test_overrides_reach_the_program(called):
    arguments = ["--workdir=w", "--config.inner.lora.rank=16", "--config.inner.buckets=(8,16)"]
    assert cli.main(["train", *arguments, "--overwrite"]) == 0
    [(name, (settings, workdir), named)] = called
    expected = {"overwrite": True, "quiet": False, "reuse": ()}
    assert (name, workdir, named) == ("train", "w", expected)
    assert settings.inner.lora.rank == 16
    assert settings.inner.buckets == (8, 16)


def test_variant_and_policy_reach_the_program(called):
    config = "--config=knowledge:qwen2.5-7b"
    flags = ["--workdir=w", "--policy_from=run", "--reuse=a", "--reuse=b"]
    assert cli.main(["evaluate", config, *flags]) == 0
    [(name, (settings, _), named)] = called
    assert (name, named["policy_from"], named["reuse"]) == ("evaluate", "run", ("a", "b"))
    assert settings.inner.epochs == 10


def test_every_task_domain_has_the_same_programs(called):
    config = "few_shot:llama3.2-1b"
    assert cli.main(["train", config, "--workdir=w"]) == 0
    assert cli.main(["continual", config, "--workdir=w", "--policy_from=run"]) == 0
    assert cli.main(["curate", "--workdir=w", "--split=eval", "--on=tests"]) == 0
    assert [name for name, *_ in called] == ["train", "continual", "curate"]
    (_, (trained, _), _), (_, (continued, _), given), (_, (curated, _), named) = called
    assert trained.task == continued.task == "few_shot" and trained.inner.lora.rank == 128
    assert given["policy_from"] == "run"
    assert curated.model.path == "smollm2-135m"  # the demo of few_shot.py is the default
    assert (named["split"], named["on"]) == ("eval", "tests")


def test_curate_needs_an_oracle(tmp_path, capsys):
    """It is refused before a model is loaded or a directory made."""
    workdir = tmp_path / "run"
    assert cli.main(["curate", f"--workdir={workdir}", f"--config={_SMOKE}"]) == 2
    error = capsys.readouterr().err
    assert "curate tries the lesson 'oracle', which task=knowledge does not have" in error
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["draw", "--workdir=w", "--task=x"], "draw needs --task=ID and --out=FILE.png"),
        (["train", "--workdir=w", "--config.inner.lora.rnk=1"], "did you mean 'inner.lora.rank'"),
        (["train", "--workdir=w", "--config.inner=1"], "'inner' is a group of settings"),
        (["train", "--workdir=w", "--config.inner.lora.rank=abc"], "'abc'"),
        (["train", "--workdir=w", "--config.inner.lora.rank=0"], "rank must be at least 1"),
        (["train", "--workdir=w", "--config=no/such.py"], "no/such.py"),
        (["train", "--wrkdir=w"], "workdir"),
        (["train", "--workdir=w", "stray"], "there is no config 'stray'"),
        (["train", "--workdir=w", "knowledge:demo", "stray"], "unexpected argument 'stray'"),
        (["train"], "train needs --workdir=DIR"),
        (["trian"], "unknown command 'trian': did you mean 'train'?"),
        (["adapt"], "adapt needs a text or Markdown file, and questions"),
        (["select"], "select needs --scored=RUN"),
        (["select", "--scored=no-such.json"], "no-such.json: cannot read the file"),
        (["select", "--scored=x", "--rule=best"], "one of <best_of_m|top_k"),
        (["select", "--scored=x", "--config.seed=1"], "config.seed"),
        (["adapt", "--passage=no-such-file", "--question=q"], "no-such-file"),
        (["export", "--workdir=w"], "export needs --workdir=RUN, a run's directory, and --out"),
        (["export", "--workdir=w", "--out=o", "--base-model=b"], "add --what=adapter"),
        (["export", "--workdir=w", "--out=o", "--onto=policy"], "add --what=adapter"),
        (["export", "--workdir=w", "--out=o", "--what=adapter", "--dtype=float32"], "--dtype is"),
        (["export", "--workdir=w", "--out=o", "--what=delta"], "policy|adapter"),
        (["export", "--workdir=w", "--out=o", "--version=-1"], "-1"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(arguments, message, called, capsys):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ") and "Traceback" not in error
    assert not called


def test_the_continual_experiment_is_not_planned_as_a_round(capsys):
    for variant in ("demo", "qwen2.5-7b"):
        assert cli.main(["plan", f"continual:{variant}", "--topology=gpu:80gb"]) == 2
        assert "this config is one of `continual`" in capsys.readouterr().err


def test_an_unknown_variant_is_named(called, capsys):
    assert cli.main(["train", "--config=knowledge:qwen", "--workdir=w"]) == 2
    assert "no variant 'qwen'" in capsys.readouterr().err


def test_traceback_shows_where(called):
    with pytest.raises(ValueError, match="rank must be at least 1"):
        cli.main(["train", "--workdir=w", "--config.inner.lora.rank=0", "--traceback"])


def test_adapt_prints_its_table(monkeypatch, tmp_path, capsys):
    def fake(settings, text, questions, *, title, edit, target, say, quiet):
        assert (text, title, edit, target, quiet) == ("Text.", "T", True, None, False)
        assert questions == [("One?", ""), ("Two?", "")]
        say("1 passage")
        return adapt.Report(text="a table", record={"questions": []})

    monkeypatch.setattr(adapt, "adapt", fake)
    file = tmp_path / "text.txt"
    file.write_text("Text.")
    flags = ["--title=T", "--question=One?", "--question=Two?"]
    assert cli.main(["adapt", str(file), *flags]) == 0
    assert capsys.readouterr().out == "1 passage\n\na table\n"


def test_export_flags_reach_the_program(monkeypatch, capsys):
    given = {}

    def fake(workdir, out, **named):
        given.update(named, workdir=workdir, out=out)
        return "policy 1 of w: an adapter"

    monkeypatch.setattr(export, "export", fake)
    flags = [
        "--workdir=w",
        "--out=o",
        "--what=adapter",
        "--version=1",
        "--onto=policy",
        "--base-model=b",
    ]
    assert cli.main(["export", *flags, "--overwrite"]) == 0
    assert given == {
        "workdir": "w", "out": "o", "what": "adapter", "version": 1, "onto": "policy",
        "base_model": "b", "with_base": False, "dtype": "", "overwrite": True,
    }  # fmt: skip
    assert capsys.readouterr().out == "policy 1 of w: an adapter\nwritten to o\n"


def test_adapt_passes_on_where_its_adapter_goes(monkeypatch, tmp_path, capsys):
    def fake(*_, target, **__):
        expected = export.AdapterTarget(out="o", onto="policy", base_model="b", overwrite=True)
        assert target == expected
        return adapt.Report(text="an adapter of rank 2\nwritten to o", record={})

    monkeypatch.setattr(adapt, "adapt", fake)
    file = tmp_path / "text.txt"
    file.write_text("Text.")
    flags = [f"--passage={file}", "--question=q", "--out=o", "--onto=policy", "--base-model=b"]
    assert cli.main(["adapt", *flags, "--overwrite"]) == 0
    assert "an adapter of rank 2\nwritten to o" in capsys.readouterr().out


def test_an_interruption_says_how_to_go_on(monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train", interrupt)
    assert cli.main(["train", "--workdir=w"]) == 130
    assert "same command continues" in capsys.readouterr().err


def test_a_signal_ends_a_run_with_the_code_that_launchers_restart_on(monkeypatch, capsys):
    def wait(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            interruption.check()
            time.sleep(0.01)

    monkeypatch.setattr(train, "train", wait)
    assert cli.main(["train", "--workdir=w"]) == 75
    error = capsys.readouterr().err
    assert error.strip() == "interrupted by SIGTERM; the same command continues the run."


def test_a_signal_ends_a_command_that_nothing_continues_as_ever(monkeypatch, tmp_path):
    handlers = []

    def fake(*_, **__):
        handlers.append(signal.getsignal(signal.SIGTERM))
        return adapt.Report(text="", record={})

    monkeypatch.setattr(adapt, "adapt", fake)
    (tmp_path / "text.txt").write_text("Text.")
    assert cli.main(["adapt", f"--passage={tmp_path / 'text.txt'}", "--question=q"]) == 0
    assert handlers == [signal.SIG_DFL]


@pytest.fixture
def closed_pipe():
    """A file whose reader has gone, as `head` does once it has seen enough."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


@pytest.mark.fault("S9")
@pytest.mark.parametrize("command", [["configs"], ["train", "--help"], ["--help"], []])
def test_output_that_nobody_reads_any_more_ends_a_command_quietly(
    command, closed_pipe, monkeypatch, capsys
):
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", closed_pipe)
        assert cli.main(command) == 141
        closed_pipe.close()  # as when the process ends: nothing is left to write
    assert capsys.readouterr().err == ""


@pytest.mark.fault("S9")
@pytest.mark.parametrize("command", [["configs"], ["train", "--help"], ["--help"]])
def test_output_on_a_full_device_is_a_sentence(command, monkeypatch, capsys):
    with monkeypatch.context() as patched, open("/dev/full", "w") as full:
        patched.setattr(sys, "stdout", full)
        assert cli.main(command) == 2
    assert capsys.readouterr().err == (
        "error: standard output cannot be written to (No space left on device).\n"
    )
