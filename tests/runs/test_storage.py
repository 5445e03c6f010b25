"""Both kinds of places alike, and what is said when the store is not there."""

import fsspec
import pytest

from seal_jax.runs import json_file, run_dir, storage
from seal_jax.runs.storage import StorageError


def test_files_and_folders(folder):
    assert not storage.exists(folder / "a")
    storage.make_folder(folder / "a")
    json_file.write_json(folder / "a" / "x.json", {"v": 1})
    json_file.write_json(folder / "a" / "x.json", {"v": 2})
    json_file.create_json(folder / "y.json", [])
    with pytest.raises(FileExistsError):
        json_file.create_json(folder / "y.json", [1])
    assert storage.read_bytes(folder / "y.json") == b"[]\n"
    assert storage.children(folder) == [folder / "a", folder / "y.json"]
    assert storage.is_folder(folder / "a") and not storage.is_folder(folder / "y.json")
    assert storage.set_aside(folder / "a" / "x.json") == folder / "a" / "x.json.damaged"
    assert storage.children(folder / "a") == [folder / "a" / "x.json.damaged"]
    assert storage.read_bytes(folder / "a" / "x.json.damaged") == b'{\n "v": 2\n}\n'
    json_file.remove_temporaries(folder)
    storage.remove(folder / "a")
    assert storage.children(folder) == [folder / "y.json"]
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(folder / "a" / "x.json.damaged")
    assert storage.children(folder / "a") == []


def test_a_folder_that_was_made_in_the_console_is_empty(object_store):
    object_store.objects["bucket/runs/"] = b""
    folder = storage.locate("gs://bucket/runs")
    assert storage.children(folder) == []
    with run_dir.open_run(folder, {"seed": 0}) as run:
        assert not run.resumed


def test_an_upload_whose_answer_was_lost_counts_once(object_store):
    path = storage.locate("gs://bucket/x")
    for _ in range(2):
        storage.create(path, b"mine")
    with pytest.raises(FileExistsError):
        storage.create(path, b"other")
    assert object_store.objects == {"bucket/x": b"mine"}


def test_what_the_store_refuses_is_explained(object_store):
    def refuse(*args, **kwargs):
        raise RuntimeError("403: no such account")

    object_store.pipe_file = refuse
    with pytest.raises(StorageError, match=r"gs://b/x: .*403: no such account.*account may read"):
        json_file.write_json("gs://b/x", {})


def test_a_missing_client_is_named(object_store, monkeypatch):
    def absent(*args, **kwargs):
        raise ImportError("Please install gcsfs")

    monkeypatch.setattr(fsspec, "filesystem", absent)
    with pytest.raises(
        StorageError, match=r"need the package gcsfs: pip install 'seal_jax\[gcs\]'"
    ):
        storage.locate("gs://bucket/run")


@pytest.mark.fault("21")
@pytest.mark.parametrize("name", ["lr[1e-3]", "a*", "what?"])
def test_a_path_that_a_store_reads_as_a_pattern_is_refused(object_store, name):
    with pytest.raises(StorageError, match=r"for patterns: give a path without them"):
        run_dir.open_run(f"gs://bucket/{name}/run", {"seed": 0})
    assert not object_store.objects
