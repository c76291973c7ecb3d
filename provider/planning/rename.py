"""``metadata.formerName``: records read as if their resources had always had the new name. Pure.

Without this, everything that refers to a renamed network or image would look changed and be
replaced. With it, a new name is one live change at each place that says it.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from provider.model.ids import InstanceId, Kind, ResourceId
from provider.model.resource import Observed, Resource
from provider.model.tree import Tree, item, join
from provider.planning.marks import LIST_MARKS, key_of

_REFERRING_LISTS = (
    ("networks", Kind.NETWORK, "name"),
    ("volumes", Kind.VOLUME, "volume"),
    ("configs", Kind.CONFIG, "name"),
    ("secrets", Kind.SECRET, "name"),
)

Renames = Mapping[ResourceId, ResourceId]


class Renaming(NamedTuple):
    """One place that says a former name."""

    path: str
    """In the tree after renaming."""
    before: str
    after: str


def find_renames(wanted: Iterable[Resource], recorded: Iterable[InstanceId]) -> Renames:
    """Return former identity -> identity, where only the former one is recorded."""
    known = {instance.resource for instance in recorded}
    renames = {}
    for resource in wanted:
        if not resource.former_name or resource.id in known:
            continue
        former = ResourceId(resource.id.project, resource.id.kind, resource.former_name)
        if former in known:
            renames[former] = resource.id
    return renames


def new_instance(instance: InstanceId, renames: Renames) -> InstanceId:
    """Return the identity under the new name; the same if it was not renamed."""
    resource = renames.get(instance.resource, instance.resource)
    return InstanceId(resource, instance.host, instance.index)


def renamed_tree(observed: Observed, renames: Renames) -> tuple[Tree, tuple[Renaming, ...]]:
    """Return the recorded tree with new names in it, and where they stand."""
    tree = dict(observed.effective or {})
    project = observed.id.resource.project
    found: list[Renaming] = []

    def swap(use: Tree, kind: Kind, member: str, path: str, mark: tuple[str, ...] = ()) -> Tree:
        former = use.get(member)
        new = renames.get(ResourceId(project, kind, former)) if former else None
        if new is None or use.get("project"):
            return use
        changed = use | {member: new.name}
        place = item(path, key_of(changed, mark)) if mark else path
        found.append(Renaming(f"{place}.{member}", former or "", new.name))
        return changed

    tree["dependsOn"] = [
        swap(edge, Kind(edge["kind"]), "name", "dependsOn", LIST_MARKS["dependsOn"])
        for edge in tree["dependsOn"]
    ]
    if "container" in tree:
        container: Tree = tree["container"]
        tree["container"] = container | {
            "image": swap(container["image"], Kind.IMAGE, "name", "container.image"),
            "env": {
                name: swap(value, Kind.SECRET, "secret", join("container.env", name))
                if isinstance(value, dict)
                else value
                for name, value in container["env"].items()
            },
            **{
                member: [
                    swap(use, kind, name, f"container.{member}", LIST_MARKS[f"container.{member}"])
                    for use in container[member]
                ]
                for member, kind, name in _REFERRING_LISTS
            },
        }
    return tree, tuple(found)
