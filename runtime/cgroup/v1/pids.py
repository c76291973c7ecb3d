"""The v1 pids controller; its files are those of v2.

Source: Documentation/admin-guide/cgroup-v1/pids.rst.
"""

from runtime.cgroup.v2.pids import PIDS

__all__ = ["PIDS"]
