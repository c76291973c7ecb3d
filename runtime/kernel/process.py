"""What a process sets about itself: attributes, credentials, limits, filters.

Source: prctl(2), capset(2), close_range(2), sethostname(2), personality(2), seccomp(2),
sigaction(2); constants from linux/prctl.h, linux/capability.h and linux/close_range.h.
"""

from __future__ import annotations

import os
import struct

from runtime.errors import UnsupportedHostError
from runtime.kernel.bare import signal
from runtime.kernel.libc import (
    Structure,
    addressof,
    bind,
    bind_number,
    c_char_p,
    c_int,
    c_size_t,
    c_ulong,
    c_ushort,
    c_void_p,
    check,
    room,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.kernel.libc import Binding

PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

SECCOMP_SET_MODE_FILTER = 1

_LINUX_CAPABILITY_VERSION_3 = 0x20080522
KEYCTL_JOIN_SESSION_KEYRING = 1

_KEYCTL_NUMBER = {"x86_64": 250, "aarch64": 219, "riscv64": 219}
_SECCOMP_NUMBER = {"x86_64": 317, "aarch64": 277, "riscv64": 277}
_RT_SIGACTION_NUMBER = {"x86_64": 13, "aarch64": 134, "riscv64": 134}
# Bytes of the kernel's signal set; the kernel's struct sigaction is at most four words.
_SIGSET_SIZE = 8
_DEFAULT_ACTION = bytes(32)
_LAST_FD = 0xFFFFFFFF

_prctl = bind("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_memset = bind("memset", c_void_p, c_int, c_size_t)
_capget = bind("capget", c_char_p, c_char_p)
_capset = bind("capset", c_char_p, c_char_p)
_sethostname = bind("sethostname", c_char_p, c_size_t)
_personality = bind("personality", c_ulong)
_setdomainname = bind("setdomainname", c_char_p, c_size_t)
# The same number on every architecture; glibc has a name for it only from 2.34 on.
_close_range = bind_number(436, c_ulong, c_ulong, c_ulong)


class sock_fprog(Structure):
    """A BPF program: number of 8-byte instructions, and their address."""

    _fields_ = (("len", c_ushort), ("filter", c_void_p))


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """Read or set one attribute of the calling thread or process."""
    return check(_prctl(option, arg2, arg3, arg4, arg5), "prctl", f"option {option}")


def command_line_area() -> tuple[int, int]:
    """Return where, in this process' memory, its arguments and variables begin and end.

    That is what /proc/PID/cmdline, which is open to everybody, and environ show; a child made by
    fork has them at the same place. Source: proc_pid_stat(5), fields 48 and 51.
    """
    with open("/proc/self/stat", "rb", buffering=0) as file:
        fields = file.read().rpartition(b")")[2].split()
    return int(fields[45]), int(fields[48])


def forget_command_line(area: tuple[int, int]) -> None:
    """Overwrite the `command_line_area` *area* of this process.

    Python has copies of its own, but what the C library knows of variables is gone.
    """
    start, end = area
    _memset(start, 0, end - start)


def capget() -> tuple[int, int, int]:
    """Return the (effective, permitted, inheritable) capabilities of this thread as masks."""
    header = struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, 0)
    data = room(24)
    check(_capget(header, data), "capget")
    low_e, low_p, low_i, high_e, high_p, high_i = struct.unpack("=6I", data.raw)
    return low_e | high_e << 32, low_p | high_p << 32, low_i | high_i << 32


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set the capabilities of this thread, as masks with one bit per capability."""
    header = struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, 0)
    sets = (effective, permitted, inheritable)
    low, high = (s & 0xFFFFFFFF for s in sets), (s >> 32 for s in sets)
    check(_capset(header, struct.pack("=6I", *low, *high)), "capset")


def sethostname(name: str) -> None:
    """Name this UTS namespace."""
    raw = name.encode()
    check(_sethostname(raw, len(raw)), "sethostname", name)


def setdomainname(name: str) -> None:
    """Give this UTS namespace a NIS domain name."""
    raw = name.encode()
    check(_setdomainname(raw, len(raw)), "setdomainname", name)


def personality(persona: int) -> None:
    """Set the execution domain of this process, and of those it will execute."""
    check(_personality(persona), "personality", hex(persona))


def join_session_keyring(name: str) -> None:
    """Take a new session keyring in place of the one inherited; keyctl(2).

    Raises:
        UnsupportedHostError: the number of this system call is not known on this architecture.
        KernelError: ENOSYS: the kernel has no keyrings.
    """
    machine = os.uname().machine
    if machine not in _KEYCTL_NUMBER:
        raise UnsupportedHostError(f"keyctl(2) has no known number on {machine}")
    keyctl = bind_number(_KEYCTL_NUMBER[machine], c_ulong, c_char_p)
    check(keyctl(KEYCTL_JOIN_SESSION_KEYRING, name.encode()), "keyctl", name)


def close_range(first: int, last: int = _LAST_FD, flags: int = 0) -> None:
    """Close all descriptors from *first* to *last*, both included, or mark them CLOEXEC."""
    check(_close_range(first, last, flags), "close_range", f"{first}..{last}")


def detach(*fds: int) -> None:
    """Go on as nobody's child in nobody's folder, with private files; the caller's process ends.

    Of the descriptors above *fds* none stays; those are closed on exec from now on.
    """
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.umask(0o077)
    close_range(max(fds) + 1)
    for fd in fds:
        os.set_inheritable(fd, False)


def seccomp(operation: int, flags: int, program: bytes) -> int:
    """Load the BPF *program* (8 bytes an instruction) as this thread's system call filter.

    Returns the listener with SECCOMP_FILTER_FLAG_NEW_LISTENER, else 0.

    Needs no_new_privs or CAP_SYS_ADMIN.

    Raises:
        UnsupportedHostError: the number of this system call is not known on this architecture.
        KernelError: the kernel refused the program.
    """
    buffer = room(len(program), program)
    fprog = sock_fprog(len(program) // 8, addressof(buffer))
    return check(_seccomp_call()(operation, flags, addressof(fprog)), "seccomp")


def _seccomp_call() -> Binding:
    machine = os.uname().machine
    if machine not in _SECCOMP_NUMBER:
        raise UnsupportedHostError(f"seccomp(2) has no known number on {machine}")
    return bind_number(_SECCOMP_NUMBER[machine], c_ulong, c_ulong, c_void_p)


def default_signals() -> None:
    """Let every signal do what it does by default, before an exec, which keeps what is ignored.

    The C library's own signals (32 and 33) too, which its sigaction(3) does not touch: what
    started us may have ignored them. Python must not be asked about signals afterwards.

    Raises:
        UnsupportedHostError: the number of this system call is not known on this architecture.
    """
    machine = os.uname().machine
    if machine not in _RT_SIGACTION_NUMBER:
        raise UnsupportedHostError(f"rt_sigaction(2) has no known number on {machine}")
    number = _RT_SIGACTION_NUMBER[machine]
    sigaction = bind_number(number, c_ulong, c_char_p, c_void_p, c_ulong)
    for each in range(1, signal.NSIG):
        if each not in (signal.SIGKILL, signal.SIGSTOP):
            check(sigaction(each, _DEFAULT_ACTION, None, _SIGSET_SIZE), "rt_sigaction", str(each))
