"""Programs of a few bytes that make system calls by number and print what each returned."""

import struct
from collections.abc import Sequence
from pathlib import Path

BASE = 0x10000
_RESULTS = 0x80000
_ALL_ONES = 0xFFFFFFFF
X32_BIT = 0x40000000


def write_calls(path: Path, numbers: Sequence[int], *, abi: str) -> Path:
    """Write a program that makes the calls *numbers* and return its path.

    *abi* is ``x86_64``, ``x32`` or ``x86`` (a 32-bit program, int 0x80). All arguments are -1,
    which no call can do harm with. Standard output gets one 32-bit word a call.
    """
    path.write_bytes(_program_32(numbers) if abi == "x86" else _program_64(numbers, abi == "x32"))
    path.chmod(0o755)
    return path


def results(output: bytes) -> list[int]:
    """Return what the calls returned."""
    return list(struct.unpack(f"<{len(output) // 4}i", output))


def _program_32(numbers: Sequence[int]) -> bytes:
    # ebx ecx edx esi edi ebp
    arguments = b"".join(
        bytes([op]) + struct.pack("<I", _ALL_ONES) for op in b"\xbb\xb9\xba\xbe\xbf\xbd"
    )
    code = b""
    for place, number in enumerate(numbers):
        code += arguments + b"\xb8" + struct.pack("<I", number) + b"\xcd\x80"
        code += b"\xa3" + struct.pack("<I", BASE + _RESULTS + 4 * place)
    write = (b"\xb8", 4, b"\xbb", 1, b"\xb9", BASE + _RESULTS, b"\xba", 4 * len(numbers))
    code += _loads(write) + b"\xcd\x80" + _loads((b"\xb8", 1, b"\xbb", 0)) + b"\xcd\x80"
    header = struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, BASE + 84, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    segment = struct.pack("<8I", 1, 0, BASE, BASE, 84 + len(code), _SIZE, 7, 4096)
    return _IDENT[1] + header + segment + code


def _program_64(numbers: Sequence[int], x32: bool) -> bytes:
    # rdi rsi rdx r10 r8 r9, sign-extended
    registers = (b"\x48\xc7\xc7", b"\x48\xc7\xc6", b"\x48\xc7\xc2")
    registers += (b"\x49\xc7\xc2", b"\x49\xc7\xc0", b"\x49\xc7\xc1")
    arguments = b"".join(register + struct.pack("<I", _ALL_ONES) for register in registers)
    code = b""
    for place, number in enumerate(numbers):
        called = number | X32_BIT if x32 else number
        code += arguments + b"\xb8" + struct.pack("<I", called) + b"\x0f\x05"
        code += b"\x89\x04\x25" + struct.pack("<I", BASE + _RESULTS + 4 * place)
    write = (b"\xb8", 1, b"\xbf", 1, b"\xbe", BASE + _RESULTS, b"\xba", 4 * len(numbers))
    code += _loads(write) + b"\x0f\x05" + _loads((b"\xb8", 60, b"\xbf", 0)) + b"\x0f\x05"
    return _elf_64(code)


def _elf_64(code: bytes) -> bytes:
    header = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, BASE + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 7, 0, BASE, BASE, 120 + len(code), _SIZE, 4096)
    return _IDENT[2] + header + segment + code


_SIZE = 0x90000
_IDENT = {bits: b"\x7fELF" + bytes((bits, 1, 1)) + bytes(9) for bits in (1, 2)}


def _loads(pairs: tuple[bytes | int, ...]) -> bytes:
    return b"".join(p if isinstance(p, bytes) else struct.pack("<I", p) for p in pairs)


def write_hijacker(path: Path, script: str) -> Path:
    """Write what takes the dynamic loader's place and so gets hold of whoever is executed.

    It opens /proc/self/exe, and becomes a shell that runs *script* with that as descriptor 3.
    """
    texts = (b"/proc/self/exe", b"/bin/sh", b"sh", b"-c", script.encode())
    code_size, pointers = 48, 5
    start = BASE + 120 + code_size
    places, data = [], b""
    for text in texts:
        places.append(start + 8 * pointers + len(data))
        data += text + b"\0"
    argv = struct.pack("<5Q", places[2], places[3], places[4], 0, 0)
    # open(exe, O_RDONLY, 0); execve(sh, argv, NULL)
    code = _loads((b"\xbf", places[0], b"\xbe", 0, b"\xba", 0, b"\xb8", 2)) + b"\x0f\x05"
    code += _loads((b"\xbf", places[1], b"\xbe", start, b"\xba", 0, b"\xb8", 59)) + b"\x0f\x05"
    path.write_bytes(_elf_64(code.ljust(code_size, b"\xcc") + argv + data))
    path.chmod(0o755)
    return path


def write_fork_bomb(path: Path) -> Path:
    """Write what does nothing but fork, in all of its processes."""
    path.write_bytes(_elf_64(_loads((b"\xb8", 57)) + b"\x0f\x05\xeb\xf7"))
    path.chmod(0o755)
    return path
