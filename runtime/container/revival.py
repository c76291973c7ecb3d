"""Starting again after a boot what ran before: whether it shall, and what has to be there first.

A container finds on the host what it mounts from there, and starts just as well in the empty
folder below a file system that is not mounted yet. So each start notes on which file systems its
sources are, and after a boot these are waited for.
"""

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress

from runtime.container.config import ContainerConfig
from runtime.container.folders import state_folder
from runtime.documents import read_note
from runtime.errors import StateError
from runtime.kernel.netlink import Netlink
from runtime.kernel.procfs import read_mountinfo
from runtime.kernel.replace import replace_file
from runtime.network import firewall, rtnetlink
from runtime.network.model import ANY_ADDRESS
from runtime.root import Root
from runtime.supervisor.status import Status

_FILE = "filesystems.json"
"""In the state folder: source on the host -> where the file system it is on was mounted."""
_LOOK_EVERY_S = 0.1


def note_filesystems(root: Root, config: ContainerConfig) -> None:
    """Write down on which file systems the sources of a container that is about to start are.

    It can be lost: then only what exists at all is known.
    """
    path = state_folder(root, config.id) / _FILE
    sources = _sources(root, config)
    found = _mount_points(sources) if sources else {}
    if found and found != read_note(path):
        with suppress(OSError):  # a full disk keeps nobody from starting
            replace_file(path, json.dumps(found).encode())


def await_sources(
    root: Root, config: ContainerConfig, *, deadline: float, stopping: threading.Event
) -> None:
    """Wait until all that the container has of the host is there.

    *deadline* is of ``time.monotonic()``; *stopping* ends this early.

    Raises:
        StateError: something is missing still; names it.
    """
    while missing := next(_missing(root, config), ""):
        if time.monotonic() >= deadline or stopping.wait(_LOOK_EVERY_S):
            raise StateError(missing)


def lost_secrets(root: Root, config: ContainerConfig) -> bool:
    """Tell whether the container was given secrets that this boot of the host does not have."""
    given = [m.source for m in config.spec.mounts if m.source and _is_secret(root, m.source)]
    files = [*given, *([config.environment] if config.environment else [])]
    return not all(map(os.path.exists, files))


def comes_back(config: ContainerConfig, found: Status) -> bool:
    """Tell whether the restart policy of a container has it started again after a boot.

    As in Docker after its daemon was: ``always`` whatever was, ``unless-stopped`` unless somebody
    has stopped it, ``on-failure`` not.
    """
    if found.state in ("running", "restarting"):
        return False
    if config.restart.policy == "unless-stopped":
        return found.resumes or not found.stop_requested
    return config.restart.policy == "always"


def missing_addresses(root: Root) -> Iterator[tuple[str, str]]:
    """Yield (owner, port) of what is published on an address that this host does not have."""
    wanted = [
        (owner, each)
        for owner, published in firewall.publications(root).items()
        for each in published
        if each.ip != ANY_ADDRESS and not each.ip.startswith("127.")
    ]
    if not wanted:
        return
    with Netlink() as netlink:
        groups = rtnetlink.addresses(netlink).values()
    here = {address.partition("/")[0] for group in groups for address in group}
    yield from ((owner, str(each)) for owner, each in wanted if each.ip not in here)


def _missing(root: Root, config: ContainerConfig) -> Iterator[str]:
    noted = read_note(state_folder(root, config.id) / _FILE)
    before: Mapping[str, str] = noted if isinstance(noted, dict) else {}
    sources = _sources(root, config)
    for source in (*config.layers, *sources):
        if not os.path.exists(source):
            yield f"{source} does not exist"
    mounted = _mounted() if before else set()
    for source in sources:
        # One that is mounted at it, or nearer to it, since then is what the host wants it to be.
        if source in before and before[source] not in mounted:
            yield f"{source} is not on the file system of {before[source]}, which is not mounted"


def _sources(root: Root, config: ContainerConfig) -> tuple[str, ...]:
    """Return what it mounts of the host, without what we make for it at each start."""
    given = (mount.source for mount in config.spec.mounts if mount.type == "bind")
    run = f"{root.run}/"
    return tuple(source for source in given if source and not source.startswith(run))


def _is_secret(root: Root, source: str) -> bool:
    return source.startswith(f"{root.run}/secrets/")


def _mount_points(sources: tuple[str, ...]) -> dict[str, str]:
    points = _mounted()
    found = {}
    for source in sources:
        path = os.path.realpath(source)
        while path not in points and path != "/":
            path = os.path.dirname(path)
        found[source] = path
    return found


def _mounted() -> set[str]:
    return {info.mount_point for info in read_mountinfo() or ()}
