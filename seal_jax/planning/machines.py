"""What devices can do: memory, rates, and the topologies that programs can be compiled for."""

import dataclasses
import math
import re

GIB = 1 << 30


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

# One H100 SXM (NVIDIA's data sheet); its 80 GB are 80e9 bytes.
GPU = Machine(
    name="gpu:80gb",
    devices=1,
    memory=80 * 10**9,
    rates=Rates(flops=989e12, bandwidth=3.35e12),
    chips=1,
)

# Slices that one can have, small ones first.
SLICES = {
    "v4": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4"),
    "v5e": ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8"),
    "v5p": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4"),
    "v6e": ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8"),
}


def machine(topology: str) -> Machine:
    """The machine of a topology's name.

    Args:
      topology: "gpu:80gb", or a kind of TPU and its chips, such as "v5e:2x4".

    Raises:
      ValueError: it is not one of these; the message lists them.

    >>> machine("v5p:2x2x1").devices
    4
    """
    if topology == GPU.name:
        return GPU
    kind, _, shape = topology.partition(":")
    if kind not in CHIPS or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", shape):
        raise ValueError(
            f"--topology={topology}: expected {GPU.name}, or one of {', '.join(CHIPS)} with its "
            "chips, such as v5e:2x4 or v5p:2x2x1; none plans for the devices that are here."
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
    """The machines of a kind, small ones first: of "v5e", of "gpu"; "" is all, by memory."""
    if kind == "gpu":
        return [GPU]
    found = [machine(f"{of}:{shape}") for of in SLICES if kind in ("", of) for shape in SLICES[of]]
    return found if kind else sorted([GPU, *found], key=lambda one: one.devices * one.memory)
