"""TFDS's own checks of a builder. They need TensorFlow, which this project does not use."""

import pathlib

import pytest
import tensorflow_datasets as tfds

pytest.importorskip("tensorflow", reason="TFDS's DatasetBuilderTestCase needs TensorFlow")

from seal_jax.tasks.knowledge.tfds.squad_passages import squad_passages_dataset_builder as dataset


class SquadPassagesTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = dataset.Builder
    EXAMPLE_DIR = pathlib.Path(__file__).parents[3] / "data" / "squad_passages"
    DL_DOWNLOAD_RESULT = {"train": "train-v1.1.json", "validation": "dev-v1.1.json"}  # noqa: RUF012
    SPLITS = {"train": 4, "validation": 2}  # noqa: RUF012
