"""Devices: the only file that knows how many there are.

The policy is replicated over all devices. The M-step is mapped over them with `jax.pmap`, the inner
update over the candidates of each with `jax.shard_map`; the programs over rows are ordinary jitted
ones whose leading axis is sharded when it divides by the number of devices.
"""

import functools

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from seal_jax import inner, restem

AXIS = "data"


@functools.cache
def mesh() -> Mesh:
    """All devices along one axis."""
    devices = np.asarray(jax.devices())
    return Mesh(devices, (AXIS,), axis_types=(AxisType.Auto,))


def device_count() -> int:
    """Number of devices that the M-step is spread over."""
    return mesh().size


def place(tree):
    """A tree replicated on every device, on one committed sharding.

    Every policy goes through here, round 0's included: a policy that is placed differently makes
    each program compile again.
    """
    return jax.device_put(tree, NamedSharding(mesh(), PartitionSpec()))


def shard(tree):
    """A tree of host arrays, spread over the devices along its leading axis if that divides.

    Scalars and leaves whose leading axis does not divide are replicated.
    """

    def put(leaf):
        divides = np.ndim(leaf) > 0 and leaf.shape[0] % device_count() == 0
        spec = PartitionSpec(AXIS) if divides else PartitionSpec()
        return jax.device_put(leaf, NamedSharding(mesh(), spec))

    return jax.tree.map(put, tree)


def shares(candidates: int) -> int:
    """How many devices a group of candidates is spread over: all, or 1 if it does not divide."""
    return device_count() if candidates % device_count() == 0 else 1


@functools.cache
def _spread_inner_update(static):
    """`inner.update` on every device with its own share of the candidates and its own schedule."""

    def update(params, deltas_K, problems_K, hparams_K, schedules_D, pasts_K):
        schedule = jax.tree.map(lambda leaf: leaf[0], schedules_D)
        return inner.update(static, params, deltas_K, problems_K, hparams_K, schedule, pasts_K)

    spec = PartitionSpec(AXIS)
    in_specs = (PartitionSpec(), spec, spec, spec, spec, spec)
    # No collective is in it, so there is no replication to check.
    return jax.jit(
        jax.shard_map(update, mesh=mesh(), in_specs=in_specs, out_specs=spec, check_vma=False)
    )


def inner_update(static, params, deltas_K, problems_K, hparams_K, schedules, pasts_K=None):
    """`inner.update_candidates` with the candidates spread over the devices.

    Args:
      static: (ModelConfig, InnerSettings); the shapes are those of one device's share.
      params: as `place` puts them.
      deltas_K, problems_K, hparams_K: as `shard` puts them.
      schedules: one for each share of K / shares(K) candidates, in order.
      pasts_K: what the candidates learned before, as `shard` puts it, or None.
    """
    if len(schedules) == 1:
        schedule = place(schedules[0])
        return inner.update_candidates(
            static, params, deltas_K, problems_K, hparams_K, schedule, pasts_K
        )
    schedules_D = shard(jax.tree.map(lambda *leaves: np.stack(leaves), *schedules))
    update = _spread_inner_update(static)
    return update(params, deltas_K, problems_K, hparams_K, schedules_D, pasts_K)


@functools.cache
def m_step(static):
    """The pmapped M-step: (params, state, batch, total_steps) -> (state, metrics).

    `state` goes in and comes out unstacked and replicated, and its buffers are donated; `batch` is
    the effective batch as `split` returns it.

    Args:
      static: (ModelConfig, MStepSettings), as `restem.update` takes it.
    """
    update = functools.partial(restem.update, static, axis_name=AXIS)
    return jax.pmap(
        update,
        axis_name=AXIS,
        in_axes=(None, None, 0, None),
        out_axes=None,
        donate_argnums=1,
    )


def split(batch: restem.Batch) -> restem.Batch:
    """An effective batch [B, ...] as one shard a device, [devices, B / devices, ...].

    Raises:
      ValueError: B does not divide by the number of devices (pad with rows of weight 0).
    """
    count, rows = device_count(), batch.weights_B.shape[0]
    if rows % count:
        raise ValueError(f"{rows} rows do not divide over {count} devices: pad with weight 0.")
    return jax.tree.map(lambda leaf: leaf.reshape(count, rows // count, *leaf.shape[1:]), batch)
