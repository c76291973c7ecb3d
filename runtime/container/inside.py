"""What can be changed in a running container from outside, and is none of its cgroup's limits.

Compared are: the cgroup its first process is in, whether that stands still, its host name, and
the sysctls it was given. Mounts are compared in runtime.container.mounted; links, addresses and
routes are the network's (runtime.network.observe), limits the cgroup's.

Reading the namespaces of 100 containers takes about 2 ms: one thread enters one after the other.
"""

import os
from collections.abc import Iterable, Iterator, Mapping

from runtime.cgroup import files
from runtime.cgroup.group import Cgroup
from runtime.container.config import ContainerConfig
from runtime.errors import KernelError
from runtime.kernel.namespaces import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWUTS, setns
from runtime.kernel.pidfd import open_running
from runtime.kernel.process import sethostname
from runtime.kernel.procfs import is_running, read_cgroup
from runtime.network import sysctl
from runtime.network.netns import in_thread
from runtime.record import dataclass
from runtime.supervisor.status import Status

_NAMESPACES = CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
HOSTNAME = "hostname"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was made."""

    what: str
    """``hostname``, ``sysctls[net.ipv4.ip_forward]``, ``mounts[/data]``, ``cgroup``, ``freezer``"""
    cause: str
    wanted: str
    actual: str | None
    live: bool = True
    """It can be mended without a restart; see ``mend``."""


def read_namespaces(
    wanted: Iterable[tuple[ContainerConfig, Status]],
) -> dict[str, dict[str, str | None]]:
    """Return host name and given sysctls, by name, of each container that runs.

    Containers that end meanwhile are left out.
    """
    found: dict[str, dict[str, str | None]] = {}

    def walk() -> None:
        for config, status in wanted:
            if _enter(status):
                values: dict[str, str | None] = {HOSTNAME: os.uname().nodename}
                values.update((name, sysctl.read(name)) for name in config.spec.linux.sysctl)
                found[config.id] = values

    in_thread(walk)
    return found


def compare_namespaces(
    config: ContainerConfig, values: Mapping[str, str | None]
) -> Iterator[Difference]:
    """Yield how *values*, of ``read_namespaces``, differ from the config."""
    name = config.spec.hostname
    if name and values.get(HOSTNAME, name) != name:
        cause = f"the host name was changed to {values[HOSTNAME]}"
        yield Difference(HOSTNAME, cause, name, values[HOSTNAME])
    for key, value in config.spec.linux.sysctl.items():
        actual = values.get(key, value)
        if actual is None or actual.split() != value.split():
            cause = f"sysctl {key} was changed inside the container"
            yield Difference(f"sysctls[{key}]", cause, value, actual)


def compare_group(status: Status, group: Cgroup) -> Iterator[Difference]:
    """Yield whether the first process left its cgroup, or was made to stand still."""
    paths = read_cgroup(status.pid) or {}
    for name in group.hierarchy.always if paths else ():
        path = paths.get(name) or paths.get("", "")
        if not path.endswith(f"/{group.name}"):
            cause = f"process {status.pid} was moved out of cgroup {group.name} ({name})"
            yield Difference("cgroup", cause, f"/{group.name}", path)
            break  # out of the others as well, or not: mending looks at them all
    if status.paused or group.is_frozen():
        cause = "it was paused by hand" if status.paused else f"cgroup {group.name} was frozen"
        yield Difference("freezer", cause, "thawed", "frozen")


def owns_network(config: ContainerConfig) -> bool:
    """Tell whether the container may change its own links, addresses and routes."""
    return "CAP_NET_ADMIN" in config.spec.process.capabilities.bounding


def mend(config: ContainerConfig, status: Status, group: Cgroup) -> None:
    """Put back what is live: cgroup, freezer, host name, sysctls. Idempotent.

    Nothing if the container has ended; whoever has its pid by then is left alone.

    Raises:
        KernelError: the kernel refused a value.
    """
    if group.is_frozen():
        group.thaw()
    if any(found.what == "cgroup" for found in compare_group(status, group)):
        for path in group.join_files():
            if is_running(status.pid, status.start_time):
                procs = os.path.join(os.path.dirname(path), "cgroup.procs")
                files.write(procs, str(status.pid))

    def put_back() -> None:
        if not _enter(status):
            return
        if config.spec.hostname and os.uname().nodename != config.spec.hostname:
            sethostname(config.spec.hostname)
        sysctl.ensure(config.spec.linux.sysctl)

    in_thread(put_back)


def _enter(status: Status) -> bool:
    """Move this thread into the namespaces of the container; False if that has ended."""
    try:
        pidfd = open_running(status.pid, status.start_time)
    except ProcessLookupError:
        return False
    try:
        setns(pidfd, _NAMESPACES)
    except KernelError:
        return False
    finally:
        os.close(pidfd)
    return True
