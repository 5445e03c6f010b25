"""Fixtures of the parity tests."""

import pytest


@pytest.fixture(scope="session")
def witness():
    """The module `witness`; skips where PyTorch or PEFT is not installed."""
    pytest.importorskip("torch")
    pytest.importorskip("peft")
    from . import witness

    return witness
