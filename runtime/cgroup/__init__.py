"""Control groups, v1, v2 and hybrid: limits, statistics, membership, freezing and killing.

``Hierarchy`` says where which controller lives on this host, ``Cgroup`` is one group in all the
hierarchies it needs. Each controller has one file per version below ``v1/`` and ``v2/``; there
``settings`` is pure (what the files should hold) and ``apply`` writes.

No group is ever touched whose name does not begin with ours.
"""

from runtime.cgroup.group import Cgroup, list_groups
from runtime.cgroup.hierarchy import Hierarchy, Place
from runtime.cgroup.setting import Deviation, Setting
from runtime.cgroup.stats import Stats

__all__ = ["Cgroup", "Deviation", "Hierarchy", "Place", "Setting", "Stats", "list_groups"]
