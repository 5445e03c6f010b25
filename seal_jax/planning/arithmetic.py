"""About how much memory a run needs, from sizes alone: nothing is compiled.

Good to about a third: what a compiler keeps beside these arrays is not known here. It decides
which machines are worth compiling for, and what `train` does not begin on an accelerator.
"""

import functools
import math
from collections.abc import Callable

import flax.traverse_util
import jax

from seal_jax.core import batching, sharding
from seal_jax.core import delta as delta_lib
from seal_jax.core.delta import DeltaSpec
from seal_jax.core.model import attention, decoder, token_loss
from seal_jax.core.model.config import ModelConfig
from seal_jax.planning.machines import GIB, GPU, GPUS, Machine
from seal_jax.settings import Settings, SettingsError, Sft, config_dict

_FLOAT = 4
_LEAST_CAPABILITY = (8, 0)  # of GPUs with so much memory that these models are planned for them

# What to lower where a program does not fit.
LOWER = {
    "sampling": "edits.samples or edits.max_new_tokens",
    "inner update": "inner.candidates or the last of inner.buckets, or set model.remat to 'full'",
    "answers": "inner.candidates or answers.questions_at_once",
    "log-likelihoods": "inner.candidates or answers.questions_at_once",
    "M-step": "edits.max_new_tokens and the last of restem.sft.buckets",
    "M-step, longest": "edits.max_new_tokens (restem.sft.buckets holds the longest self-edit)",
    "corpus training": "the last of corpus.buckets, or set corpus.kind to 'low_rank'",
}


def element(settings: Settings) -> int:
    """Bytes of a weight."""
    return 2 if settings.model.dtype == "bfloat16" else 4


def split(config: ModelConfig, path: str, shape: tuple[int, ...], model_axis: int) -> int:
    """Elements of a parameter, or of a delta's leaf, on one device."""
    spec = sharding.spec(config, path, len(shape), model_axis)
    return math.prod(shape) // (model_axis if sharding.MODEL in spec else 1)


def weights(
    config: ModelConfig, model_axis: int, among: Callable[[str], bool] = lambda path: True
) -> int:
    """Parameters of the model on one device, of those whose path is `among` the chosen ones."""
    return sum(
        split(config, path, shape, model_axis)
        for path, shape in _shapes(config).items()
        if among(path)
    )


def delta_size(config: ModelConfig, spec: DeltaSpec, model_axis: int) -> int:
    """Numbers in a delta on one device."""
    flat = _shapes(config, spec)
    return sum(split(config, path, shape, model_axis) for path, shape in flat.items())


def merged_twice(settings: Settings, config: ModelConfig, model_axis: int) -> int:
    """Bytes on one device of the base weights that stay beside a policy merged with a delta."""
    if not settings.restem.rounds:
        return 0
    chosen = delta_lib.target_paths(decoder.param_shapes(config), settings.restem.sft.spec())
    return element(settings) * weights(config, model_axis, set(chosen).__contains__)


