"""The screen: its figures by hand, and one step on a tiny model."""

import numpy as np
import pytest

from benchmarks import screen
from seal_jax.loop.session import open_session

LEARNED = "answer 0 answer 1 answer 0 answer 1\nanswer 1 answer 0"
NOISE = "Snow melts in the spring.\nNobody has seen it."


def test_agreement_by_hand():
    """Of three pairs one is tied and two are turned; of two more passages one pair each."""
    full = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, np.nan], [4.0, 3.0, np.nan]])
    cheap = np.array([[0.0, 0.0, -1.0], [5.0, 6.0, 7.0], [2.0, 1.0, np.nan]])
    found = screen.agreement(full, cheap)
    assert (found["pairs"], found["agreed"]) == (5, 2.5)
    assert found["share"] == 0.5 and found["interval"][0] < 0.5 < found["interval"][1]
    # Centred: -1 0 1 with 1/3 1/3 -2/3; -1/2 1/2 twice with -1/2 1/2.
    assert found["correlation"] == pytest.approx((-1 + 0.5 + 0.5) / (3 * (2 / 3 + 1)) ** 0.5)
    assert screen.agreement(full, full)["share"] == 1


def test_a_step_on_everything_ranks_as_the_loop_where_one_edit_has_the_answers(
    tiny_settings, few_devices
):
    settings = screen.screening(tiny_settings, 3e-2)
    session = open_session(tiny_settings)
    contexts = session.task.contexts("train")[:3]
    cheap = session.changed(settings)
    lesson = cheap.lesson(cheap.task.read(contexts[0], LEARNED, 0))
    assert len(lesson.sequences) == 3 and cheap.steps(lesson) == 1
    for of in (session, cheap):
        found, seconds = screen.scores(of, contexts, [[LEARNED, NOISE]] * 3, 0)
        assert (found[:, 0] > found[:, 1]).all() and seconds > 0
