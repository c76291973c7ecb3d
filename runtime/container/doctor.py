"""Find what nobody owns and what is missing, over every kernel and disk object; and mend it.

The owners are the containers' configs and the networks' records. Everything that carries this
world's name and maps to none of them is an orphan: left by a crash in the middle of something.
Owners come first and leave last; what has to be there even before is made while ``making``, and
who mends waits for that. So nothing is taken away from those who are making something. Examining
takes no lock: a folder whose config is just being written can look like an orphan for a moment.
"""

import functools
import os
import re
import signal
import time
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from runtime.cgroup.group import Cgroup, list_groups
from runtime.cgroup.hierarchy import Hierarchy
from runtime.container import secretfs, volume
from runtime.container.config import ContainerConfig, list_configs
from runtime.container.containers import Containers, unremoved
from runtime.container.damage import damaged_files
from runtime.container.folders import clear, config_file, graveyard
from runtime.container.making import nobody_making
from runtime.container.recovery import images_in_use
from runtime.container.state import is_unattended, status_of
from runtime.container.temporary import unfinished
from runtime.errors import (
    ContainerError,
    DamagedError,
    ImageError,
    NotFoundError,
    StateError,
)
from runtime.image.store import ImageStore
from runtime.kernel.mount import MNT_DETACH, umount2
from runtime.kernel.pidfd import pidfd_open
from runtime.kernel.procfs import read_mountinfo, read_stat
from runtime.kernel.readable import wait_readable
from runtime.network import attachment, firewall, links, netns, observe, store
from runtime.network.hostlock import host_lock
from runtime.network.obstacles import hindrances
from runtime.record import dataclass
from runtime.root import Root
from runtime.supervisor.client import Supervisor

_SUPERVISOR_GROUP = "supervisor"
_DEATH_S = 5.0
_MOMENT_S = 2.0
_LOOK_AGAIN_S = 0.02


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that is not as it should be."""

    kind: str
    """``record | supervisor | process | publication | cgroup | netns | link | lease | mount |
    folder | file | secret | volume | image | layer | network | firewall |
    container``"""
    object: str
    problem: str
    """In words, without the object."""
    mendable: bool = True


class _Owners:
    """The containers: those there were in the beginning, and those made since."""

    def __init__(self, root: Root, known: frozenset[str]) -> None:
        self._root = root
        self._known = known

    def __contains__(self, container_id: object) -> bool:
        return container_id in self._known or config_file(self._root, str(container_id)).exists()


def examine(root: Root) -> tuple[Finding, ...]:
    """Return everything wrong in this world, sorted. Changes nothing."""
    return tuple(sorted((*_examine(root), *_firewalls(root))))


def _examine(root: Root) -> tuple[Finding, ...]:
    """Return everything that could be mended, and more; takes no longer than it must."""
    found = _damages(root)
    configs = tuple(list_configs(root, skip_damaged=True))
    # A damaged config is one finding; what belongs to its container is none.
    unread = {Path(each.object).parent.name for each in found}
    owners = _Owners(root, frozenset({*(config.id for config in configs), *unread}))
    checks: list[Callable[[], Iterator[Finding]]] = [
        lambda: _processes(root),
        lambda: _groups(root, owners),
        lambda: _namespaces(root, owners),
        lambda: _leases(root, owners),
        lambda: _links(root),
        lambda: _folders(root, owners),
        lambda: _mounts(root),
        lambda: _files(root),
        lambda: _volumes(root, unread, configs),
        lambda: _networks(root, owners),
        lambda: _unremoved(root),
    ]
    if not found:
        # Else nobody knows what is needed.
        checks.append(lambda: _images(root, configs))
    for check in checks:
        # What rests on a damaged file cannot be looked at before that is mended.
        with suppress(DamagedError):
            found += check()
    if is_unattended(root):
        found.append(Finding("supervisor", str(root.run), "is gone; nobody looks after containers"))
    return tuple(sorted(found))


def mend(root: Root) -> tuple[Finding, ...]:
    """Remove orphans, put back what is missing; return what was found. Idempotent.

    Raises:
        ContainerError: names all that resists; all else is mended.
    """
    resisting: dict[str, str] = {}

    def attempt(what: str, mending: Callable[[], object]) -> None:
        try:
            mending()
        except (ContainerError, OSError) as error:
            resisting.setdefault(str(error), what)  # one sweep is for many

    left = tuple(_unremoved(root))
    attempt("containers", Containers(root).reap)
    with nobody_making(root), host_lock(root, "doctor"):
        damages = _damages(root)
        for error, get_over in tuple(damaged_files(root)):
            attempt(error.path, partial(get_over, root, Path(error.path)))
        found = _examine(root)
        menders = _menders(root)
        order = [*menders]
        for finding in sorted(found, key=lambda f: (*order, f.kind).index(f.kind)):
            if finding.mendable and finding.kind in menders:
                attempt(finding.object, partial(menders[finding.kind], finding.object))
        attempt("networks", partial(observe.repair, root))
    if resisting:
        raise ContainerError("; ".join(f"{what}: {how}" for how, what in resisting.items()))
    return (*left, *damages, *found)


def _unremoved(root: Root) -> Iterator[Finding]:
    for container_id in unremoved(root):
        yield Finding("container", container_id, "was to be removed at its end, and was not")


def _damages(root: Root) -> list[Finding]:
    return [
        Finding("record", error.path, f"is damaged ({error.how})")
        for error, _ in damaged_files(root)
    ]


def _runs(root: Root, container_id: str) -> bool:
    try:
        return status_of(root, container_id).state == "running"
    except NotFoundError:
        return False


def _networks(root: Root, owners: Container[str]) -> Iterator[Finding]:
    snapshot = observe.observe(root)
    for owner in snapshot.publications:
        kind, _, name = owner.partition("/")
        if kind == "container" and name not in owners:
            yield Finding("publication", owner, "belongs to no container")
    for deviation in snapshot.deviations:
        # One that has ended, be it by a boot of the host, starts in a new namespace.
        if deviation.code == "netns-gone" and not _runs(root, deviation.container):
            continue
        name = deviation.container or deviation.network or deviation.owner or root.nft_table
        yield Finding("network", name, deviation.text, deviation.code != "netns-gone")


def _firewalls(root: Root) -> Iterator[Finding]:
    """Yield other people's chains that drop our traffic."""
    try:
        found = hindrances(root)
    except ContainerError as error:
        yield Finding("firewall", "of others", f"cannot be read: {error}", mendable=False)
        return
    for each in found:
        if each.certain:
            yield Finding("firewall", f"{each.table} {each.chain}", str(each), mendable=False)


