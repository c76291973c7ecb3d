"""The v1 rdma controller; its files are those of v2."""

from runtime.cgroup.v2.rdma import RDMA

__all__ = ["RDMA"]
