"""Figures of a running job, for charts: one interface, written to any of several places.

They are for watching only: results come from the ledger, and no program reads a metric.
"""

import importlib
import json
import logging
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from seal_jax.runs import json_file, storage
from seal_jax.runs.closing import Closing
from seal_jax.settings import Metrics, SettingsError

_SECONDS_BETWEEN_UPLOADS = 30.0
_COMPILED = "/jax/core/compile/backend_compile_duration"


def _line(step: int, values: Mapping[str, float]) -> str:
    return json.dumps({"time": round(time.time(), 3), "step": step, **values}) + "\n"


class Writer(NamedTuple):
    """Where figures go.

    Attributes:
      write: takes a step, the place on the horizontal axis, which of one name never falls, also in
        a run that goes on, such as the round; and figures by their names, such as "mean reward".
      close: finishes what is being written.
    """

    write: Callable[[int, Mapping[str, float]], object]
    close: Callable[[], object]


def json_lines(path: str | os.PathLike[str]) -> Writer:
    """A line {"time": seconds since 1970, "step", name: figure, ...} for each call, in a file."""
    file = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115  # a line at a time
    return Writer(lambda step, values: file.write(_line(step, values)), file.close)


class RemoteJsonLines:
    """The lines of `json_lines` as an object at `gs://`, one for each process that wrote some.

    An object cannot be appended to, so that all lines are uploaded anew, at most every half minute
    and at the end.
    """

    def __init__(self, folder: storage.Location):
        self._target = folder / f"metrics-{time.time_ns()}.jsonl"
        self._lines: list[str] = []
        self._uploaded = time.monotonic()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._lines.append(_line(step, values))
        if time.monotonic() - self._uploaded > _SECONDS_BETWEEN_UPLOADS:
            self.close()

    def close(self) -> None:
        if self._lines:
            storage.put(self._target, "".join(self._lines).encode())
            self._uploaded = time.monotonic()


def tensorboard(path: str | os.PathLike[str]) -> Writer:
    """Scalars for TensorBoard, in a directory of event files."""
    to = _imported("tensorboardX", "tensorboard").SummaryWriter(logdir=os.fspath(path))

    def write(step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            to.add_scalar(name.replace(" ", "_"), value, step)
        to.flush()

    return Writer(write, to.close)


def weights_and_biases(project: str, workdir: pathlib.Path, config: Mapping[str, Any]) -> Writer:
    """A run of Weights & Biases; a run directory that goes on continues the same one.

    Raises:
      SettingsError: it cannot be started, for want of a key or of a connection.
    """
    package, marker = _imported("wandb", "wandb"), workdir / "wandb_run.json"
    try:
        known = json.loads(marker.read_bytes())["id"] if marker.exists() else None
    except (ValueError, KeyError, TypeError, RecursionError):
        known = None
        logging.warning("%s is damaged: the charts go on in another run of W&B.", marker)
    try:
        run = package.init(
            project=project,
            name=workdir.name,
            dir=os.fspath(workdir),
            config=dict(config),
            id=known if isinstance(known, str) else None,
            resume="allow",
        )
    except Exception as error:
        raise SettingsError(
            f"metrics.wandb={project!r}: W&B could not be started ({error}). Log in (`wandb "
            "login`, or WANDB_API_KEY), or set WANDB_MODE=offline, or metrics.wandb=''."
        ) from error
    run.define_metric("*", step_metric="step")
    json_file.write_json(marker, {"id": run.id})
    return Writer(lambda step, values: run.log({**values, "step": step}), run.finish)


class Writers(Closing):
    """Several writers as one. Figures that are not known (None) are left out.

    Example:

        with Writers([json_lines("metrics.jsonl")]) as metrics:
            metrics.write(3, {"mean reward": 0.4, "loss": None})
    """

    def __init__(self, writers: Sequence[Writer | RemoteJsonLines]):
        self._writers = writers

    def write(self, step: int, values: Mapping[str, float | None]) -> None:
        """Writes figures by their names; see `Writer`."""
        known = {name: float(value) for name, value in values.items() if value is not None}
        for writer in self._writers if known else ():
            writer.write(step, known)

    def close(self) -> None:
        """Finishes what is being written."""
        for writer in self._writers:
            writer.close()


def open_writers(
    settings: Metrics, workdir: str | os.PathLike[str], config: Mapping[str, Any]
) -> Writers:
    """The writers that the settings ask for, with their files in a run's directory.

    Raises:
      SettingsError: a package that one of them needs is not installed, or it cannot write to an
        object store.
    """
    place = storage.locate(workdir)
    if not isinstance(place, pathlib.Path):
        if settings.tensorboard or settings.wandb:
            raise SettingsError(
                "metrics.tensorboard and metrics.wandb need a --workdir on a local disk."
            )
        return Writers([RemoteJsonLines(place)])
    writers = [json_lines(place / "metrics.jsonl")]
    if settings.tensorboard:
        writers.append(tensorboard(place / "tensorboard"))
    if settings.wandb:
        writers.append(weights_and_biases(settings.wandb, place, config))
    return Writers(writers)


def _imported(package: str, setting: str) -> Any:
    """A package that only one of the writers needs."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise SettingsError(
            f"metrics.{setting} needs the package {package}: pip install 'seal_jax[{setting}]'."
        ) from None


class Compiles:
    """Counts XLA programs that this process compiles, or fetches from the cache, from now on."""

    def __init__(self) -> None:
        self.count, self.seconds = 0, 0.0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **named: Any) -> None:
        if event == _COMPILED:
            self.count += 1
            self.seconds += duration_secs
