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


@pytest.mark.fault("S6")
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, "[" * 101 + "]" * 101])
def test_what_is_nested_too_deeply_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"a\.json: the JSON is nested more than 100 deep"):
        json_file.read(tmp_path / "a.json")
    with pytest.raises(KeyError, match=r"deep; expected a table"):
        json_file.decode(text.encode(), "it", error=KeyError, expected="a table")


def test_a_hundred_levels_are_read():
    value = json_file.decode("[" * 100 + "]" * 100, "it")
    for _ in range(99):
        [value] = value
    assert value == []
    assert json_file.decode('{"a": {"b": [1, "x"]}}', "it") == {"a": {"b": [1, "x"]}}


@pytest.mark.fault("23")
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_are_read_and_no_part_of_the_value(tmp_path, encoding):
    (tmp_path / "a.json").write_bytes('["Köln"]'.encode(encoding))
    assert json_file.read(tmp_path / "a.json") == ["Köln"]
    (tmp_path / "a.jsonl").write_bytes('{"a": 1}\r\n\r\n{"a": 2}\r\n'.encode(encoding))
    assert list(json_file.read_lines(tmp_path / "a.jsonl")) == [
        (f"{tmp_path / 'a.jsonl'}, line 1", {"a": 1}),
        (f"{tmp_path / 'a.jsonl'}, line 3", {"a": 2}),
    ]
    assert json_file.read(tmp_path / "a.jsonl", lines=True) == [{"a": 1}, {"a": 2}]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(KeyError, match=r"none.json: cannot read .*No such file.*; expected x\. Ch"):
        json_file.read(tmp_path / "none.json", error=KeyError, expected="x")
    with pytest.raises(ValueError, match=r"cannot read the file .*Is a directory"):
        json_file.read(tmp_path)
    (tmp_path / "large.json").write_text("[1, 2, 3]")
    with pytest.raises(ValueError, match=r"large\.json: larger than 0 MB"):
        json_file.read(tmp_path / "large.json", max_bytes=8)
    assert json_file.read(tmp_path / "large.json", max_bytes=9) == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "it: an object has the key 'a' twice; remove one of them"),
        ("[1,]", "it: not JSON: .* at line 1, column"),
        ("1" * 5000, "it: the JSON holds a number with too many digits"),
        ('{"a": 1}\n{"a": 2}', "it: not JSON: Extra data at line 2, column 1"),
    ],
)
def test_what_is_no_json_is_said(text, message):
    with pytest.raises(ValueError, match=message):
        json_file.decode(text, "it", unique=True)
    assert json_file.decode('{"a": 1, "a": 2}', "it") == {"a": 2}  # as others read it
