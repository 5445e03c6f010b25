"""One call from a model's name or path to its config, parameters and tokenizer."""

import dataclasses
import os
import pathlib
from typing import Any

from etils import epath

from seal_jax.core import delta as delta_lib
from seal_jax.core.model.config import ModelConfig
from seal_jax.runs import storage
from seal_jax.weights import demo_model, encoding, exported, gguf, hub, peft, safetensors, tokenizer
from seal_jax.weights.files import is_remote, json_object, model_config
from seal_jax.weights.names import WeightsError
from seal_jax.weights.placement import ShardingOf

DEMO = "smollm2-135m"
GENERATION = "generation_config.json"
# Rules of generation beside the ends of texts; how tokens are drawn is for the settings to say.
_CHANGES_TEXT = (
    "bad_words_ids", "begin_suppress_tokens", "constraints", "force_words_ids",
    "forced_bos_token_id", "forced_eos_token_id", "prefix_allowed_tokens_fn", "sequence_bias",
    "stop_strings", "suppress_tokens",
)  # fmt: skip
_GGUF_ENDS = ("tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model on the host, or placed on devices.

    Attributes:
      config: its architecture.
      params: the parameter tree: numpy arrays, or jax ones on the shardings that were asked for.
      tokenizer: its tokenizer.
      source: one line for results: what the model is and how its weights were stored.
      hf_config: what its config.json says, or would say.
      stop_ids: tokens at which generation stops, by the tokenizer and all configs.
      generation: what its generation_config.json says; empty without one.
      merged: digests of the deltas that an exported policy has in its weights (not the adapter's).
      adapter: the adapter that is merged into `params`.
    """

    config: ModelConfig
    hf_config: dict[str, Any]
    params: dict[str, Any]
    tokenizer: Any
    source: str
    stop_ids: tuple[int, ...]
    generation: dict[str, Any] = dataclasses.field(default_factory=dict)
    merged: tuple[str, ...] = ()
    adapter: exported.Addition | None = None

    def __post_init__(self):
        tokens, rows = len(self.tokenizer), self.config.vocab_size
        if tokens > rows:  # it would read past the embedding's end
            raise WeightsError(
                f"The tokenizer of {self.source} has {tokens} tokens, but the embedding only "
                f"{rows} rows: use the tokenizer that belongs to this checkpoint."
            )


def load_model(
    path: str | os.PathLike, dtype: Any, sharding_of: ShardingOf | None = None
) -> LoadedModel:
    """Loads a model and its tokenizer.

    Args:
      path: "smollm2-135m" (the demo model, fetched if need be), a `.gguf` file, a Hugging Face
        directory (config.json, safetensors, tokenizer files) on a local disk or at `gs://`, or a
        hub id with a commit (`Qwen/Qwen2.5-7B@<40 hexadecimal digits>`).
      dtype: dtype of the parameters.
      sharding_of: gives the sharding of each parameter from its path ("layers/attn/q_proj/kernel")
        and shape; each goes there straight from the file, a tensor at a time, and no process reads
        slices that its devices do not hold. None: numpy arrays.

    Raises:
      FileNotFoundError: nothing is there; says how to make a local directory, or to pin a hub id.
      WeightsError, ValueError: the checkpoint is not one that the model can use, or cannot be
        fetched.
      demo_model.DemoModelError: the demo model cannot be fetched.
    """
    if str(path) == DEMO:
        return _from_gguf(demo_model.fetch(), dtype, "SmolLM2-135M-Instruct", sharding_of)
    place = _place(path)
    remote = is_remote(place)
    if place.suffix == ".gguf":
        if remote:
            raise WeightsError(
                f"{place}: a GGUF file is read from a local disk only: copy it there."
            )
        return _from_gguf(place, dtype, place.stem, sharding_of)
    if place.is_dir():
        name = str(place) if remote else place.resolve().name
        return _from_directory(place, dtype, name, sharding_of)
    if remote:
        raise FileNotFoundError(
            f"There is nothing at {place}: check the bucket, the path, and that this machine's "
            "account may read it (gcloud storage ls)."
        )
    if hub.is_pinned(str(path)):
        return _from_directory(hub.fetch(str(path)), dtype, str(path), sharding_of)
    if hub.split(str(path)):
        raise FileNotFoundError(hub.how_to_pin(str(path)))
    raise FileNotFoundError(
        f'There is no model at {str(path)!r}: expected "{DEMO}", a .gguf file, a Hugging Face '
        "model directory (local or gs://), or a hub id with a commit (OWNER/NAME@COMMIT)."
    )


def with_adapter(model: LoadedModel, path: str | os.PathLike) -> LoadedModel:
    """The model with a PEFT adapter merged into its parameters.

    Raises:
      WeightsError: the adapter is not one that a delta can hold (see `peft.load`), does not fit the
        model, or is an exported one for a model with other deltas merged.
    """
    delta = peft.load(_place(path), model.config)
    mark = exported.read(path)
    if mark is not None and mark.on != model.merged:
        raise WeightsError(
            f"{path} is an adapter for another model ({mark.origin}): it expects {len(mark.on)} "
            f"deltas merged into the weights at model.path, which hold {len(model.merged)}, or "
            "others. Set model.path to the model that its adapter_config.json names."
        )
    adapter = exported.Addition.of(delta) if mark is None else exported.Addition(delta, mark.merged)
    spec = delta.spec
    return dataclasses.replace(
        model,
        params=delta_lib.merge(model.params, delta),
        adapter=adapter,
        source=f"{model.source}, with the adapter {pathlib.Path(path).resolve().name} "
        f"(rank {spec.rank}, alpha {spec.alpha:g}, {', '.join(spec.targets)})",
    )


def _place(path: str | os.PathLike) -> epath.Path:
    """The path; StorageError for a URL that is none, or without the package for it."""
    storage.locate(path)
    return epath.Path(path).expanduser()


def _from_gguf(path: os.PathLike, dtype, name: str, sharding_of) -> LoadedModel:
    reader = gguf.open_file(path)
    with gguf.naming(reader):
        return _of_reader(reader, dtype, name, sharding_of)


def _of_reader(reader, dtype, name: str, sharding_of) -> LoadedModel:
    config, params = gguf.load(reader, dtype, sharding_of)
    quantised = gguf.quantization(reader)
    read = tokenizer.from_gguf(reader)
    ids = {f"{role}_token_id": getattr(read, f"{role}_token_id") for role in ("bos", "eos", "pad")}
    ends = {"eos_token_id": [gguf.value(reader, key, None) for key in _GGUF_ENDS]}
    return LoadedModel(
        config=config,
        hf_config=gguf.hf_config(reader) | ids,
        params=params,
        tokenizer=read,
        source=(f"{name}, dequantised from {quantised} GGUF" if quantised else f"{name}, GGUF")
        + encoding.dated(read),
        stop_ids=tokenizer.stop_token_ids(read, ends),
    )


def _from_directory(path: epath.Path, dtype, name: str, sharding_of) -> LoadedModel:
    if not (path / "config.json").exists():
        raise FileNotFoundError(
            f"{path} holds no config.json: a Hugging Face model directory (config.json, "
            "*.safetensors, tokenizer.json) is expected, or a .gguf file."
        )
    config, settings = model_config(path)
    generation: dict[str, Any] = {}
    if (path / GENERATION).exists():
        generation = json_object(path / GENERATION)
    if config.tie_embeddings and safetensors.has_own_head(path):
        settings["tie_word_embeddings"] = False
        config = dataclasses.replace(config, tie_embeddings=False)
    for file, said in (("config.json", settings), (GENERATION, generation)):
        refused = [key for key in _CHANGES_TEXT if said.get(key)]
        if refused:
            raise WeightsError(
                f"{path / file} sets {', '.join(refused)}, which changes what the model writes and "
                "is not supported: take it out, if the model may write without."
            )
    read = tokenizer.load(path)
    stored = settings.get("dtype") or settings.get("torch_dtype") or "unnamed dtype"
    return LoadedModel(
        config=config,
        hf_config=settings,
        params=safetensors.load(path, config, dtype, sharding_of),
        tokenizer=read,
        source=f"{name}, {stored} safetensors{encoding.dated(read)}",
        stop_ids=tokenizer.stop_token_ids(read, settings, generation),
        generation=generation,
        merged=exported.merged_into(path),
    )
