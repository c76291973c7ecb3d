"""Groups in the real hierarchies of this host, and real members of them."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from runtime.cgroup.group import Cgroup, list_groups
from runtime.cgroup.hierarchy import Hierarchy
from runtime.root import Root
from runtime.spec import Cpu, Memory, Pids, Resources

HOST = Hierarchy.detect()
MIB = 1 << 20
LIMITS = Resources(
    memory=Memory(limit=64 * MIB, reservation=32 * MIB, swap=96 * MIB),
    cpu=Cpu(shares=512, quota=50_000),
    pids=Pids(100),
)

# Joins, says so, then does what argv says and waits for the end of its input.
MEMBER = """
import os, sys
for path in sys.argv[2].split():
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b"0")
    os.close(fd)
exec(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""

Member = subprocess.Popen[str]


@contextlib.contextmanager
def group_of(world: Path) -> Iterator[Cgroup]:
    """Yield a group of this world, not made yet; all there are of the world go at the end."""
    parent = Root.at(world).cgroup
    group = Cgroup(HOST, f"{parent}/box")
    yield group
    for name in list_groups(HOST, parent):
        Cgroup(HOST, f"{parent}/{name}").kill()
    Cgroup(HOST, parent).delete()


@contextlib.contextmanager
def member(group: Cgroup, action: str = "") -> Iterator[Member]:
    argv = [sys.executable, "-ISc", MEMBER, action, " ".join(group.join_files())]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as child:
        try:
            assert child.stdout is not None
            line = child.stdout.readline()
            assert line == "ready\n", line + (child.stderr.read() if child.stderr else "")
            yield child
        finally:
            child.kill()


def folder(group: Cgroup, controller: str) -> Path:
    return Path(group.hierarchy.places[controller].folder) / group.name
