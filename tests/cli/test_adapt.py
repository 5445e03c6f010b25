"""Adapting to one's own text, on the tiny model."""

import pytest

from seal_jax.cli import adapt

pytestmark = pytest.mark.usefixtures("few_devices")


@pytest.fixture(scope="module")
def settings(tiny_settings, change):
    return change(tiny_settings, {"inner.epochs": 6})


def test_adapting_changes_the_answers(settings):
    passage = "Ullen is a town on the Varde. Its tower is red."
    adapted = adapt.adapt(settings, passage, ["What is red?", "Where is it?"], title="Ullen")
    assert len(adapted.before) == len(adapted.after) == 2
    assert adapted.before != adapted.after
    assert adapted.self_edit
    again = adapt.adapt(settings, passage, ["What is red?", "Where is it?"], title="Ullen")
    assert again == adapted


def test_without_a_self_edit_the_passage_alone_is_learned(settings):
    adapted = adapt.adapt(settings, "Ullen is a town.", ["What is it?"], title="Ullen", edit=False)
    assert adapted.self_edit == ""
    assert adapted.before != adapted.after


@pytest.mark.parametrize(
    ("passage", "questions", "message"),
    [
        (" \n", ["q?"], "passage is empty"),
        ("Text.", [], "--question"),
        ("Text.", [" "], "--question"),
    ],
)
def test_nothing_to_do_is_an_error(settings, passage, questions, message):
    with pytest.raises(ValueError, match=message):
        adapt.adapt(settings, passage, questions, title="Ullen")
