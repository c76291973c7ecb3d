"""Which libraries a program gets on this host, asked from its own dynamic loader.

The loader is run with ``--list``: it maps the program and its libraries and prints where it found
them, but starts nothing. Answers are remembered by soname, so that of the many extension modules
of an interpreter only those with a library not seen before cost a process.

Source: ld.so(8); musl's ld.so knows the same option.
"""

import os
import re
import subprocess

from runtime.errors import ImageError
from runtime.image.elf import Elf

_LINE = re.compile(r"^\s+(?P<name>\S+)(?: => (?P<path>/\S.*?))?(?: \(0x[0-9a-f]+\))?$")
_ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
_TIMEOUT_S = 20.0


class Loader:
    """Finds libraries for files of one kind of ELF; knows the loader once it saw a program."""

    def __init__(self) -> None:
        self._loaders: dict[tuple[int, int], str] = {}
        self._known: dict[tuple[int, int, str], str] = {}

    def libraries(self, path: str, elf: Elf) -> tuple[str, ...]:
        """Return the libraries of *path* as absolute paths, the loader first; unordered otherwise.

        Raises:
            ImageError: a library is not on this host, or no loader fits.
        """
        machine = (elf.bits, elf.machine)
        loader = elf.interpreter or self._loaders.get(machine)
        if loader is None or not elf.needed:
            return () if elf.interpreter is None else (elf.interpreter,)
        if elf.interpreter is not None:
            self._loaders.setdefault(machine, elf.interpreter)
        known = self.remembered(elf)
        if not elf.searches and len(known) == len(elf.needed):
            return known
        found = self._ask(loader, path)
        for name, library in found.items():
            self._known[*machine, name] = library
        return (loader, *found.values())

    def remembered(self, elf: Elf) -> tuple[str, ...]:
        """Return the libraries *elf* names itself, those found before for another file."""
        names = ((elf.bits, elf.machine, name) for name in elf.needed)
        return tuple(self._known[name] for name in names if name in self._known)

    def _ask(self, loader: str, path: str) -> dict[str, str]:
        if not os.path.basename(loader).startswith("ld"):
            raise ImageError(f"{path}: its interpreter {loader} is not a dynamic loader")
        try:
            answer = subprocess.run(
                [loader, "--list", path],
                env=_ENV,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="surrogateescape",
                timeout=_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ImageError(f"{path}: its loader {loader} cannot be asked: {error}") from error
        found: dict[str, str] = {}
        for line in answer.stdout.splitlines():
            match = _LINE.match(line)
            if match is None:
                continue
            if match["path"] is not None:
                found[match["name"]] = match["path"]
        if answer.returncode != 0:
            last = (answer.stderr or answer.stdout).strip().splitlines()[-1:]
            raise ImageError(f"{path}: its loader finds not all libraries: {' '.join(last)}")
        return found
