"""Inner updates that both sides run: sequences, order, recipes and initial factors.

Dims: N sequences of a candidate, S steps, B sequences a step, T tokens.
"""

import dataclasses
import functools
import zlib

import jax
import numpy as np

from seal_jax.core import batching, inner, optim
from seal_jax.core.delta import Delta, DeltaSpec

from . import checkpoints

_ADAMW = optim.AdamW()
ALL_SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """One candidate's data and recipe.

    Attributes:
      lengths: of its sequences, ascending.
      untrained: how many leading tokens of each sequence carry no loss (0: all are trained on).
    """

    lengths: tuple[int, ...]
    untrained: tuple[int, ...]
    learning_rate: float
    decay: str = "linear"
    warmup: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A group of candidates (mostly one) that train in one program."""

    name: str
    checkpoint: str
    modules: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    epochs: int
    batch_size: int
    buckets: tuple[int, ...]
    rank: int = 8
    alpha: float = 16.0

    @property
    def spec(self) -> DeltaSpec:
        return DeltaSpec(targets=self.modules, rank=self.rank, alpha=self.alpha)


def _plain(lengths, learning_rate=1e-3, **recipe) -> Candidate:
    return Candidate(
        lengths=lengths, untrained=(0,) * len(lengths), learning_rate=learning_rate, **recipe
    )


CASES = {
    case.name: case
    for case in (
        # The paper's recipe: q and v, one sequence a step, linear decay, no warm-up.
        Case(
            name="linear",
            checkpoint="llama",
            modules=("q_proj", "v_proj"),
            candidates=(_plain((3, 8, 9, 17, 24)),),
            epochs=4,
            batch_size=1,
            buckets=(8, 16, 24),
        ),
        Case(
            name="all_seven",
            checkpoint="qwen3",
            modules=ALL_SEVEN,
            candidates=(_plain((2, 6, 11, 19), 5e-3),),
            epochs=5,
            batch_size=1,
            buckets=(12, 20),
        ),
        # The few-shot recipe: two sequences a step, of very different lengths and partly masked;
        # the last step of an epoch has one.
        Case(
            name="batch_of_two",
            checkpoint="qwen2",
            modules=("q_proj", "v_proj", "gate_proj"),
            candidates=(
                Candidate(
                    lengths=(4, 5, 7, 9, 13, 18, 21),
                    untrained=(0, 2, 0, 6, 0, 3, 0),
                    learning_rate=2e-3,
                    decay="cosine",
                    warmup=3,
                ),
            ),
            epochs=5,
            batch_size=2,
            buckets=(14, 32),
        ),
        # Two candidates with different data and recipes in one program; one ends before the other.
        Case(
            name="two_candidates",
            checkpoint="llama-biased",
            modules=("q_proj", "v_proj"),
            candidates=(
                _plain((3, 7, 12, 15, 16), 2e-3),
                _plain((5, 6, 10), 4e-3, decay="cosine", warmup=2),
            ),
            epochs=4,
            batch_size=1,
            buckets=(8, 16),
        ),
        # Layers of three kinds: with and without rope, with and without a window.
        Case(
            name="layers_without_rope",
            checkpoint="smollm3-near",
            modules=("q_proj", "down_proj"),
            candidates=(_plain((3, 8, 9, 17, 24)),),
            epochs=4,
            batch_size=1,
            buckets=(24,),
            rank=2,
        ),
        Case(
            name="fused_projections",
            checkpoint="phi3-windows",
            modules=("qkv_proj", "gate_up_proj"),
            candidates=(_plain((3, 8, 9, 17, 24)),),
            epochs=4,
            batch_size=1,
            buckets=(24,),
            rank=2,
        ),
        Case(
            name="norms_behind",
            checkpoint="olmo2-near",
            modules=("q_proj", "gate_proj"),
            candidates=(_plain((3, 8, 9, 17, 24)),),
            epochs=4,
            batch_size=1,
            buckets=(24,),
            rank=2,
        ),
        Case(
            name="capped_logits",
            checkpoint="gemma2",
            modules=("k_proj", "o_proj"),
            candidates=(_plain((3, 8, 9, 17, 24)),),
            epochs=4,
            batch_size=1,
            buckets=(24,),
            rank=2,
        ),
        # Layers with and without a window, each with its own base of rotary positions.
        Case(
            name="two_rotary_bases",
            checkpoint="gemma3-short",
            modules=("q_proj", "up_proj"),
            candidates=(_plain((3, 8, 9, 17, 24)),),
            epochs=4,
            batch_size=1,
            buckets=(24,),
            rank=2,
        ),
    )
}


@functools.cache
def sequences(case_name: str, k: int) -> list[list[int]]:
    """Candidate k's token sequences."""
    case = CASES[case_name]
    rng = np.random.default_rng([k, zlib.crc32(f"{case_name} sequences".encode())])
    vocab_size = checkpoints.model_config(case.checkpoint).vocab_size
    lengths = case.candidates[k].lengths
    return [[int(rng.random() * vocab_size) for _ in range(length)] for length in lengths]


