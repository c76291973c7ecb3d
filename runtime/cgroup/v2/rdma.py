"""The rdma controller: handles and objects on InfiniBand devices. Made on demand.

Source: Documentation/admin-guide/cgroup-v2.rst, RDMA.
"""

from runtime.cgroup.controller import Controller, write_lines
from runtime.cgroup.setting import Setting
from runtime.spec import Rdma, Resources


def settings(resources: Resources) -> tuple[Setting, ...]:
    """Return the one file, a line a device that is given."""
    lines = [f"{device} {_words(limits)}" for device, limits in sorted(resources.rdma.items())]
    if not lines:
        return ()
    hint = "of devices of this host, see /sys/class/infiniband"
    return (Setting("rdma", "rdma.max", "\n".join(lines), default="", same=_holds, hint=hint),)


def _words(limits: Rdma) -> str:
    given = {"hca_handle": limits.hca_handles, "hca_object": limits.hca_objects}
    return " ".join(f"{name}={value}" for name, value in given.items() if value is not None)


def _holds(expected: str, actual: str) -> bool:
    """Compare what is given only; a file has a line for each device of the host."""
    found = {line.split(" ")[0]: line.split(" ")[1:] for line in actual.split("\n")}
    wanted = (line.split(" ") for line in expected.split("\n"))
    return all(set(words).issubset(found.get(device, ())) for device, *words in wanted)


def apply(folder: str, wanted: tuple[Setting, ...], *, fresh: bool) -> list[Setting]:
    """Write device by device what differs."""
    return [s for s in wanted if not write_lines(folder, s, fresh=fresh)]


RDMA = Controller(
    name="rdma",
    settings=settings,
    wanted=lambda resources: bool(resources.rdma),
    apply=apply,
)
