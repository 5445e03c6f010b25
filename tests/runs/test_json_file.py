"""JSON files: exact round trips, refusals that name the place, writes that never leave half a
file."""

import errno
import json
import math
import os

import numpy as np
import pytest

from seal_jax.runs import json_file


def test_floats_keep_every_bit():
    floats = [
        0.1,
        1 / 3,
        5e-324,
        1.7976931348623157e308,
        -0.0,
        2.0**-1074,
        1e16,
        float(np.float32(0.1)),
    ]
    read = json.loads(json_file.encode(floats))
    assert [value.hex() for value in read] == [value.hex() for value in floats]


def test_text_keeps_every_character_even_unpaired_surrogates():
    text = 'é 日本 \ud800 \x00 \u2028 "quoted" \\ \n'
    encoded = json_file.encode({"text": text})
    assert encoded.isascii()
    assert json.loads(encoded)["text"] == text


def test_key_order_does_not_change_the_text():
    assert json_file.encode({"b": 1, "a": (2, 3)}) == '{"a":[2,3],"b":1}'


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ({"a": [0.0, math.nan]}, ValueError, r"a\[1\] is nan.*pass None"),
        ({"a": {"loss": math.inf}}, ValueError, r"a\.loss is inf.*pass None"),
        ({"a": {1: "x"}}, ValueError, r"a has the key 1 \(int\).*str\(\)"),
        ({"a": [np.zeros(2)]}, TypeError, r"a\[0\] is a numpy\.ndarray.*tolist"),
        ({"a": np.float32(1.0)}, TypeError, r"a is a numpy\.float32"),
        ({1, 2}, TypeError, r"the value is a builtins\.set"),
    ],
)
def test_what_json_cannot_hold_is_refused_by_its_place(value, error, message):
    with pytest.raises(error, match=message):
        json_file.encode(value)


def test_write_replaces_and_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "results.json"
    json_file.write_json(path, {"a": 1})
    json_file.write_json(path, {"a": 0.1})
    assert json.loads(path.read_text()) == {"a": 0.1}
    assert os.listdir(tmp_path) == ["results.json"]


@pytest.mark.parametrize("write", [json_file.write_json, json_file.create_json])
def test_a_refused_value_touches_nothing(tmp_path, write):
    path = tmp_path / "results.json"
    with pytest.raises(ValueError):
        write(path, {"a": math.nan})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("write", [json_file.write_json, json_file.create_json])
def test_the_content_is_on_the_disk_before_the_name_and_the_name_before_the_return(
    tmp_path, monkeypatch, write
):
    steps = []
    for name in ("fsync", "replace", "link"):
        original = getattr(os, name)

        def recorded(*arguments, _name=name, _original=original):
            steps.append(_name)
            return _original(*arguments)

        monkeypatch.setattr(os, name, recorded)
    write(tmp_path / "results.json", {"a": 1})
    rename = "replace" if write is json_file.write_json else "link"
    assert steps == ["fsync", rename, "fsync"]


def test_a_failed_rename_keeps_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    json_file.write_json(path, {"a": 1})
    monkeypatch.setattr(os, "replace", _failing(errno.EIO))
    with pytest.raises(OSError):
        json_file.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["results.json"]


@pytest.mark.parametrize("hard_links", [True, False])
def test_create_does_not_replace(tmp_path, monkeypatch, hard_links):
    if not hard_links:
        monkeypatch.setattr(os, "link", _failing(errno.EPERM))
    path = tmp_path / "segment.json"
    json_file.create_json(path, {"a": 1})
    with pytest.raises(FileExistsError):
        json_file.create_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["segment.json"]


def test_only_our_temporary_files_are_removed(tmp_path, monkeypatch):
    keep = ["notes.txt", ".tmp-notes", ".tmp-12-abcdef012", "results.json"]
    for name in keep:
        (tmp_path / name).touch()
    monkeypatch.setattr(os, "replace", _failing(errno.EIO))
    monkeypatch.setattr(json_file.Path, "unlink", lambda *_, **__: None)  # as when killed meanwhile
    with pytest.raises(OSError):
        json_file.write_json(tmp_path / "results.json", {"a": 1})
    monkeypatch.undo()
    left = set(os.listdir(tmp_path)) - set(keep)
    assert len(left) == 1
    json_file.remove_temporaries(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(keep)


def _failing(number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail
