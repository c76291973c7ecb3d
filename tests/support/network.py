"""The network that tests run in: the machine's, or one of a worker's own.

With a network of its own each, workers may publish the same ports, and what one test does to
links, nft tables and sysctls meets no test of another worker.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.kernel.namespaces import CLONE_NEWNET, setns, unshare

_machine: int | None = None
"""The network namespace that this process has left."""


def own_network() -> None:
    """Move this process into a network of its own, which leads nowhere."""
    global _machine
    _machine = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    unshare(CLONE_NEWNET)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@contextmanager
def of_machine() -> Iterator[None]:
    """Be in the machine's network meanwhile, if this process is in one of its own."""
    if _machine is None:
        yield
        return
    here = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    setns(_machine, CLONE_NEWNET)
    try:
        yield
    finally:
        setns(here, CLONE_NEWNET)
        os.close(here)
