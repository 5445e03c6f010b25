"""launch/tpu_vm.sh through the life of a queued resource, against a stand-in for gcloud."""

import concurrent.futures
import os
import shlex
import time

import pytest

_COMMAND = (
    "train",
    "--config=configs/a file.py:qwen2.5-7b",
    "--config.evaluation.arms=('base','passage')",
    '--config.prompts.edit_format=say "it\'s" $HOME `x` \\ & ; * {a,b}',
)
_PLACE = ("--name=seal", "--project=p", "--zone=z")
_SLICE = (*_PLACE, "--type=v5litepod-8", "--workdir=gs://bucket/my runs/one")
_START = ["tpu-vm scp", "tpu-vm ssh", "tpu-vm ssh"]  # copy, install, run
_CREATE, _DELETE = "queued-resources create", "queued-resources delete"


def _run(launcher, *flags, **environment):
    return launcher("tpu_vm.sh", *_SLICE, *flags, "--", *_COMMAND, **environment)


def _command_of(run):
    assert run["arguments"][:2] == ["-m", "seal_jax"]
    return tuple(run["arguments"][2:])


def _runs(launcher):
    return [call for call in launcher.records() if call["tool"] == "python"]


def test_creates_copies_installs_and_runs(launcher):
    (launcher.checkout / "untracked file.txt").write_text("new", encoding="utf-8")
    (launcher.checkout / "big.whl").write_text("ignored by git", encoding="utf-8")
    (launcher.checkout / "launch" / "demo.sh").unlink()  # git still lists it
    done = _run(launcher, "--spot", "--create-flag=--reserved", "--env=SEAL_TEST=a b")
    assert done.returncode == 0, done.stderr
    assert launcher.verbs() == [_CREATE, *_START]
    create = next(call for call in launcher.calls("gcloud") if "create" in call)
    assert set(create[4:]) == {
        "seal",
        "--project=p",
        "--zone=z",
        "--node-id=seal",
        "--accelerator-type=v5litepod-8",
        "--runtime-version=v2-alpha-tpuv5-lite",
        "--scopes=https://www.googleapis.com/auth/cloud-platform",
        "--spot",
        "--reserved",
    }
    for call in launcher.calls("gcloud"):
        assert ("--worker=all" in call) == (call[2] == "tpu-vm")
    (run,) = _runs(launcher)
    # Every argument arrives as it was given: spaces, quotes, dollars, parentheses.
    assert _command_of(run) == (*_COMMAND, "--workdir=gs://bucket/my runs/one")
    assert run["environment"] == {
        "JAX_COMPILATION_CACHE_DIR": "gs://bucket/my runs/compilation_cache",
        "SEAL_TEST": "a b",
    }
    checkout = launcher.folder / "vm" / ".seal_jax" / "checkout"
    assert run["cwd"] == str(checkout)
    assert (checkout / "untracked file.txt").read_text(encoding="utf-8") == "new"
    assert not (checkout / "big.whl").exists()
    assert "running 1\n" in done.stdout


def test_worker_brings_its_own_python(launcher):
    assert _run(launcher).returncode == 0
    assert (launcher.folder / "uv").read_text().splitlines() == [
        "python install 3.12",
        "python find 3.12",
    ]
    home = launcher.folder / "vm" / ".seal_jax"
    installs = (launcher.folder / "pip").read_text().splitlines()
    assert installs == [
        f"-m pip install --quiet --disable-pip-version-check -e {home}/checkout[tpu]"
    ]
    # The second time nothing is fetched or installed anew, and the resource is used as it is.
    assert _run(launcher).returncode == 0
    assert launcher.verbs() == [_CREATE, *_START, *_START]
    assert (launcher.folder / "pip").read_text().splitlines() == [*installs, "-m pip --version"]


