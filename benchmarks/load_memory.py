"""Host memory that loading a checkpoint takes beyond the parameters themselves.

    python -m benchmarks.load_memory --gib=4 --folder=/tmp

makes a random bfloat16 Llama checkpoint of about that size in several files, loads it in a fresh
process onto one CPU device, checks a few tensors, deletes it, and prints one JSON object. On a CPU
device the parameters are in host memory too, so their size is taken off the peak resident set
(of Linux, which counts the pages of mapped files, the interpreter and JAX).
"""

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

GIB = 2**30
_FILES = 4
_SETTINGS = {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "rope_theta": 500000.0,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}


def make_checkpoint(folder: pathlib.Path, size: int, seed: int = 0) -> None:
    """Writes config.json and `_FILES` safetensors of about `size` bytes, without a tokenizer."""
    from seal_jax.core.model.config import ModelConfig
    from seal_jax.weights import names

    def shapes(layers: int) -> dict[str, tuple[int, ...]]:
        config = ModelConfig.from_hf(_SETTINGS | {"num_hidden_layers": layers})
        return names.tensor_shapes(names.leaves(config, "hf"))

    one, two = (sum(2 * math.prod(s) for s in shapes(n).values()) for n in (1, 2))
    layers = max(1, 1 + round((size - one) / (two - one)))
    settings = _SETTINGS | {"num_hidden_layers": layers}
    (folder / "config.json").write_text(json.dumps(settings))
    tensors = list(shapes(layers).items())
    share = -(-len(tensors) // _FILES)
    rng, weight_map = np.random.default_rng(seed), {}
    for number in range(_FILES):
        part = tensors[number * share : (number + 1) * share]
        name = f"model-{number + 1:05d}-of-{_FILES:05d}.safetensors"
        _write(folder / name, part, rng)
        weight_map |= {tensor: name for tensor, _ in part}
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _write(path: pathlib.Path, tensors: list, rng: np.random.Generator) -> None:
    """One file of random finite numbers, a tensor at a time."""
    header, end = {}, 0
    for name, shape in tensors:
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, shape in tensors:
            bits = np.frombuffer(rng.bytes(2 * math.prod(shape)), np.uint16)
            file.write((bits & 0xBFFF).tobytes())  # exponents below that of infinity


def load(folder: pathlib.Path) -> dict[str, float]:
    """Loads the checkpoint and returns what it took; to be called in a fresh process."""
    import jax
    import jax.numpy as jnp
    import safetensors.numpy

    from seal_jax.core.model.config import ModelConfig
    from seal_jax.weights import names
    from seal_jax.weights import safetensors as checkpoint

    config = ModelConfig.from_hf(json.loads((folder / "config.json").read_text()))
    mesh = jax.sharding.Mesh(np.asarray(jax.devices("cpu")[:1]), ("data",))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    jax.device_put(np.zeros(1), whole).block_until_ready()
    before = _peak()
    params = checkpoint.load(folder, config, jnp.bfloat16, lambda config, path, shape: whole)
    jax.block_until_ready(params)
    peak = _peak()
    placed = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    leaves = names.leaves(config, "hf")
    places = {name: (leaf, n) for leaf in leaves for n, name in enumerate(leaf.tensors)}
    largest = max(2 * math.prod(leaf.tensor_shape) for leaf in leaves)
    last = config.num_layers - 1
    for file in sorted(folder.glob("*.safetensors")):
        with safetensors.safe_open(file, "numpy") as stored:
            for name in stored.keys():  # noqa: SIM118  (not a dict)
                leaf, layer = places[name]
                if leaf.stacked and layer != last:
                    continue
                found = params
                for key in leaf.path.split("/"):
                    found = found[key]
                found = np.asarray(found[layer] if leaf.stacked else found)
                expected = stored.get_tensor(name)
                np.testing.assert_array_equal(found, expected.T if leaf.transposed else expected)
    return {
        "placed_gib": placed / GIB,
        "largest_tensor_gib": largest / GIB,
        "before_loading_gib": before / GIB,
        "peak_gib": peak / GIB,
        "beyond_placed_gib": (peak - placed) / GIB,
        "allowed_gib": largest / GIB + 1,
    }


def _peak() -> int:
    """This process's largest resident set so far, in bytes.

    `getrusage` would count the process that started this one.
    """
    status = pathlib.Path("/proc/self/status").read_text()
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kib) * 1024


def main() -> None:
    """Makes the checkpoint and measures in another process; or, with --load, does the loading."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gib", type=float, default=4.0, help="size of the checkpoint")
    parser.add_argument("--folder", default=None, help="where to make it; deleted afterwards")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.load:
        found = load(pathlib.Path(flags.load))
        print(json.dumps({key: round(value, 3) for key, value in found.items()}))
        return
    with tempfile.TemporaryDirectory(dir=flags.folder) as folder:
        make_checkpoint(pathlib.Path(folder), int(flags.gib * GIB))
        command = [sys.executable, "-m", "benchmarks.load_memory", f"--load={folder}"]
        subprocess.run(command, check=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})


if __name__ == "__main__":
    main()
