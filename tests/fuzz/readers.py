"""One fuzzer over every reader: seeded mutations of good files, read under limits.

A script that runs in a process of its own, since what is tested is that nothing hangs, fills the
memory or ends the process:

    python tests/fuzz/readers.py FOLDER READER FIRST COUNT

FOLDER holds the good files (tests/fuzz/test_readers.py writes them). The inputs of a reader are
numbered; a number always gives the same one, so a finding is repeated with FIRST=number COUNT=1.
It prints a line of JSON for each finding: a reader may return, or raise an error that people are
shown as a sentence; it may not raise another, take longer than a few seconds, or change a file.
"""

import contextlib
import copy
import hashlib
import io
import json
import pathlib
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings

SECONDS = 20.0  # for one input
ROOM = 3 << 30  # bytes that all of them may take beside what the imports took
NASTY = (
    None, True, False, -1, 0, 1, 2, 1.5, -0.0, 1e308, float("nan"), 10**9, 2**63, 10**400, "", "x",
    "x" * 5000, "\ud800", "\x00\x1b[31m", "../x", "(", "a" * 30 + "!", [], [[]], [1], ["x", 1], {},
    {"": 0}, {"a": {"b": [1]}}, "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
    "{% endfor %}", "{{ 'a' * 10**9 }}", "{{ raise_exception('no') }}", "<think>" * 2000,
)  # fmt: skip
TEMPLATES = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}",
    "{{ 'a' * 1000000000 }}",
    "{% set x = 'ab' %}{{ x * 1000000 * 1000000 }}",
    "{{ 10 ** 100000000 }}",
    "{{ raise_exception('no system turn') }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ messages[0]['content']['x'].y }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ 1 / 0 }}",
    "{% if %}",
    "{{ messages | tojson }}",
)


class Late(BaseException):
    """An input takes too long."""


def mutated(value, rng):
    """A JSON value with one to three of its parts changed."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 3))):
        parents = [value]
        for parent in parents:  # grows meanwhile: all lists and objects in it
            inner = parent.values() if isinstance(parent, dict) else parent
            parents += [one for one in list(inner)[:40] if isinstance(one, dict | list) and one]
        parent = rng.choice(parents) if isinstance(value, dict | list) and value else None
        if parent is None:
            return rng.choice(NASTY)
        key = rng.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
        kind = rng.random()
        if kind < 0.2:
            del parent[key]
        elif kind < 0.3 and isinstance(parent, dict):
            parent[rng.choice((f"{key} ", "x", "__metadata__"))] = parent.pop(key)
        elif kind < 0.4:
            parent[key] = [parent[key]] * rng.choice((1, 2, 3))
        else:
            parent[key] = copy.deepcopy(rng.choice(NASTY))
    return value


def text_of(value, rng):
    """JSON in one of the forms that people's files have, or damaged."""
    text = json.dumps(value, indent=rng.choice((None, 1)), sort_keys=rng.random() < 0.5)
    kind = rng.random()
    if kind < 0.06:
        return b"[" * 100_000 if rng.random() < 0.5 else b'{"a":' * 100_000
    if kind < 0.1:
        place = rng.randrange(len(text))
        return (text[:place] + "[" * 50_000 + text[place:]).encode()
    if kind < 0.14:
        return text.encode("utf-16" if rng.random() < 0.5 else "utf-8-sig")
    if kind < 0.2:
        return text[: rng.randrange(len(text) + 1)].encode()
    return damaged(text.encode(), rng) if kind < 0.3 else text.encode()


