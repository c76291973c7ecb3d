"""What an ELF file says it needs: its interpreter and its shared libraries. Reads, runs nothing.

Source: elf(5); System V ABI, "Dynamic Section".
"""

import os
import struct
from typing import BinaryIO

from runtime.errors import ImageError
from runtime.record import dataclass

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 10, 15, 29
_SANE = 16 << 20


@dataclass(frozen=True, slots=True)
class Elf:
    """*interpreter* is None for libraries and static programs; *needed* are sonames."""

    interpreter: str | None
    needed: tuple[str, ...]
    searches: bool
    """It brings library folders of its own (RPATH or RUNPATH)."""
    bits: int
    machine: int


def read_elf(path: str) -> Elf | None:
    """Return what *path* needs, None if it is not an ELF file.

    Raises:
        ImageError: it is one, but damaged.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        ident = file.read(16)
        if len(ident) < 16 or not ident.startswith(b"\x7fELF"):
            return None
        try:
            return _Parser(file, ident).parse()
        except (struct.error, ValueError, IndexError) as error:
            raise ImageError(f"{path}: damaged ELF file: {error}") from error


class _Parser:
    def __init__(self, file: BinaryIO, ident: bytes) -> None:
        self._file = file
        self._wide = ident[4] == 2
        self._order = "<" if ident[5] == 1 else ">"

    def parse(self) -> Elf:
        form = "HHIQQQIHHHHHH" if self._wide else "HHIIIIIHHHHHH"
        header = self._unpack(form, 16)
        machine, offset, size, count = header[1], header[4], header[8], header[9]
        segments = [self._segment(offset + number * size) for number in range(count)]
        interpreter = None
        needed: tuple[str, ...] = ()
        searches = False
        for kind, start, _, length in segments:
            if kind == _PT_INTERP:
                interpreter = os.fsdecode(self._bytes(start, length).rstrip(b"\0"))
            elif kind == _PT_DYNAMIC:
                needed, searches = self._dynamic(start, length, segments)
        return Elf(interpreter, needed, searches, 64 if self._wide else 32, machine)

    def _segment(self, at: int) -> tuple[int, int, int, int]:
        """Return kind, offset in the file, address and bytes in the file."""
        if self._wide:
            kind, _, offset, address, _, size = self._unpack("IIQQQQ", at)
        else:
            kind, offset, address, _, size = self._unpack("IIIII", at)
        return kind, offset, address, size

    def _dynamic(
        self, start: int, length: int, segments: list[tuple[int, int, int, int]]
    ) -> tuple[tuple[str, ...], bool]:
        item = struct.Struct(self._order + ("qQ" if self._wide else "iI"))
        data = self._bytes(start, length - length % item.size)
        values: dict[int, int] = {}
        names: list[int] = []
        for tag, value in item.iter_unpack(data):
            if tag == _DT_NULL:
                break
            if tag == _DT_NEEDED:
                names.append(value)
            values[tag] = value
        if not names:
            return (), False
        table = self._bytes(self._offset(values[_DT_STRTAB], segments), values[_DT_STRSZ])
        needed = tuple(os.fsdecode(table[at : table.index(b"\0", at)]) for at in names)
        return needed, bool({_DT_RPATH, _DT_RUNPATH} & set(values))

    def _offset(self, address: int, segments: list[tuple[int, int, int, int]]) -> int:
        for kind, offset, base, size in segments:
            if kind == _PT_LOAD and base <= address < base + size:
                return address - base + offset
        raise ValueError("an address lies in no segment")

    def _unpack(self, form: str, at: int) -> tuple[int, ...]:
        shape = struct.Struct(self._order + form)
        return shape.unpack(self._bytes(at, shape.size))

    def _bytes(self, at: int, size: int) -> bytes:
        if size > _SANE:
            raise ValueError("a part is too large")
        self._file.seek(at)
        data = self._file.read(size)
        if len(data) != size:
            raise ValueError("cut short")
        return data
