"""The launchers' surroundings: a checkout, and a PATH with stand-ins and little else on it."""

import dataclasses
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parent.parent.parent
_STAND_IN = pathlib.Path(__file__).parent / "stand_in.py"
_TOOLS = ("gcloud", "kubectl", "nvidia-smi", "scontrol", "srun")
_PROGRAMS = """awk bash cat chmod cksum cp date dirname env flock git grep gzip head mkdir mktemp mv
rm sed seq setsid sh sleep tail tar tr true wc""".split()

# A Python that can make an environment, "install" into it, and hand the command to the stand-in.
_PYTHON = """#!/bin/sh
case "$1 $2" in
  "-m venv") shift $(($# - 1)); mkdir -p "$1/bin"; cp "$0" "$1/bin/python"; : >"$1/pyvenv.cfg" ;;
  "-m pip") echo "$@" >>"$STAND_IN/pip" ;;
  "-m seal_jax") exec {python} -S -E {stand_in} python "$@" ;;
esac
"""
# What astral.sh's script does: it leaves a uv behind. That uv knows one Python.
_CURL = """#!/bin/sh
cat <<'SCRIPT'
mkdir -p "$UV_UNMANAGED_INSTALL"
cat >"$UV_UNMANAGED_INSTALL/uv" <<'UV'
#!/bin/sh
echo "$@" >>"$STAND_IN/uv"
[ "$2" != find ] || echo "$STAND_IN/python3.12"
UV
chmod +x "$UV_UNMANAGED_INSTALL/uv"
SCRIPT
"""


@dataclasses.dataclass
class Launcher:
    """Runs launchers among stand-ins.

    Attributes:
      folder: what the stand-ins record and do.
      checkout: a git checkout with the launchers in it; its path has a space.
      binaries: the only folder on the PATH.
    """

    folder: pathlib.Path
    checkout: pathlib.Path
    binaries: pathlib.Path

    def __call__(self, script, *arguments, **environment):
        """Runs launch/SCRIPT to its end."""
        return subprocess.run(
            ["bash", f"launch/{script}", *arguments],
            cwd=self.checkout,
            env={
                "PATH": str(self.binaries),
                "HOME": str(self.folder),
                "STAND_IN": str(self.folder),
                "SEAL_JAX_POLL_SECONDS": "0",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=300,
        )

    def script(self, **ends):
        """Sets how the coming calls end: lists by verb, see stand_in.py."""
        path = self.folder / "script.json"
        path.write_text(json.dumps(ends), encoding="utf-8")

    def calls(self, tool):
        """The arguments of each call of a tool."""
        return [call["arguments"] for call in self.records() if call["tool"] == tool]

    def records(self):
        """All calls, in order."""
        path = self.folder / "calls.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def verbs(self):
        """gcloud's calls but those that only look, in short."""
        names = [" ".join(arguments[2:4]) for arguments in self.calls("gcloud")]
        return [name for name in names if name != "queued-resources describe"]


def _program(path, text):
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture(scope="session")
def flags_of():
    """(command, with a value?) -> the flags that its documentation lists."""
    path = _ROOT / "tests" / "data" / "launch_flags.json"
    table = json.loads(path.read_text(encoding="utf-8"))

    def flags(command, with_value):
        entry = table[command]
        return {*entry["with a value" if with_value else "without"], *entry["either"]}

    return flags


@pytest.fixture
def launcher(tmp_path):
    """A Launcher; fails the test if a stand-in refused a flag."""
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"the launchers' test needs {', '.join(missing)}")
    folder, binaries = tmp_path / "stand in", tmp_path / "binaries"
    checkout = tmp_path / "a checkout"
    for path in (folder, binaries, checkout):
        path.mkdir()
    for name in _PROGRAMS:
        (binaries / name).symlink_to(shutil.which(name))
    python, stand_in = shlex.quote(sys.executable), shlex.quote(str(_STAND_IN))
    for tool in _TOOLS:
        line = f'#!/bin/sh\nexec {python} -S -E {stand_in} {tool} "$@"\n'
        _program(binaries / tool, line)
    _program(binaries / "curl", _CURL)
    _program(folder / "python3.12", _PYTHON.format(python=python, stand_in=stand_in))
    shutil.copytree(_ROOT / "launch", checkout / "launch")
    for name in ("setup.cfg", "pyproject.toml", ".gitignore"):
        shutil.copy(_ROOT / name, checkout / name)
    git = {"cwd": checkout, "check": True, "env": os.environ | {"GIT_CONFIG_GLOBAL": os.devnull}}
    subprocess.run(["git", "init", "--quiet"], **git)
    subprocess.run(["git", "add", "launch"], **git)
    yield Launcher(folder, checkout, binaries)
    refused = folder / "refused.jsonl"
    assert not refused.exists(), refused.read_text(encoding="utf-8")
