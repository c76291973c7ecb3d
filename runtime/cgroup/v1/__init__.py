"""Controllers of cgroup v1, each on a mount of its own or together with others."""

from runtime.cgroup.v1.blkio import BLKIO
from runtime.cgroup.v1.cpu import CPU, CPUACCT
from runtime.cgroup.v1.cpuset import CPUSET
from runtime.cgroup.v1.devices import DEVICES
from runtime.cgroup.v1.freezer import FREEZER
from runtime.cgroup.v1.memory import MEMORY
from runtime.cgroup.v1.pids import PIDS

CONTROLLERS = {c.name: c for c in (MEMORY, CPU, CPUACCT, PIDS, FREEZER, CPUSET, DEVICES, BLKIO)}

__all__ = ["CONTROLLERS"]
