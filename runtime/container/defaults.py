"""What a container gets unless told otherwise, as parts of an OCI spec. Pure.

The values are those users of Docker and Podman know, where they are safe.
"""

from collections.abc import Iterable

from runtime.errors import ContainerError
from runtime.kernel.capability import DEFAULT, NAMES, parse
from runtime.spec import Capabilities, Mount, Namespace

SHM_BYTES = 64 << 20

MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
"""Files of the kernel that tell or do too much about the host; missing ones are skipped."""

READONLY_PATHS = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)


def default_namespaces(
    *, network: str | None = "", pid: str | None = "", ipc: str | None = "", uts: str | None = ""
) -> tuple[Namespace, ...]:
    """Return the namespaces of a container.

    For each kind: empty for a new one, a path for a pinned one, None for the host's.
    """
    choices = {"pid": pid, "network": network, "ipc": ipc, "uts": uts}
    chosen = [Namespace(kind, path or None) for kind, path in choices.items() if path is not None]
    return (*chosen, Namespace("mount"), Namespace("cgroup"))


def default_mounts(
    *, shm_bytes: int = SHM_BYTES, own_network: bool = True, privileged: bool = False
) -> tuple[Mount, ...]:
    """Return the kernel's file systems a program expects to find.

    Without *own_network* /sys is the host's, bound, because a fresh sysfs shows the network
    namespace one may administer.
    """
    tight = ("nosuid", "noexec", "nodev")
    view = () if privileged else ("ro",)
    sys = (
        Mount("/sys", "sysfs", "sysfs", (*tight, *view))
        if own_network
        else Mount("/sys", "bind", "/sys", ("rbind", *tight, *view))
    )
    return (
        Mount("/proc", "proc", "proc", tight),
        Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
        Mount(
            "/dev/pts",
            "devpts",
            "devpts",
            ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        ),
        Mount("/dev/shm", "tmpfs", "shm", (*tight, "mode=1777", f"size={shm_bytes}")),
        Mount("/dev/mqueue", "mqueue", "mqueue", tight),
        sys,
        Mount("/sys/fs/cgroup", "cgroup", "cgroup", (*tight, "relatime", *view)),
    )


def masked_paths(*, privileged: bool = False) -> tuple[str, ...]:
    """Return the paths to hide."""
    return () if privileged else MASKED_PATHS


def readonly_paths(*, privileged: bool = False) -> tuple[str, ...]:
    """Return the paths that may be read only."""
    return () if privileged else READONLY_PATHS


def default_capabilities(
    *,
    uid: int = 0,
    add: Iterable[str] = (),
    drop: Iterable[str] = (),
    privileged: bool = False,
) -> Capabilities:
    """Return the capabilities of a process of user *uid*.

    ``ALL`` may be added or dropped; what is added by name wins over ``drop: ALL``, and what is
    dropped by name over ``add: ALL``. Users other than root get what is added by name in their
    hands (ambient), and the rest as a bound only, to be had through set-user-id programs.

    Raises:
        ContainerError: there is no such capability, or it is both added and dropped.
    """
    added = [name.upper() for name in add]
    dropped = [name.upper() for name in drop]
    by_name = {parse(name) for name in added if name != "ALL"}
    without = {parse(name) for name in dropped if name != "ALL"}
    if by_name & without:
        raise ContainerError(f"{min(by_name & without)} is both added and dropped")
    chosen = set(NAMES if privileged or "ALL" in added else DEFAULT)
    if "ALL" in dropped:
        chosen = set()
    chosen = chosen - without | by_name
    bounding = tuple(name for name in NAMES if name in chosen)
    if uid == 0:
        return Capabilities(bounding=bounding, effective=bounding, permitted=bounding)
    held = tuple(name for name in NAMES if name in by_name)
    return Capabilities(bounding, held, held, held, held)