def _processes(root: Root) -> Iterator[Finding]:
    """Yield what runs beside the supervisor, in its cgroup, and is none of its descendants.

    A supervisor that is just ending or starting, and what belongs to it, gets a moment to do so.
    """
    deadline = time.monotonic() + _MOMENT_S
    while (found := _unrelated(root)) and time.monotonic() < deadline:
        time.sleep(_LOOK_AGAIN_S)
    for pid in found:
        yield Finding("process", str(pid), "is of a supervisor that is gone")


def _unrelated(root: Root) -> list[int]:
    members = Cgroup(Hierarchy.detect(), f"{root.cgroup}/{_SUPERVISOR_GROUP}").pids()
    if not members:
        return []
    pair: set[int] = set()
    # One that does not answer is no reason to take it for gone: that is raised.
    with suppress(NotFoundError, StateError):
        told = Supervisor(root, start=False).ping()
        pair = {told["pid"], told["keeper"]}
    parents = {pid: stat.ppid for pid in members if (stat := read_stat(pid)) is not None}
    found = []
    for pid in parents:
        above = pid
        while above in parents and above not in pair:
            above = parents[above]
        if above not in pair:
            found.append(pid)
    return found


def _groups(root: Root, owners: Container[str]) -> Iterator[Finding]:
    for name in list_groups(Hierarchy.detect(), root.cgroup):
        if name not in owners and name != _SUPERVISOR_GROUP:
            yield Finding("cgroup", f"{root.cgroup}/{name}", "belongs to no container")


def _namespaces(root: Root, owners: Container[str]) -> Iterator[Finding]:
    for path in _entries(root.run / "netns"):
        if path.name not in owners:
            yield Finding("netns", str(path), "belongs to no container")


def _leases(root: Root, owners: Container[str]) -> Iterator[Finding]:
    for network_id, lease in attachment.leases(root):
        if lease.container not in owners:
            problem = (
                f"is held on network {network_id} by container {lease.container}, which is gone"
            )
            yield Finding("lease", lease.ip, problem)


def _links(root: Root) -> Iterator[Finding]:
    ours = re.compile(rf"{root.link_prefix}[nv][0-9a-f]+\Z")
    there = tuple(links.names(root.link_prefix))
    records = store.load_all(root)  # later: a link is recorded before it is made
    known = {record.network.bridge for record in records}
    known |= {lease.link for record in records for lease in record.leases}
    for name in there:
        if ours.match(name) and name not in known:
            yield Finding("link", name, "belongs to no network and no container")


def _folders(root: Root, owners: Container[str]) -> Iterator[Finding]:
    for parent in (root.state / "containers", root.run / "containers"):
        for path in _entries(parent):
            if path.name not in owners:
                yield Finding("folder", str(path), "belongs to no container")
    for path in _entries(graveyard(root)):
        yield Finding("folder", str(path), "is of a container that is gone")
    for path in volume.half_deleted(root):
        yield Finding("folder", str(path), "is of a volume that is gone")
    for path in _entries(root.run / "secrets"):
        if path.name not in owners:
            yield Finding("secret", str(path), "belongs to no container")


