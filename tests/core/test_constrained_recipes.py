"""Self-edits of few-shot learning under the constraint of their grammar."""

import re

import jax
import numpy as np
import pytest

from seal_jax.core import constrained, sampling
from seal_jax.core.constrained import START
from seal_jax.core.sampling import SampleSettings
from seal_jax.tasks.arc import recipe as recipes
from seal_jax.tasks.directives import Limits
from seal_jax.weights import tokenizer as tokenization

# What the tiny models' 61 tokens stand for when they write recipes; 0 and 60 end a text.
LIMITS = Limits()
LETTERS = sorted(set(recipes.regex(LIMITS)) - set(r"\()|"))
WORDS = ["use_", "_augmentations", '": ', "true", "false", ', "', "training", "e-", "1e"]
RECIPE_PIECES = [b"", *(word.encode() for word in [*LETTERS, *WORDS]), b"0"]
RECIPE_STOPS = (0, 60)


@pytest.fixture(scope="module")
def recipe_automaton():
    assert len(RECIPE_PIECES) <= 60
    vocabulary: dict[bytes, list[int]] = {}
    for token, piece in enumerate(RECIPE_PIECES):
        vocabulary.setdefault(piece, []).append(token)
    return constrained.from_regex(recipes.regex(LIMITS), vocabulary, RECIPE_STOPS)


@pytest.mark.parametrize("temperature", [1.0, 8.0])
def test_whatever_is_sampled_is_a_recipe(tiny_llama, recipe_automaton, temperature):
    """A random model, also far hotter than it is trained to be; every text ends by itself."""
    limit = constrained.lengths(recipe_automaton).longest
    settings = SampleSettings(limit, temperature=temperature, top_p=0.95)
    prompts = np.random.default_rng(0).integers(0, 61, (2, 4)).astype(np.int32)
    found = sampling.generate_jit(
        (tiny_llama.config, settings),
        tiny_llama.params,
        prompts,
        np.array([4, 2]),
        jax.random.split(jax.random.key(1), 64),
        samples_per_prompt=32,
        automaton=recipe_automaton,
    )
    assert np.all(found.stopped_B)
    pattern = re.compile(recipes.regex(LIMITS))
    read = set()
    for row, length in zip(np.asarray(found.tokens_BxN), np.asarray(found.lengths_B), strict=True):
        *tokens, stop = row[:length].tolist()
        assert stop in RECIPE_STOPS
        text = b"".join(RECIPE_PIECES[token] for token in tokens).decode()
        assert pattern.fullmatch(text)
        recipe = recipes.parse(text, LIMITS)
        assert recipes.write(recipe) == text
        read.add(recipe)
    assert len(read) > 10  # and not always the same one


@pytest.mark.smollm2
def test_recipes_in_the_vocabulary_of_the_demo_model(smollm2_path):
    tokenizer = tokenization.from_gguf(smollm2_path)
    stops = tokenization.stop_token_ids(tokenizer)
    automaton = constrained.from_regex(
        recipes.regex(LIMITS), tokenization.token_bytes(tokenizer), stops
    )
    transitions = (automaton.tokens_SxA >= 0).sum()
    print(f"{automaton.tokens_SxA.shape} tables, {transitions} transitions")
    assert automaton.tokens_SxA.size < 10_000 and transitions < 1_000
    assert constrained.lengths(automaton).longest < 300
    end, rng = len(automaton.tokens_SxA) - 1, np.random.default_rng(0)
    for _ in range(50):
        state, tokens = START, []
        while state != end:
            choice = rng.integers((automaton.tokens_SxA[state] >= 0).sum())
            tokens.append(int(automaton.tokens_SxA[state, choice]))
            state = automaton.next_SxA[state, choice]
        text = tokenizer.decode(tokens[:-1])
        assert tokens[-1] in stops
        assert recipes.write(recipes.parse(text, LIMITS)) == text
        # The tokenizer's own way to write the text is one of the paths.
        constrained.allowed_along(automaton, [*tokenizer(text)["input_ids"], stops[0]])
