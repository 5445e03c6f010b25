"""Files of a run that a crash or a bad disk has damaged."""

import dataclasses
import re
import shutil

import pytest

from seal_jax.core import delta
from seal_jax.loop import opened_model, policies, train
from seal_jax.runs import run_dir
from seal_jax.runs.checkpoints import CheckpointError, Checkpoints
from seal_jax.runs.run_dir import RunDirError


@pytest.fixture
def unfinished(undisturbed, tmp_path):
    """A copy of the run without its results."""
    shutil.copytree(undisturbed, tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    return tmp_path / "run"


def _truncate(folder):
    largest = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "message"), [(_truncate, "is damaged"), (shutil.rmtree, "there is no step 2")]
)
def test_the_newest_policy_is_trained_again(
    damage, message, unfinished, undisturbed, settings, outcome, capsys
):
    damage(unfinished / "checkpoints" / "2")
    train.train(settings, str(unfinished))
    printed = [line for line in capsys.readouterr().out.splitlines() if message in line]
    assert len(printed) == 1, printed
    assert printed[0].startswith("round 2: ") and "The M-step is done again." in printed[0]
    assert outcome(unfinished) == outcome(undisturbed)
    like = delta.shapes(opened_model.load_base(settings).params, settings.restem.sft.spec())
    version, deltas = policies.stored_deltas(str(unfinished), settings, like)
    assert version == 2 and all(delta.is_finite(d) for d in deltas)


def test_the_newest_segment_is_done_again(unfinished, undisturbed, settings, outcome):
    newest = max((unfinished / "ledger").glob("[0-9]*.json"))
    newest.write_bytes(newest.read_bytes()[:-30])
    train.train(settings, str(unfinished), quiet=True)
    assert outcome(unfinished) == outcome(undisturbed)
    assert newest.with_name(newest.name + ".damaged").exists()


@pytest.mark.fault("S11")
def test_a_damaged_policy_says_what_trains_it_again_and_that_works(
    unfinished, undisturbed, settings, outcome
):
    _truncate(unfinished / "checkpoints" / "1")
    like = delta.shapes(opened_model.load_base(settings).params, settings.restem.sft.spec())
    message = rf"1 is damaged .*own command trains .*: repeat it, after deleting {unfinished}/resul"
    with pytest.raises(CheckpointError, match=message):
        policies.stored_deltas(str(unfinished), settings, like)
    train.train(settings, str(unfinished), quiet=True)
    assert policies.stored_deltas(str(unfinished), settings, like)[0] == 2
    assert outcome(unfinished) == outcome(undisturbed)


@pytest.mark.fault("S11")
def test_a_damaged_config_says_what_takes_its_records_over_and_that_works(
    unfinished, undisturbed, settings, tmp_path
):
    (unfinished / "config.json").write_text("{")
    with pytest.raises(RunDirError, match=rf"another --workdir and --reuse={unfinished} to the"):
        train.train(settings, str(unfinished), quiet=True)
    train.train(settings, str(tmp_path / "new"), quiet=True, reuse=[str(unfinished)])
    assert (tmp_path / "new" / "results.json").read_bytes() == (
        undisturbed / "results.json"
    ).read_bytes()


@pytest.mark.fault("S1")
def test_a_run_whose_directory_is_anothers_stops_and_leaves_it_alone(
    unfinished, settings, change, monkeypatch
):
    """It is removed, and another run begun at its place, when the last policy is to be written."""
    shutil.rmtree(unfinished / "checkpoints" / "2")
    newest = sorted((unfinished / "ledger").glob("[0-9]*.json"))
    for path in newest[next(i for i, p in enumerate(newest) if '"round 2"' in p.read_text()
                            and "policy" in p.name) :]:  # fmt: skip
        path.unlink()
    other, opened, save = change(settings, {"seed": 1}), [], Checkpoints.save

    def lose(self, step, tree):
        if self.path.name == "checkpoints" and not opened:
            shutil.rmtree(unfinished)
            opened.append(run_dir.open_run(unfinished, dataclasses.asdict(other)))
        save(self, step, tree)
        self.wait()  # nothing is written in the background when the directory goes

    monkeypatch.setattr(Checkpoints, "save", lose)
    said = None
    try:
        train.train(settings, str(unfinished), quiet=True)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    assert said and re.match(r"DirectoryInUseError: .* was removed or replaced .* stops here", said)
    with opened[0]:
        assert sorted(path.name for path in unfinished.iterdir()) == [".lock", "config.json"]
        assert run_dir.read_config(unfinished)["seed"] == 1
