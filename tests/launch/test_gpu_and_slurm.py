"""launch/gpu.sh and launch/slurm.sbatch, against stand-ins for nvidia-smi, srun and scontrol."""

import pathlib
import re
import shlex

import pytest

from seal_jax.planning import machines

_COMMAND = ("train", "--config.evaluation.arms=('base','passage')", "--workdir=my runs/one")
_POOL = {"XLA_PYTHON_CLIENT_MEM_FRACTION": str(machines.POOL)}
_ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.fixture
def job(launcher):
    """Runs slurm.sbatch as Slurm would: (*arguments, **environment) -> the ended process."""

    def run(*arguments, **environment):
        return launcher(
            "slurm.sbatch",
            *arguments,
            "--",
            *_COMMAND,
            **{
                "SLURM_JOB_ID": "17",
                "SLURM_JOB_NUM_NODES": "1",
                "SLURM_GPUS_ON_NODE": "4",
                "SLURM_CPUS_PER_TASK": "16",
                "SLURM_SUBMIT_DIR": str(launcher.checkout),
                "PYTHON": str(launcher.folder / "python3.12"),
                **environment,
            },
        )

    return run


def _python(launcher):
    return [call for call in launcher.records() if call["tool"] == "python"]


def test_gpu_installs_and_runs(launcher):
    python = str(launcher.folder / "python3.12")
    launcher.script(runs=[3])
    done = launcher("gpu.sh", "--", *_COMMAND, PYTHON=python)
    assert done.returncode == 3
    assert "2 GPUs, driver 570.86.15" in done.stderr
    assert _python(launcher)[0]["arguments"] == ["-m", "seal_jax", *_COMMAND]
    assert _python(launcher)[0]["environment"] == _POOL
    assert (launcher.folder / "pip").read_text().strip().endswith("[cuda12]")


def test_another_share_of_the_memory_goes_before_the_launchers(launcher):
    own = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5"}
    launcher("gpu.sh", "--", *_COMMAND, PYTHON=str(launcher.folder / "python3.12"), **own)
    assert _python(launcher)[0]["environment"] == own


def test_gpu_dry_run(launcher):
    done = launcher("gpu.sh", "--dry-run", "--cuda=13", "--", *_COMMAND)
    assert done.returncode == 0
    lines = [shlex.split(line) for line in done.stdout.splitlines() if not line.startswith("#")]
    venv = f"{launcher.checkout}/.venv"
    assert lines[1:] == [
        ["python3", "-m", "venv", "--clear", venv],
        [f"{venv}/bin/python", "-m", "pip", "install", "-e", f"{launcher.checkout}[cuda13]"],
        ["exec", f"{venv}/bin/python", "-m", "seal_jax", *_COMMAND],
    ]
    assert not launcher.records()


def test_a_run_at_gs_installs_what_reads_it(launcher):
    command = ("train", "--workdir=gs://bucket/runs/one")
    done = launcher("gpu.sh", "--", *command, PYTHON=str(launcher.folder / "python3.12"))
    assert done.returncode == 0
    assert (launcher.folder / "pip").read_text().strip().endswith("[cuda12,gcs]")
    assert _python(launcher)[0]["arguments"] == ["-m", "seal_jax", *command]
    for script in ("gpu.sh", "slurm.sbatch"):
        done = launcher(script, "--dry-run", "--", *command)
        assert "[cuda12,gcs]" in " ".join(shlex.split(done.stdout, comments=True))


def test_gpu_refusals(launcher):
    done = launcher("gpu.sh", "--cuda=13", "--", "train")
    assert done.returncode == 1
    assert "driver is 570.86.15, and CUDA 13 needs 580" in done.stderr
    assert "expected 12 or 13" in launcher("gpu.sh", "--cuda=11", "--", "train").stderr
    assert "no command" in launcher("gpu.sh").stderr
    (launcher.binaries / "nvidia-smi").unlink()
    assert "no nvidia-smi on the PATH" in launcher("gpu.sh", "--", "train").stderr


def test_slurm_runs_one_process_a_node(launcher, job):
    done = job()
    assert done.returncode == 0, done.stderr
    (srun,) = launcher.calls("srun")
    assert srun[:6] == [
        "--nodes=1",
        "--ntasks=1",
        "--ntasks-per-node=1",
        "--cpus-per-task=16",
        "--gpus-per-node=4",
        "--kill-on-bad-exit=1",
    ]
    (run,) = _python(launcher)
    assert run["arguments"] == ["-m", "seal_jax", *_COMMAND]
    assert run["cwd"] == str(launcher.checkout)
    assert run["environment"] == _POOL
    assert not launcher.calls("scontrol")


def test_slurm_several_nodes(launcher, job):
    assert job(SLURM_JOB_NUM_NODES="2").returncode == 0
    assert launcher.calls("srun")[0][:2] == ["--nodes=2", "--ntasks=2"]
    expected = {"JAX_LOCAL_DEVICE_IDS": "0,1,2,3", "SEAL_JAX_MULTI_HOST": "1"}
    assert _python(launcher)[0]["environment"] == expected | _POOL


@pytest.mark.parametrize("script", [{"srun": ["time is up"]}, {"runs": [75]}])
def test_slurm_goes_back_into_the_queue(launcher, job, script):
    launcher.script(**script)
    assert job().returncode in (75, 143)
    assert launcher.calls("scontrol") == [["requeue", "17"]]


def test_slurm_does_not_go_back_for_ever(launcher, job):
    launcher.script(runs=[75])
    done = job("--restarts=7", SLURM_RESTART_COUNT="7")
    assert done.returncode == 1
    assert "restarted 7 times" in done.stderr
    assert not launcher.calls("scontrol")


def test_slurm_a_failing_command_ends_the_job(launcher, job):
    launcher.script(runs=[2])
    assert job().returncode == 2
    assert not launcher.calls("scontrol")


def test_slurm_refusals(launcher, job):
    assert "this is no Slurm job" in job(SLURM_JOB_ID="").stderr
    assert "no GPUs" in job(SLURM_GPUS_ON_NODE="").stderr
    assert "is not the repository" in job(SLURM_SUBMIT_DIR=str(launcher.folder)).stderr
    assert "unknown argument --nodes=2" in job("--nodes=2").stderr
    assert "no environment in" in job("--no-install").stderr
    assert not launcher.records()


def test_slurm_dry_run(launcher):
    (launcher.binaries / "srun").unlink()
    done = launcher("slurm.sbatch", "--dry-run", "--", *_COMMAND)
    assert done.returncode == 0, done.stderr
    last = shlex.split(done.stdout.splitlines()[-1])
    assert last[0] == "srun"
    assert last[-5:] == ["-m", "seal_jax", *_COMMAND]


def test_slurm_directives_and_documented_lines_use_known_flags(flags_of):
    """The #SBATCH lines, and the sbatch lines in the script's help and in docs/launching.md."""
    script = (_ROOT / "launch" / "slurm.sbatch").read_text(encoding="utf-8")
    directives = re.findall(r"^#SBATCH (--[a-z-]+)(=?)", script, re.M)
    assert len(directives) == script.count("#SBATCH --") >= 7
    document = (_ROOT / "docs" / "launching.md").read_text(encoding="utf-8")
    lines = re.findall(r"sbatch (--(?:.|\\\n)*?)launch/slurm\.sbatch", script + document)
    assert len(lines) == 2
    given = [flag for line in lines for flag in re.findall(r"(--[a-z-]+)(=?)", line)]
    for flag, equals in directives + given:
        assert flag in flags_of("sbatch", bool(equals)), flag
