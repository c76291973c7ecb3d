"""Where suites run: namespaces and cgroups of their own, so that nothing of them outlives a run.

Outside (`run_inside`) waits, then thaws, kills and removes what is left; inside (`prepare`) sees
itself as the root of every cgroup hierarchy. Where version 1 has the controllers a version 2
hierarchy beside it is not shown: crun refuses hybrid hosts.

Source: cgroup_namespaces(7), pid_namespaces(7).
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.calling import call

_CGROUPS = Path("/sys/fs/cgroup")
_ENDING_S = 30.0
_FIRST_PID = 20_000


def run_inside(words: list[str]) -> int:
    """Run a command as the first process of a stage, and return its exit code."""
    unshare = ["unshare", "--mount", "--propagation", "private", "--net", "--ipc", "--uts"]
    unshare += ["--cgroup", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
    with _own_groups() as groups:

        def join() -> None:
            for group in groups:
                (group / "cgroup.procs").write_text("0")

        with subprocess.Popen([*unshare, *words], preexec_fn=join) as process:
            return process.wait()


def as_first_process(main: Callable[[], int]) -> int:
    """Return what *main* does in a child, while orphans of others are collected as an init does."""
    child = os.fork()
    if not child:
        code = 1
        try:
            code = main()
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(code)
    while True:
        pid, status = os.wait()
        if pid == child:
            # All end with us, and the kernel waits for them: also for what stands still.
            for state in _CGROUPS.glob("freezer/**/freezer.state"):
                if state.parent.name != "freezer":
                    state.write_text("THAWED")
            return os.waitstatus_to_exitcode(status)


def prepare() -> None:
    """Bring up loopback, and show the hierarchies from our groups on."""
    call("ip", "link", "set", "lo", "up")
    _own_devices()
    # Engines lock, name and find things in there.
    call("mount", "-t", "tmpfs", "-o", "mode=755", "run", "/run")
    # Some tests take a pid file's five digits for granted.
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(_FIRST_PID))
    mounts = list(_hierarchies())
    is_v1 = any(name != "unified" for name, _ in mounts)
    with tempfile.TemporaryDirectory(prefix="bayplan-conformance-") as place:
        if not is_v1:
            call("mount", "-t", "cgroup2", "cgroup2", place)
        else:
            call("mount", "-t", "tmpfs", "-o", "mode=755", "cgroup", place)
            for name, options in mounts:
                if name != "unified":
                    (Path(place) / name).mkdir()
                    call("mount", "-t", "cgroup", "-o", options, "cgroup", f"{place}/{name}")
        call("umount", "--recursive", str(_CGROUPS))
        call("mount", "--move", place, str(_CGROUPS))


def _own_devices() -> None:
    """Mount copies of the host's devices: suites bind /dev into containers, writable."""
    with tempfile.TemporaryDirectory(prefix="bayplan-conformance-") as place:
        call("mount", "-t", "tmpfs", "-o", "mode=755", "devices", place)
        call("cp", "--archive", "--one-file-system", "/dev/.", place)
        (Path(place) / "ptmx").unlink(missing_ok=True)
        (Path(place) / "ptmx").symlink_to("pts/ptmx")
        options = "newinstance,ptmxmode=0666,mode=0620,gid=5"
        call("mount", "-t", "devpts", "-o", options, "devpts", f"{place}/pts")
        call("mount", "-t", "tmpfs", "-o", "mode=1777", "shm", f"{place}/shm")
        call("mount", "--move", place, "/dev")


@contextmanager
def _own_groups() -> Iterator[list[Path]]:
    name = f"bayplan-conformance-{os.getpid()}"
    mounts = [_CGROUPS / place for place, _ in _hierarchies()] or [_CGROUPS]
    groups = [mount / name for mount in mounts]
    for group in groups:
        group.mkdir()
        for file in ("cpuset.cpus", "cpuset.mems"):
            if (group.parent / file).exists():
                (group / file).write_text((group.parent / file).read_text())
    try:
        yield groups
    finally:
        deadline = time.monotonic() + _ENDING_S
        for group in groups:
            while not _removed(group):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{group} cannot be removed")
                time.sleep(0.1)


def _hierarchies() -> Iterator[tuple[str, str]]:
    """Yield the folder of each hierarchy below /sys/fs/cgroup, and what it is mounted with."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        target = Path(fields.split()[4])
        if kind.startswith("cgroup") and target.parent == _CGROUPS:
            words = kind.split()[2].split(",")
            yield target.name, ",".join(word for word in words if word not in ("rw", "ro"))


def _removed(group: Path) -> bool:
    """Thaw, kill and remove as much of a cgroup as there is; tell whether all is gone."""
    for folder, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            freezer = Path(folder) / "freezer.state"
            if freezer.exists():
                freezer.write_text("THAWED")
            for pid in (Path(folder) / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            os.rmdir(folder)
    return not group.exists()
