"""What the tests of runs share: few devices, and a watch on the settings that are read."""

import dataclasses
import sys

import pytest

from seal_jax import settings as settings_lib
from seal_jax.core import parallel
from seal_jax.judges.graders import LocalGrader
from seal_jax.loop.session import Session
from seal_jax.tasks import registry
from seal_jax.weights import tokenizer


@pytest.fixture(scope="module", autouse=True)
def runs_use_few_devices(few_devices):
    pass


@pytest.fixture
def without_model(checkpoint):
    """(settings) -> a session whose model has no parameters, so that nothing can be computed."""

    def make(settings):
        return Session(
            settings=settings,
            model=None,
            tokenizer=tokenizer.load(checkpoint),
            source="no model",
            devices=parallel.DeviceMesh(parallel.all_devices().devices[:1]),
            base={},
            stop_ids=(),
            task=registry.open_task(settings),
            grader=LocalGrader(),
        )

    return make


@dataclasses.dataclass(frozen=True)
class _Watched:
    """(class, field) of all settings, and of those that programs have read."""

    declared: frozenset
    pairs: set = dataclasses.field(default_factory=set)


@pytest.fixture(scope="session")
def watch_settings():
    """(monkeypatch) -> what is read of the settings from now on."""

    def watch(patch):
        groups = {type(node) for node in _groups(settings_lib.Settings())}
        watched = _Watched(
            frozenset(
                (cls.__name__, field.name) for cls in groups for field in dataclasses.fields(cls)
            )
        )
        for cls in groups:
            plain = cls.__getattribute__

            def spy(self, name, plain=plain, cls=cls):
                if name in cls.__dataclass_fields__ and _outside_settings():
                    watched.pairs.add((cls.__name__, name))
                return plain(self, name)

            patch.setattr(cls, "__getattribute__", spy)
        return watched

    return watch


def _groups(node):
    yield node
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if dataclasses.is_dataclass(value):
            yield from _groups(value)


def _outside_settings():
    """Whether the reader two frames up is a program rather than a copy or a check of settings."""
    code = sys._getframe(2).f_code
    return not (code.co_filename.endswith("dataclasses.py") or code.co_name == "__post_init__")