def test_preemption_gets_another_slice_and_gives_the_same_command(launcher):
    launcher.script(
        runs=["preempted", 0],
        states=[["CREATING", "ACTIVE"], ["ACCEPTED", "PROVISIONING", "ACTIVE"]],
    )
    done = _run(launcher, "--spot")
    assert done.returncode == 0, done.stderr
    assert launcher.verbs() == [_CREATE, *_START, _DELETE, _CREATE, *_START]
    first, second = _runs(launcher)
    assert _command_of(first) == _command_of(second)
    assert "SUSPENDED: deleting it and asking again" in done.stderr


def test_a_slice_that_never_comes_ends_the_attempts(launcher):
    launcher.script(states=[["FAILED"]] * 5)
    done = _run(launcher, "--attempts=3")
    assert done.returncode == 1
    assert launcher.verbs() == [_CREATE, _DELETE] * 3
    assert "asked for a slice 3 times; giving up" in done.stderr


def test_preemptions_without_end_end_the_attempts(launcher):
    launcher.script(runs=["preempted"] * 9)
    done = _run(launcher, "--attempts=2")
    assert done.returncode == 1
    assert len(_runs(launcher)) == 2
    assert "2 attempts; giving up" in done.stderr


@pytest.mark.parametrize("code", [1, 2])
def test_a_failing_command_is_not_started_again(launcher, code):
    launcher.script(runs=[code])
    done = _run(launcher)
    assert done.returncode == code
    assert launcher.verbs() == [_CREATE, *_START]
    assert "is kept, and costs money" in done.stderr


def test_a_command_that_asks_for_it_is_started_again(launcher):
    launcher.script(runs=[75, 143, 0])
    assert _run(launcher, "--attempts=4").returncode == 0
    assert len(_runs(launcher)) == 3
    assert launcher.verbs() == [_CREATE, *_START, *_START, *_START]


def test_a_lost_connection_does_not_start_the_command_twice(launcher):
    launcher.script(**{"tpu-vm ssh": [0, "drop"], "runs": ["waits"]})
    done = _run(launcher)
    assert done.returncode == 0, done.stderr
    assert len(_runs(launcher)) == 1
    assert "the command is under way" in done.stderr


def test_a_worker_follows_the_same_command_and_refuses_another(launcher):
    assert _run(launcher).returncode == 0  # installs
    launcher.script(runs=["waits"])
    worker = "stand in/vm/.seal_jax/checkout/launch/tpu_worker.sh"
    home = {"HOME": str(launcher.folder / "vm"), "SEAL_JAX_START": "another terminal"}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(launcher, f"../../{worker}", *_COMMAND, **home)
        while len(_runs(launcher)) < 2 and not first.done():
            time.sleep(0.02)
        other = launcher(f"../../{worker}", "evaluate", **home)
        again = pool.submit(launcher, f"../../{worker}", *_COMMAND, **home)
        time.sleep(0.2)
        (launcher.folder / "connected_again").touch()
        assert (first.result().returncode, again.result().returncode) == (0, 0)
    assert other.returncode == 70
    assert "another command runs on this worker: train" in other.stderr
    assert "under way" in again.result().stderr or "has ended" in again.result().stderr
    assert len(_runs(launcher)) == 2


def test_a_command_that_ended_while_nobody_looked_is_not_started_again(launcher):
    # The last answer is lost: gcloud ends with 1 though the command ended with 2.
    launcher.script(runs=[2])
    binary = launcher.binaries / "gcloud"
    text = binary.read_text(encoding="utf-8").replace("exec ", "")
    lose = '[ "$?" != 2 ] || [ -e "$STAND_IN/lost" ] || { : >"$STAND_IN/lost"; exit 1; }\n'
    binary.write_text(f"{text}code=$?\n(exit $code)\n{lose}exit $code\n", encoding="utf-8")
    done = _run(launcher)
    assert done.returncode == 2, done.stderr
    assert len(_runs(launcher)) == 1
    assert "the command has ended" in done.stderr


def test_no_connection_is_tried_again(launcher):
    launcher.script(**{"tpu-vm scp": [1, 0], "tpu-vm ssh": [1, 0, 0]})
    assert _run(launcher).returncode == 0
    assert launcher.verbs() == [_CREATE, "tpu-vm scp", "tpu-vm scp", "tpu-vm ssh", *_START]
    assert len(_runs(launcher)) == 1


