"""Invented puzzles of ARC's form, and settings of a few-shot run that takes seconds.

A plugin of pytest that tests/conftest.py loads.
"""

import json
import shutil

import numpy as np
import pytest

from seal_jax import settings as settings_lib

# Only the tests' outputs are of this width, so that a row of theirs is known wherever it comes up.
TEST_WIDTH = 7


def _task(seed):
    """Three demonstrations of 2x2 grids, and a test whose output is a row of TEST_WIDTH cells."""
    generator = np.random.default_rng(seed)

    def grid(*shape):
        return generator.integers(1, 10, shape).tolist()

    pairs = [{"input": grid(2, 2), "output": grid(2, 2)} for _ in range(3)]
    return {"train": pairs, "test": [{"input": grid(2, 2), "output": grid(1, TEST_WIDTH)}]}


@pytest.fixture(scope="session")
def tasks(tmp_path_factory):
    """{"train", "eval"}: folders of two tasks each."""
    folders = {}
    for split, names in {"train": ("t0", "t1"), "eval": ("e0", "e1")}.items():
        folder = tmp_path_factory.mktemp(split)
        for name in names:
            seed = sum(map(ord, name))
            (folder / f"{name}.json").write_text(json.dumps(_task(seed)))
        folders[split] = folder
    return folders


@pytest.fixture(scope="session")
def roomy_checkpoint(checkpoint, tmp_path_factory):
    """The tiny checkpoint with room for longer prompts."""
    folder = tmp_path_factory.mktemp("roomy") / "model"
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2048}))
    return folder


@pytest.fixture(scope="session")
def few_shot_settings(tiny_settings, roomy_checkpoint, tasks, change):
    """One round of 2 tasks x 2 recipes, then 2 evaluation tasks x 2 recipes in every arm."""
    make = settings_lib
    oracle = make.few_shot.ORACLE
    return change(
        tiny_settings,
        {
            "task": "few_shot",
            "model.path": str(roomy_checkpoint),
            "few_shot": make.FewShot(
                train=str(tasks["train"]),
                eval=str(tasks["eval"]),
                constrained=True,
                min_learning_rate=1e-2,
                max_learning_rate=5e-2,
                max_epochs=2,
                max_examples=4,
                max_steps=4,
                permutations=1,
                transforms=("identity", "transpose"),
                oracle=oracle.replace("1e-4", "2e-2"),
                fixed=tuple(oracle.replace("1e-4", rate) for rate in ("1e-2", "3e-2")),
            ),
            "edits.samples": 2,
            "edits.max_new_tokens": 272,
            "edits.prompt_buckets": (640,),
            "inner.batch_size": 2,
            "inner.candidates": 4,
            "inner.buckets": (256, 512),
            "answers.prompt_style": "chat",
            "answers.max_new_tokens": 12,
            "answers.max_gold_tokens": 12,
            "answers.prompt_buckets": (256,),
            "answers.questions_at_once": 4,
            "restem.rounds": 1,
            "restem.sft.buckets": (1280,),
            "evaluation.edits": 2,
        },
    )
