"""Our contestant: what it leaves out of a program changes no result."""

import jax
import pytest

from benchmarks import ours, problems
from seal_jax.doctor import models


@pytest.fixture(scope="module")
def contestant():
    return ours.open_worker(models.Spec(model="tiny", rank=4, alpha=8.0, learning_rate=1e-2))


@pytest.fixture(scope="module")
def work():
    return problems.load(tiny=True)


def test_fitted_shapes_change_no_loss(contestant, work):
    group = work.group(2)
    whole = contestant.update(group, work.buckets)
    fitted = contestant.update(group, work.buckets, fitted=True)
    assert fitted["losses"] == pytest.approx(whole["losses"], abs=1e-5)
    assert fitted["steps"] == whole["steps"] == [len(edit) for edit in group]
    assert fitted["computed"] == whole["computed"]
    wider = contestant.update(group, (6, *work.buckets))  # so that a shape is left over
    assert wider["computed"] <= whole["computed"]


def test_order_holds_every_sequence_once(contestant, work):
    group = work.group(4)
    steps = contestant.order(group, work.buckets, 1)["steps"]
    for k, edit in enumerate(group):
        trained = [tuple(step[k]) for step in steps if step[k]]
        assert sorted(trained) == sorted(edit)
    twice = contestant.order(group, work.buckets, 2)["steps"]
    assert len(twice) == 2 * len(steps)


def test_initial_adapters_change_nothing_and_trained_ones_differ(contestant):
    initial, trained = (contestant.deltas(2, trained=flag).tree for flag in (False, True))
    module = initial["layers"]["attn"]["q_proj"]
    assert not module["b"].any() and module["a"].any()
    assert (module["a"][0] != module["a"][1]).any()  # each candidate its own
    leaves = jax.tree.leaves(trained)
    assert all(leaf.any() for leaf in leaves)


def test_groups_of_self_edits(work):
    sizes = [len(edit) for edit in work.edits]
    assert len(sizes) == 12
    group = work.group(4)
    assert len(group) == 4 and set(group) <= set(work.edits)
    assert not set(group) & set(work.group(4, 1))
