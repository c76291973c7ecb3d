"""What is mounted in a container, and where: what cannot stand together. Pure."""

from collections.abc import Iterator

from provider.errors import Problem
from provider.manifest.draft import Draft
from provider.manifest.gap import sound
from provider.model.tree import Tree, item

_KERNEL = ("/proc", "/sys")
_NEEDED = frozenset({"/proc", "/sys", "/sys/fs"})
"""A container cannot be started without what these hold."""


def mount_problems(draft: Draft, container: Tree) -> Iterator[Problem]:
    """Yield targets that are taken, or that nothing can be put at."""
    first: dict[str, str] = {}
    for member in ("volumes", "configs", "secrets", "devices"):
        for mount in _items(container, member):
            target = mount["target"]
            path = item(f"container.{member}", target)
            fault = _unusable(member, target)
            if fault:
                yield draft.problem(f"{path}.target", fault)
            elif target in first:
                origin = draft.origin_of(first[target])
                where = f" ({origin})" if origin else ""
                what = "device" if first[target].startswith("container.devices") else "mount"
                yield draft.problem(f"{path}.target", f"{target} is a {what} already{where}")
            first.setdefault(target, path)


def _items(container: Tree, member: str) -> Iterator[Tree]:
    """Yield the items of a list as far as they are known; their merge keys always are."""

    def known() -> Iterator[Tree]:
        yield from container[member]

    return sound(known())


def _unusable(member: str, target: str) -> str:
    if target == "/":
        return "nothing can be mounted over the root"
    if target in _NEEDED:
        return f"{target} is the kernel's; nothing can be mounted over all of it"
    if member == "devices" and target.startswith(tuple(f"{folder}/" for folder in _KERNEL)):
        return f"no device can be made at {target}, which is the kernel's"
    return ""
