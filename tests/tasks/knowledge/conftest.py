"""Where the shared data of the development machines lies; absent elsewhere."""

import os
import pathlib

import pytest


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """`$SEAL_JAX_DATA`, or shared/data beside the repository; skips the test where absent."""
    beside = pathlib.Path(__file__).resolve().parents[4] / "shared" / "data"
    root = pathlib.Path(os.environ.get("SEAL_JAX_DATA", beside))
    if not root.is_dir():
        pytest.skip(f"no shared data at {root}; set SEAL_JAX_DATA to its directory")
    return root
