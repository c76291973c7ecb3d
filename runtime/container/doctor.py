"""Find what nobody owns and what is missing, over every kernel and disk object; and mend it.

The owners are the containers' configs and the networks' records. Everything that carries this
world's name and maps to none of them is an orphan: left by a crash in the middle of something.
Examining reads only; it takes no lock, so what is just being made can look like an orphan for a
moment. Who mends must keep applies from running meanwhile.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.cgroup import Cgroup, Hierarchy, list_groups
from runtime.container import secretfs
from runtime.container.config import list_configs
from runtime.container.containers import is_unattended
from runtime.kernel.mount import MNT_DETACH, umount2
from runtime.kernel.procfs import read_mountinfo
from runtime.network import firewall, links, netns, network, observe, store
from runtime.network.hostlock import host_lock
from runtime.root import Root
from runtime.supervisor.client import Supervisor

_SUPERVISOR_GROUP = "supervisor"
_TEMPORARY = re.compile(r".*\.tmp\Z|\..+\.\d+\Z")


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that is not as it should be."""

    kind: str
    """``supervisor | publication | cgroup | netns | link | lease | mount | folder | file | secret |
    network``"""
    object: str
    problem: str
    """In words, without the object."""
    mendable: bool = True


def examine(root: Root) -> tuple[Finding, ...]:
    """Return everything wrong in this world, sorted. Changes nothing."""
    owners = frozenset(config.id for config in list_configs(root))
    found = [
        *_groups(root, owners),
        *_namespaces(root, owners),
        *_leases(root, owners),
        *_links(root),
        *_folders(root, owners),
        *_mounts(root),
        *_temporary_files(root),
    ]
    if is_unattended(root):
        found.append(Finding("supervisor", str(root.run), "is gone; nobody looks after containers"))
    snapshot = observe.observe(root)
    for owner in snapshot.publications:
        kind, _, name = owner.partition("/")
        if kind == "container" and name not in owners:
            found.append(Finding("publication", owner, "belongs to no container"))
    for deviation in snapshot.deviations:
        name = deviation.container or deviation.network or deviation.owner or root.nft_table
        found.append(Finding("network", name, deviation.text, deviation.code != "netns-gone"))
    return tuple(sorted(found))


def mend(root: Root) -> tuple[Finding, ...]:
    """Remove orphans, put back what is missing; return what was found. Idempotent.

    Raises:
        ContainerError, KernelError: something resists.
    """
    with host_lock(root, "doctor"):
        found = examine(root)
        order = (
            "publication",
            "cgroup",
            "netns",
            "lease",
            "link",
            "mount",
            "secret",
            "folder",
            "file",
        )
        for finding in sorted(found, key=lambda f: (*order, f.kind).index(f.kind)):
            _MEND.get(finding.kind, _nothing)(root, finding.object)
        observe.repair(root)
    return found


def _groups(root: Root, owners: frozenset[str]) -> Iterator[Finding]:
    for name in list_groups(Hierarchy.detect(), root.cgroup):
        if name not in owners and name != _SUPERVISOR_GROUP:
            yield Finding("cgroup", f"{root.cgroup}/{name}", "belongs to no container")


def _namespaces(root: Root, owners: frozenset[str]) -> Iterator[Finding]:
    for path in _entries(root.run / "netns"):
        if path.name not in owners:
            yield Finding("netns", str(path), "belongs to no container")


def _leases(root: Root, owners: frozenset[str]) -> Iterator[Finding]:
    for network_id, lease in network.leases(root):
        if lease.container not in owners:
            problem = (
                f"is held on network {network_id} by container {lease.container}, which is gone"
            )
            yield Finding("lease", lease.ip, problem)


def _links(root: Root) -> Iterator[Finding]:
    ours = re.compile(rf"{root.link_prefix}[nv][0-9a-f]+\Z")
    known = {record.network.bridge for record in store.load_all(root)}
    known |= {lease.link for record in store.load_all(root) for lease in record.leases}
    for name in links.names(root.link_prefix):
        if ours.match(name) and name not in known:
            yield Finding("link", name, "belongs to no network and no container")


def _folders(root: Root, owners: frozenset[str]) -> Iterator[Finding]:
    for parent in (root.state / "containers", root.run / "containers"):
        for path in _entries(parent):
            if path.name not in owners:
                yield Finding("folder", str(path), "belongs to no container")
    for path in _entries(root.run / "secrets"):
        if path.name not in owners:
            yield Finding("secret", str(path), "belongs to no container")


def _mounts(root: Root) -> Iterator[Finding]:
    """Yield the tmpfs for secrets where nobody has any; other mounts are none of our making."""
    top = root.run / "secrets"
    mounted = [m for m in read_mountinfo() or () if m.mount_point == str(top)]
    if mounted and not _entries(top):
        yield Finding("mount", str(top), "holds no secrets any more")


def _temporary_files(root: Root) -> Iterator[Finding]:
    """Yield half-written files whose writer is dead; those of the living are no concern."""
    for folder in (root.state / "networks", root.state / "projects", root.state / "volumes"):
        for parent, _, names in os.walk(folder):
            if "/data/" in f"{parent}/":
                continue  # what containers call their files is theirs
            for name in names:
                if _TEMPORARY.match(name) and not _writer_lives(name):
                    yield Finding("file", os.path.join(parent, name), "was never finished")


def _writer_lives(name: str) -> bool:
    _, _, number = name.rpartition(".")
    return number.isdigit() and os.path.exists(f"/proc/{number}")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def _nothing(_root: Root, _name: str) -> None:
    return


def _mend_group(root: Root, name: str) -> None:
    hierarchy = Hierarchy.detect()
    group = Cgroup(hierarchy, name)
    group.kill()
    group.delete()
    Cgroup(hierarchy, root.cgroup).delete(nested=False)


def _mend_lease(root: Root, ip: str) -> None:
    for _, lease in network.leases(root):
        if lease.ip == ip and not (root.state / "containers" / lease.container).is_dir():
            network.release(root, lease.container)


def _mend_folder(_root: Root, path: str) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(path)


# In the order in which they are mended.
_MEND: dict[str, Callable[[Root, str], object]] = {
    "supervisor": lambda root, _folder: Supervisor(root).ping(),
    "publication": lambda root, owner: firewall.unpublish(root, owner),
    "cgroup": _mend_group,
    "netns": lambda _root, path: netns.delete(path),
    "lease": _mend_lease,
    "link": lambda _root, name: links.delete(name),
    "secret": lambda root, path: secretfs.remove_folder(root, os.path.basename(path)),
    "mount": lambda _root, point: umount2(point, MNT_DETACH),
    "folder": _mend_folder,
    "file": lambda _root, path: Path(path).unlink(missing_ok=True),
}
