"""Devices: the only file that knows how many there are.

They form a mesh with two axes. Candidates, sampled rows and rows of evaluation are spread over
"data"; the weights over "model" (`sharding` says how), or replicated where that axis has size 1.
The inner update is mapped over "data" with `jax.shard_map`, the M-step with `jax.pmap` where the
policy is replicated and otherwise with `jax.shard_map` too; both leave "model" to the compiler's
partitioner. The programs over rows are ordinary jitted ones whose arguments are sharded.
"""

import dataclasses
import functools
import re

import jax
import numpy as np
from jax._src.cudnn import fused_attention_stablehlo
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from seal_jax.core import inner, restem, sharding
from seal_jax.core.model import attention, per_layer
from seal_jax.core.model.config import ModelConfig

DATA, MODEL = "data", sharding.MODEL


@dataclasses.dataclass(frozen=True)
class DeviceMesh:
    """Devices as "data" x "model", and where trees lie on them.

    Attributes:
      devices: of this process's run, or those of a topology to compile for.
      model_axis: how many devices share one copy of the weights.

    Raises:
      ValueError: model_axis does not divide the number of devices.
    """

    devices: tuple[jax.Device, ...]
    model_axis: int = 1

    def __post_init__(self):
        count = len(self.devices)
        if self.model_axis < 1 or count % self.model_axis:
            choices = [size for size in range(1, count + 1) if count % size == 0]
            raise ValueError(
                f"devices.model_axis={self.model_axis} does not divide the number of devices "
                f"({count}): set it to {' or '.join(map(str, choices))}."
            )

    def __str__(self) -> str:
        name = f"{len(self.devices)} {self.devices[0].platform}"
        shape = f" ({self.data_shards} data x {self.model_axis} model)"
        return name + shape * (self.model_axis > 1)

    @property
    def data_shards(self) -> int:
        """How many copies of the weights there are, each with its own part of the rows."""
        return len(self.devices) // self.model_axis

    @functools.cached_property
    def mesh(self) -> Mesh:
        """The mesh; a copy of the weights is on devices that lie close together.

        Without "model" where that has size 1: so it is the mesh that `jax.pmap` makes, and what
        goes in and out of the M-step lies on the same one.
        """
        if self.model_axis == 1:
            return Mesh(np.asarray(self.devices), (DATA,), axis_types=(AxisType.Auto,))
        shape = (self.data_shards, self.model_axis)
        devices = mesh_utils.create_device_mesh(shape, self.devices, allow_split_physical_axes=True)
        return Mesh(devices, (DATA, MODEL), axis_types=(AxisType.Auto,) * 2)

    def with_attention(self, config: ModelConfig, dtype) -> ModelConfig:
        """The config of a model in `dtype`, with the attention that these devices have for it."""
        device = self.devices[0]
        capability = re.fullmatch(r"(\d+)\.(\d+)", getattr(device, "compute_capability", ""))
        chosen = attention.implementation(
            config,
            platform=device.platform,
            capability=(int(capability[1]), int(capability[2])) if capability else (0, 0),
            cudnn_version=cudnn_version(),
            dtype=dtype,
            model_axis=self.model_axis,
        )
        return dataclasses.replace(config, attention=chosen)

    def shards(self, candidates: int) -> int:
        """Over how many shards of "data" candidates are spread: all, or 1 if they do not divide."""
        return self.data_shards if candidates % self.data_shards == 0 else 1

    def row_shardings(self, tree):
        """Of each leaf: spread over "data" along its leading axis if that divides, or replicated.

        Args:
          tree: of arrays or shapes (`jax.ShapeDtypeStruct`), as in the other methods.
        """

        def of(leaf):
            spread = np.ndim(leaf) > 0 and leaf.shape[0] % self.data_shards == 0
            return self._named(PartitionSpec(DATA) if spread else PartitionSpec())

        return jax.tree.map(of, tree)

    def shardings(self, config: ModelConfig, tree):
        """Of each leaf of parameters, of one delta, or of the state of an M-step; see `sharding`.

        Raises:
          ValueError: the tree has a parameter that no rule covers.
        """
        return jax.tree.map(self._named, sharding.specs(config, tree, self.model_axis))

    def param_sharding(
        self, config: ModelConfig, path: str, shape: tuple[int, ...]
    ) -> NamedSharding:
        """Of one parameter; `path` is such as "layers/attn/q_proj/kernel"."""
        return self._named(sharding.spec(config, path, len(shape), self.model_axis))

    def candidate_shardings(self, config: ModelConfig, deltas_K):
        """Of each leaf of K stacked deltas: K over "data" if it divides, the rest as in one."""
        count = jax.tree.leaves(deltas_K)[0].shape[0]
        first = DATA if count % self.data_shards == 0 else None
        specs = sharding.specs(config, deltas_K, self.model_axis, first)
        return jax.tree.map(self._named, specs)

    def shard(self, tree):
        """A tree of host arrays with its rows spread over "data"; see `row_shardings`."""
        return jax.device_put(tree, self.row_shardings(tree))

    def place(self, config: ModelConfig, tree):
        """Parameters, a delta or the state of an M-step, on committed shardings.

        Every policy goes through here, round 0's included: a policy that is placed differently
        makes each program compile again.
        """
        return jax.device_put(tree, self.shardings(config, tree))

    def place_params(self, config: ModelConfig, params):
        """The weights of a model on committed shardings: on GPUs layer by layer.

        There each stack that is passed is given up as soon as it has been taken apart: there is no
        second copy of the weights. See `model.per_layer`.
        """
        params = self.place(config, params)
        if not self.separates_layers:
            return params
        return self.place(config, per_layer.separated(params, give_up=True))

    @property
    def separates_layers(self) -> bool:
        """Whether weights are held layer by layer."""
        return self.devices[0].platform == "gpu"

    def replicate(self, tree):
        """A tree with a copy on every device."""
        return jax.device_put(tree, self._named(PartitionSpec()))

    def split(self, batch: restem.Batch) -> restem.Batch:
        """An effective batch [B, ...] as one part for each data shard, [shards, B / shards, ...].

        Raises:
          ValueError: B does not divide by the number of shards (pad with rows of weight 0).
        """
        count, rows = self.data_shards, batch.weights_B.shape[0]
        if rows % count:
            raise ValueError(f"{rows} rows do not divide over {count} shards: pad with weight 0.")
        return jax.tree.map(lambda leaf: leaf.reshape(count, rows // count, *leaf.shape[1:]), batch)

    def _named(self, spec: PartitionSpec) -> NamedSharding:
        return NamedSharding(self.mesh, spec)


def all_devices(model_axis: int = 1) -> DeviceMesh:
    """The mesh of all devices of this host; see `hosts` for runs on several.

    Raises:
      ValueError: model_axis does not divide their number.
    """
    return DeviceMesh(tuple(jax.local_devices()), model_axis)


def cudnn_version() -> int:
    """Of the cuDNN that JAX has found, such as 90800; 0 for none."""
    there = fused_attention_stablehlo.cuda_versions  # where its attention asks
    return there.cudnn_get_version() if there else 0


def peak_memory() -> float | None:
    """The most bytes that the fullest of this process's devices has held; None if none tells."""
    held = [
        (device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.local_devices()
    ]
    known = [count for count in held if count is not None]
    return float(max(known)) if known else None


def shapes(tree, shardings):
    """The shapes of a tree with a sharding each: to restore a checkpoint into, or compile for."""
    return jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        tree,
        shardings,
    )


@functools.cache
def inner_program(devices: DeviceMesh, static, shards: int):
    """The jitted inner update of K candidates in `shards` shards, each with its own schedule.

    Args:
      devices: what it runs on.
      static: (ModelConfig, InnerSettings); the shapes are those of one shard.
      shards: 1, or the number of data shards.

    Returns:
      (params, deltas_K, problems_K, hparams_K, schedules_D, pasts_K) -> (deltas_K, results_K),
      where schedules_D are stacked, one for each shard.
    """

    def update(params, deltas_K, problems_K, hparams_K, schedules_D, pasts_K):
        schedule = jax.tree.map(lambda leaf: leaf[0], schedules_D)
        return inner.update(static, params, deltas_K, problems_K, hparams_K, schedule, pasts_K)

    if shards > 1:
        spread = PartitionSpec(DATA)
        update = _map(devices, update, (PartitionSpec(), *[spread] * 5), spread)

    def program(params, deltas_K, problems_K, hparams_K, schedules_D, pasts_K):
        where = devices.candidate_shardings(static[0], deltas_K)
        deltas_K = jax.lax.with_sharding_constraint(deltas_K, where)
        trained_K, results_K = update(params, deltas_K, problems_K, hparams_K, schedules_D, pasts_K)
        return jax.lax.with_sharding_constraint(trained_K, where), results_K

    return jax.jit(program)


def inner_update(
    devices: DeviceMesh,
    static,
    params,
    deltas_K,
    problems_K,
    hparams_K,
    schedules,
    pasts_K: inner.Past | None = None,
):
    """`inner.update_candidates` with the candidates spread over the devices.

    Args:
      devices: what it runs on.
      static: (ModelConfig, InnerSettings); the shapes are those of one shard.
      params: as `DeviceMesh.place` puts them.
      deltas_K, problems_K, hparams_K: as `DeviceMesh.shard` puts them.
      schedules: one for each shard of K / shards(K) candidates, in order.
      pasts_K: what the candidates learned before, as `DeviceMesh.shard` puts it, or None.
    """
    schedules_D = devices.shard(jax.tree.map(lambda *leaves: np.stack(leaves), *schedules))
    program = inner_program(devices, static, len(schedules))
    return program(params, deltas_K, problems_K, hparams_K, schedules_D, pasts_K)


@functools.cache
def m_step(devices: DeviceMesh, static):
    """The M-step over all data shards: (params, state, batch, total_steps) -> (state, metrics).

    `state` goes in and comes out as `DeviceMesh.place` puts it, and its buffers are donated;
    `batch` is the effective batch as `DeviceMesh.split` returns it.

    Args:
      devices: what it runs on.
      static: (ModelConfig, MStepSettings), as `restem.update` takes it.
    """
    if devices.model_axis == 1:
        return jax.pmap(
            functools.partial(restem.update, static, axis_name=DATA),
            axis_name=DATA,
            in_axes=(None, None, 0, None),
            out_axes=None,
            devices=devices.devices,
            donate_argnums=1,
        )
    alone = devices.data_shards == 1  # the partitioner refuses a sum over one shard

    def update(params, state, batch_D, total_steps):
        batch = jax.tree.map(lambda leaf: leaf[0], batch_D)
        axis_name = None if alone else DATA
        return restem.update(static, params, state, batch, total_steps, axis_name)

    if not alone:
        same = PartitionSpec()
        update = _map(devices, update, (same, same, PartitionSpec(DATA), same), same)

    def program(params, state, batch_D, total_steps):
        where = devices.shardings(static[0], state)
        state, metrics = update(params, state, batch_D, total_steps)
        return jax.lax.with_sharding_constraint(state, where), metrics

    return jax.jit(program, donate_argnums=1)


def _map(devices: DeviceMesh, function, in_specs, out_specs):
    """`jax.shard_map` over "data" alone.

    What a shard computes is not checked for replication (with that check on, `restem.update`'s
    gradients would come out once for each shard too large).
    """
    return jax.shard_map(
        function,
        mesh=devices.mesh,
        in_specs=in_specs,
        out_specs=out_specs,
        axis_names={DATA},
        check_vma=False,
    )
