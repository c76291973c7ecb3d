"""The namespaces of a user's worlds: made, held by descriptors, entered.

Source: user_namespaces(7), cgroup_namespaces(7), setns(2).
"""

import errno
import os
import socket
from collections.abc import Mapping
from contextlib import suppress

from runtime.errors import UnsupportedHostError
from runtime.kernel.interface import set_loopback_up
from runtime.kernel.mount import MS_BIND, MS_REC, MS_SLAVE, mount
from runtime.kernel.namespaces import (
    CLONE_NEWCGROUP,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    setns,
    unshare,
)
from runtime.kernel.process import PR_SET_PDEATHSIG, prctl
from runtime.rootless.delegation import MOUNT_POINT
from runtime.rootless.ids import Ids

KINDS = {
    "user": CLONE_NEWUSER,
    "cgroup": CLONE_NEWCGROUP,
    "mnt": CLONE_NEWNS,
    "net": CLONE_NEWNET,
}
"""As /proc/PID/ns calls them, in the order in which they are entered."""

_SIGKILL = 9
_SWITCHES = (
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
    ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)
"""What keeps ordinary users from making user namespaces, and the setting that lets them."""


class Namespaces:
    """Descriptors of one of each; they last as long as one of them, or somebody inside."""

    def __init__(self, fds: Mapping[str, int]) -> None:
        self.fds = dict(fds)

    @classmethod
    def of_process(cls, pid: int) -> "Namespaces":
        """Return those of a process; FileNotFoundError or ProcessLookupError if it is gone."""
        fds: dict[str, int] = {}
        try:
            for kind in KINDS:
                fds[kind] = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            cls(fds).close()
            raise
        return cls(fds)

    def numbers(self) -> dict[str, int]:
        """Return the inode numbers, by which /proc tells namespaces apart."""
        return {kind: os.fstat(fd).st_ino for kind, fd in self.fds.items()}

    def enter(self) -> None:
        """Move this process, which must have one thread, into them: as root, in folder /."""
        for kind, flag in KINDS.items():
            setns(self.fds[kind], flag)

    def close(self) -> None:
        """Let go of them."""
        for fd in self.fds.values():
            os.close(fd)
        self.fds.clear()


def make(ids: Ids, *, group: str | None = None) -> Namespaces:
    """Return new ones: mounts follow the host's, the network has a loopback and nothing else.

    Nobody lives in them. The cgroup namespace begins at the group of this process; if that is
    delegated to this user, *group* is its folder, and shown in the place of the host's.

    Raises:
        UnsupportedHostError: the host lets this user make none; says what to change.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        ours.close()  # or the end of it would not be seen
        _make_in_child(theirs, group)
    theirs.close()
    try:
        _hear(ours)
        ids.write(pid)
        with suppress(ConnectionError):  # what it says next is why
            ours.send(b"mapped")
        _hear(ours)
        return Namespaces.of_process(pid)
    finally:
        ours.close()
        os.waitpid(pid, 0)


def _make_in_child(channel: socket.socket, group: str | None) -> None:
    """Make them, wait until they are held from outside, and end. Never returns."""
    try:
        prctl(PR_SET_PDEATHSIG, _SIGKILL)
        unshare(CLONE_NEWUSER)
        channel.send(b"unshared")
        if channel.recv(16):
            unshare(CLONE_NEWCGROUP | CLONE_NEWNS | CLONE_NEWNET)
            mount(None, "/", None, MS_REC | MS_SLAVE)
            if group is not None:
                # The kernel refuses another mount of the file system that is mounted there.
                mount(group, MOUNT_POINT, None, MS_BIND)
            set_loopback_up()
            channel.send(b"made")
            channel.recv(16)
    except OSError as error:
        channel.send(f"!{error.errno or 0} {error}".encode())
    finally:
        os._exit(0)


def _hear(channel: socket.socket) -> None:
    try:
        said = channel.recv(4096).decode()
    except ConnectionError:
        said = ""
    if not said:
        raise UnsupportedHostError("the process that made a user namespace was killed")
    if said.startswith("!"):
        number, _, text = said[1:].partition(" ")
        raise UnsupportedHostError(
            f"this user cannot make a user namespace: {_advice(number, text)}"
        )


def _advice(number: str, text: str) -> str:
    for path, forbidding, setting in _SWITCHES:
        with suppress(OSError), open(path, encoding="ascii") as file:
            if file.read().strip() == forbidding:
                return f"{text}; as root: sysctl -w {setting}"
    if int(number) == errno.ENOSPC:
        return f"{text}; more would be allowed by sysctl user.max_user_namespaces"
    return text
