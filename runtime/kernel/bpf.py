"""Classic BPF as seccomp(2) runs it: instructions, tests of 64-bit arguments, search trees.

Code is a list of instructions that always ends in a return, so pieces can be put one behind the
other: a branch is taken by falling into the next piece or by jumping over it.

Source: seccomp(2), linux/bpf_common.h, linux/filter.h, Documentation/networking/filter.rst.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from runtime.record import dataclass

LD_W_ABS = 0x20
ALU_AND_K = 0x54
JMP_JA = 0x05
JMP_JEQ_K = 0x15
JMP_JGT_K = 0x25
JMP_JGE_K = 0x35
RET_K = 0x06

MAX_INSTRUCTIONS = 4096

# Jumps with a condition have eight bits for their distance.
_FAR = 255

# struct seccomp_data: nr, arch, instruction pointer, six 64-bit arguments.
NR = 0
ARCH = 4
_ARGUMENTS = 16


@dataclass(frozen=True, slots=True)
class Instruction:
    """One struct sock_filter; *jt* and *jf* count the instructions to skip."""

    code: int
    k: int
    jt: int = 0
    jf: int = 0


Code = list[Instruction]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Comparison = Literal["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"]


@dataclass(frozen=True, slots=True)
class Test:
    """A test of one argument; with MASKED_EQ, of its bits in *mask*."""

    index: int
    comparison: Comparison
    value: int
    mask: int = 2**64 - 1


def pack(code: Sequence[Instruction]) -> bytes:
    """Return *code* as an array of struct sock_filter."""
    return b"".join(struct.pack("=HBBI", i.code, i.jt, i.jf, i.k) for i in code)


def ret(value: int) -> Code:
    """Return code that ends the program with *value*."""
    return [Instruction(RET_K, value)]


def load(offset: int) -> Code:
    """Return code that loads one word of struct seccomp_data."""
    return [Instruction(LD_W_ABS, offset)]


def at_least(number: int, then: Code, otherwise: Code) -> Code:
    """Return code that goes to *then* if what is loaded is *number* or more."""
    return _branch(JMP_JGE_K, number, then, otherwise)


def equal(number: int, then: Code, otherwise: Code) -> Code:
    """Return code that goes to *then* if what is loaded is *number*."""
    return _branch(JMP_JEQ_K, number, then, otherwise)


def _branch(code: int, number: int, then: Code, otherwise: Code) -> Code:
    # `otherwise` comes first: it is what the jump falls into.
    if len(otherwise) <= _FAR:
        return [Instruction(code, number, jt=len(otherwise)), *otherwise, *then]
    far = Instruction(JMP_JA, len(otherwise))
    return [Instruction(code, number, jf=1), far, *otherwise, *then]


def search(pieces: Sequence[tuple[int, Code]]) -> Code:
    """Return code that runs the piece in whose range the loaded number is: a balanced tree.

    *pieces* are (first number of the range, code), sorted; the first begins at 0.
    """
    if len(pieces) == 1:
        return pieces[0][1]
    middle = len(pieces) // 2
    return at_least(pieces[middle][0], search(pieces[middle:]), search(pieces[:middle]))


def when(tests: Sequence[Test], then: Code, otherwise: Code) -> Code:
    """Return code that goes to *then* if all *tests* hold. What was loaded is lost."""
    code = [*then, *otherwise]
    to_otherwise = len(then)
    for test in reversed(tests):
        code = [*_test(test, to_otherwise), *code]
        to_otherwise = len(code) - len(otherwise)
    return code


# What a jump inside a test leads to; resolved by _resolve.
_HOLDS = -1
_FAILS = -2

_Jump = tuple[int, int, int, int]


def _test(test: Test, to_otherwise: int) -> Code:
    """Return code that falls through if *test* holds, else jumps.

    The jump skips *to_otherwise* instructions after the end of this code. The argument is
    compared in halves, the upper one first.
    """
    low_at = _ARGUMENTS + 8 * test.index
    high, low = test.value >> 32, test.value & 0xFFFFFFFF
    mask_high, mask_low = test.mask >> 32, test.mask & 0xFFFFFFFF
    steps: list[_Jump] = [
        *_load(low_at + 4, mask_high),
        *_upper(test.comparison, high),
        *_load(low_at, mask_low),
        _lower(test.comparison, low),
    ]
    return _resolve(steps, to_otherwise)


def _load(offset: int, mask: int) -> list[_Jump]:
    steps = [(LD_W_ABS, offset, 0, 0)]
    if mask != 0xFFFFFFFF:
        steps.append((ALU_AND_K, mask, 0, 0))
    return steps


def _upper(comparison: Comparison, high: int) -> list[_Jump]:
    """Decide by the upper half, if it decides; fall through where the lower half must."""
    match comparison:
        case "EQ" | "MASKED_EQ":
            return [(JMP_JEQ_K, high, 0, _FAILS)]
        case "NE":
            return [(JMP_JEQ_K, high, 0, _HOLDS)]
        case "GT" | "GE":
            return [(JMP_JGT_K, high, _HOLDS, 0), (JMP_JEQ_K, high, 0, _FAILS)]
        case "LT" | "LE":
            return [(JMP_JGT_K, high, _FAILS, 0), (JMP_JEQ_K, high, 0, _HOLDS)]


def _lower(comparison: Comparison, low: int) -> _Jump:
    match comparison:
        case "EQ" | "MASKED_EQ":
            return (JMP_JEQ_K, low, 0, _FAILS)
        case "NE":
            return (JMP_JEQ_K, low, _FAILS, 0)
        case "GT":
            return (JMP_JGT_K, low, 0, _FAILS)
        case "GE":
            return (JMP_JGE_K, low, 0, _FAILS)
        case "LT":
            return (JMP_JGE_K, low, _FAILS, 0)
        case "LE":
            return (JMP_JGT_K, low, _FAILS, 0)


def _resolve(steps: list[_Jump], to_otherwise: int) -> Code:
    code = []
    for position, (operation, k, jt, jf) in enumerate(steps):
        to_end = len(steps) - position - 1
        where = {_HOLDS: to_end, _FAILS: to_end + to_otherwise}
        code.append(Instruction(operation, k, where.get(jt, jt), where.get(jf, jf)))
    return code
