"""How the lists and free maps of spec trees are compared: the schemas' ``x-list`` as a table.

Patterns are dotted like paths, with ``*`` for the key of a map entry or list item. Lists that are
not named are atomic: compared and replaced as a whole. Kept here, and not read from the schemas,
because every plan needs it and JSON takes time to load; a test holds the two to the same.
"""

from collections.abc import Mapping

SET: tuple[str, ...] = ()
"""Mark of a list whose items are their own keys."""

_CONTAINER: dict[str, tuple[str, ...]] = {
    "container.groups": SET,
    "container.networks": ("name",),
    "container.networks.*.aliases": SET,
    "container.volumes": ("target",),
    "container.configs": ("target",),
    "container.secrets": ("target",),
    "container.devices": ("target",),
    "container.resources.io.devices": ("path",),
    "container.capabilities.add": SET,
    "container.capabilities.drop": SET,
}

LIST_MARKS: Mapping[str, tuple[str, ...]] = {
    **_CONTAINER,
    "publish": ("ip", "port", "protocol"),
    "host.programs": SET,
    "host.files": SET,
    "debian.packages": SET,
    # Members of effective specs only.
    "backends": ("index",),
    "dependsOn": ("kind", "name"),
}
"""Pattern of a list -> its merge key; no two kinds use one pattern differently."""

FREE_MAPS = frozenset(
    {
        "container.env",
        "container.extraHosts",
        "container.ulimits",
        "container.sysctls",
        "config.env",
        "config.labels",
        "data",
        "metadata.labels",
        "metadata.annotations",
        "inputs",
    }
)
"""Objects whose keys are the user's words, not members of a schema."""


def key_of(item: object, mark: tuple[str, ...]) -> str:
    """Return the merge key of a list item as it stands in a path: ``/data``, ``0.0.0.0:80/tcp``."""
    if not mark:
        return str(item)
    assert isinstance(item, dict)
    if mark == ("ip", "port", "protocol"):
        return f"{item['ip']}:{item['port']}/{item['protocol']}"
    return "/".join(str(item[name]) for name in mark)
