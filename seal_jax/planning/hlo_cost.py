"""FLOPs, memory traffic and time of a compiled program, its loops counted as often as they run.

The compiler's own analysis counts a loop's body once. Here the program's text is walked: a
`while` whose condition compares a counter with a constant runs so often; for one that stops by
itself the caller says how often. Of a `switch` the branches are weighted as the caller says.

Time is a roofline of every instruction: the larger of its matrix products at the device's peak
rate and its traffic at the memory's bandwidth. Where the compiler says how many cycles it expects
an instruction to take (TPU), the clock's time of those is taken instead. Copies that run beside
the computation are not added to it, but no straight piece of program takes less than its traffic.
Collectives take their bytes over the links' bandwidth; their latency is not counted. Of GPUs'
programs the products of cuBLAS and the attention of cuDNN are read as well; what starts a kernel
takes no time here.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Sequence

import numpy as np

from seal_jax.core.model import token_loss
from seal_jax.planning import hlo_text
from seal_jax.planning.hlo_text import Array, Computation, Instruction
from seal_jax.planning.machines import Rates

# What costs nothing, beside all that ends in "-done".
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id", "iota", "async-update", "domain", "opt-barrier", "add-dependency",
    "get-dimension-size",
}  # fmt: skip
# How often the links carry the largest array.
_COLLECTIVES = {
    "all-reduce": 2, "reduce-scatter": 1, "all-gather": 1, "all-to-all": 1,
    "collective-permute": 1, "collective-broadcast": 1, "ragged-all-to-all": 1,
}  # fmt: skip
_SLICES = ("dynamic-slice", "slice", "gather")
# Products of [T, S] with the head width in one pass of cuDNN's attention: the backward one takes
# the logits anew. Of causal ones half the pairs are skipped.
_ATTENTION = {"__cudnn$fmhaSoftmax": 2, "__cudnn$fmhaSoftmaxBackward": 5}


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a device does.

    Attributes:
      flops: of matrix products; traffic: bytes of main memory; links: bytes sent to other devices.
      seconds: how long that takes.
    """

    flops: float = 0.0
    traffic: float = 0.0
    links: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Cost(*map(sum, pairs))

    def times(self, factor: float) -> "Cost":
        return Cost(*(value * factor for value in dataclasses.astuple(self)))


