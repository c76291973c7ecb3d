"""An ordinary user, on a host that has one only for as long as a test looks.

A process keeps a mount and a network namespace. In there /etc/passwd and its kin name the user,
/dev/net/tun is everybody's, and tree and Python are where the user can read them. Nothing of the
real host is changed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.cli import Bayplan
from tests.support.host import cannot
from tests.support.testhost import ask_tcp
from tests.support.waiting import wait_until

NAME = "ordinary"
_HOST = """
set -eu
mount --make-rprivate /
ip link set lo up
ip addr add 198.51.100.2/32 dev lo
if [ -n "$4" ]; then
  mount --bind "$4" /mnt
  umount -l -R /sys/fs/cgroup
  mount --move /mnt /sys/fs/cgroup
fi
for file in passwd group subuid subgid; do
  mount --bind "$1/etc/$file" "/etc/$file"
done
mount -t tmpfs -o mode=755 none /dev/net
mknod -m 666 /dev/net/tun c 10 200
mount -t tmpfs -o mode=755 none /mnt
mkdir /mnt/tree /mnt/python
mount --bind "$2" /mnt/tree
mount --bind "$3" /mnt/python
echo ready
exec sleep infinity
"""


def uid() -> int:
    """Return the user's id, which is of this process's own: others may be at it, too."""
    return 61_000 + os.getpid() % 4000


def first_subordinate() -> int:
    """Return the first of the 65536 ids that are granted to the user."""
    return 2_000_000_000 + (os.getpid() % 4000 << 16)


@dataclass(frozen=True)
class Ordinary(Bayplan):
    """Runs ``bayplan ...`` as the user, in the user's default world."""

    keeper: int = 0
    """Pid of who keeps the namespaces of the host."""
    group: Path | None = None
    """The cgroup that is delegated to the user, as the real host sees it."""

    _run = Bayplan._run_process

    @property
    def socket(self) -> Path:
        """Where the holder of the user's namespaces listens."""
        return self.folder / "session" / "bayplan-holder" / "holder.sock"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "XDG_RUNTIME_DIR": str(self.folder / "session"),
            "PYTHONPATH": "/mnt/tree",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    @property
    def command(self) -> list[str]:
        python = f"/mnt/python/{Path(sys.executable).relative_to(sys.prefix)}"
        return [*self.as_user, python, "-c", "from provider.cli.app import main; main()"]

    @property
    def as_user(self) -> list[str]:
        """Words before a command that have the user run it, on that host."""
        namespaces = [f"--mount=/proc/{self.keeper}/ns/mnt", f"--net=/proc/{self.keeper}/ns/net"]
        credentials = [f"--reuid={uid()}", f"--regid={uid()}", "--clear-groups"]
        words = ["nsenter", *namespaces, "--", "setpriv", *credentials, "--"]
        if self.group is None:
            return words
        return ["sh", "-c", f'echo $$ > {self.group}/cgroup.procs; exec "$@"', "sh", *words]

    @property
    def host(self) -> str:
        """The network namespace of the host, as tests.support.testhost takes one."""
        return f"/proc/{self.keeper}/ns/net"

    def ask(self, port: int, *, ip: str = "127.0.0.1") -> str:
        """Return what is said on a port of the host."""
        return ask_tcp(self.host, ip, port)

    def pids(self, needle: str = "") -> dict[int, str]:
        """Return what runs as the user or one of the subordinate ids: command lines by pid."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                owner = os.stat(f"/proc/{pid}").st_uid
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                granted = 0 <= owner - first_subordinate() < 65536
                if (owner == uid() or granted) and needle in words:
                    found[int(pid)] = words
        return found

    def kill(self, needle: str) -> None:
        """Kill the one process with that in its command line, and wait until it is gone."""
        (pid,) = self.pids(needle)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pid not in self.pids(needle))


@contextmanager
def ordinary_user(*, subordinate: bool = True, group: Path | None = None) -> Iterator[Ordinary]:
    """Yield a user, with subordinate ids or without; nothing that runs may be left at the end.

    With *group*, a cgroup of version 2, the host has no other version, and that is the user's.
    """
    if "tun" not in Path("/proc/misc").read_text().split():
        cannot("make a user's network: it has no tun driver")
    if Path("/proc/sys/user/max_user_namespaces").read_text() == "0\n":
        cannot("let ordinary users have user namespaces")
    folder = Path(tempfile.mkdtemp(prefix="bayplan-ordinary-"))
    folder.chmod(0o755)
    for name in ("home", "session"):
        (folder / name).mkdir(mode=0o700)
        os.chown(folder / name, uid(), uid())
    etc = folder / "etc"
    etc.mkdir()
    entries = {
        "passwd": f"{NAME}:x:{uid()}:{uid()}::{folder}/home:/bin/sh\n",
        "group": f"{NAME}:x:{uid()}:\n",
    }
    for name, entry in entries.items():
        (etc / name).write_text(Path("/etc", name).read_text() + entry)
    for name in ("subuid", "subgid"):
        (etc / name).write_text(f"{NAME}:{first_subordinate()}:65536\n" if subordinate else "")
    arguments = (str(folder), os.getcwd(), sys.prefix, str(_cgroup2()) if group else "")
    keeper = subprocess.Popen(
        ["unshare", "--mount", "--net", "sh", "-c", _HOST, "sh", *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    user = Ordinary(folder, keeper.pid, group)
    try:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "ready\n"
        yield user
        wait_until(lambda: not user.pids(), within_s=10)
    finally:
        while left := user.pids():
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        keeper.kill()
        keeper.communicate()
        shutil.rmtree(folder)


@contextmanager
def delegated_group(*below: str) -> Iterator[Path]:
    """Yield a new cgroup of version 2 that is given over to the user, with those *below*."""
    group = _cgroup2() / f"bayplan-ordinary-{os.getpid()}"
    for each in (group, *(group / name for name in below)):
        each.mkdir()
        for file in (each, each / "cgroup.procs", each / "cgroup.subtree_control"):
            os.chown(file, uid(), uid())
    try:
        yield group
    finally:
        for folder, _, _ in os.walk(group, topdown=False):
            wait_until(lambda folder=folder: not Path(folder, "cgroup.procs").read_text())
            os.rmdir(folder)


def _cgroup2() -> Path:
    """Return where the host has its cgroups of version 2."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return Path(next(fields[1] for fields in mounts if fields[2] == "cgroup2"))
