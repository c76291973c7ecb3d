"""The program a container starts with: finding it, and saying in words why it cannot run.

execve(2) says ENOENT for a missing script interpreter or dynamic loader, too, which sends people
looking for a file that is there; so those are looked for first.
"""

import errno
import os
import stat
import struct

from runtime.errors import LaunchError

NOT_FOUND = 127
NOT_EXECUTABLE = 126
_HEAD_BYTES = 4096
_HEADER_BYTES = 64
_PT_INTERP = 3
_MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}  # elf.h, EM_*


def find_program(name: str, folders: tuple[str, ...]) -> str:
    """Return the path of program *name*, looked for in *folders* unless it has a slash in it.

    Judged with the caller's credentials, root and working directory.

    Raises:
        LaunchError: 127, it or what it needs to run does not exist; 126, it may not be run.
    """
    if not name:
        raise LaunchError("the command is an empty word", exit_code=NOT_FOUND)
    if "/" in name:
        _check(name)
        return name
    refusal = None
    for folder in folders:
        path = f"{folder or '.'}/{name}"
        try:
            _check(path)
        except LaunchError as error:
            if os.path.lexists(path):
                refusal = refusal or error
        else:
            return path
    if refusal is not None:
        raise refusal
    where = ":".join(folders)
    raise LaunchError(f"{name}: not found in the container's PATH ({where})", exit_code=NOT_FOUND)


def execution_error(program: str, code: int, *, machine: str | None = None) -> LaunchError:
    """Return what to say when execve(2) of *program* failed with errno *code*.

    *machine* is the one the program was made for, if that is known to be another than this.
    """
    exit_code = NOT_FOUND if code == errno.ENOENT else NOT_EXECUTABLE
    if code == errno.ENOEXEC and machine:
        text = f"{program} is a program for {machine}, this machine is {os.uname().machine}"
    elif code == errno.ENOEXEC:
        text = f"{program} is neither a program for this machine nor a script that begins with #!"
    else:
        name = errno.errorcode.get(code, "?")
        text = f"execve(2) {program}: {os.strerror(code)} [{name}]"
    return LaunchError(text, exit_code=exit_code)


def foreign_machine(program: str) -> str | None:
    """Return the machine the file *program* is for, if it is a program for another than this."""
    head = _head(program)
    if head[:4] != b"\x7fELF" or len(head) < 20:
        return None
    (machine,) = struct.unpack_from("<H", head, 18)
    name = _MACHINES.get(machine, f"ELF machine {machine}")
    return None if name == os.uname().machine else name


def _check(path: str) -> None:
    try:
        status = os.stat(path)
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        text = f"{path}: {os.strerror(error.errno or 0).lower()} in the container"
        raise LaunchError(text, exit_code=NOT_FOUND if missing else NOT_EXECUTABLE) from error
    if stat.S_ISDIR(status.st_mode):
        # In the words of execve(2), by which engines know what it is.
        raise LaunchError(f"{path}: permission denied, it is a directory", exit_code=NOT_EXECUTABLE)
    if not os.access(path, os.X_OK):
        text = f"{path}: permission denied, it is not executable for user {os.geteuid()}"
        raise LaunchError(text, exit_code=NOT_EXECUTABLE)
    needed = _interpreter(_head(path))
    if needed and not os.path.exists(needed[1]):
        kind, interpreter = needed
        text = f"{path} needs the {kind} {interpreter}, which is not in the container"
        raise LaunchError(text, exit_code=NOT_FOUND)


def _head(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:  # may be executable and yet not readable
        return b""
    try:
        return os.read(fd, _HEAD_BYTES)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _interpreter(head: bytes) -> tuple[str, str] | None:
    """Return (what it is called, its path) if the file beginning with *head* needs one."""
    if head.startswith(b"#!"):
        words = head[2:].split(b"\n", 1)[0].split()
        return ("script interpreter", os.fsdecode(words[0])) if words else None
    if head[:6] != b"\x7fELF\x02\x01":  # 64 bit, little endian; others are left to the kernel
        return None
    if len(head) < _HEADER_BYTES:  # cut off: the kernel says that it cannot be executed
        return None
    if _MACHINES.get(struct.unpack_from("<H", head, 18)[0]) != os.uname().machine:
        return None
    (table,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    for start in range(table, min(table + size * count, len(head) - 55), size or 56):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", head, start)
        if kind == _PT_INTERP and offset + length <= len(head):
            return "dynamic loader", os.fsdecode(head[offset : offset + length].rstrip(b"\0"))
    return None
