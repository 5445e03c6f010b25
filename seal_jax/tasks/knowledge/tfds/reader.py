"""Contexts by the names of TFDS datasets: prepared at the first use, then read from the data dir.

Names: "tfds:squad_passages/train" and "tfds:squad_passages/validation" are the official SQuAD v1.1
files, downloaded once; "tfds:FILE.json" is a local file of the same format.
"""

import contextlib
import difflib
import io
import os
import pathlib
import sys
from collections.abc import Iterator

import requests
import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from seal_jax.runtime import terminal
from seal_jax.tasks.knowledge.tfds.squad_passages import squad_passages_dataset_builder as dataset
from seal_jax.tasks.protocol import Context, Skipped
from seal_jax.tasks.splits import DataError

PREFIX = "tfds:"
_OFFICIAL = {f"{PREFIX}{dataset.Builder.name}/{split}": split for split in dataset.URLS}


def load(
    name: str, *, data_dir: str | os.PathLike | None = None
) -> tuple[list[Context], list[Skipped]]:
    """Reads a dataset, after preparing it where that was not done yet.

    Args:
      name: see the module.
      data_dir: where datasets are kept; None for $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Returns:
      What `squad.load` returns for the JSON file.

    Raises:
      DataError: unknown name, a file that cannot be had or used (see `squad.load`), or a prepared
        dataset that is damaged.
    """
    builder, split = _open(name, data_dir)
    with _quiet():
        ready = builder.is_prepared()
    if not ready:
        if builder.data_path.exists():
            raise _damaged(builder.data_path, "dataset_info.json is missing")
        _write(builder, name, split)
        builder, split = _open(name, data_dir)
    try:
        found = [dataset.from_example(example) for example in builder.as_data_source(split=split)]
        skipped = [
            Skipped(f"{name}: {place}", reason) for place, reason in builder.info.metadata[split]
        ]
    except Exception as error:  # TFDS and its readers raise a great many kinds
        raise _damaged(builder.data_path, error) from error
    return found, skipped


def _open(name: str, data_dir: str | os.PathLike | None) -> tuple[tfds.core.DatasetBuilder, str]:
    """The builder and the split that a name means."""
    if name in _OFFICIAL:
        source, split = "official", _OFFICIAL[name]
    elif name.startswith(PREFIX) and name.endswith((".json", ".jsonl")):
        source, split = dataset.of_file(name.removeprefix(PREFIX)), dataset.FILE_SPLIT
    else:
        close = difflib.get_close_matches(name, _OFFICIAL, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise DataError(
            f"no dataset {name!r}; expected {', '.join(map(repr, _OFFICIAL))} or "
            f"'{PREFIX}FILE.json'.{hint}"
        )
    try:
        with _quiet():
            return dataset.Builder(data_dir=data_dir, config=source), split
    except Exception as error:
        root = data_dir or tfds.core.constants.DATA_DIR
        place = pathlib.Path(root, dataset.Builder.name, getattr(source, "name", source))
        raise _damaged(place, error) from error


def _write(builder: tfds.core.DatasetBuilder, name: str, split: str) -> None:
    """Prepares a dataset.

    It is written beside its place and renamed when complete: a killed preparation leaves a
    directory "incomplete.*" that nothing reads, and of two that run at once one is kept.
    """
    terminal.say(f"preparing {name} in {builder.data_path}", error=True)
    try:
        if split in dataset.URLS:  # TFDS would try for minutes where there is no network
            requests.head(dataset.URLS[split], timeout=30).raise_for_status()
        with _quiet():
            builder.download_and_prepare(file_format="array_record")
    except (
        requests.RequestException,
        tfds.download.DownloadError,
        NonMatchingChecksumError,
    ) as error:
        raise DataError(
            f"{name}: cannot download SQuAD v1.1 ({error}). Get the files on another machine, and "
            f"name the copies, '{PREFIX}FILE.json': {' and '.join(dataset.URLS.values())}"
        ) from error
    except OSError as error:
        if not builder.data_path.exists():  # else another process was quicker
            raise DataError(
                f"{name}: cannot prepare the dataset in {builder.data_path} ({error}): use another "
                "data dir."
            ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what TFDS has to say off the standard output, and its warnings off the terminal."""
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)


def _damaged(place: object, why: object) -> DataError:
    """The error of a prepared dataset that cannot be read."""
    return DataError(f"the dataset in {place} is damaged ({why}): delete it and start again.")
