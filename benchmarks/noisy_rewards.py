"""A simulation: which update of the M-step still learns when its rewards are noisy.

    python -m benchmarks.noisy_rewards --out=noisy_rewards.json

A random model of two layers continues random prompts; a text's planted reward is the share of its
tokens that are of a quarter of the vocabulary. The updates see it with Gaussian noise of such a
size that the reliability (the variance of the true rewards within a context over that of the seen
ones) is as given. E-step and M-step are the package's own, everything around them is not: nothing
is said here about language models, or about rewards from inner loops.

Each update has the learning rate and the epochs that do best of a grid at reliability 1 on other
seeds. What is reported is the true reward of fresh texts on fresh prompts, after less before, with
95 % intervals over seeds (Student's t); so are differences from ReST-EM, seed by seed.
"""

import argparse
import contextlib
import itertools
import json
import pathlib
import sys
import types
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import scipy.stats

from seal_jax.core import delta as delta_lib
from seal_jax.core import parallel, policy_gradient, restem, sampling
from seal_jax.core.model import decoder
from seal_jax.core.model.config import ModelConfig
from seal_jax.core.specs import SampleSettings, SelectionRule
from seal_jax.loop import m_step
from seal_jax.loop.session import Session
from seal_jax.loop.stage import Stage
from seal_jax.settings import ALL_PROJECTIONS, Lora, Restem, Settings, Sft

UPDATES = ("restem", "rloo", "grpo", "dpo")
RELIABILITIES = (1.0, 0.5, 0.2)
GRID = tuple(itertools.product((3e-2, 1e-1, 3e-1, 1.0), (2, 8, 24)))  # learning rates and epochs
SEEDS, TUNING_SEEDS = range(5), range(100, 104)
_ROUNDS, _CONTEXTS, _SAMPLES, _FRESH = 4, 8, 8, 64
_PROMPT, _TEXT, _REWARDED = 4, 12, 16  # tokens; token ids below 16 of 64 are rewarded
_CONFIG = ModelConfig(
    family="llama",
    vocab_size=64,
    hidden_size=32,
    intermediate_size=64,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
)


def learn(
    update: str, reliability: float, seed: int, rate: float, epochs: int, *, shuffled: bool = False
) -> list[float]:
    """The true reward on fresh prompts, before the first round and after each.

    Args:
      update: as restem.update; "restem" keeps the best of each context.
      reliability: in (0, 1].
      rate, epochs: restem.sft.learning_rate and .epochs.
      shuffled: the rewards of a context are dealt out anew, so that there is nothing to learn.
    """
    settings = Settings(
        seed=seed,
        restem=Restem(
            update=update, rule="random" if shuffled else "best_of_m", sft=_recipe(rate, epochs)
        ),
    )
    devices = parallel.DeviceMesh(tuple(jax.devices()[:1]))
    silent = types.SimpleNamespace(update=lambda *_, **__: None)
    random = np.random.default_rng(seed)
    params = decoder.init(_CONFIG, jax.random.key(seed))
    params["embed"]["embedding"] *= 10  # logits of about 1
    params = devices.place(_CONFIG, params)
    run: Any = types.SimpleNamespace(
        session=Session(
            settings=settings,
            task=None,
            model=_CONFIG,
            tokenizer=None,
            source="",
            devices=devices,
            base=params,
            stop_ids=(),
        ),
        stage=lambda *_: contextlib.nullcontext(silent),
    )
    fresh = random.integers(0, 64, (_FRESH, _PROMPT), np.int32)

    def fresh_reward() -> float:
        return float(_share(_texts(params, fresh, seed, 0)).mean())

    found = [fresh_reward()]
    for number in range(1, _ROUNDS + 1):
        prompts = random.integers(0, 64, (_CONTEXTS, _PROMPT), np.int32)
        texts = _texts(params, prompts, seed, number)
        true_CxM = _share(texts)
        spread = true_CxM.var(axis=1).mean() * (1 / reliability - 1)
        seen_CxM = true_CxM + random.normal(0, spread**0.5, true_CxM.shape)
        examples = _selected(settings.restem, prompts, texts, seen_CxM, seed + number)
        trained, _ = m_step.train(
            run,
            params,
            examples,
            settings.restem.sft,
            stage=Stage(kind="round", round=number),
            name="M-step",
            gradient=settings.restem.gradient(),
        )
        params = devices.place(_CONFIG, delta_lib.merge(params, trained))
        found.append(fresh_reward())
    return found


