"""Namespaces: leave them, enter them, be born into new ones.

Source: namespaces(7), unshare(2), setns(2), clone(2); constants from linux/sched.h.
"""

import errno
import os
from collections.abc import Iterable

from runtime.errors import KernelError
from runtime.kernel.bare import signal
from runtime.kernel.libc import (
    Structure,
    addressof,
    bind,
    bind_number,
    c_int,
    c_uint64,
    c_ulong,
    c_void_p,
    check,
    sizeof,
)
from runtime.kernel.process import close_range

CLONE_NEWTIME = 0x80
CLONE_VM = 0x100
CLONE_PIDFD = 0x1000
CLONE_PARENT = 0x8000
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
# clone3 only
CLONE_CLEAR_SIGHAND = 0x100000000
CLONE_INTO_CGROUP = 0x200000000

NAMESPACE_FLAGS = {
    "pid": CLONE_NEWPID,
    "network": CLONE_NEWNET,
    "mount": CLONE_NEWNS,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "user": CLONE_NEWUSER,
    "cgroup": CLONE_NEWCGROUP,
    "time": CLONE_NEWTIME,
}
"""Names of the OCI runtime-spec to the kernel's flags."""


class clone_args(Structure):
    """Argument of clone3(2)."""

    _fields_ = tuple(
        (name, c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    )


_unshare = bind("unshare", c_int)
_setns = bind("setns", c_int, c_int)
# The same number on every architecture.
_clone3 = bind_number(435, c_void_p, c_ulong, keep_gil=True)


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces (CLONE_NEWPID: its future children)."""
    check(_unshare(flags), "unshare", hex(flags))


def setns(fd: int, nstype: int = 0) -> None:
    """Move the calling thread into the namespace *fd* refers to.

    *fd* may be a pidfd (Linux 5.8); *nstype* then says, as a union of CLONE_NEW* flags, which of
    that process's namespaces to enter.
    """
    check(_setns(fd, nstype), "setns", f"fd {fd}")


def clone3(flags: int, *, exit_signal: int = 0, cgroup: int = 0) -> tuple[int, int]:
    """Fork as *flags* say and return (pid, pidfd); in the child (0, -1).

    CLONE_PIDFD is implied, and the pidfd closes on exec. *cgroup* is a folder's descriptor for
    CLONE_INTO_CGROUP. No at-fork hook of Python or of the C library runs, so call it in
    single-threaded processes only, and let the child end in execve or os._exit. CLONE_VM is not
    supported.
    """
    pidfd = c_int(-1)
    arguments = clone_args(
        flags=flags | CLONE_PIDFD,
        pidfd=addressof(pidfd),
        exit_signal=exit_signal,
        cgroup=cgroup,
    )
    pid = check(_clone3(addressof(arguments), sizeof(arguments)), "clone3")
    return pid, pidfd.value if pid else -1


Mapping = tuple[int, int, int]
"""First id inside, first id outside, how many."""


def write_maps(pid: int, uids: Iterable[Mapping], gids: Iterable[Mapping]) -> None:
    """Map the ids of the user namespace of *pid*, which has none yet; user_namespaces(7)."""
    for name, mappings in (("uid_map", uids), ("gid_map", gids)):
        text = "".join(f"{inside} {outside} {size}\n" for inside, outside, size in mappings)
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        except OSError as error:
            raise KernelError(error.errno or 0, "write", f"{text!r} -> {name}") from error
        finally:
            os.close(fd)


def mapped_namespace(uids: Iterable[Mapping], gids: Iterable[Mapping]) -> int:
    """Return a user namespace with these maps that nobody lives in; the caller closes it."""
    life, ours = os.pipe2(os.O_CLOEXEC)
    try:
        pid, pidfd = clone3(CLONE_NEWUSER, exit_signal=signal.SIGCHLD)
    except KernelError:
        os.close(life)
        os.close(ours)
        raise
    if pid == 0:
        try:
            os.dup2(life, 0)
            close_range(1)  # what we hold open for others must not outlive us in it
            os.read(0, 1)  # until the caller is done, or dead
        finally:
            os._exit(0)
    try:
        # Who was born into a new pid namespace still has the /proc of the old one in view.
        number = number_in_proc(pidfd)
        write_maps(number, uids, gids)
        return os.open(f"/proc/{number}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        for fd in (pidfd, life, ours):
            os.close(fd)


def number_in_proc(pidfd: int) -> int:
    """Return the pid of the process *pidfd* refers to as /proc counts, whatever we count."""
    with open(f"/proc/self/fdinfo/{pidfd}", "rb", buffering=0) as file:
        lines = dict(line.split(b":", 1) for line in file.read().splitlines())
    number = int(lines[b"Pid"])
    if number <= 0:
        raise KernelError(errno.ESRCH, "read", f"/proc/self/fdinfo/{pidfd}")
    return number
