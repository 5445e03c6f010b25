"""The examples in docstrings are true."""

import doctest
import importlib
import pkgutil

import pytest

import seal_jax

_MODULES = [
    module.name
    for module in pkgutil.walk_packages(seal_jax.__path__, "seal_jax.")
    # What starts a command; and what needs PyTorch, which has no examples.
    if not module.name.endswith(("__main__", "torch_side"))
]


@pytest.mark.parametrize("name", _MODULES)
def test_examples_in_docstrings(name):
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [
        example
        for name in _MODULES
        for test in finder.find(importlib.import_module(name))
        for example in test.examples
    ]
    assert len(found) > 20
