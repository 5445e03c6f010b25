"""Exported directories: complete or absent, never in place of something else, and marked."""

import json

import numpy as np
import pytest

from seal_jax.core.delta import Delta, DeltaSpec
from seal_jax.core.model.config import ModelConfig
from seal_jax.runs import directory_lock
from seal_jax.weights import exported
from seal_jax.weights.exported import ExportError, Mark
from seal_jax.weights.names import WeightsError

MARK = Mark(kind="policy", merged=("d1", "d2"), origin="policy 2 of a run")


def make(out, text="new", overwrite=False, mark=MARK):
    with exported.directory(out, mark, overwrite=overwrite) as folder:
        (folder / "weights").write_text(text)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_directory_appears_whole_with_its_mark(tmp_path):
    out = tmp_path / "new" / "export"
    with exported.directory(out, MARK, overwrite=False) as folder:
        (folder / "weights").write_text("new")
        assert not out.exists()
    assert names(out) == [exported.MARK, "weights"]
    assert names(out.parent) == ["export"]
    assert exported.read(out) == MARK
    assert exported.merged_into(out) == ("d1", "d2")


def test_files_are_as_open_as_their_directory(tmp_path):
    with exported.directory(tmp_path / "out", MARK, overwrite=False) as folder:
        folder.chmod(0o750)
        (folder / "weights").touch(0o600)
    assert (tmp_path / "out" / "weights").stat().st_mode & 0o777 == 0o640


def test_an_empty_directory_is_taken(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    make(out)
    assert (out / "weights").read_text() == "new"


def test_an_export_is_replaced_only_when_told_to(tmp_path):
    out = tmp_path / "out"
    make(out, "old")
    with pytest.raises(ExportError, match=r"holds an export: .* --overwrite"):
        make(out)
    assert (out / "weights").read_text() == "old"
    make(out, overwrite=True)
    assert (out / "weights").read_text() == "new"
    assert names(tmp_path) == ["out"]


def test_other_files_are_never_deleted(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    for out, message in (
        (tmp_path, "did not write .*never deleted"),
        (tmp_path / "thesis.tex", "is not a directory"),
    ):
        with pytest.raises(ExportError, match=message):
            make(out, overwrite=True)
    assert names(tmp_path) == ["thesis.tex"]


def test_an_error_leaves_what_was_there(tmp_path):
    out = tmp_path / "out"
    make(out, "old")
    with (
        pytest.raises(KeyboardInterrupt),
        exported.directory(out, MARK, overwrite=True) as folder,
    ):
        (folder / "weights").write_text("half")
        raise KeyboardInterrupt
    assert (out / "weights").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_what_a_killed_export_left_is_cleared(tmp_path):
    left = tmp_path / ".out.part"
    left.mkdir()
    (left / "half").write_text("half")
    make(tmp_path / "out")
    assert names(tmp_path / "out") == [exported.MARK, "weights"]


def test_two_exports_to_one_place_exclude_each_other(tmp_path):
    out = tmp_path / "out"
    with exported.directory(out, MARK, overwrite=False) as folder:
        (folder / "weights").write_text("first")
        with pytest.raises(directory_lock.DirectoryInUseError):
            make(out)
    assert (out / "weights").read_text() == "first"


def test_a_damaged_mark_is_named(tmp_path):
    for text, what in (
        ("{", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ('{"seal_jax_export": 2}', "damaged"),
        ('{"seal_jax_export": 1, "kind": "policy"}', "damaged"),
    ):
        (tmp_path / exported.MARK).write_text(text)
        with pytest.raises(WeightsError, match=rf"seal_jax_export\.json is {what}.*export again"):
            exported.read(tmp_path)


def test_unmarked_and_adapter_directories_have_nothing_merged(tmp_path):
    assert exported.merged_into(tmp_path) == ()
    make(tmp_path / "a", mark=Mark(kind="adapter", on=("d1",), merged=("d2",), origin="x"))
    assert exported.merged_into(tmp_path / "a") == ()


def delta(value=1.0, alpha=4.0, module="q_proj"):
    factors = {"a": np.full((1, 2, 2), value, np.float32), "b": np.ones((1, 2, 2), np.float32)}
    return Delta({"layers": {"attn": {module: factors}}}, DeltaSpec((module,), rank=2, alpha=alpha))


def test_a_digest_is_of_what_a_delta_computes():
    expected = exported.digest(delta())
    renamed = Delta(delta().tree, DeltaSpec(("attn/q",), rank=2, alpha=4.0))
    assert exported.digest(renamed) == expected
    others = [delta(1 + 2**-20), delta(alpha=8.0), delta(module="k_proj")]
    assert len({expected, *map(exported.digest, others)}) == 4


@pytest.fixture
def model(hf_settings, tmp_path):
    """(path, config) of an unmarked model directory, without weights."""
    path = tmp_path / "original"
    path.mkdir()
    settings = hf_settings("llama")
    (path / "config.json").write_text(json.dumps(settings))
    return path, ModelConfig.from_hf(settings)


@pytest.fixture
def policy(model, hf_settings, tmp_path):
    """A directory of the policy with d1 and d2 merged."""
    with exported.directory(tmp_path / "policy", MARK, overwrite=False) as folder:
        (folder / "config.json").write_text(json.dumps(hf_settings("llama")))
    return tmp_path / "policy"


def base_name(model, given, merged):
    path, config = model
    return exported.base_name(str(given), model_path=str(path), config=config, merged=merged)


def test_the_base_is_model_path_where_nothing_was_merged(model):
    assert base_name(model, "", ()) == str(model[0])


@pytest.mark.parametrize("path", ["smollm2-135m", "models/some.gguf", "gs://bucket/model"])
def test_a_base_that_peft_cannot_open_is_refused(model, path):
    with pytest.raises(ExportError, match=r"can open as the base.*--base-model=.*--with-base"):
        base_name((path, model[1]), "", ())
    assert base_name((path, model[1]), "owner/name", ()) == "owner/name"
    assert base_name((path, model[1]), model[0], ()) == str(model[0])


def test_a_delta_on_a_policy_names_the_exported_policy(model, policy, hf_settings):
    assert base_name(model, policy, ("d1", "d2")) == str(policy)
    assert base_name(model, "hub/name", ("d1", "d2")) == "hub/name"
    with pytest.raises(ExportError, match=r"trained on a policy, not on .*--base-model=.*original"):
        base_name(model, "", ("d1", "d2"))
    for given, merged in ((policy, ("d1",)), (policy, ()), (model[0], ("d1",))):
        with pytest.raises(ExportError, match="is not the policy that this adapter is for"):
            base_name(model, given, merged)
    wider = hf_settings("llama", intermediate_size=64)
    (policy / "config.json").write_text(json.dumps(wider))
    with pytest.raises(ExportError, match="a model of other shapes"):
        base_name(model, policy, ("d1", "d2"))
    (policy / "config.json").unlink()
    with pytest.raises(ExportError, match="is no model directory"):
        base_name(model, policy, ("d1", "d2"))
