"""Tiny models and GGUF files, written independently of the code under test."""

import gguf
import numpy as np
import pytest

from seal_jax.core.model.config import ModelConfig
from seal_jax.core.model.decoder import param_shapes

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MERGES = ("h e", "l l", "he ll", "hell o", "Ġ Ġ", "Ċ Ċ", "1 2", "Ġ hello", "c a", "ca f")


@pytest.fixture
def hf_settings():
    """Makes the `config.json` of a tiny model: V=320, D=32, F=48, L=2, H=4, Hkv=2, Dh=8."""

    def make(family: str, **changes) -> dict:
        return {
            "model_type": family,
            "vocab_size": 320,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "rope_theta": 10000.0,
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 64,
            "tie_word_embeddings": False,
            "pad_token_id": 0,
        } | changes

    return make


@pytest.fixture
def random_params():
    """Makes random float32 parameters of a config."""

    def make(config: ModelConfig, seed: int = 0) -> dict:
        rng = np.random.default_rng(seed)

        def fill(shapes):
            if isinstance(shapes, tuple):
                return rng.normal(size=shapes).astype(np.float32)
            return {name: fill(inner) for name, inner in shapes.items()}

        return fill(param_shapes(config))

    return make


@pytest.fixture
def hf_tensors():
    """Lays parameters out under Hugging Face names, spelled out here without the code's table."""

    def make(params: dict) -> dict[str, np.ndarray]:
        tensors = {
            "model.embed_tokens.weight": params["embed"]["embedding"],
            "model.norm.weight": params["final_norm"]["scale"],
        }
        if "head" in params:
            tensors["lm_head.weight"] = params["head"]["kernel"].T
        layers = params["layers"]
        for layer in range(layers["mlp"]["down_proj"]["kernel"].shape[0]):
            at = f"model.layers.{layer}"
            after = "attn_post_norm" in layers
            for name, norm in (
                ("input", "attn_norm"),
                ("post_attention", "attn_post_norm" if after else "mlp_norm"),
                ("pre_feedforward", "mlp_norm" if after else ""),
                ("post_feedforward", "mlp_post_norm"),
            ):
                if norm in layers:
                    tensors[f"{at}.{name}_layernorm.weight"] = layers[norm]["scale"][layer]
            for module, leaves in layers["attn"].items():
                for leaf, stacked in leaves.items():
                    kind = "bias" if leaf == "bias" else "weight"
                    tensors[f"{at}.self_attn.{module}.{kind}"] = stacked[layer].T
            for module, leaves in layers["mlp"].items():
                tensors[f"{at}.mlp.{module}.weight"] = leaves["kernel"][layer].T
        return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}

    return make


@pytest.fixture
def write_gguf(tmp_path, hf_tensors):
    """Writes a tiny GGUF file of a config and parameters, as llama.cpp's converter lays it out.

    `tensors` changes the dict of tensors before it is written, `skip` leaves out metadata keys,
    `extra` adds keys, and `quantise` names the type of the matrices whose rows are whole blocks.
    """

    def write(config: ModelConfig, params, *, tensors=None, skip=(), extra=None, quantise=None):
        path = tmp_path / "tiny.gguf"
        arch = config.family.removesuffix("_text")
        stored = {_gguf_name(name, arch): array for name, array in hf_tensors(params).items()}
        if arch.startswith("gemma"):
            norms = [name for name in stored if name.endswith("norm.weight")]
            stored |= {name: stored[name] + 1 for name in norms}
        if config.family in ("llama", "smollm3"):
            for name, array in stored.items():
                if ".attn_q." in name or ".attn_k." in name:
                    heads = config.num_heads if ".attn_q." in name else config.num_kv_heads
                    stored[name] = _interleave_halves(array, heads)
        if tensors:
            stored = tensors(stored)
        writer = gguf.GGUFWriter(str(path), arch)
        keys = {
            f"{arch}.block_count": config.num_layers,
            f"{arch}.context_length": config.max_positions,
            f"{arch}.embedding_length": config.hidden_size,
            f"{arch}.feed_forward_length": config.intermediate_size,
            f"{arch}.attention.head_count": config.num_heads,
            f"{arch}.attention.head_count_kv": config.num_kv_heads,
            f"{arch}.attention.key_length": config.head_dim,
            f"{arch}.attention.value_length": config.head_dim,
            f"{arch}.rope.freq_base": max(kind.rope.theta for kind in config.pattern if kind.rope),
            f"{arch}.attention.layer_norm_rms_epsilon": float(config.norm_eps),
        }
        keys |= tokenizer_keys(config.vocab_size)
        if arch.startswith("gemma"):
            windows = [kind.window for kind in config.pattern if kind.window]
            keys[f"{arch}.attention.sliding_window"] = windows[0]
            factor = max(kind.rope.divisors[0] for kind in config.pattern)
            if factor != 1:
                keys[f"{arch}.rope.scaling.type"] = "linear"
                keys[f"{arch}.rope.scaling.factor"] = factor
        if config.final_cap:
            keys[f"{arch}.attn_logit_softcapping"] = config.attention_cap
            keys[f"{arch}.final_logit_softcapping"] = config.final_cap
        for key, setting in (keys | (extra or {})).items():
            if key not in skip:
                _add(writer, key, setting)
        for name, array in stored.items():
            if quantise and array.ndim == 2 and array.shape[1] % 32 == 0:
                writer.add_tensor(name, gguf.quantize(array, quantise), raw_dtype=quantise)
            else:
                writer.add_tensor(name, array)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write


def tokenizer_keys(size: int) -> dict:
    """Metadata of a byte-level BPE: special tokens, 256 bytes, a few merges, unused tokens."""
    # GPT-2's alphabet: printable bytes stand for themselves, the others for U+0100 and up.
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(others))]
    tokens = [*SPECIAL, *letters, *(merge.replace(" ", "") for merge in MERGES)]
    tokens += ["zq", "<think>"]  # no merge leads to "zq"
    types = [3] * len(SPECIAL) + [1] * (len(letters) + len(MERGES) + 1) + [4]
    unused = size - len(tokens)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens + [f"[PAD{n}]" for n in range(unused)],
        "tokenizer.ggml.token_type": types + [5] * unused,
        "tokenizer.ggml.merges": list(MERGES),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }


def _gguf_name(name: str, arch: str) -> str:
    """The GGUF name of a Hugging Face one, by replacement."""
    behind = (
        ("post_attention_layernorm", "post_attention_norm"),
        ("pre_feedforward_layernorm", "ffn_norm"),
        ("post_feedforward_layernorm", "post_ffw_norm"),
    )
    for old, new in (
        *(behind if arch.startswith(("gemma", "olmo")) else ()),
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers", "blk"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.", "attn_"),
        ("mlp.", "ffn_"),
        ("_proj", ""),
    ):
        name = name.replace(old, new)
    return name


def _interleave_halves(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows 0, Dh/2, 1, Dh/2 + 1 … of each head, one row at a time."""
    size = array.shape[0] // heads
    order = [
        head * size + half * size // 2 + i
        for head in range(heads)
        for i in range(size // 2)
        for half in (0, 1)
    ]
    return np.ascontiguousarray(array[order])


def _add(writer: gguf.GGUFWriter, key: str, setting) -> None:
    """Adds a metadata value under the GGUF type that fits."""
    if isinstance(setting, bool):
        writer.add_bool(key, setting)
    elif isinstance(setting, int):
        writer.add_uint32(key, setting)
    elif isinstance(setting, float):
        writer.add_float32(key, setting)
    elif isinstance(setting, str):
        writer.add_string(key, setting)
    else:
        writer.add_array(key, setting)
