"""Network namespaces pinned by a bind mount; and running a function inside one.

unshare(2) and setns(2) move one thread only, so each call here works in a thread of its own and
the caller never leaves its namespace.
"""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from runtime.errors import NetworkError
from runtime.kernel.mount import MNT_DETACH, MS_BIND, UMOUNT_NOFOLLOW, mount, umount2
from runtime.kernel.namespaces import CLONE_NEWNET, setns, unshare
from runtime.kernel.netlink import Netlink
from runtime.kernel.procfs import last_id
from runtime.network import rtnetlink, sysctl

T = TypeVar("T")

LOOPBACK = 1
"""Index of ``lo``, the first link of every namespace."""

DEFAULT_SYSCTLS: Mapping[str, str] = {
    "net.ipv4.ip_forward": "0",
    "net.ipv6.conf.all.disable_ipv6": "1",
    "net.ipv6.conf.default.disable_ipv6": "1",
    "net.ipv4.ip_unprivileged_port_start": "0",
}
"""No forwarding between networks (a new namespace inherits it), no IPv6; low ports and ping
(PING_GROUPS) without capabilities, as containers run without them."""

PING_GROUPS = "net.ipv4.ping_group_range"
_LAST_GROUP = 2147483647

_ANY_NAMESPACE = "/proc/self/ns/net"


def create(path: str, *, sysctls: Mapping[str, str] = DEFAULT_SYSCTLS) -> None:
    """Make a namespace with ``lo`` up and *sysctls* set, pinned at *path*; idempotent.

    All groups it knows may ping. Makes the parent folder. A leftover *path* that is no namespace is
    replaced. A sysctl this kernel does not have is left out.
    """
    if exists(path):
        return
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def born() -> None:
        unshare(CLONE_NEWNET)
        for name, value in sysctls.items():
            sysctl.write_if_there(name, value)
        sysctl.write_if_there(PING_GROUPS, f"0 {min(last_id('gid'), _LAST_GROUP)}")
        with Netlink() as netlink:
            netlink.request([rtnetlink.set_link(LOOPBACK, up=True)])
        # Last, so that what is pinned is complete.
        mount("/proc/thread-self/ns/net", path, None, MS_BIND)

    try:
        in_thread(born)
    except BaseException:
        os.unlink(path)
        raise


def delete(path: str) -> None:
    """Unpin; the namespace dies with its last process, in the kernel's own time; idempotent."""
    while exists(path):
        umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW)
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def exists(path: str) -> bool:
    """Return whether a namespace is pinned at *path*."""
    try:
        return os.stat(path).st_dev == os.stat(_ANY_NAMESPACE).st_dev
    except FileNotFoundError:
        return False


def visit(paths: Sequence[str], function: Callable[[], T]) -> dict[str, T]:
    """Run *function* in each namespace in turn, in one thread; return its results by path.

    Namespaces that are gone are left out. Some 10 us each, beside the function.
    """

    def walk() -> dict[str, T]:
        found = {}
        for path in dict.fromkeys(paths):
            try:
                fd = open_pinned(path)
            except NetworkError:
                continue
            try:
                setns(fd, CLONE_NEWNET)
            finally:
                os.close(fd)
            found[path] = function()
        return found

    return in_thread(walk)


def open_pinned(path: str) -> int:
    """Return a descriptor of the namespace pinned at *path*; the caller closes it.

    Raises:
        NetworkError: none is.
    """
    if not exists(path):
        raise NetworkError(f"no network namespace is pinned at {path}")
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def open_netlink(fd: int) -> Netlink:
    """Return a route socket inside the namespace *fd* refers to; the caller closes it."""

    def inside() -> Netlink:
        setns(fd, CLONE_NEWNET)
        return Netlink()

    return in_thread(inside)


def in_thread(function: Callable[[], T]) -> T:
    """Run *function* in a thread of its own, which may change namespaces; return what it does."""
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(function())
        except BaseException as error:  # handed to the caller, whatever it is
            errors.append(error)

    thread = threading.Thread(target=work, name="netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
