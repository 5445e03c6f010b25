"""Files of a run that a crash or a bad disk has damaged."""

import shutil

import pytest

from seal_jax.core import delta
from seal_jax.loop import opened_model, policies, train


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