@functools.cache
def ranks_SxB(case_name: str) -> np.ndarray:
    """The order of training: in each epoch the ranks in random order, B a step; -1 for none."""
    case = CASES[case_name]
    rng = np.random.default_rng(zlib.crc32(f"{case_name} order".encode()))
    count = max(len(candidate.lengths) for candidate in case.candidates)
    steps = []
    for _ in range(case.epochs):
        order = np.argsort(rng.random(count), kind="stable")
        for first in range(0, count, case.batch_size):
            chosen = order[first : first + case.batch_size]
            steps.append(np.pad(chosen, (0, case.batch_size - len(chosen)), constant_values=-1))
    return np.array(steps, np.int32)


def steps_of(case_name: str, k: int) -> list[list[int]]:
    """Which of its sequences candidate k trains on at each of the steps that it takes."""
    count = len(CASES[case_name].candidates[k].lengths)
    own = [[int(r) for r in ranks if 0 <= r < count] for ranks in ranks_SxB(case_name)]
    return [ranks for ranks in own if ranks]


def initial_factors(case_name: str, k: int):
    case = CASES[case_name]
    return checkpoints.lora_tensors(
        case.checkpoint, case.modules, case.rank, seed=100 + k, zero_b=True
    )


@functools.cache
def run_ours(case_name: str) -> list[tuple[np.ndarray, dict]]:
    """Trains every candidate with our inner update: (losses of the steps taken, LoRA factors)."""
    return train(CASES[case_name])


def train(case: Case, *, optimizer=_ADAMW, changes=None) -> list[tuple[np.ndarray, dict]]:
    """`run_ours` for a case that may be changed, with fields of every `InnerHParams` replaced."""
    shapes = batching.step_shapes(
        case.buckets, rows=len(case.candidates) * case.batch_size, spread=2
    )
    settings = inner.InnerSettings(shapes=shapes, optimizer=optimizer)
    static = (checkpoints.model_config(case.checkpoint), settings)
    inputs = [_inputs(case, k, changes or {}) for k in range(len(case.candidates))]
    params = checkpoints.params(case.checkpoint)
    deltas, records = inner.update_candidates(
        static, params, *batching.stack(inputs), _schedule(case, shapes)
    )
    results = [
        jax.tree.map(lambda leaf, k=k: leaf[k], (deltas, records)) for k in range(len(inputs))
    ]
    found = []
    for delta, record in results:
        assert record.finite
        losses_S = np.asarray(record.losses_S)[np.asarray(record.taken_S)]
        found.append((losses_S, checkpoints.lora_factors(delta.tree)))
    return found


def _schedule(case: Case, shapes) -> inner.Schedule:
    """Each step runs at the smallest shape that holds the sequences of all candidates."""
    ranks = ranks_SxB(case.name)
    lengths = [
        [c.lengths[r] for c in case.candidates for r in step if 0 <= r < len(c.lengths)]
        for step in ranks
    ]
    shapes_S = [batching.shape_index(sum(step), max(step), shapes) for step in lengths]
    ranks_KxSxB = np.broadcast_to(ranks, (len(case.candidates), *ranks.shape))
    return inner.Schedule(ranks_KxSxB, np.array(shapes_S, np.int32), np.int32(len(ranks)))


def _inputs(case: Case, k: int, changes):
    """(delta, problem, hparams) of candidate k; padding holds random tokens, not zeros."""
    candidate = case.candidates[k]
    rows = 1 + max(len(other.lengths) for other in case.candidates)
    rng = np.random.default_rng(k)
    vocab_size = checkpoints.model_config(case.checkpoint).vocab_size
    tokens_NxT = (rng.random((rows, case.buckets[-1])) * vocab_size).astype(np.int32)
    mask_NxT = np.zeros(tokens_NxT.shape, bool)
    lengths_N = np.zeros(rows, np.int32)
    for n, sequence in enumerate(sequences(case.name, k)):
        lengths_N[n] = len(sequence)
        tokens_NxT[n, : len(sequence)] = sequence
        mask_NxT[n, candidate.untrained[n] : len(sequence)] = True
    delta = Delta(checkpoints.delta_tree(initial_factors(case.name, k)), case.spec)
    problem = inner.InnerProblem(tokens_NxT, mask_NxT, lengths_N)
    hparams = inner.InnerHParams(
        learning_rate=np.float32(candidate.learning_rate),
        num_steps=np.int32(len(steps_of(case.name, k))),
        warmup_steps=np.int32(candidate.warmup),
        decay=np.int32(optim.DECAYS.index(candidate.decay)),
    )
    return delta, problem, hparams.replace(**changes)


def check(losses_S, factors, expected_losses_S, expected_factors, initial) -> None:
    """Losses within 1e-3; each of PEFT's tensors within 1e-3 of how far the reference moved it."""
    assert losses_S.shape == expected_losses_S.shape
    np.testing.assert_allclose(losses_S, expected_losses_S, rtol=0, atol=1e-3)
    assert factors.keys() == expected_factors.keys()
    errors = {}
    for key, expected in expected_factors.items():
        moved = np.linalg.norm(expected - initial[key])
        assert moved > 0, f"the reference did not train {key}"
        errors[key] = np.linalg.norm(factors[key] - expected) / moved
    worst = max(errors, key=errors.get)
    assert errors[worst] <= 1e-3, f"{worst} is {errors[worst]:.2e} of its change off"
