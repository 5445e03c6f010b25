"""Reading a compiled program's text: computations, instructions, shapes.

The text is that of `jax.stages.Compiled.as_text()`. Only what costs need is read.
"""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

_BITS = {"pred": 8, "token": 0, "opaque": 0, "bf16": 16, "c64": 64, "c128": 128}
_ARRAY = re.compile(r"([a-z][a-z0-9]*)\[([\d,]*)\](\{[^}]*\})?")
_OPERAND = re.compile(r"%([\w.\-]+)")


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
    entry = name = root = ""
    instructions: dict[str, Instruction] = {}
    for line in text.splitlines():
        if name and line.startswith("}"):
            computations[name] = Computation(instructions, root)
            name = ""
        elif name and " = " in line:
            instruction = _instruction(line)
            instructions[instruction.name] = instruction
            if line.lstrip().startswith("ROOT "):
                root = instruction.name
        elif line.endswith("{") and "->" in line:
            name = line.removeprefix("ENTRY ").split(" ", 1)[0].lstrip("%")
            instructions, root = {}, ""
            if line.startswith("ENTRY "):
                entry = name
    return computations, entry


def _instruction(line: str) -> Instruction:
    """One line: `%name = shape op(operands), attributes`."""
    name, _, rest = line.strip().removeprefix("ROOT ").partition(" = ")
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    start = rest.index("(")
    end = _closing(rest, start)
    op, inside = rest[:start], rest[start + 1 : end]
    return Instruction(
        name=name.lstrip("%"),
        op=op,
        arrays=arrays(shape),
        operands=tuple(_OPERAND.findall(inside)),
        attributes=rest[end + 1 :],
        number=int(inside) if op in ("parameter", "constant") and inside.isdigit() else -1,
    )


def arrays(shape: str) -> tuple[Array, ...]:
    """The arrays of a shape, a tuple's flattened.

    >>> arrays("(s32[], bf16[8,128]{1,0:T(8,128)(2,1)S(1)})")
    (Array(dims=(), bits=32, in_memory=True), Array(dims=(8, 128), bits=16, in_memory=False))
    """
    return tuple(
        Array(
            dims=tuple(int(size) for size in dims.split(",") if size),
            bits=_bits(dtype),
            in_memory=not re.search(r"S\([1-9]", layout),
        )
        for dtype, dims, layout in _ARRAY.findall(shape)
    )


def _bits(dtype: str) -> int:
    """Bits of an element: of s32, f8e4m3fn and their like the first number in the name."""
    if dtype in _BITS:
        return _BITS[dtype]
    found = re.match(r"[a-z]+(\d+)", dtype)
    return int(found[1]) if found else 0


def _closing(text: str, start: int) -> int:
    """Index of the parenthesis that closes the one at `start`."""
    depth = 0
    for match in re.finditer(r"[()]", text[start:]):
        depth += 1 if match[0] == "(" else -1
        if not depth:
            return start + match.start()
    raise ValueError(f"parentheses do not close: {text[:80]}")
