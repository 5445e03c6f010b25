"""Config files: where they are, what they offer, and where each value of a config is from."""

import importlib.util
import inspect
import os
import pathlib
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from seal_jax.runs import run_dir
from seal_jax.settings import Settings, SettingsError, config_dict


def folder() -> pathlib.Path:
    """The repository's configs/, or those of the installed package.

    Raises:
      SettingsError: there are none.
    """
    beside = pathlib.Path(__file__).resolve().parents[2] / "configs"
    if beside.is_dir():
        return beside
    found = importlib.util.find_spec("seal_jax.configs")
    if found is None or not found.submodule_search_locations:
        raise SettingsError("no default config was found: give --config=FILE.")
    return pathlib.Path(next(iter(found.submodule_search_locations)))


def default(name: str) -> str:
    """FILE:VARIANT with the whole path of a file in `folder`."""
    return str(folder() / name)


def load(path: str) -> ModuleType:
    """A config file as a module.

    Raises:
      SettingsError: there is no such file, or it cannot be imported.
    """
    path = os.path.expanduser(path)
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
    if spec is None or spec.loader is None or not pathlib.Path(path).is_file():
        raise SettingsError(f"--config={path}: expected a Python file with a get_config.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a module may do anything while it is imported
        raise SettingsError(failed(f"--config={path}", error)) from error
    return module


def failed(what: str, error: Exception) -> str:
    """What to say of a config file that raises an error."""
    return f"{what} fails with {type(error).__name__}: {error}. Mend the file, or give another."


def listing(where: pathlib.Path, only: str = "") -> str:
    """Every variant of the config files in a folder with the first line of its docstring.

    Args:
      where: the folder.
      only: FILE shows that file's; FILE:VARIANT the whole docstring of one.

    Raises:
      SettingsError: there is nothing of that name.
    """
    wanted_file, _, wanted = only.partition(":")
    lines: list[str] = []
    for path in sorted(where.glob("*.py")):
        module = load(str(path))
        variants: Mapping[str, Any] = getattr(module, "VARIANTS", {})
        if not variants or wanted_file not in ("", path.name):
            continue
        if wanted in variants:
            return inspect.getdoc(variants[wanted]) or ""
        if wanted:
            raise SettingsError(f"no variant {wanted!r} in {path.name}: {', '.join(variants)}.")
        lines += ["", f"{path.name}: {_first_line(module)}"]
        width = max(map(len, variants)) + 2
        lines += [f"  {name:<{width}}{_first_line(of)}" for name, of in variants.items()]
        sweeps = getattr(module, "SWEEPS", {})
        if sweeps:
            lines.append(f"  sweeps (--sweep=NAME): {', '.join(sweeps)}")
    if not lines:
        raise SettingsError(f"no config file {wanted_file!r} in {where}.")
    return "\n".join(lines[1:])


def _first_line(documented: Any) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0]


def shown(config: Mapping[str, Any], file: str, overrides: Sequence[str]) -> str:
    """Every setting as a line "key = value  # origin".

    A value counts as the file's where it differs from the default; defaults have no remark.

    Args:
      config: as nested dicts, with overrides.
      file: FILE[:VARIANT] that it was made by.
      overrides: dotted keys that the command line sets.
    """
    path, _, variant = file.partition(":")
    preset = load(path).get_config(*filter(None, [variant]))
    of_file = dict(run_dir.flatten(preset.to_dict()))
    of_default = dict(run_dir.flatten(config_dict.to_config(Settings()).to_dict()))
    name = pathlib.Path(path).name + (f":{variant}" if variant else "")
    rows = []
    for key, value in run_dir.flatten(dict(config)):
        of = "override" if key in overrides else name if of_file[key] != of_default[key] else ""
        rows.append((f"{key} = {value!r}", of))
    width = min(60, max(len(text) for text, _ in rows))
    return "\n".join(f"{text:<{width}}  # {of}" if of else text for text, of in rows)
