"""Reading a compiled program's text: computations, instructions, shapes.

The text is that of `jax.stages.Compiled.as_text()`. Only what costs need is read.
"""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

_ARRAY = re.compile(r"([a-z]+)(\d*)[a-z0-9]*\[([\d,]*)\](\{[^}]*\})?")
_OPERAND = re.compile(r"%([\w.\-]+)")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) [^\n]*->[^\n]*\{\n(.*?)^\}", re.M | re.S)
# `%name = shape op(operands), attributes`
_INSTRUCTION = re.compile(
    r"^ *(ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*?)\)((?:, [\w.\-]+=.*)?)$", re.M
)


class Array(NamedTuple):
    """The shape of an array, and whether it lies in the device's main memory."""

    dims: tuple[int, ...]
    bits: int
    in_memory: bool

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return math.prod(self.dims) * self.bits // 8

    @property
    def traffic(self) -> int:
        """Bytes of main memory that reading or writing it moves."""
        return self.size if self.in_memory else 0


class Instruction(NamedTuple):
    """One instruction.

    Attributes:
      name, op: such as "fusion.3" and "fusion".
      arrays: its outputs, flattened.
      operands: names of the instructions that it reads.
      attributes: the rest of its line.
      number: of a parameter, or the value of a whole constant; else -1.
    """

    name: str
    op: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str
    number: int = -1

    def called(self, key: str) -> list[str]:
        """Names of the computations that an attribute such as "calls" names."""
        found = re.search(rf"\b{key}=(\{{[^}}]*\}}|%[\w.\-]+)", self.attributes)
        return _OPERAND.findall(found[1]) if found else []


class Computation(NamedTuple):
    """Instructions by name, in order, and the one whose value it gives."""

    instructions: Mapping[str, Instruction]
    root: str


def read(text: str) -> tuple[dict[str, Computation], str]:
    """All computations of a program by name, and the name of the one it starts with.

    >>> computations, entry = read('''HloModule m
    ... ENTRY %main (x: f32[2,3]) -> f32[2,3] {
    ...   %x = f32[2,3]{1,0} parameter(0)
    ...   ROOT %y = f32[2,3]{1,0:S(1)} add(%x, %x)
    ... }''')
    >>> computations[entry].instructions["y"].arrays
    (Array(dims=(2, 3), bits=32, in_memory=False),)
    """
    computations: dict[str, Computation] = {}
    entry = ""
    for is_entry, name, body in _COMPUTATION.findall(text):
        instructions: dict[str, Instruction] = {}
        root = ""
        for is_root, own, shape, op, inside, attributes in _INSTRUCTION.findall(body):
            counted = op in ("parameter", "constant") and inside.isdigit()
            instructions[own] = Instruction(
                name=own,
                op=op,
                arrays=arrays(shape),
                operands=tuple(_OPERAND.findall(inside)),
                attributes=attributes,
                number=int(inside) if counted else -1,
            )
            root = own if is_root else root
        computations[name] = Computation(instructions, root)
        entry = name if is_entry else entry
    return computations, entry


def arrays(shape: str) -> tuple[Array, ...]:
    """The arrays of a shape, a tuple's flattened.

    >>> arrays("(s32[], bf16[8,128]{1,0:T(8,128)(2,1)S(1)})")
    (Array(dims=(), bits=32, in_memory=True), Array(dims=(8, 128), bits=16, in_memory=False))
    """
    return tuple(
        Array(
            dims=tuple(int(size) for size in dims.split(",") if size),
            bits=8 if dtype == "pred" else int(bits or 0),
            in_memory=not re.search(r"S\([1-9]", layout),
        )
        for dtype, bits, dims, layout in _ARRAY.findall(shape)
    )
