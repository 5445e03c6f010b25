"""Stored values of PyTorch, transformers and PEFT for the tiny checkpoints and inner cases."""

import hashlib
import pathlib

import numpy as np

from . import checkpoints, forward, inner_cases, smollm2

PATH = pathlib.Path(__file__).parents[1] / "data" / "golden_parity.npz"


def fingerprint() -> str:
    """SHA-256 of everything that the stored values were computed from."""
    digest = hashlib.sha256()

    def add(value):
        digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())

    add((smollm2.TEXTS, smollm2.QUESTIONS, smollm2.MAX_NEW_TOKENS))
    add((checkpoints.CONFIGS, inner_cases.CASES, forward.LENGTHS, forward.MAX_NEW_TOKENS))
    for name in checkpoints.CONFIGS:
        add((checkpoints.prompts(name), checkpoints.prompts(name, forward.LENGTHS)))
        for key, tensor in checkpoints.tensors(name).items():
            add(key)
            add(tensor)
    for name, case in inner_cases.CASES.items():
        add(inner_cases.ranks_SxB(name))
        for k in range(len(case.candidates)):
            add(inner_cases.sequences(name, k))
            for key, factor in inner_cases.initial_factors(name, k).items():
                add(key)
                add(factor)
    return digest.hexdigest()


def load_checked() -> dict[str, np.ndarray]:
    """The stored arrays (`make_golden` lists them), if they are of the present inputs."""
    with np.load(PATH) as file:
        stored = dict(file)
    assert str(stored["fingerprint"]) == fingerprint(), (
        f"{PATH.name} holds values of other checkpoints or cases: run `python -m "
        "tests.parity.make_golden` where PyTorch is installed"
    )
    return stored


def pad(rows: list[list[int]]) -> np.ndarray:
    """Rows of tokens as one array, filled up with -1."""
    padded = np.full((len(rows), max(map(len, rows))), -1, np.int32)
    for n, row in enumerate(rows):
        padded[n, : len(row)] = row
    return padded


def unpad(padded: np.ndarray) -> list[list[int]]:
    return [[int(token) for token in row if token >= 0] for row in padded]