class Program:
    """A compiled program whose cost can be asked for.

    Args:
      text: of the compiled program.
      rates: of the device.
      branches: shares of the branches of the `switch` in the loop; () takes the dearest.
    """

    def __init__(self, text: str, rates: Rates, branches: Sequence[float] = ()):
        self._computations, self._entry = hlo_text.read(text)
        self._rates = rates
        self._branches = branches
        self._trips = [1]

    def cost(self, trips: int = 1, *, has_loop: bool = True, stages: Sequence[int] = ()) -> Cost:
        """Of the whole program.

        Args:
          trips: how often the outermost loop runs that stops by itself.
          has_loop: whether there is such a loop; otherwise all are sweeps over blocks of tokens.
          stages: where several such loops share these, how many are done after each.
        """
        done = [min(trips, end) for end in stages or (trips,)]
        self._trips = [end - start for start, end in itertools.pairwise([0, *done])]
        return self._of(self._entry, not has_loop)

    def _of(self, name: str, inside: bool) -> Cost:
        """Of a computation; `inside` the loop that stops by itself."""
        computation, own, nested = self._computations[name], Cost(), Cost()
        for instruction in computation.instructions.values():
            if instruction.op == "while":
                nested += self._loop(instruction, inside)
            elif instruction.op == "conditional":
                nested += self._switch(instruction, inside)
            elif instruction.op == "call":
                nested += self._of(instruction.called("to_apply")[0], inside)
            elif instruction.op not in _FREE and not instruction.op.endswith("-done"):
                own += self._straight(computation, instruction)
        least = own.traffic / self._rates.bandwidth
        links = own.links / self._rates.links if own.links else 0.0
        return nested + dataclasses.replace(own, seconds=max(own.seconds, least) + links)

    def _loop(self, instruction: Instruction, inside: bool) -> Cost:
        (body,), (condition,) = instruction.called("body"), instruction.called("condition")
        known = _trip_count(instruction, self._computations[condition])
        if known is None and not inside:
            trips = self._trips.pop(0) if len(self._trips) > 1 else self._trips[0]
            return self._of(body, True).times(trips)
        if known is None:  # `token_loss` sweeps over the tokens; the longest vector is theirs
            longest = max((a.dims[0] for a in instruction.arrays if len(a.dims) == 1), default=1)
            known = math.ceil(longest / token_loss.BLOCK)
        return self._of(body, inside).times(known)

    def _switch(self, instruction: Instruction, inside: bool) -> Cost:
        names = instruction.called("branch_computations") or [
            *instruction.called("true_computation"),
            *instruction.called("false_computation"),
        ]
        costs = [self._of(name, inside) for name in names]
        if len(costs) != len(self._branches):
            return max(costs, key=lambda cost: cost.seconds)
        weighted = (cost.times(w) for cost, w in zip(costs, self._branches, strict=True))
        return sum(weighted, Cost())

    def _straight(self, computation: Computation, instruction: Instruction) -> Cost:
        """Of one instruction without a loop in it."""
        if passes := _COLLECTIVES.get(instruction.op.removesuffix("-start")):
            return Cost(links=passes * max((array.size for array in instruction.arrays), default=0))
        if instruction.op == "async-start":
            return self._of(instruction.called("calls")[0], True)
        if instruction.op in ("fusion-start", "custom-call-start"):
            instruction = _awaited(computation, instruction)
        traffic = float(self._moved(computation, instruction))
        if instruction.op in ("copy-start", "slice-start"):
            return Cost(traffic=traffic)
        flops = float(self._flops(computation, instruction))
        cycles = re.search(r'"estimated_cycles":"(\d+)"', instruction.attributes)
        if cycles and self._rates.clock:
            busy = max(int(cycles[1]) / self._rates.clock, flops / self._rates.flops)
        else:
            busy = max(flops / self._rates.flops, traffic / self._rates.bandwidth)
        return Cost(flops=flops, traffic=traffic, seconds=busy)

    def _flops(self, computation: Computation, instruction: Instruction) -> int:
        """Of an instruction's matrix products."""
        if instruction.op == "fusion":
            fused = self._computations[instruction.called("calls")[0]]
            return sum(self._flops(fused, inner) for inner in fused.instructions.values())
        if instruction.op == "custom-call":
            return _library_flops(computation, instruction)
        if instruction.op not in ("dot", "convolution"):
            return 0
        known, out = computation.instructions, instruction.arrays[0].dims
        left, right = (known[name].arrays[0].dims for name in instruction.operands)
        if instruction.op == "convolution":
            return convolution_flops(left, right, out, instruction.attributes)
        found = re.search(r"lhs_contracting_dims=\{([\d,]+)\}", instruction.attributes)
        summed = [left[int(axis)] for axis in found[1].split(",")] if found else []
        return 2 * math.prod(out) * math.prod(summed)

    def _moved(self, computation: Computation, instruction: Instruction) -> int:
        """Bytes of main memory that an instruction reads and writes."""
        op, outputs = instruction.op, _traffic(instruction.arrays)
        known = computation.instructions
        read = [known[name].arrays for name in instruction.operands if name in known]
        if op == "copy-start":
            return _traffic(instruction.arrays[:2])
        if op == "slice-start":
            return instruction.arrays[1].size + instruction.arrays[1].traffic
        if op in _SLICES:
            return 2 * outputs
        if op in ("dynamic-update-slice", "scatter"):
            return 2 * _traffic(read[1 if op == "dynamic-update-slice" else -1])
        if _target(instruction).startswith("__cublas"):  # the other output is room to work in
            outputs = instruction.arrays[0].traffic
        if op == "fusion":
            fused = self._computations[instruction.called("calls")[0]]
            inputs = (self._read_by(fused, *operand) for operand in enumerate(map(_traffic, read)))
            return sum(inputs) + self._written_by(fused, fused.root, instruction.arrays)
        return outputs + sum(map(_traffic, read))

    def _read_by(self, fused: Computation, number: int, whole: int) -> int:
        """What a fusion reads of its operand of so many bytes: if only sliced, the slices."""
        instructions = fused.instructions.values()
        names = [i.name for i in instructions if i.op == "parameter" and i.number == number]
        total = 0
        while names:
            name = names.pop()
            if name == fused.root:
                return whole
            for user in instructions:
                if name not in user.operands:
                    continue
                place = user.operands.index(name)
                if user.op in ("bitcast", "reshape"):
                    names.append(user.name)
                elif user.op in _SLICES and place == 0:
                    total += user.arrays[0].size
                elif user.op == "dynamic-update-slice" and place == 0:
                    continue  # changed in place
                elif user.op == "fusion":
                    inner = self._computations[user.called("calls")[0]]
                    total += self._read_by(inner, place, whole)
                else:
                    return whole
        return min(total, whole)

    def _written_by(self, fused: Computation, name: str, arrays) -> int:
        """What a fusion writes: of an array that it changes in place, the part that it changes."""
        whole, found = _traffic(arrays), fused.instructions[name]
        if found.op == "tuple":
            return sum(
                self._written_by(fused, operand, (array,))
                for operand, array in zip(found.operands, arrays, strict=False)
            )
        while found.op in ("bitcast", "copy", "convert") and found.operands:
            found = fused.instructions[found.operands[0]]
        if found.op == "dynamic-update-slice":
            return min(whole, fused.instructions[found.operands[1]].arrays[0].size)
        if found.op == "fusion":
            inner = self._computations[found.called("calls")[0]]
            return self._written_by(inner, inner.root, arrays)
        return whole


