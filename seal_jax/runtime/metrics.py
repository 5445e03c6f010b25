"""Figures of a running job, for charts: one interface, written to any of several places.

They are for watching only: results come from the ledger, and no program reads a metric.
"""

import importlib
import json
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import jax

from seal_jax.runs import storage
from seal_jax.settings import Metrics, SettingsError

_SECONDS_BETWEEN_UPLOADS = 30.0
_COMPILED = "/jax/core/compile/backend_compile_duration"


def _line(step: int, values: Mapping[str, float]) -> str:
    return json.dumps({"time": round(time.time(), 3), "step": step, **values}) + "\n"


class Writer(Protocol):
    """Where figures go."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes figures by their names, such as "round 1/mean reward".

        Args:
          step: place on the horizontal axis; of one name it never falls, also in a run that goes
            on.
        """
        ...

    def close(self) -> None:
        """Finishes what is being written."""
        ...


class JsonLines:
    """A line {"time": seconds since 1970, "step", name: figure, ...} for each call, in a file."""

    def __init__(self, path: str | os.PathLike[str]):
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115  # closed by `close`

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._file.write(_line(step, values))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class RemoteJsonLines:
    """The lines of `JsonLines` as an object at `gs://`, one for each process that wrote some.

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
            self._upload()

    def close(self) -> None:
        if self._lines:
            self._upload()

    def _upload(self) -> None:
        storage.put(self._target, "".join(self._lines).encode())
        self._uploaded = time.monotonic()


class TensorBoard:
    """Scalars for TensorBoard, in a directory of event files."""

    def __init__(self, path: str | os.PathLike[str]):
        package = _imported("tensorboardX", "tensorboard")
        self._writer = package.SummaryWriter(logdir=os.fspath(path))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name.replace(" ", "_"), value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases; a run directory that goes on continues the same one."""

    def __init__(self, project: str, workdir: str | os.PathLike[str], config: Mapping[str, Any]):
        package = _imported("wandb", "wandb")
        marker = pathlib.Path(workdir) / "wandb_run.json"
        known = json.loads(marker.read_text()) if marker.exists() else {}
        self._run = package.init(
            project=project,
            name=pathlib.Path(workdir).name,
            dir=os.fspath(workdir),
            config=dict(config),
            id=known.get("id"),
            resume="allow",
        )
        marker.write_text(json.dumps({"id": self._run.id}))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, "step": step})

    def close(self) -> None:
        self._run.finish()


class Writers:
    """Several writers as one. Figures that are not known (None) are left out.

    Example:

        with Writers([JsonLines("metrics.jsonl")]) as metrics:
            metrics.write(3, {"round 1/mean reward": 0.4, "round 1/loss": None})
    """

    def __init__(self, writers: Sequence[Writer]):
        self._writers = list(writers)

    def write(self, step: int, values: Mapping[str, float | None]) -> None:
        known = {name: float(value) for name, value in values.items() if value is not None}
        for writer in self._writers if known else ():
            writer.write(step, known)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


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
    writers: list[Writer] = [JsonLines(place / "metrics.jsonl")]
    if settings.tensorboard:
        writers.append(TensorBoard(place / "tensorboard"))
    if settings.wandb:
        writers.append(WeightsAndBiases(settings.wandb, place, config))
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
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **named: Any) -> None:
        self.count += event == _COMPILED
