"""Capabilities: their names, as masks, and what this host may give.

Source: capabilities(7), linux/capability.h.
"""

from collections.abc import Iterable
from functools import cache

from runtime.errors import ContainerError, KernelError
from runtime.kernel.process import PR_CAPBSET_READ, prctl

NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
"""Position in this tuple is the capability's number."""

DEFAULT = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
"""What a container may do unless told otherwise.

As Podman has it: Docker adds AUDIT_WRITE, MKNOD and NET_RAW. MKNOD without a device cgroup reads
the host's disks, and ping works without NET_RAW where net.ipv4.ping_group_range allows it.
"""

_NUMBER = {name: number for number, name in enumerate(NAMES)}


def parse(name: str) -> str:
    """Return the full name of what people write as ``net_admin``, ``NET_ADMIN``, ``CAP_...``.

    Raises:
        ContainerError: there is no such capability.
    """
    full = name.upper()
    if not full.startswith("CAP_"):
        full = f"CAP_{full}"
    if full not in _NUMBER:
        raise ContainerError(f"there is no capability {name}")
    return full


def to_mask(names: Iterable[str]) -> int:
    """Return *names*, in full, as a mask.

    Raises:
        ContainerError: there is no such capability.
    """
    return sum({1 << _NUMBER[parse(name)] for name in names})


def to_names(mask: int) -> tuple[str, ...]:
    """Return the names of the bits of *mask*; a bit too new to have one is ``CAP_<number>``."""
    numbers = (n for n in range(mask.bit_length()) if mask >> n & 1)
    return tuple(NAMES[n] if n < len(NAMES) else f"CAP_{n}" for n in numbers)


@cache
def host_bounding() -> int:
    """Return this process's bounding set as a mask: what it can give to a container at most.

    Asked once, so ask before dropping anything.
    """
    mask = 0
    for number in range(64):
        try:
            mask |= prctl(PR_CAPBSET_READ, number) << number
        except KernelError:  # EINVAL: the kernel knows fewer
            break
    return mask