def _mounts(root: Root) -> Iterator[Finding]:
    """Yield mounts in places that are ours alone: of containers' folders nobody else sees any."""
    secrets, pins = f"{root.run}/secrets", f"{root.run}/netns"
    ours = (f"{root.run}/", f"{root.state}/containers/")
    # As text: a host may have tens of thousands, and paths take ten times as long.
    for point in (mount.mount_point for mount in read_mountinfo() or ()):
        if point == secrets:
            if not _entries(Path(secrets)):
                yield Finding("mount", point, "holds no secrets any more")
        elif point.startswith(ours) and os.path.dirname(point) != pins:
            yield Finding("mount", point, "is none that a container needs")


def _files(root: Root) -> Iterator[Finding]:
    """Yield half-written files whose writer is dead; those of the living are no concern."""
    for path in (*unfinished(root), *volume.half_copied(root)):
        yield Finding("file", str(path), "was never finished")


def _volumes(
    root: Root, unread: Collection[str], configs: Sequence[ContainerConfig]
) -> Iterator[Finding]:
    """Yield folders without a record, and records without their folder."""
    for path in volume.folders(root):
        data = path / "data"
        if path.name not in unread and not volume.record_file(root, path.name).exists():
            problem, mendable = "belongs to no volume", False
            if data.is_dir() and any(data.iterdir()):
                problem += ", but there is data in it"
            elif any(volume.is_mounted(root, path.name, config) for config in configs):
                problem += ", but a container has it"
            else:
                mendable = True
            yield Finding("volume", str(path), problem, mendable=mendable)
        elif not data.is_dir():
            problem = "lost its data: put it back, or begin with an empty one"
            problem += " (bayplan apply --accept-data-loss)"
            yield Finding("volume", str(path), problem, mendable=False)


def _images(root: Root, configs: Sequence[ContainerConfig]) -> Iterator[Finding]:
    """Yield content that no image and no container needs, and layers that are missing."""
    store = ImageStore(root)
    problem = "belongs to no image and no container"
    try:
        loose = store.loose(config.image for config in configs if config.image)
    except ImageError as error:
        yield Finding("image", str(store.folder), str(error), mendable=False)
    else:
        yield from (Finding("image", digest, problem) for digest in loose.blobs)
        yield from (Finding("layer", str(path), problem) for path in loose.layers)
        yield from (Finding("image", str(p), "was never finished") for p in loose.temporaries)
    for layer in sorted({layer for config in configs for layer in config.layers}):
        if not os.path.isdir(layer):
            users = ", ".join(config.name for config in configs if layer in config.layers)
            yield Finding("layer", layer, f"is gone; {users} cannot be started again without")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def _mend_group(root: Root, name: str) -> None:
    hierarchy = Hierarchy.detect()
    group = Cgroup(hierarchy, name)
    group.kill()
    group.delete()
    Cgroup(hierarchy, root.cgroup).delete(nested=False)


def _mend_lease(root: Root, ip: str) -> None:
    for _, lease in attachment.leases(root):
        if lease.ip == ip and not config_file(root, lease.container).exists():
            attachment.release(root, lease.container)


def _mend_file(root: Root, path: str) -> None:
    if os.path.isdir(path):
        volume.drop_half_copied(root)
    else:
        Path(path).unlink(missing_ok=True)


def _mend_process(root: Root, pid: str) -> None:
    """Kill it, unless that pid is somebody else's by now."""
    group = Cgroup(Hierarchy.detect(), f"{root.cgroup}/{_SUPERVISOR_GROUP}")
    with suppress(ProcessLookupError):
        pidfd = pidfd_open(int(pid))
        with os.fdopen(pidfd):
            if int(pid) in group.pids():
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                wait_readable(pidfd, _DEATH_S)


def _menders(root: Root) -> dict[str, Callable[[str], object]]:
    """Return what mends a finding of each kind, in the order in which they are mended.

    However many there are, the configs are read, and images swept, once for all.
    """
    configs = functools.cache(lambda: tuple(list_configs(root, skip_damaged=True)))
    sweep = functools.cache(lambda: ImageStore(root).gc(images_in_use(root)))

    def mend_layer(path: str) -> None:
        """Unpack it again if a container needs it; else sweep."""
        needed = next((config.image for config in configs() if path in config.layers), None)
        if needed is None:
            sweep()
        else:
            ImageStore(root).layers(needed)

    return {
        "process": partial(_mend_process, root),
        "supervisor": lambda _folder: Supervisor(root).ping(),
        "publication": partial(firewall.unpublish, root),
        "cgroup": partial(_mend_group, root),
        "netns": netns.delete,
        "lease": partial(_mend_lease, root),
        "link": links.delete,
        "secret": lambda path: secretfs.remove_folder(root, os.path.basename(path)),
        "mount": lambda point: umount2(point, MNT_DETACH),
        "folder": lambda path: clear(Path(path)),
        "file": partial(_mend_file, root),
        "volume": lambda path: volume.delete_volume(root, os.path.basename(path), configs()),
        "image": lambda _digest: sweep(),
        "layer": mend_layer,
    }
