"""Writes tests/data/golden_parity.npz: `python -m tests.parity.make_golden`.

Needs PyTorch, transformers, PEFT and the demo model.
Arrays, for a checkpoint C, and for candidate K of an inner case I:
  C/logits [sum of lengths, V / 3] (`forward.part`), C/free and C/stopped [prompts, new tokens] (-1:
  none), C/stop_ids,
  I/K/losses [steps], I/K/LAYER.MODULE.FACTOR (LoRA factors after training, in PEFT's layout),
  smollm2/I/tokens and smollm2/I/logits (`smollm2.part`) of text I, smollm2/greedy;
and `fingerprint` and `versions`, as text.
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
import peft
import torch
import transformers

from seal_jax.weights import demo_model, load

from . import checkpoints, forward, golden, inner_cases, smollm2, witness

LIMIT = 300_000  # bytes


def main() -> None:
    versions = {lib.__name__: lib.__version__ for lib in (torch, transformers, peft)}
    arrays = {
        "fingerprint": np.array(golden.fingerprint()),
        "versions": np.array(", ".join(f"{lib} {version}" for lib, version in versions.items())),
    }
    for name in checkpoints.CONFIGS:
        arrays |= {f"{name}/{key}": array for key, array in decoding(name).items()}
    for name, case in inner_cases.CASES.items():
        for k in range(len(case.candidates)):
            losses, factors = witness.train(name, k)
            arrays[f"{name}/{k}/losses"] = losses
            arrays |= {f"{name}/{k}/{'.'.join(map(str, key))}": f for key, f in factors.items()}
    arrays |= demo()
    golden.PATH.parent.mkdir(exist_ok=True)
    np.savez_compressed(golden.PATH, **arrays)
    size = golden.PATH.stat().st_size
    print(f"{golden.PATH.name}: {len(arrays)} arrays, {size:,} bytes ({arrays['versions']})")
    if size > LIMIT:
        raise SystemExit(f"{golden.PATH.name} is larger than {LIMIT:,} bytes: store less.")


def decoding(name: str) -> dict[str, np.ndarray]:
    """Logits of the fixed sequences, and greedy continuations with and without stop tokens."""
    model = witness.model(name)
    sequences = checkpoints.prompts(name, forward.LENGTHS)
    prompts = checkpoints.prompts(name)
    free = [witness.greedy(model, prompt, forward.MAX_NEW_TOKENS, ()) for prompt in prompts]
    for prompt, tokens in zip(prompts, free, strict=True):
        check_margins(name, model, prompt, tokens)
    stop_ids = forward.stops(free)
    stopped = [
        witness.greedy(model, prompt, forward.MAX_NEW_TOKENS, stop_ids) for prompt in prompts
    ]
    return {
        "logits": forward.part([witness.logits(model, sequence) for sequence in sequences]),
        "free": golden.pad(free),
        "stop_ids": np.array(stop_ids),
        "stopped": golden.pad(stopped),
    }


def demo() -> dict[str, np.ndarray]:
    """SmolLM2's logits and greedy answers; only the tokenizer is ours."""
    path = demo_model.fetch()
    ours, model = load.load_model(path, np.float32), witness.gguf_model(path)
    arrays = {}
    for i, tokens in enumerate(smollm2.texts(ours)):
        arrays[f"smollm2/{i}/tokens"] = np.array(tokens)
        arrays[f"smollm2/{i}/logits"] = smollm2.part(witness.logits(model, tokens))
    written = []
    for prompt in smollm2.prompts(ours):
        stop_ids = smollm2.stop_ids(ours)
        written.append(witness.greedy(model, prompt, smollm2.MAX_NEW_TOKENS, stop_ids))
        check_margins("smollm2", model, prompt, written[-1])
    return arrays | {"smollm2/greedy": golden.pad(written)}


def check_margins(name: str, model, prompt: list[int], written: list[int]) -> None:
    """Ends the program where a greedy choice is so close that rounding could turn it."""
    logits_TxV = np.sort(witness.logits(model, prompt + written))[len(prompt) - 1 : -1]
    margin = (logits_TxV[:, -1] - logits_TxV[:, -2]).min()
    print(f"{name}: the closest greedy choice is decided by {margin:.1e}")
    if margin < 2e-3:
        raise SystemExit("That is too close: change the prompts.")


if __name__ == "__main__":
    main()