def test_delete_after_the_command_and_at_once(launcher):
    launcher.script(runs=[2])
    assert _run(launcher, "--delete").returncode == 2
    assert launcher.verbs() == [_CREATE, *_START, _DELETE]
    launcher.script()
    assert _run(launcher).returncode == 0
    assert launcher("tpu_vm.sh", *_PLACE, "--delete").returncode == 0
    assert launcher.verbs()[5:] == [_CREATE, *_START, _DELETE]
    delete = launcher.calls("gcloud")[-1]
    assert delete[4:] == ["seal", "--project=p", "--zone=z", "--force", "--quiet"]


def test_gclouds_refusal_is_shown(launcher):
    launcher.script(**{"queued-resources create": [[1, "ERROR: quota of 0 chips"]]})
    done = _run(launcher)
    assert done.returncode == 1
    assert "quota of 0 chips" in done.stderr
    assert launcher.verbs() == [_CREATE]
    launcher.script(**{"queued-resources describe": [[1, "ERROR: PERMISSION_DENIED"]] * 9})
    done = _run(launcher)
    assert done.returncode == 1
    assert done.stderr.count("PERMISSION_DENIED") == 5


def test_dry_run_prints_commands_that_read_back(launcher):
    (launcher.binaries / "gcloud").unlink()
    done = _run(launcher, "--dry-run", "--spot", "--delete")
    assert done.returncode == 0, done.stderr
    assert not launcher.records()
    lines = [shlex.split(line) for line in done.stdout.splitlines() if not line.startswith("#")]
    assert all(line[:3] == ["gcloud", "compute", "tpus"] for line in lines)
    assert [" ".join(line[3:5]) for line in lines] == [_CREATE, *_START, _DELETE]
    remote = next(word for word in lines[3] if word.startswith("--command="))
    words = shlex.split(remote.removeprefix("--command="))
    assert words[-5:] == [*_COMMAND, "--workdir=gs://bucket/my runs/one"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--type=v6e-8", "--workdir=/runs/x", "--spot"), "--spot needs gs://"),
        (("--type=v9-8",), "give --runtime"),
        (("--type=v6e",), "its size"),
        (("--zone=",), "--zone=... is missing"),
        (("--project=",), "--project=... is missing"),
        (("--name=",), "--name=... is missing"),
        (("--attempts=0",), "expected a positive whole number"),
        (("--typ=v6e-8",), "unknown argument --typ=v6e-8"),
    ],
)
def test_refusals_say_what_to_change(launcher, flags, message):
    done = _run(launcher, *flags)
    assert done.returncode == 1
    assert message in done.stderr
    assert not launcher.records()


@pytest.mark.parametrize(("size", "several"), [(8, False), (16, True)])
def test_several_hosts_are_told_so(launcher, size, several):
    done = _run(launcher, f"--type=v6e-{size}", "--dry-run")
    assert done.returncode == 0
    assert f"--accelerator-type=v6e-{size}" in done.stdout
    assert ("SEAL_JAX_MULTI_HOST=1" in done.stdout) == several


def test_no_command_a_second_workdir_and_no_gcloud(launcher):
    assert "no command" in launcher("tpu_vm.sh", *_SLICE, "--").stderr
    done = launcher("tpu_vm.sh", *_SLICE, "--", "train", "--workdir=x")
    assert "give --workdir before" in done.stderr
    os.unlink(launcher.binaries / "gcloud")
    done = _run(launcher)
    assert done.returncode == 1
    assert "no gcloud on the PATH" in done.stderr


def test_a_flag_that_gcloud_does_not_have_is_refused(launcher):
    done = _run(launcher, "--create-flag=--preemptible")
    assert done.returncode == 1
    refused = launcher.folder / "refused.jsonl"
    assert "create: --preemptible (without)" in refused.read_text(encoding="utf-8")
    refused.unlink()  # it would fail this test, as it should any other
