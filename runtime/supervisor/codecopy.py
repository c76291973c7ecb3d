"""The code that keeper and supervisor run: a copy, in the run folder, of what is installed.

Package managers replace files in place. What runs goes on starting processes of its own code: the
next supervisor after one that was killed, probes, errands. These must be of one version, and a new
one that turns out to be broken must leave the old one to go on with. So whoever starts a
supervisor, or has it replaced, copies the code first, and all processes of ours find it there.

A copy is one archive of bytecode, as Python imports from; to make it takes some 20 ms. It is named
by what it was made of, and for which Python, and never changed. It stays for the next supervisor; a
keeper removes the others, when they are so old that nobody is about to have them run. A file beside
it says why nobody shall run it for a while, if it has shown to be broken.
"""

import binascii
import io
import os
import struct
import sys
import time
import zipimport
from collections.abc import Iterator
from contextlib import suppress

from runtime.kernel.replace import replace_file
from runtime.supervisor.names import Code

_FOLDER = "code"
_ARCHIVE, _BROKEN = ".zip", ".broken"
_ORIGIN = "origin"
"""Member of the archive: the folder it is a copy of."""
_WANTED_S = 120.0
_CONDEMNED_S = 600.0
"""After which it is tried again: it may have been the host that was at fault."""
_CACHE = "__pycache__"
_LEFT_OUT = "runtime/cli"
"""No process of the supervisor's is a command line."""


def fingerprint(folder: str) -> str:
    """Return what tells the code in *folder* from any other: by names, times and sizes of files."""
    crc = binascii.crc32(os.fsencode(folder))
    for below, name, found in _sources(folder):
        facts = f"{below}/{name} {found.st_mtime_ns} {found.st_size}"
        crc = binascii.crc32(os.fsencode(facts), crc)
    return f"{crc:08x}"


def keep(run: str, code: Code) -> Code:
    """Return a copy of *code* below the folder *run*, made if it is not there; of a copy, itself.

    Raises:
        OSError: it cannot be made.
    """
    if is_copy(code.folder):
        return code
    made_for = sys.implementation.cache_tag if code.python == sys.executable else "any"
    name = f"{fingerprint(code.folder)}-{made_for}{_ARCHIVE}"
    path = os.path.join(run, _FOLDER, name)
    try:
        os.utime(path)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        replace_file(path, _archive(code))
    return Code(code.python, path)


def is_copy(folder: str) -> bool:
    """Tell whether *folder*, of a Code, is such a copy."""
    return folder.endswith(_ARCHIVE)


def name_of(copy: str) -> str:
    """Return the fingerprint of what *copy* was made of."""
    return os.path.basename(copy).partition("-")[0]


def origin(folder: str) -> str:
    """Return where what is in *folder* was installed; *folder*, if it does not say."""
    with suppress(OSError, zipimport.ZipImportError):
        return os.fsdecode(zipimport.zipimporter(folder).get_data(_ORIGIN))
    return folder


def condemn(copy: str, why: str) -> None:
    """Have nobody try *copy* for a while, since it is broken."""
    with suppress(OSError):  # then it is found out once more
        replace_file(copy + _BROKEN, why.encode())


def condemned(copy: str) -> str | None:
    """Return why *copy* is not to be tried; None if it may be."""
    try:
        with open(copy + _BROKEN, encoding="utf-8") as file:
            late = time.time() - os.fstat(file.fileno()).st_mtime > _CONDEMNED_S
            return None if late else file.read()
    except FileNotFoundError:
        return None


def remove_others(run: str, kept: str) -> None:
    """Remove all copies but *kept* that nobody has asked for of late."""
    place = os.path.join(run, _FOLDER)
    with suppress(OSError):  # the next keeper does it
        for name in os.listdir(place):
            path = os.path.join(place, name)
            late = time.time() - os.stat(path).st_mtime > _WANTED_S
            if late and not name.startswith(os.path.basename(kept)):
                os.unlink(path)


def _sources(folder: str) -> Iterator[tuple[str, str, os.stat_result]]:
    """Yield folder, relative to *folder*, name and status of each module, in an order that stays.

    Not os.walk: this is done at the beginning of most commands.
    """
    waiting = ["runtime"]
    while waiting:
        below = waiting.pop()
        for entry in sorted(os.scandir(os.path.join(folder, below)), key=lambda entry: entry.name):
            path = f"{below}/{entry.name}"
            if entry.name.endswith(".py"):
                yield below, entry.name, entry.stat()
            elif entry.name != _CACHE and path != _LEFT_OUT and entry.is_dir():
                waiting.append(path)


def _archive(code: Code) -> bytes:
    from zipfile import ZipFile, ZipInfo  # needed once a version, as what compiles

    made = io.BytesIO()
    with ZipFile(made, "w") as archive:
        for below, name, found in _sources(code.folder):
            path = os.path.join(code.folder, below, name)
            content = _bytecode(path, found) if code.python == sys.executable else None
            if content is None:
                archive.writestr(ZipInfo(f"{below}/{name}"), _read(path))
            else:  # which needs no source
                archive.writestr(ZipInfo(f"{below}/{name}c"), content)
        archive.writestr(ZipInfo(_ORIGIN), os.fsencode(code.folder))
    return made.getvalue()


def _bytecode(path: str, found: os.stat_result) -> bytes | None:
    """Return what Python has compiled a module to, or compiles it to now, for all who come.

    None where it cannot, or may not leave it there.
    """
    from importlib.util import MAGIC_NUMBER

    folder, name = os.path.split(path)
    tag = sys.implementation.cache_tag
    cached = f"{folder}/{_CACHE}/{name.removesuffix('.py')}.{tag}.pyc"
    times = (0, int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF)
    # PEP 552: flags, time and size of its source.
    header = MAGIC_NUMBER + struct.pack("<3L", *times)
    with suppress(OSError):  # it is not there, or not for us to read
        content = _read(cached)
        if content.startswith(header):
            return content
    import py_compile

    with suppress(OSError, py_compile.PyCompileError):
        by_time = py_compile.PycInvalidationMode.TIMESTAMP
        py_compile.compile(path, cached, doraise=True, invalidation_mode=by_time)
        return _read(cached)
    return None


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)
