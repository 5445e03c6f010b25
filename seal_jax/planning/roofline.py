"""About how long programs take, from sizes alone: the larger of arithmetic and memory traffic.

For machines that are not compiled for. A frozen weight costs 2 FLOPs a token forward and 2
backward, and 2 more where the backward pass computes its layer anew.
"""

import dataclasses

from seal_jax.core.model.config import ModelConfig
from seal_jax.planning import arithmetic
from seal_jax.planning.machines import Machine
from seal_jax.planning.workload import Counts, Workload
from seal_jax.settings import Settings


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Of one call of a program on one device: FLOPs and seconds; how often a round calls it."""

    flops: float
    seconds: float
    calls: int


def programs(
    settings: Settings, config: ModelConfig, machine: Machine, work: Workload, counts: Counts
) -> dict[str, Estimate]:
    """Estimates by the names of a round's programs; with a model axis of 1 on one device."""
    item = arithmetic.element(settings)
    numbers = arithmetic.weights(config, 1, lambda path: not path.startswith("embed/"))
    numbers += config.vocab_size * config.hidden_size * config.tie_embeddings
    rates, inner, answers = machine.rates, settings.inner, settings.answers
    train = 2 * (2 + (settings.model.remat == "full")) * numbers
    cache = arithmetic.cache(settings, config, machine)

    def decode(rows: int, prompt: int, steps: int, cached: int, calls: int) -> Estimate:
        flops = 2 * numbers * rows
        step = max(flops / rates.flops, (item * numbers + cached) / rates.bandwidth)
        return Estimate(
            flops * (prompt + steps), prompt * flops / rates.flops + steps * step, calls
        )

    def product(flops: float, steps: int, calls: int) -> Estimate:
        step = max(flops / rates.flops, item * numbers / rates.bandwidth)
        return Estimate(steps * flops, steps * step, calls)

    edits = settings.edits
    rows = edits.contexts_per_batch * edits.samples
    # A prompt is prefilled once for all of its samples.
    prompt = -(-work.longest_prompt // edits.samples)
    found = {"sampling": decode(rows, prompt, counts.new_tokens, cache, counts.samplings)}
    if settings.reward.needs_inner_loop:
        mean = (work.lines * work.line_tokens + work.passage_tokens) / work.sequences
        tokens = inner.candidates * inner.batch_size * mean
        found["inner update"] = product(train * tokens, counts.inner_steps, counts.updates)
        asked = inner.candidates * answers.questions_at_once
        wide = work.question_tokens
        found["answers"] = decode(asked, wide, counts.answer_tokens, 0, counts.asked)
        wide += answers.max_gold_tokens
        found["log-likelihoods"] = product(2 * numbers * asked * wide, 1, counts.believed)
    if settings.restem.rounds:
        row = work.longest_prompt + work.longest_edit
        flops = train * settings.restem.sft.batch_size * row
        found["M-step"] = product(flops, 1, counts.m_steps)
    return found
