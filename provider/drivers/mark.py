"""The mark that every object we make carries: whose it is.

Identity travels as five strings, in the words of reports, so that the runtime can keep it
without knowing what it means.
"""

from collections.abc import Mapping

from provider.model.ids import InstanceId, Kind, ResourceId


def mark_of(instance: InstanceId) -> dict[str, str]:
    """Return the mark for objects of *instance*."""
    return {
        "project": instance.resource.project,
        "kind": str(instance.resource.kind),
        "name": instance.resource.name,
        "host": instance.host,
        "index": str(instance.index),
    }


def instance_of(mark: Mapping[str, str]) -> InstanceId | None:
    """Return whose object it is; None for one without a mark (``bayplan run``)."""
    if "project" not in mark:
        return None
    resource = ResourceId(mark["project"], Kind(mark["kind"]), mark["name"])
    return InstanceId(resource, mark["host"], int(mark["index"]))
