"""How many descriptors a world's keeper and supervisor may have: as many as the host lets them.

They hold some for each container. What the limit was before goes from one to the next in the
environment, which nothing else of theirs inherits: it is what containers get.
"""

import os
import resource

from runtime.kernel import mask
from runtime.rootless import variable

_VARIABLE = "BAYPLAN_HOST_NOFILE"


def _host_nofile() -> tuple[int, int]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return int(os.environ.get(_VARIABLE, soft)), hard


HOST_NOFILE = _host_nofile()
"""Soft and hard limit, before any of ours was raised."""


def raise_own_limits() -> None:
    """Let this process have as many descriptors as it may; its containers get what it had."""
    _soft, hard = HOST_NOFILE
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def environment() -> dict[str, str]:
    """Return the environment of a process of ours that this one starts, or becomes."""
    return {_VARIABLE: str(HOST_NOFILE[0]), **mask.environment(), **variable.environment()}
