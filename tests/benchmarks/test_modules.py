"""Every benchmark can be started: what it imports is there."""

import importlib
import pathlib

import pytest

import benchmarks

_FOLDER = pathlib.Path(benchmarks.__file__).parent
_MODULES = sorted(
    ".".join(("benchmarks", *path.relative_to(_FOLDER).with_suffix("").parts))
    for path in _FOLDER.rglob("*.py")
    if path.name != "__init__.py"
)


@pytest.mark.parametrize("module", _MODULES)
def test_its_imports_are_there(module):
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "peft"):
            raise
        pytest.skip(f"not installed: {error.name}")
