"""SQuAD v1.1 by passage, as a TFDS dataset that is written and read without TensorFlow."""

import dataclasses
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from seal_jax.runs import text_file
from seal_jax.tasks.knowledge import squad
from seal_jax.tasks.protocol import Context, Question
from seal_jax.tasks.splits import DataError

_URL = "https://rajpurkar.github.io/SQuAD-explorer/dataset/"
URLS = {"train": f"{_URL}train-v1.1.json", "validation": f"{_URL}dev-v1.1.json"}
FILE_SPLIT = "passages"


@dataclasses.dataclass(eq=False, kw_only=True)
class Source(tfds.core.BuilderConfig):
    """Where the JSON is from: the official files, or the local file `path`; see `of_file`."""

    path: str = ""


def of_file(path: str | os.PathLike) -> Source:
    """The config of a local file in the SQuAD v1.1 format.

    Its name holds a hash of the file's bytes, so a file that has changed is another dataset.

    Raises:
      DataError: the file cannot be read.
    """
    return Source(name=_fingerprint(path), path=os.fspath(path), description=f"From {path}.")


class Builder(tfds.core.GeneratorBasedBuilder):
    """One example a passage, in file order, with the ids of `squad.load`.

    The config `official` downloads SQuAD v1.1 (splits "train" and "validation"); `of_file` makes
    that of a local file (split "passages"). What `squad.load` left out is in the metadata.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "SQuAD v1.1 by passage."}  # noqa: RUF012 (TFDS's own form)
    BUILDER_CONFIGS = [Source(name="official", description="SQuAD v1.1.")]  # noqa: RUF012

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text()
        return tfds.core.DatasetInfo(
            builder=self,
            description="SQuAD v1.1 grouped by passage: each with all of its questions.",
            homepage="https://rajpurkar.github.io/SQuAD-explorer/",
            license="CC BY-SA 4.0",
            features=tfds.features.FeaturesDict(
                {
                    "id": text,
                    "title": text,
                    "number": np.int32,
                    "passage": text,
                    "questions": tfds.features.Sequence(
                        {"id": text, "question": text, "num_answers": np.int32}
                    ),
                    # Of all questions, one after another: TFDS 4.9 cannot write a sequence
                    # within a sequence without TensorFlow.
                    "answers": tfds.features.Sequence(text),
                }
            ),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        source = self.builder_config
        files = {FILE_SPLIT: source.path} if source.path else dl_manager.download(URLS)
        splits = {}
        for split, file in files.items():
            contexts, skipped = squad.load(file)
            if source.path and _fingerprint(file) != source.name:
                raise DataError(f"{file}: the file changed while it was read; start again.")
            places = [part.where.removeprefix(f"{file}: ") for part in skipped]
            self.info.metadata[split] = [
                [place, part.reason] for place, part in zip(places, skipped, strict=True)
            ]
            splits[split] = self._generate_examples(contexts)
        return splits

    def _generate_examples(self, contexts: Iterable[Context]) -> Iterator[tuple[str, dict]]:
        for context in contexts:
            yield context.id, to_example(context)


def to_example(context: Context) -> dict[str, Any]:
    """The example of a passage."""
    return {
        "id": context.id,
        "title": context.title,
        "number": int(context.id.split("-")[-2]),
        "passage": context.text,
        "questions": [
            {"id": question.id, "question": question.text, "num_answers": len(question.golds)}
            for question in context.questions
        ],
        "answers": [answer for question in context.questions for answer in question.golds],
    }


def from_example(example: dict[str, Any]) -> Context:
    """The passage of an example that a data source gave."""
    asked, questions = example["questions"], []
    answers = iter(example["answers"])
    for id, text, count in zip(asked["id"], asked["question"], asked["num_answers"], strict=True):
        golds = tuple(answer.decode() for answer in itertools.islice(answers, int(count)))
        questions.append(Question(id.decode(), text.decode(), golds[0], golds))
    id, title, text = (example[key].decode() for key in ("id", "title", "passage"))
    return Context(id, title, text, tuple(questions))


def _fingerprint(path: str | os.PathLike) -> str:
    """A config name made of the file's bytes."""
    data = text_file.read_bytes(path, error=DataError, expected="a SQuAD JSON file")
    return f"file-{hashlib.sha256(data).hexdigest()[:16]}"
