"""All controllers of v1 by name."""

from runtime.cgroup.controller import Controller
from runtime.cgroup.v1.blkio import BLKIO
from runtime.cgroup.v1.cpu import CPU, CPUACCT
from runtime.cgroup.v1.cpuset import CPUSET
from runtime.cgroup.v1.devices import DEVICES
from runtime.cgroup.v1.hugetlb import HUGETLB
from runtime.cgroup.v1.memory import MEMORY
from runtime.cgroup.v1.network import NET_CLS, NET_PRIO
from runtime.cgroup.v1.pids import PIDS
from runtime.cgroup.v1.rdma import RDMA

# What it does is in `core`; it has no limits.
_FREEZER = Controller(name="freezer", settings=lambda _: (), wanted=lambda _: False)
_EVERYWHERE = (MEMORY, CPU, CPUACCT, PIDS, _FREEZER)
_ON_DEMAND = (CPUSET, DEVICES, BLKIO, HUGETLB, RDMA, NET_CLS, NET_PRIO)
CONTROLLERS = {c.name: c for c in (*_EVERYWHERE, *_ON_DEMAND)}
