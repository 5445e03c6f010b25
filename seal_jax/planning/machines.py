"""What devices can do: memory, rates, and the topologies that programs can be compiled for."""

import dataclasses
import math
import re
from typing import NamedTuple

GIB = 1 << 30
# Of a GPU's memory, what a run takes: the launchers set XLA_PYTHON_CLIENT_MEM_FRACTION to it.
POOL = 0.92


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rates:
    """Of one device.

    Attributes:
      flops: of matrix products, a second; bandwidth: of its main memory, bytes a second.
      links: to other devices, bytes a second.
      clock: cycles a second of the unit that the compiler's estimates are in; 0 where it gives
        none.
    """

    flops: float
    bandwidth: float
    links: float = float("inf")
    clock: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """Devices of one kind that a run has.

    Attributes:
      name: such as "v5e:2x4".
      devices: how many; memory: bytes of each; rates: of each.
      chips: how many are paid for.
    """

    name: str
    devices: int
    memory: int
    rates: Rates
    chips: int

    @property
    def kind(self) -> str:
        """Such as "v5e", "h100"; "gpu" is one that is known by its memory alone."""
        return self.name.partition(":")[0]


# Of a whole chip: GiB of memory; bf16 TFLOP/s; GB/s of memory; Gbit/s of all its links, in both
# directions (docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e}); multiply-adds of its matrix units in
# a cycle, from which its clock follows; equal parts that are a device to JAX. Matrix units have
# 128 x 128 multiply-adds. v6e has 256 x 256 and, going by how many cycles the compiler expects of
# a large product, does 4 such in a cycle. Of v4 each of the two cores is a device to the compiler.
CHIPS = {
    "v4": (32, 275, 1228, 2400, 8 * 128**2, 2),
    "v5e": (16, 197, 819, 1600, 4 * 128**2, 1),
    "v5p": (95, 459, 2765, 4800, 8 * 128**2, 1),
    "v6e": (32, 918, 1640, 3584, 4 * 256**2, 1),
}


class Gpu(NamedTuple):
    """A GPU, as its data sheet and NVIDIA's table of compute capabilities have it.

    Attributes:
      model: what CUDA calls it.
      memory: GiB that CUDA reports, rounded down.
      tflops: bf16 TFLOP/s of dense matrix products; gbytes: GB/s of its memory.
      links: GB/s that it sends over NVLink.
      cores: multiprocessors; lanes: float32 units in each; gigahertz: their clock.
      shared: KiB of shared memory of each; cache: MiB of the second level's.
      capability: the compute capability.
    """

    model: str
    memory: int
    tflops: float
    gbytes: int
    links: int
    cores: int
    lanes: int
    gigahertz: float
    shared: int
    cache: int
    capability: tuple[int, int]


GPUS = {
    "a100": Gpu("NVIDIA A100-SXM4-80GB", 79, 312, 2039, 300, 108, 64, 1.41, 164, 40, (8, 0)),
    "h100": Gpu("NVIDIA H100 80GB HBM3", 79, 989, 3350, 450, 132, 128, 1.98, 228, 50, (9, 0)),
    "h200": Gpu("NVIDIA H200", 139, 989, 4800, 450, 132, 128, 1.98, 228, 50, (9, 0)),
    "b200": Gpu("NVIDIA B200", 178, 2250, 7700, 900, 148, 128, 1.965, 228, 126, (10, 0)),
}

# One H100 by its size alone; its 80 GB are 80e9 bytes.
GPU = Machine(
    name="gpu:80gb",
    devices=1,
    memory=80 * 10**9,
    rates=Rates(flops=989e12, bandwidth=3.35e12),
    chips=1,
)

# Slices that one can have, small ones first.
SLICES = {
    **dict.fromkeys(GPUS, ("1", "2", "4", "8")),
    "v4": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4"),
    "v5e": ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8"),
    "v5p": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4"),
    "v6e": ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8"),
}


def machine(topology: str) -> Machine:
    """The machine of a topology's name.

    Args:
      topology: a kind of GPU and how many, such as "h100:8"; a kind of TPU and its chips, such as
        "v5e:2x4"; or one GPU by its memory, such as "gpu:80gb", with the rates of an H100.

    Raises:
      ValueError: it is not one of these; the message lists them.

    >>> machine("v5p:2x2x1").devices, machine("h100:8").devices
    (4, 8)
    """
    kind, _, shape = topology.partition(":")
    if found := re.fullmatch(r"gpu:([1-9]\d*)gb", topology):
        return dataclasses.replace(GPU, name=topology, memory=int(found[1]) * 10**9)
    if kind in GPUS and re.fullmatch(r"[1-9]\d*", shape):
        gpu, count = GPUS[kind], int(shape)
        rates = Rates(flops=gpu.tflops * 1e12, bandwidth=gpu.gbytes * 1e9, links=gpu.links * 1e9)
        memory = int(POOL * gpu.memory * GIB)
        return Machine(name=topology, devices=count, memory=memory, rates=rates, chips=count)
    if kind not in CHIPS or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", shape):
        raise ValueError(
            f"--topology={topology}: expected one of {', '.join(GPUS)} with how many, such as "
            f"h100:8; one of {', '.join(CHIPS)} with its chips, such as v5e:2x4 or v5p:2x2x1; or "
            "gpu:80gb and the like, by arithmetic; none plans for the devices that are here."
        )
    memory, tflops, gbytes, gbits, products, parts = CHIPS[kind]
    chips, flops = math.prod(map(int, shape.split("x"))), tflops * 1e12
    rates = Rates(
        flops=flops / parts,
        bandwidth=gbytes * 1e9 / parts,
        links=gbits * 1e9 / 8 / parts,
        clock=flops / 2 / products,
    )
    devices, memory = chips * parts, memory * GIB // parts
    return Machine(name=topology, devices=devices, memory=memory, rates=rates, chips=chips)


def slices(kind: str) -> list[Machine]:
    """The machines of a kind, small ones first: of "v5e", "h100", "gpu"; "" is `GPU` and all TPUs'.

    Those of several kinds are ordered by their memory.
    """
    if kind == "gpu":
        return [GPU]
    kinds = (kind,) if kind else CHIPS
    found = [machine(f"{of}:{shape}") for of in kinds for shape in SLICES[of]]
    return found if kind else sorted([GPU, *found], key=lambda one: one.devices * one.memory)