@functools.cache
def _shapes(config: ModelConfig, spec: DeltaSpec | None = None) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's parameters by path, or of a delta's leaves."""
    tree = jax.eval_shape(functools.partial(decoder.init, config), jax.random.key(0))
    flat = flax.traverse_util.flatten_dict(delta_lib.shapes(tree, spec) if spec else tree, sep="/")
    return {path: leaf.shape for path, leaf in flat.items()}


def cache(settings: Settings, config: ModelConfig, machine: Machine, contexts: int = 0) -> int:
    """Bytes on one device of the keys and values of the self-edits of contexts sampled together.

    Args:
      contexts: how many; 0 is edits.contexts_per_batch.

    >>> from seal_jax.planning import architectures, machines
    >>> from seal_jax.settings import Edits, Model
    >>> settings = Settings(edits=Edits(contexts_per_batch=50), model=Model(dtype="bfloat16"))
    >>> bytes_ = cache(settings, architectures.architecture("Qwen2.5-7B"), machines.GPU)
    >>> bytes_ // 2**30  # 250 rows of 512 + 8192 tokens
    116
    >>> bytes_ = cache(settings, architectures.architecture("Qwen2.5-7B"), machines.GPU, contexts=3)
    >>> bytes_ // 2**30  # as a run does when these are too many
    6
    """
    edits = settings.edits
    shards = machine.devices // settings.devices.model_axis
    prompts = contexts or edits.contexts_per_batch
    rows = edits.samples * (prompts // shards if prompts % shards == 0 else prompts)
    axis = settings.devices.model_axis
    heads = config.num_kv_heads // (axis if config.num_kv_heads % axis == 0 else 1)
    length = 512 + edits.max_new_tokens
    slots = sum(min(kind.window or length, length) for kind in config.layer_kinds)
    return rows * slots * 2 * heads * config.head_dim * element(settings)


def programs(
    settings: Settings, config: ModelConfig, machine: Machine, *, least: bool = False
) -> dict[str, int]:
    """Bytes on one device while each program of a run goes, by the program's name.

    Args:
      settings: of the run; devices.model_axis must divide the machine's devices.
      config: of the model.
      machine: what it runs on.
      least: count weights, optimizer and the cache of the fewest contexts alone, which no compiler
        can do without.
    """
    axis = settings.devices.model_axis
    shards = machine.devices // axis
    item = element(settings)
    base = item * weights(config, axis)
    layers = item * weights(config, axis, lambda path: path.startswith("layers/"))
    beside = merged_twice(settings, config, axis)
    logits = 0 if least else 2 * _FLOAT * token_loss.BLOCK * config.vocab_size // axis
    inner = settings.inner
    count = math.ceil(inner.candidates / shards)
    rows, longest = count * inner.batch_size, inner.buckets[-1]
    small = _FLOAT * delta_size(config, inner.lora.spec(), axis)
    # The layers are split before the decode loop, where they are not apart anyhow.
    copied = 0 if least or _is_gpu(machine) else layers
    contexts = settings.edits.contexts_per_batch
    fewest = shards if contexts % shards == 0 else 1  # as `batching.smaller_size` goes down to
    cached = cache(settings, config, machine, fewest if least else contexts)
    found = {"sampling": base + beside + copied + cached}
    if settings.reward.needs_inner_loop:
        # Before and after an update; two moments, and a gradient.
        found["inner update"] = base + beside + 5 * count * small + logits
        if not least:
            found["inner update"] += _activations(settings, config, machine, rows, longest)
    for name, recipe, length, rows in _recipes(settings):
        state = 4 * _FLOAT * delta_size(config, recipe.spec(), axis)
        found[name] = base + beside + state + logits
        if not least:
            found[name] += _activations(settings, config, machine, rows, length)
    return found


def split_sampling(settings: Settings, config: ModelConfig, machine: Machine) -> Settings:
    """The settings with as few contexts sampled together as a run comes to.

    A run tries edits.contexts_per_batch, and halves that until the device has room; here
    arithmetic decides.
    """
    shards = machine.devices // settings.devices.model_axis
    while programs(settings, config, machine)["sampling"] > machine.memory:
        fewer = batching.smaller_size(settings.edits.contexts_per_batch, shards)
        if fewer is None:
            break
        settings = with_contexts(settings, fewer)
    return settings


def _recipes(settings: Settings) -> list[tuple[str, Sft, int, int]]:
    """What is trained data-parallel, with the longest row of each and the rows at once."""
    found: list[tuple[str, Sft, int, int]] = []
    if settings.restem.rounds:
        sft, gradient = settings.restem.sft, settings.restem.gradient()
        wanted = min(512 + settings.edits.max_new_tokens, sft.buckets[-1])
        length = next(bucket for bucket in sft.buckets if bucket >= wanted)
        at_once = sft.m_step_settings(settings.model.remat, gradient).microbatch
        found.append(("M-step", sft, length, at_once))
    if settings.evaluation.form == "corpus":
        corpus = settings.corpus
        found.append(("corpus training", corpus, corpus.buckets[-1], corpus.microbatch))
    return found


def _activations(
    settings: Settings, config: ModelConfig, machine: Machine, rows: int, longest: int
) -> int:
    """Bytes of what a backward pass keeps: of each layer, and of the one that is computed anew."""
    axis, item, tokens = settings.devices.model_axis, element(settings), rows * longest
    heads = config.num_heads // (axis if config.num_heads % axis == 0 else 1)
    chosen = attention.implementation(
        config,
        platform="gpu" if _is_gpu(machine) else "",
        capability=_LEAST_CAPABILITY,
        cudnn_version=attention.CUDNN,
        dtype=settings.model.dtype,
        model_axis=axis,
    )
    logits = 2 * _FLOAT * rows * heads * longest**2
    inside = 0 if chosen == "cudnn" else logits
    inside += 4 * item * tokens * config.intermediate_size // axis
    kept = tokens * config.hidden_size * item
    if settings.model.remat == "dots":
        kept += 4 * tokens * (config.hidden_size + config.intermediate_size // axis) * item
    elif settings.model.remat == "none":
        kept += inside
    return config.num_layers * kept + inside


def _is_gpu(machine: Machine) -> bool:
    return machine.kind == GPU.kind or machine.kind in GPUS


def axes(devices: int, first: int = 1) -> list[int]:
    """Sizes of the model axis to try on so many devices: as the config says, unless that is 1."""
    if first > 1:
        return [first]
    return [size for size in range(1, devices + 1) if devices % size == 0]


def most(settings: Settings, config: ModelConfig, machine: Machine, axis: int) -> int:
    """Bytes on one device of the program that takes most, with a model axis."""
    tried = split_sampling(with_axis(settings, axis), config, machine)
    return max(programs(tried, config, machine).values())


def smallest(settings: Settings, config: ModelConfig, machines: list[Machine]) -> str:
    """The first machine on which the run fits by arithmetic, with its model axis; "" for none."""
    for machine in machines:
        for axis in axes(machine.devices):
            if most(settings, config, machine, axis) <= machine.memory:
                return machine.name + f" (devices.model_axis={axis})" * (machine.devices > 1)
    return ""


def with_axis(settings: Settings, axis: int) -> Settings:
    """The settings with another model axis."""
    return config_dict.replaced(settings, {"devices.model_axis": axis})


def with_contexts(settings: Settings, contexts: int) -> Settings:
    """The settings with another number of contexts sampled together."""
    return config_dict.replaced(settings, {"edits.contexts_per_batch": contexts})


def check_fits(
    settings: Settings, config: ModelConfig, machine: Machine, choices: list[Machine]
) -> None:
    """Refuses a run whose weights, optimizer and cache alone exceed its devices' memory.

    Raises:
      SettingsError: it does; says which program, what to lower and which machine would do.
    """
    needs = programs(settings, config, machine, least=True)
    name, most = max(needs.items(), key=lambda item: item[1])
    if most <= machine.memory:
        return
    fits = smallest(settings, config, choices)
    raise SettingsError(
        f"the run does not fit on {machine.name}: {name} takes over {most / GIB:.1f} GiB of a "
        f"device's {machine.memory / GIB:.1f}. Lower {LOWER[name]}, raise devices.model_axis "
        f"({settings.devices.model_axis}), or take "
        + (f"a larger machine: the smallest that does is {fits}." if fits else "a larger machine.")
    )
