"""Our side of the comparisons on SmolLM2-135M-Instruct, and what is compared."""

import functools

import jax
import numpy as np

from seal_jax.core import batching, sampling
from seal_jax.core.model import decoder
from seal_jax.weights import encoding
from seal_jax.weights.load import LoadedModel

TEXTS = (
    "The lighthouse at Harrow Point was built in 1871 from granite that barges carried down the "
    "coast. Its keeper wound the clockwork every four hours, and logged each ship that passed.",
    "def mean(values):\n    total = 0.0\n    for value in values:\n        total += value\n"
    "    return total / len(values)  # 3 + 4.5 = 7.5\n",
    "Water boils at a lower temperature on a mountain",
)
QUESTIONS = (
    "What is the capital of France?",
    "Write one sentence about why the sea is salty, and one about tides, for a child of ten.",
    "Name three colours.",
)
MAX_NEW_TOKENS = 24
_LENGTH = 64


def texts(model: LoadedModel) -> list[list[int]]:
    """The texts as token ids."""
    return [list(model.tokenizer(text)["input_ids"]) for text in TEXTS]


def prompts(model: LoadedModel) -> list[list[int]]:
    """The questions as chat prompts, which differ in length."""
    return [encoding.encode_prompt(model.tokenizer, question) for question in QUESTIONS]


def stop_ids(model: LoadedModel) -> tuple[int, ...]:
    return model.stop_ids


@functools.partial(jax.jit, static_argnums=0)
def _logits(config, params, tokens_1xT):
    return decoder.logits(config, params, decoder.hidden_states(config, params, tokens_1xT))


def logits(model: LoadedModel, tokens: list[int]) -> np.ndarray:
    """[T, V] logits of one sequence, computed on a padded row."""
    padded_1xT = np.zeros((1, _LENGTH), np.int32)
    padded_1xT[0, : len(tokens)] = tokens
    return np.asarray(_logits(model.config, model.params, padded_1xT))[0, : len(tokens)]


def part(logits_TxV: np.ndarray) -> np.ndarray:
    """What is stored: every 64th entry at the first position (the least exact) and the last."""
    return logits_TxV[[0, -1], ::64]


def greedy(model: LoadedModel) -> list[list[int]]:
    """New tokens of each prompt, all in one right-aligned batch; the stop token is included."""
    tokens_PxT, lengths_P = batching.right_align(
        prompts(model), rows=len(QUESTIONS), buckets=(_LENGTH,), what="the bucket"
    )
    settings = sampling.SampleSettings(
        max_new_tokens=MAX_NEW_TOKENS, temperature=0.0, stop_ids=stop_ids(model)
    )
    keys_P = jax.random.split(jax.random.key(0), len(QUESTIONS))
    samples = sampling.generate_jit(
        (model.config, settings), model.params, tokens_PxT, lengths_P, keys_P
    )
    return [
        row[:length].tolist()
        for row, length in zip(np.asarray(samples.tokens_BxN), samples.lengths_B, strict=True)
    ]
