"""About how long programs take, from sizes alone: the larger of arithmetic and memory traffic.

For machines that are not compiled for. A frozen weight costs 2 FLOPs a token forward and 2
backward, and 2 more where the backward pass computes its layer anew.
"""

import dataclasses
from collections.abc import Mapping

from seal_jax.core.model.config import ModelConfig
from seal_jax.planning import arithmetic
from seal_jax.planning.machines import Machine
from seal_jax.planning.workload import Runs, Workload
from seal_jax.settings import Settings


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Of one call of a program on one device."""

    flops: float
    seconds: float


def programs(
    settings: Settings,
    config: ModelConfig,
    machine: Machine,
    work: Workload,
    runs: Mapping[str, Runs],
) -> dict[str, Estimate]:
    """Estimates by the names of a round's programs; with a model axis of 1 on one device."""
    item = arithmetic.element(settings)
    numbers = arithmetic.weights(config, 1, lambda path: not path.startswith("embed/"))
    numbers += config.vocab_size * config.hidden_size * config.tie_embeddings
    rates, inner, answers = machine.rates, settings.inner, settings.answers
    train = 2 * (2 + (settings.model.remat == "full")) * numbers
    cache = arithmetic.cache(settings, config, machine)

    def decode(name: str, rows: int, prompt: int, cached: int) -> None:
        flops, steps = 2 * numbers * rows, runs[name].steps
        step = max(flops / rates.flops, (item * numbers + cached) / rates.bandwidth)
        seconds = prompt * flops / rates.flops + steps * step
        found[name] = Estimate(flops * (prompt + steps), seconds)

    def product(name: str, flops: float) -> None:
        steps = runs[name].steps
        step = max(flops / rates.flops, item * numbers / rates.bandwidth)
        found[name] = Estimate(steps * flops, steps * step)

    found: dict[str, Estimate] = {}
    edits = settings.edits
    # A prompt is prefilled once for all of its samples.
    prompt = -(-work.longest_prompt // edits.samples)
    decode("sampling", edits.contexts_per_batch * edits.samples, prompt, cache)
    if settings.reward.needs_inner_loop:
        mean = (work.lines * work.line_tokens + work.passage_tokens) / work.sequences
        product("inner update", train * inner.candidates * inner.batch_size * mean)
        asked, wide = inner.candidates * answers.questions_at_once, work.question_tokens
        decode("answers", asked, wide, 0)
        product("log-likelihoods", 2 * numbers * asked * (wide + answers.max_gold_tokens))
    if settings.restem.rounds:
        row = work.longest_prompt + work.longest_edit
        gradient = settings.restem.gradient()
        rows = settings.restem.sft.batch_size * (gradient.rows if gradient else 1)
        product("M-step", train * rows * row)
    return found
