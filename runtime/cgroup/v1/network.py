"""The v1 net_cls and net_prio controllers: marks on what the group sends. Made on demand.

v2 has nothing of the kind: there, programs and firewalls match the group itself.

Source: Documentation/admin-guide/cgroup-v1/net_cls.rst, net_prio.rst.
"""

from runtime.cgroup.controller import Controller, write_lines
from runtime.cgroup.setting import Setting
from runtime.spec import NetworkResources, Resources


def class_settings(resources: Resources) -> tuple[Setting, ...]:
    """Return the class, where it is given."""
    number = (resources.network or NetworkResources()).class_id
    if number is None:
        return ()
    return (Setting("network.classID", "net_cls.classid", str(number), default="0"),)


def priority_settings(resources: Resources) -> tuple[Setting, ...]:
    """Return the priorities that are given; the names are those of the host's own interfaces."""
    priorities = (resources.network or NetworkResources()).priorities
    if not priorities:
        return ()
    return (
        Setting(
            field="network.priorities",
            file="net_prio.ifpriomap",
            value="\n".join(f"{each.name} {each.priority}" for each in priorities),
            default="",
            same=lambda expected, actual: set(expected.split("\n")) <= set(actual.split("\n")),
            hint="of interfaces of this host",
        ),
    )


def apply_priorities(folder: str, wanted: tuple[Setting, ...], *, fresh: bool) -> list[Setting]:
    """Write interface by interface what differs; those not given stay."""
    return [s for s in wanted if not write_lines(folder, s, fresh=fresh)]


NET_CLS = Controller(
    name="net_cls",
    settings=class_settings,
    wanted=lambda resources: bool(class_settings(resources)),
)
NET_PRIO = Controller(
    name="net_prio",
    settings=priority_settings,
    wanted=lambda resources: bool(priority_settings(resources)),
    apply=apply_priorities,
)