def _recipe(rate: float, epochs: int) -> Sft:
    lora = Lora(rank=4, alpha=8.0, targets=ALL_PROJECTIONS)
    return Sft(
        lora=lora,
        learning_rate=rate,
        epochs=epochs,
        batch_size=8,
        microbatch=8,
        buckets=(_PROMPT + _TEXT,),
        checkpoint_steps=0,
    )


def _texts(params, prompts: np.ndarray, seed: int, number: int) -> np.ndarray:
    """[C, M, T] tokens."""
    rows = len(prompts) * _SAMPLES
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), number), rows)
    lengths = np.full(len(prompts), _PROMPT, np.int32)
    static = (_CONFIG, SampleSettings(max_new_tokens=_TEXT))
    found = sampling.generate_jit(
        static, params, prompts, lengths, keys, samples_per_prompt=_SAMPLES
    )
    return np.asarray(found.tokens_BxN).reshape(len(prompts), _SAMPLES, _TEXT)


def _share(texts: np.ndarray) -> np.ndarray:
    """[C, M] the planted reward."""
    return (texts < _REWARDED).mean(axis=-1)


def _selected(
    settings: Restem, prompts: np.ndarray, texts: np.ndarray, rewards_CxM: np.ndarray, seed: int
) -> list[restem.SftExample]:
    """The M-step's examples, as `loop.select` makes them."""
    draw = {"seed": seed, "names_C": [str(c) for c in range(len(prompts))]}
    if settings.rule == "random":
        rewards_CxM = policy_gradient.shuffled(rewards_CxM, **draw)
    if settings.update == "restem":
        weights_CxM = restem.select(rewards_CxM, SelectionRule("best_of_m"))
    else:
        weights_CxM = policy_gradient.advantages(rewards_CxM, settings.update)
    return [
        restem.SftExample((*prompts[c].tolist(), *texts[c, m].tolist()), _PROMPT, float(weight))
        for (c, m), weight in np.ndenumerate(weights_CxM)
        if weight != 0
    ]


def tuned(update: str) -> tuple[float, int]:
    """Learning rate and epochs that gain most at reliability 1, on seeds that are not reported."""

    def gained(recipe: tuple[float, int]) -> float:
        return float(np.mean([gain(update, 1.0, seed, *recipe) for seed in TUNING_SEEDS]))

    return max(GRID, key=gained)


def gain(*arguments: Any, **named: Any) -> float:
    """The last reward of `learn` less the first."""
    found = learn(*arguments, **named)
    return found[-1] - found[0]


def _estimate(values: Sequence[float]) -> dict[str, Any]:
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)
    mean = float(np.mean(values))
    return {"value": mean, "interval": [mean - half, mean + half]}


def _shown(estimate: dict[str, Any]) -> str:
    low, high = estimate["interval"]
    return f"{estimate['value']:+.3f} [{low:+.3f}, {high:+.3f}]"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a line for each update and reliability, and writes them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noisy_rewards")
    parser.add_argument("--out", required=True, help="the file of JSON")
    flags = parser.parse_args(argv)
    rows: list[dict[str, Any]] = []
    for update in UPDATES:
        recipe = tuned(update)
        for place, reliability in enumerate((*RELIABILITIES, 0.0)):
            # 0 shuffles the true rewards.
            seen = (reliability or 1.0, reliability == 0)
            gains = [gain(update, seen[0], seed, *recipe, shuffled=seen[1]) for seed in SEEDS]
            row = {"update": update, "reliability": reliability, "seeds": gains}
            row |= {"learning_rate": recipe[0], "epochs": recipe[1], "gain": _estimate(gains)}
            rows.append(row)
            text = f"{update:7} {recipe}, reliability {reliability:g}: {_shown(row['gain'])}"
            if update != "restem":
                against = np.subtract(gains, rows[place]["seeds"]).tolist()
                row["minus_restem"] = _estimate(against)
                text += f", minus ReST-EM {_shown(row['minus_restem'])}"
            print(text, flush=True)
    pathlib.Path(flags.out).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
