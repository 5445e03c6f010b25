"""Plays the tools that launchers call: python stand_in.py TOOL ARGUMENTS...

It records its arguments in the folder that STAND_IN names, refuses every flag that is not in
tests/data/launch_flags.json (exit code 64), and does in that folder what the tool would do: `vm` is
the home directory of the TPU VM, `queue.json` the coming states of the queued resource, and
`script.json` says what goes wrong. The commands on the VM are really run.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

_FOLDER = pathlib.Path(os.environ["STAND_IN"])
_TABLE = pathlib.Path(__file__).parent.parent / "data" / "launch_flags.json"
_REFUSED = 64
_PATIENCE_S = 120.0


def main(tool, arguments):
    words = [tool, *(word for word in arguments if not word.startswith("-"))]
    entry = {"tool": tool, "arguments": arguments}
    if tool == "python":
        entry |= {"cwd": os.getcwd(), "environment": _environment()}
    _append("calls.jsonl", entry)
    if tool != "python":
        complaint = _complaint(words, arguments)
        if complaint:
            _append("refused.jsonl", complaint)
            print(f"ERROR: {complaint}", file=sys.stderr)
            return _REFUSED
    return globals()[f"_{tool.replace('-', '_')}"](words, arguments)


def _complaint(words, arguments):
    """What the tool would say against these flags; empty if nothing."""
    table = json.loads(_TABLE.read_text(encoding="utf-8"))
    names = [" ".join(words[:size]) for size in range(len(words), 0, -1)]
    command = next((name for name in names if name in table), None)
    if command is None or (command == words[0] and words[0] in ("gcloud", "kubectl")):
        return f"no such command: {' '.join(words)}"
    kinds = {kind: set(flags) for kind, flags in table[command].items() if kind != "source"}
    for kind, flags in table[words[0]].items() if words[0] in table else ():
        if kind != "source":
            kinds[kind] |= set(flags)
    for argument in arguments:
        if words[0] == "srun" and not argument.startswith("-"):
            break  # the rest is the program and its arguments
        if not argument.startswith("-"):
            continue
        flag, equals, _ = argument.partition("=")
        kind = "with a value" if equals else "without"
        if flag not in kinds[kind] | kinds["either"]:
            return f"{command}: {flag} ({kind})"
    return ""


def _gcloud(words, arguments):
    verb = " ".join(words[3:5])
    options = dict(argument.partition("=")[::2] for argument in arguments)
    failure = _next(verb, 0)
    if isinstance(failure, list):
        print(failure[1], file=sys.stderr)
        failure = failure[0]
    if failure not in (0, "drop"):
        return failure
    match verb:
        case "queued-resources describe":
            return _describe()
        case "queued-resources create":
            if (_FOLDER / "queue.json").exists():
                print("ERROR: ALREADY_EXISTS", file=sys.stderr)
                return 1
            _write("queue.json", _next("states", ["WAITING_FOR_RESOURCES", "ACTIVE"]))
            (_FOLDER / "vm").mkdir()
            return 0
        case "queued-resources delete":
            (_FOLDER / "queue.json").unlink()
            shutil.rmtree(_FOLDER / "vm", ignore_errors=True)
            return 0
    if _read("queue.json", ["ABSENT"])[0] != "ACTIVE":
        print("ERROR: the TPU VM is not there", file=sys.stderr)
        return 1
    if verb == "tpu-vm scp":
        source, (_, _, target) = words[5], words[6].partition(":")
        shutil.copy(source, _FOLDER / "vm" / target)
        return 0
    return _ssh(options["--command"], drops=failure == "drop")


def _describe():
    states = _read("queue.json", None)
    if states is None:
        print("ERROR: NOT_FOUND: Resource was not found", file=sys.stderr)
        return 1
    print(states[0])
    if len(states) > 1:
        _write("queue.json", states[1:])
    return 0


def _ssh(command, drops):
    """Runs a command on the VM; with `drops`, loses the connection and runs it again."""
    line = ["bash", "-c", command]
    home = _FOLDER / "vm"
    place = {"cwd": home, "env": _plain(os.environ | {"HOME": str(home)})}
    if drops:
        started = len(_lines("runs"))
        with subprocess.Popen(line, start_new_session=True, **place) as process:
            _wait_until(lambda: len(_lines("runs")) > started)
            os.killpg(process.pid, signal.SIGKILL)
    # What waits for the connection goes on when the worker has said what it found.
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, **place) as process:
        for said in process.stderr:
            print(said, end="", file=sys.stderr, flush=True)
            if drops:
                (_FOLDER / "connected_again").touch()
    code = process.returncode
    if _read("queue.json", ["ABSENT"])[0] != "ACTIVE":
        return 1
    return code


def _plain(environment):
    """The VM does not have the settings of the person's own machine."""
    return {key: value for key, value in environment.items() if key not in ("SEAL_VENV", "PYTHON")}


def _python(words, arguments):
    """The command itself; script.json's "runs" says how each of its runs ends."""
    _append("runs", arguments)
    print(f"running {len(_lines('runs'))}", flush=True)
    end = _next("runs", 0)
    if end == "preempted":
        _write("queue.json", ["SUSPENDING", "SUSPENDED"])
        return 143
    if end == "waits":
        _wait_until((_FOLDER / "connected_again").exists)
        return 0
    return end


def _srun(words, arguments):
    if _next("srun", 0) == "time is up":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        os.kill(os.getppid(), signal.SIGUSR1)
        _wait_until(lambda: False)
    place = next(i for i, argument in enumerate(arguments) if not argument.startswith("-"))
    return subprocess.run(arguments[place:]).returncode


def _scontrol(words, arguments):
    return 0


def _kubectl(words, arguments):
    if words[1] == "apply":
        (_FOLDER / "manifest.yaml").write_text(sys.stdin.read(), encoding="utf-8")
    return 0


def _nvidia_smi(words, arguments):
    print(_next("driver", "570.86.15\n570.86.15"))
    return 0


def _environment():
    names = (
        "JAX_COMPILATION_CACHE_DIR",
        "JAX_LOCAL_DEVICE_IDS",
        "SEAL_JAX_MULTI_HOST",
        "SEAL_TEST",
        "XLA_PYTHON_CLIENT_MEM_FRACTION",
    )
    return {name: os.environ[name] for name in names if name in os.environ}


def _next(key, default):
    """Takes the next entry of script.json's list `key`."""
    script = _read("script.json", {})
    if not script.get(key):
        return default
    value, *script[key] = script[key]
    _write("script.json", script)
    return value


def _read(name, default):
    path = _FOLDER / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else default


def _write(name, value):
    (_FOLDER / name).write_text(json.dumps(value), encoding="utf-8")


def _append(name, value):
    with (_FOLDER / name).open("a", encoding="utf-8") as file:
        file.write(json.dumps(value) + "\n")


def _lines(name):
    path = _FOLDER / name
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _wait_until(condition):
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the stand-in waited in vain")
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
