"""Controllers of cgroup v1, each on a mount of its own or together with others."""

from runtime.cgroup.v1.blkio import BLKIO
from runtime.cgroup.v1.cpu import CPU, CPUACCT
from runtime.cgroup.v1.cpuset import CPUSET
from runtime.cgroup.v1.devices import DEVICES
from runtime.cgroup.v1.freezer import FREEZER
from runtime.cgroup.v1.hugetlb import HUGETLB
from runtime.cgroup.v1.memory import MEMORY
from runtime.cgroup.v1.network import NET_CLS, NET_PRIO
from runtime.cgroup.v1.pids import PIDS
from runtime.cgroup.v1.rdma import RDMA

_EVERYWHERE = (MEMORY, CPU, CPUACCT, PIDS, FREEZER)
_ON_DEMAND = (CPUSET, DEVICES, BLKIO, HUGETLB, RDMA, NET_CLS, NET_PRIO)
CONTROLLERS = {c.name: c for c in (*_EVERYWHERE, *_ON_DEMAND)}

__all__ = ["CONTROLLERS"]
