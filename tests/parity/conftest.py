"""Fixtures of the parity tests."""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests that call the witness need what it is made of."""
    for item in items:
        if "witness" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.needs("torch", "peft"))


@pytest.fixture(scope="session")
def witness():
    """The module `witness`."""
    from . import witness

    return witness