def damaged(data, rng):
    """Bytes with some flipped, cut out, repeated or put in."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = rng.randrange(len(data) + 1)
        kind = rng.random()
        if kind < 0.4 and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        elif kind < 0.6:
            del data[place : place + rng.choice((1, 4, 100, 10_000))]
        elif kind < 0.8:
            data[place:place] = rng.choice((b"\0", b"\xff" * 8, b"[" * 99, b"\n", b'"', b"9" * 20))
        else:
            data[place : place + 8] = rng.randbytes(8)
    return bytes(data)


def mutate_json(file, rng):
    """Changes a JSON file, or one of its lines."""
    if file.suffix == ".jsonl":
        lines = file.read_text().splitlines()
        number = rng.randrange(len(lines))
        changed = text_of(mutated(json.loads(lines[number]), rng), rng)
        data = [line.encode() for line in lines]
        data[number] = changed
        return file.write_bytes(b"\n".join(data))
    return file.write_bytes(text_of(mutated(json.loads(file.read_bytes()), rng), rng))


def mutate_tensors(file, rng):
    """Changes the header of a safetensors file, or its bytes."""
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    if rng.random() < 0.3:
        return file.write_bytes(damaged(data, rng))
    header = text_of(mutated(json.loads(data[8 : 8 + length]), rng), rng)
    size = len(header) if rng.random() < 0.9 else rng.choice((0, 2**63, len(header) - 1))
    return file.write_bytes(size.to_bytes(8, "little") + header + data[8 + length :])


def mutate_gguf(file, rng):
    """Writes other metadata, or changes bytes of the header."""
    import gguf

    if rng.random() < 0.4:
        return file.write_bytes(damaged(file.read_bytes()[: rng.choice((3000, 10**6))], rng))
    if rng.random() < 0.05:  # arrays in arrays, and a count that no file holds
        key = b"general.x"
        deep = (9).to_bytes(4, "little") + (1).to_bytes(8, "little")
        count = (2**60).to_bytes(8, "little")
        value = deep * rng.choice((3, 100_000)) + (4).to_bytes(4, "little") + count
        head = b"GGUF" + (3).to_bytes(4, "little") + (0).to_bytes(8, "little")
        head += (1).to_bytes(8, "little") + len(key).to_bytes(8, "little") + key
        return file.write_bytes(head + (9).to_bytes(4, "little") + value)
    keys = mutated(json.loads((file.parent / "keys.json").read_text()), rng)
    writer = gguf.GGUFWriter(str(file), "llama")
    for key, value in keys.items() if isinstance(keys, dict) else ():
        with contextlib.suppress(Exception):  # what the format cannot say
            if isinstance(value, dict):
                continue
            add = {bool: "bool", int: "uint32", float: "float32", str: "string", list: "array"}
            getattr(writer, f"add_{add[type(value)]}")(key, value)
    import numpy as np

    writer.add_tensor("token_embd.weight", np.zeros((320, 32), np.float32))
    with contextlib.suppress(Exception):
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    writer.close()
    return None


def mutate_template(file, rng):
    """Changes the chat template of tokenizer_config.json."""
    settings = json.loads(file.read_text())
    template = settings.get("chat_template", "")
    if rng.random() < 0.4:
        template = rng.choice(TEMPLATES)
    else:
        place = rng.randrange(len(template) + 1)
        other = rng.choice((*TEMPLATES, "{{", "%}", "{% endfor %}", "{{ x.y.z }}", "{#", "\0", "'"))
        template = template[:place] + other + template[place + rng.choice((0, 1, 9)) :]
    settings["chat_template"] = template
    return file.write_text(json.dumps(settings))


def _config(folder):
    from seal_jax.core.model import decoder
    from seal_jax.weights import files, safetensors

    config, settings = files.model_config(folder)
    decoder.param_shapes(config)
    return safetensors.load(folder, config, "float32") and sorted(settings)


def _weights(folder):
    from seal_jax.core.model.config import ModelConfig
    from seal_jax.weights import safetensors

    good = json.loads((folder / "config.json").read_text())
    return sorted(safetensors.load(folder, ModelConfig.from_hf(good), "float32"))


def _adapter(folder):
    from seal_jax.core.model.config import ModelConfig
    from seal_jax.weights import peft

    good = json.loads((folder / "config.json").read_text())
    return peft.load(folder, ModelConfig.from_hf(good)).spec.targets


def _gguf(folder):
    from seal_jax.weights import gguf, tokenizer

    reader = gguf.open_file(folder / "tiny.gguf")
    with gguf.naming(reader):
        gguf.model_config(reader)
        return len(tokenizer.from_gguf(reader))


def _tokenizer(folder):
    from seal_jax.weights import encoding, tokenizer

    read = tokenizer.load(folder)
    tokenizer.stop_token_ids(read)
    return encoding.encode_prompt(read, "What is <|end|> it?", "chat")


def _squad(folder):
    from seal_jax.tasks.knowledge import squad

    contexts, skipped = squad.load(folder / "squad.json")
    return len(contexts), len(skipped)


def _arc(folder):
    from seal_jax.tasks.arc import arc

    return [task.id for task in arc.load(folder / "arc.json")]


def _rows(folder):
    from seal_jax.reports import grade

    return grade.table(grade.grade_rows(str(folder / "rows.jsonl"), show=True))


def _scored(folder):
    from seal_jax.reports import scored

    return len(scored.load(folder / "scored.json"))


def _reply(folder):
    from seal_jax.judges import chat_reply

    with contextlib.suppress(chat_reply.Problem):
        chat_reply.read(500, (folder / "reply.json").read_bytes(), retry_after="1e400")
    try:
        return chat_reply.read(200, (folder / "reply.json").read_bytes()).text
    except chat_reply.Problem as problem:
        raise ValueError(f"reply.json: {problem.reason}") from None


def _run(folder):
    from seal_jax.loop import policies
    from seal_jax.reports import finished_run, records
    from seal_jax.reports.html import report
    from seal_jax.runs import run_dir

    run = str(folder / "run")
    for read in (
        lambda: run_dir.is_finished(run),
        lambda: policies.run_settings(run),
        lambda: records.read(f"{run}/ledger"),
        lambda: finished_run.read_setting(run),
    ):
        with contextlib.suppress(ValueError, OSError):
            read()
    return bool(report.write(run, str(folder.parent / "report.html")))


# Reader: what changes which of its files, and what reads them.
READERS = {
    "squad": (mutate_json, ["squad.json"], _squad),
    "rows": (mutate_json, ["rows.jsonl"], _rows),
    "scored": (mutate_json, ["scored.json"], _scored),
    "arc": (mutate_json, ["arc.json"], _arc),
    "config": (mutate_json, ["config.json"], _config),
    "index": (mutate_json, ["model.safetensors.index.json"], _weights),
    "safetensors": (mutate_tensors, ["shard.safetensors"], _weights),
    "gguf": (mutate_gguf, ["tiny.gguf"], _gguf),
    "adapter_config": (mutate_json, ["adapter_config.json"], _adapter),
    "adapter_tensors": (mutate_tensors, ["adapter_model.safetensors"], _adapter),
    "tokenizer": (mutate_json, ["tokenizer.json", "tokenizer_config.json"], _tokenizer),
    "template": (mutate_template, ["tokenizer_config.json"], _tokenizer),
    "reply": (mutate_json, ["reply.json"], _reply),
    "run": (mutate_json, ["run/config.json", "run/results.json", "run/ledger/*.json"], _run),
}
FOLDERS = {"squad": "data", "rows": "data", "scored": "data", "arc": "data", "reply": "data"}
FOLDERS |= dict.fromkeys(("config", "index", "safetensors", "tokenizer", "template"), "model")
FOLDERS |= dict.fromkeys(("adapter_config", "adapter_tensors"), "adapter")
FOLDERS |= {"gguf": "gguf", "run": "runs"}


def contents(folder):
    """What a folder holds: a digest of each file."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def one(reader, number, good, place):
    """Reads one input; what is wrong with how that went, or None."""
    rng = random.Random(f"{reader} {number}")
    mutate, patterns, read = READERS[reader]
    folder = place / "case"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, folder)
    file = rng.choice(sorted(folder.glob(rng.choice(patterns))))
    mutate(file, rng)
    before = contents(folder)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(folder)
    except (ValueError, OSError) as error:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if isinstance(error, UnicodeError | json.JSONDecodeError) or not str(error).strip():
            return _said(error)
        named = (file.name, str(folder), "chat template", "tokenizer")
        if isinstance(error, ValueError) and not any(name in str(error) for name in named):
            return f"no file is named: {_said(error)}"
    except Late as error:
        return f"longer than {SECONDS:.0f} seconds: {_said(error)}"
    except BaseException as error:
        return _said(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None if contents(folder) == before else "reading changed a file"


def _said(error):
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f"{pathlib.Path(f.filename).name}:{f.lineno}" for f in frames][-6:]
    return f"{type(error).__name__}: {str(error)[:200]} ({' '.join(ours)})"


def main(folder, readers, first, count):
    """Reads `count` inputs of each reader from `first` on."""

    def late(*_):
        raise Late

    signal.signal(signal.SIGALRM, late)
    place = pathlib.Path(tempfile.mkdtemp(dir=folder))
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    for reader in readers:
        READERS[reader][2](pathlib.Path(folder, FOLDERS[reader]))  # imports what it needs
        for number in range(first, first + count):
            print(json.dumps({"reader": reader, "number": number}), flush=True)
            found = one(reader, number, pathlib.Path(folder, FOLDERS[reader]), place)
            if found:
                said = {"reader": reader, "number": number, "found": found}
                print(json.dumps(said), flush=True)
    print(json.dumps({"ended": True}), flush=True)


if __name__ == "__main__":
    import os

    os.environ["JAX_PLATFORMS"] = "cpu"
    # What native code prints (tokenizers does, of keys that it ignores) goes to stderr.
    sys.stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    main(sys.argv[1], sys.argv[2].split(","), int(sys.argv[3]), int(sys.argv[4]))
