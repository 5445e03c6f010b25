"""Configs: their names and files, what they offer, and where each value of one is from."""

import importlib.util
import inspect
import os
import pathlib
from collections.abc import Collection, Mapping
from types import ModuleType
from typing import Any

import ml_collections

from seal_jax.runs import run_dir
from seal_jax.settings import Settings, SettingsError, config_dict
from seal_jax.settings.checks import did_you_mean


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
        raise SettingsError("the package has no configs: give the path of a config file.")
    return pathlib.Path(next(iter(found.submodule_search_locations)))


def find(name: str) -> tuple[pathlib.Path, str]:
    """The file and the variant ("" for none) of a config's name, NAME[:VARIANT].

    NAME is one of the package's configs, such as "knowledge" (or "knowledge.py", unless there is a
    file of that name here), or the path of a config file.

    Raises:
      SettingsError: there is no such file; a near name is told.
    """
    file, _, variant = name.partition(":")
    path = pathlib.Path(os.path.expanduser(file))
    if path.is_file() and path.suffix == ".py":
        return path, variant
    if path.name == file and (packaged := folder() / f"{path.stem}.py").is_file():
        return packaged, variant
    every = _offered(folder())
    names = [f"{name}:{of}" for name, module in every.items() for of in module.VARIANTS]
    wanted = f"{path.stem}:{variant}" if variant else path.stem
    near = did_you_mean(wanted, [*every, *names])
    of_variant = [known for known in names if known.endswith(f":{wanted}")]
    if of_variant:  # a variant's name alone was given
        near = f": did you mean {' or '.join(map(repr, of_variant))}?"
    raise SettingsError(
        f"there is no config {name!r}{near} Give NAME:VARIANT, as `seal configs` lists them, or "
        "the path of a config file, FILE.py or FILE.py:VARIANT."
    )


def made(name: str, overrides: Mapping[str, Any] | None = None) -> ml_collections.ConfigDict:
    """The config of a name, with other values of some dotted keys.

    Raises:
      SettingsError: there is no such config or key, or the file makes none.
    """
    path, variant = find(name)
    module = load(path)
    try:
        config = module.get_config(*filter(None, [variant]))
    except ValueError as error:
        raise SettingsError(f"config {name!r}: {error}") from error
    except Exception as error:  # what a config file does is its own
        raise SettingsError(failed(name, error)) from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise SettingsError(f"config {name!r}: expected a get_config that returns a ConfigDict.")
    return config_dict.changed(config, overrides or {})


def load(path: str | os.PathLike[str]) -> ModuleType:
    """A config file as a module.

    Raises:
      SettingsError: it cannot be imported.
    """
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
    assert spec and spec.loader, path
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a module may do anything while it is imported
        raise SettingsError(failed(str(path), error)) from error
    return module


def failed(name: str, error: Exception) -> str:
    """What to say of a config file that raises an error."""
    return (
        f"config {name!r} fails with {type(error).__name__}: {error}. Mend the file, or give "
        "another."
    )


def _offered(where: pathlib.Path) -> dict[str, ModuleType]:
    """The config files of a folder that have variants, by name."""
    modules = {path.stem: load(path) for path in sorted(where.glob("*.py"))}
    return {name: module for name, module in modules.items() if getattr(module, "VARIANTS", {})}


def listing(where: pathlib.Path | None = None, only: str = "") -> str:
    """Every variant of the config files in a folder with the first line of its docstring.

    Args:
      where: the folder; None is `folder`.
      only: NAME shows that file's; NAME:VARIANT the whole docstring of one.

    Raises:
      SettingsError: there is nothing of that name.
    """
    every = _offered(where or folder())
    wanted_file, _, wanted = only.partition(":")
    wanted_file = wanted_file.removesuffix(".py")
    if wanted_file and wanted_file not in every:
        near = did_you_mean(wanted_file, every)
        raise SettingsError(f"no config file {wanted_file!r} in {where or folder()}{near}")
    lines: list[str] = []
    for name, module in every.items():
        if wanted_file not in ("", name):
            continue
        if wanted in module.VARIANTS:
            return inspect.getdoc(module.VARIANTS[wanted]) or ""
        if wanted:
            near = did_you_mean(wanted, module.VARIANTS)
            raise SettingsError(f"no variant {wanted!r} in {name}{near}")
        spelled = f"{name}:" if where is None else f"{where / name}.py:"
        lines += ["", f"{name}: {_first_line(module)}"]
        width = max(map(len, module.VARIANTS)) + len(spelled) + 2
        for variant, of in module.VARIANTS.items():
            lines.append(f"  {spelled + variant:<{width}}{_first_line(of)}")
        sweeps = getattr(module, "SWEEPS", {})
        if sweeps:
            lines.append(f"  sweeps (--sweep=NAME): {', '.join(sweeps)}")
    if not lines:
        raise SettingsError(f"no config file in {where}.")
    return "\n".join(lines[1:])


def _first_line(documented: Any) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0]


def shown(
    config: Mapping[str, Any], preset: Mapping[str, Any], name: str, overrides: Collection[str]
) -> str:
    """Every setting as a line "key = value  # origin".

    A value counts as the config's where it differs from the default; defaults have no remark.

    Args:
      config: as nested dicts, with overrides.
      preset: the same without overrides.
      name: of the config, or of the run whose settings these are.
      overrides: dotted keys that the command line sets.
    """
    of_file = dict(run_dir.flatten(dict(preset)))
    of_default = dict(run_dir.flatten(config_dict.to_config(Settings()).to_dict()))
    rows = []
    for key, value in run_dir.flatten(dict(config)):
        of = "override" if key in overrides else name if of_file[key] != of_default[key] else ""
        rows.append((f"{key} = {value!r}", of))
    width = min(60, max(len(text) for text, _ in rows))
    return "\n".join(f"{text:<{width}}  # {of}" if of else text for text, of in rows)
