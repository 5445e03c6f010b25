"""Run directories: continued by an equal config, refused otherwise, never deleted by accident."""

import json
import os
import re
import shutil

import pytest

from seal_jax.runs import lease, run_dir, storage
from seal_jax.runs.directory_lock import DirectoryInUseError
from seal_jax.runs.run_dir import RunDirError, open_run, read_config

CONFIG = {"seed": 0, "inner": {"lora": {"rank": 32, "targets": ("q_proj", "v_proj")}, "lr": 1e-3}}
OTHER = {"seed": 0, "inner": {"lora": {"rank": 16, "targets": ["q_proj", "v_proj"]}}, "task": "x"}


def _names(path):
    return [child.name for child in storage.children(path) if not lease.is_hold(child.name)]


def _start(path, config=CONFIG, finished=False, results=None):
    with open_run(path, config) as run:
        storage.make_folder(run.ledger_path)
        (run.ledger_path / "000000-batch.json").write_text("{}")
        if finished or results is not None:
            run_dir.write_json(run.results_path, results or {"arms": {}})


def test_a_new_directory_gets_the_config(folder):
    with open_run(folder / "runs" / "demo", CONFIG) as run:
        assert not run.resumed
        assert run.path == folder / "runs" / "demo"
        assert run.config["inner"]["lora"]["targets"] == ["q_proj", "v_proj"]
        assert _names(run.path) == ["config.json"]
        assert json.loads((run.path / "config.json").read_text())["config"] == run.config
        assert read_config(run.path) == run.config


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_unfinished_run_goes_on_with_an_equal_config(folder, tmp_path, overwrite):
    _start(folder)
    if folder == tmp_path:  # an object store has no unfinished files
        (folder / ".tmp-1-00000000").touch()
    with open_run(folder, CONFIG, overwrite) as run:
        assert run.resumed
        assert (run.ledger_path / "000000-batch.json").exists()
        assert _names(folder) == ["config.json", "ledger"]


def test_another_config_is_refused_with_the_differing_keys(folder):
    _start(folder)
    with pytest.raises(RunDirError) as error:
        open_run(folder, OTHER)
    message = str(error.value)
    assert "inner.lora.rank: stored 32, now 16" in message
    assert "inner.lr: stored 0.001, now nothing" in message
    assert 'task: stored nothing, now "x"' in message
    assert "targets" not in message and "seed" not in message
    assert "--workdir" in message and "--overwrite" in message
    assert (folder / "ledger" / "000000-batch.json").exists()
    with open_run(folder, CONFIG) as run:  # the refusal let the lock go
        assert run.resumed


def test_a_long_list_of_differences_is_cut(tmp_path):
    _start(tmp_path, {f"key{number:02}": 0 for number in range(20)})
    with pytest.raises(RunDirError, match=r"key11: stored 0, now 1\n  and 8 more"):
        open_run(tmp_path, {f"key{number:02}": 1 for number in range(20)})


@pytest.mark.parametrize(
    ("stored", "given"),
    [({"a": {}}, {}), ({"a": 1}, {"a": True}), ({"a": None}, {}), ({"a": []}, {"a": {}})],
)
def test_small_differences_count(tmp_path, stored, given):
    _start(tmp_path, stored)
    with pytest.raises(RunDirError, match="a: stored"):
        open_run(tmp_path, given)


def test_a_run_with_nothing_done_takes_another_config(folder):
    with open_run(folder, CONFIG):
        pass
    with open_run(folder, OTHER) as run:
        assert not run.resumed
    assert read_config(folder) == OTHER


@pytest.mark.parametrize("config", [CONFIG, OTHER])
def test_a_finished_run_is_refused_and_overwritten_only_when_told(folder, config):
    _start(folder, finished=True)
    with pytest.raises(RunDirError, match=r"finished run \(.*results\.json\).*--overwrite"):
        open_run(folder, config)
    assert _names(folder) == ["config.json", "ledger", "results.json"]
    with open_run(folder, config, overwrite=True) as run:
        assert not run.resumed
        assert _names(folder) == ["config.json"]
        assert read_config(folder) == run.config


def test_a_run_whose_results_are_incomplete_goes_on_by_the_same_command(folder):
    reason = "12 answers have no grade: the judge did not answer"
    _start(folder, results={"arms": {}, "incomplete": reason})
    assert not run_dir.is_finished(folder)
    with pytest.raises(RunDirError, match=r"unfinished run of another config.*\n  inner\.l"):
        open_run(folder, OTHER)
    for overwrite in (False, True):
        with open_run(folder, CONFIG, overwrite) as run:
            assert run.resumed
            assert _names(folder) == ["config.json", "ledger", "results.json"]
    with open_run(folder, CONFIG) as run:
        run_dir.write_json(run.results_path, {"arms": {}, "incomplete": ""})
    assert run_dir.is_finished(folder)
    with pytest.raises(RunDirError, match="holds a finished run"):
        open_run(folder, CONFIG)


@pytest.mark.parametrize("text", ["{", "[]", '{"arms": {}}', '{"incomplete": null}'])
def test_other_results_are_those_of_a_finished_run(folder, text):
    assert not run_dir.is_finished(folder)
    (folder / "results.json").write_text(text)
    assert run_dir.is_finished(folder)