def _traffic(arrays: Iterable[Array]) -> int:
    return sum(array.traffic for array in arrays)


def _awaited(computation: Computation, instruction: Instruction) -> Instruction:
    """What an asynchronous instruction starts; its outputs stand behind its operands'."""
    known = computation.instructions
    first = sum(len(known[name].arrays) for name in instruction.operands)
    op, arrays = instruction.op.removesuffix("-start"), instruction.arrays[first:]
    return instruction._replace(op=op, arrays=arrays)


def _target(instruction: Instruction) -> str:
    """The library function that a custom call names."""
    found = re.search(r'custom_call_target="([^"]*)"', instruction.attributes)
    return found[1] if found else ""


def _library_flops(computation: Computation, instruction: Instruction) -> int:
    """Of a call of cuBLAS or of cuDNN's attention."""
    target, given = _target(instruction), instruction.attributes
    product = target.startswith("__cublas")
    if not product and target not in _ATTENTION:
        return 0
    left = computation.instructions[instruction.operands[0]].arrays[0].dims
    if product:
        summed = _numbers(r'"lhs_contracting_dimensions":\s*\[([^]]*)\]', given)
        return 2 * math.prod(instruction.arrays[0].dims) * math.prod(left[i] for i in summed)
    logits = _numbers(r'"intermediate_tensor_shape".*?"dimensions":\s*\[([^]]*)\]', given)
    halves = 1 if "CAUSAL" in given else 2
    return _ATTENTION[target] * math.prod(logits) * left[-1] * halves


def _numbers(pattern: str, text: str) -> list[int]:
    """The quoted numbers of a list in a call's configuration."""
    found = re.search(pattern, text)
    return [int(number) for number in re.findall(r"\d+", found[1])] if found else []


def _trip_count(instruction: Instruction, condition: Computation) -> int | None:
    """How often a loop runs that counts to a constant; None if it stops otherwise."""
    found = re.search(r'"known_trip_count":\{"n":"(\d+)"', instruction.attributes)
    if found:
        return int(found[1])
    root = condition.instructions[condition.root]
    if root.op != "compare" or "direction=LT" not in root.attributes:
        return None
    left, right = (condition.instructions[operand] for operand in root.operands)
    counts = left.op == "get-tuple-element" and right.op == "constant" and right.number >= 0
    return right.number if counts else None


def convolution_flops(left, right, out, attributes: str) -> int:
    """FLOPs of a convolution, which is how TPU programs write matrix products.

    Products with what lies between or outside the input's elements are not counted.

    >>> convolution_flops((32, 1024), (1024, 2048), (32, 2048), ", dim_labels=bf_io->bf")
    134217728
    >>> 2 * 32 * 1024 * 2048
    134217728
    """
    found = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", attributes)
    if not found:
        return 0
    labels = found.groups()
    window = re.search(r"window=\{([^}]*)\}", attributes)
    fields = dict(part.split("=") for part in window[1].split()) if window else {}
    groups = re.search(r"batch_group_count=(\d+)", attributes)

    def field(name: str, axis: str, default: int) -> int:
        values = fields[name].split("x") if name in fields else []
        return int(values[int(axis)].partition("_")[0]) if int(axis) < len(values) else default

    pairs = math.prod(
        _valid_pairs(
            size=left[labels[0].index(axis)],
            out=out[labels[2].index(axis)],
            window=right[labels[1].index(axis)],
            stride=field("stride", axis, 1),
            pad=field("pad", axis, 0),
            spread=field("lhs_dilate", axis, 1),
            dilate=field("rhs_dilate", axis, 1),
        )
        for axis in labels[2]
        if axis.isdigit()
    )
    batch = left[labels[0].index("b")] // int(groups[1] if groups else 1)
    features = right[labels[1].index("i")] * right[labels[1].index("o")]
    return 2 * batch * features * pairs


def _valid_pairs(*, size, out, window, stride, pad, spread, dilate) -> int:
    """Pairs of an output position and a window position that meet an element of the input."""
    places = stride * np.arange(out) + dilate * np.arange(window)[:, None] - pad
    inside = (places >= 0) & (places <= (size - 1) * spread) & (places % spread == 0)
    return int(np.count_nonzero(inside))
