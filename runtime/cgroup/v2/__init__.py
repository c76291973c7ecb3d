"""Controllers of cgroup v2, all in one hierarchy."""

from runtime.cgroup.v2.cpu import CPU
from runtime.cgroup.v2.cpuset import CPUSET
from runtime.cgroup.v2.devices import DEVICES
from runtime.cgroup.v2.hugetlb import HUGETLB
from runtime.cgroup.v2.io import IO
from runtime.cgroup.v2.memory import MEMORY
from runtime.cgroup.v2.pids import PIDS
from runtime.cgroup.v2.rdma import RDMA

CONTROLLERS = {c.name: c for c in (MEMORY, CPU, PIDS, IO, CPUSET, DEVICES, HUGETLB, RDMA)}

__all__ = ["CONTROLLERS"]