def test_overwriting_an_unfinished_run_of_another_config(folder):
    _start(folder)
    with open_run(folder, OTHER, overwrite=True) as run:
        assert not run.resumed
        assert _names(folder) == ["config.json"]


def test_an_overwrite_killed_half_way_is_completed_and_not_resumed(folder, monkeypatch):
    _start(folder, finished=True)
    (folder / "timing.json").write_text("")

    remove = storage.remove

    def killed(path):
        if path.name == "ledger":
            raise KeyboardInterrupt
        remove(path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(storage, "remove", killed)
        open_run(folder, CONFIG, overwrite=True)
    assert "ledger" in _names(folder)
    with open_run(folder, CONFIG) as run:
        assert not run.resumed
        assert _names(folder) == ["config.json"]
    with open_run(folder, CONFIG) as run:
        assert run.resumed


@pytest.mark.parametrize(
    "foreign",
    ["notes.txt", "config.json", "results.json", ".hidden"],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_directory_of_somebody_else_is_never_touched(folder, foreign, overwrite):
    (folder / foreign).write_text('{"config": {"seed": 0}}')
    with pytest.raises(RunDirError, match=r"no seal_jax run.*Nothing in it was changed"):
        open_run(folder, CONFIG, overwrite)
    assert [child.name for child in storage.children(folder)] == [foreign]
    assert (folder / foreign).read_text() == '{"config": {"seed": 0}}'


def test_overwriting_does_not_follow_links_out_of_the_run(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    _start(tmp_path / "run", finished=True)
    (tmp_path / "run" / "link").symlink_to(outside)
    (tmp_path / "alias").symlink_to(tmp_path / "run")
    open_run(tmp_path / "alias", CONFIG, overwrite=True).close()
    assert (outside / "precious").exists()
    assert _names(tmp_path / "run") == ["config.json"]
    assert (tmp_path / "alias").is_symlink()


def test_a_run_in_use_is_refused_even_to_overwrite(tmp_path):
    with open_run(tmp_path, CONFIG) as run:
        run_dir.write_json(run.results_path, {})
        with pytest.raises(DirectoryInUseError, match=f"process {os.getpid()}"):
            open_run(tmp_path, CONFIG, overwrite=True)
        assert run.results_path.exists()


@pytest.mark.parametrize("found", [1, 3])
@pytest.mark.parametrize("finished", [False, True])
def test_a_run_of_another_format_is_refused(folder, found, finished):
    _start(folder, finished=finished)
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(
        text.replace('"seal_jax_run": 2', f'"seal_jax_run": {found}')
    )
    before = _names(folder)
    message = (
        rf"folder holds a run in format {found}, .* reads and writes format 2: use the version "
        "that made it, or another --workdir"
    ).replace("folder", re.escape(str(folder)))
    for use in (lambda: open_run(folder, CONFIG, overwrite=True), lambda: read_config(folder)):
        with pytest.raises(RunDirError, match=message):
            use()
    assert _names(folder) == before
    assert json.loads((folder / "config.json").read_text())["seal_jax_run"] == found


def test_a_file_and_a_url_of_another_kind_are_refused(folder):
    (folder / "file").write_text("")
    with pytest.raises(RunDirError, match="is a file"):
        open_run(folder / "file", CONFIG)
    with pytest.raises(OSError, match="expected a local directory or gs://BUCKET/PATH"):
        open_run("s3://bucket/run", CONFIG)


def test_a_config_that_json_cannot_hold_makes_no_directory(tmp_path):
    with pytest.raises(ValueError, match=r"inner\.lr is nan"):
        open_run(tmp_path / "run", {"inner": {"lr": float("nan")}})
    assert not (tmp_path / "run").exists()


@pytest.mark.fault("S1")
def test_a_run_whose_directory_is_anothers_writes_no_results(tmp_path):
    with open_run(tmp_path / "run", CONFIG) as mine:
        shutil.rmtree(tmp_path / "run")
        with open_run(tmp_path / "run", OTHER) as other:
            with pytest.raises(DirectoryInUseError, match="was removed or replaced"):
                mine.write(mine.results_path, {"arms": {}})
            assert not other.results_path.exists()
            other.write(other.results_path, {"arms": {}})
        assert run_dir.is_finished(tmp_path / "run")


@pytest.mark.fault("S11")
@pytest.mark.parametrize("damage", ["", "{", "[]", '{"seal_jax_run": 2}', "\0" * 99, None])
def test_a_damaged_config_says_what_takes_its_records_over(folder, damage):
    _start(folder)
    if damage is None:
        storage.remove(folder / "config.json")
    else:
        (folder / "config.json").write_text(damage)
    message = (
        rf"config\.json, which says .* missing or damaged.*a copy.*--reuse={folder} to the run"
    )
    for use in (lambda: open_run(folder, CONFIG, overwrite=True), lambda: read_config(folder)):
        with pytest.raises(RunDirError, match=message):
            use()
    assert (folder / "ledger" / "000000-batch.json").exists()
