"""A world with a supervisor, and small containers for it: busybox on a read-only root."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runtime.cgroup.group import Cgroup
from runtime.cgroup.hierarchy import Hierarchy
from runtime.container.defaults import default_capabilities, default_mounts
from runtime.container.program import compile_enter, compile_program
from runtime.kernel.procfs import read_stat
from runtime.root import Root
from runtime.spec import Process, Resources
from runtime.supervisor import logs
from runtime.supervisor.client import Exec, Supervisor
from runtime.supervisor.request import ExecRequest, LaunchRequest, Logs
from runtime.supervisor.status import Status
from tests.support.box import Box, with_process
from tests.support.waiting import SLOWNESS, wait_until

COUNT = (
    'trap stop=1 TERM; i=0; while [ -z "$stop" ]; do echo $i; '
    "[ $((i % 3)) = 0 ] && echo e$i >&2; [ $((i % 499)) = 0 ] && sleep 0.01; "
    "i=$((i+1)); done; echo end $i; exit 7"
)
"""Writes numbered lines, every third on stderr too, until SIGTERM; then says how many.

In bursts: a machine of two processors shall have time for the rest of the test as well.
"""


class Supervised:
    """One world; close() ends everything and fails if the supervisor ever crashed."""

    def __init__(self, folder: Path) -> None:
        self.root = Root.at(folder)
        self.box = Box(folder / "box")
        self.places = folder / "box/places"
        for name in ("dev", "proc", "sys"):
            (self.places / name).mkdir(parents=True)
        self.client = Supervisor(self.root)

    def close(self) -> None:
        self.client.shutdown(kill=True)
        log = self.root.run / "supervisor.log"
        assert not log.exists(), log.read_text()

    def request(self, id: str, script: str, *, process=None, mounts=(), options=None, **fields):
        """Return what launches a shell *script*; the rest changes process, spec or request."""
        spec = self.box.spec("sh", "-c", script, mounts=(*default_mounts(), *mounts))
        if process:
            spec = with_process(spec, **process)
        program = compile_program(
            spec, layers=(str(self.places), str(self.box.layer)), **(options or {})
        )
        fields.setdefault("logs", Logs(path=str(self.log_folder(id))))
        return LaunchRequest(id=id, program=program.to_json(), **fields)

    def launch(self, id: str, script: str, **fields):
        """Launch a shell *script*."""
        return self.client.launch(self.request(id, script, **fields))

    def enter(self, id: str, *args: str, terminal: bool = False, fds=()) -> Exec:
        """Exec *args* in a container."""
        process = self.process(*args, terminal=terminal)
        program = compile_enter(process).to_json()
        return self.client.exec(ExecRequest(id=id, program=program, terminal=terminal), fds)

    def process(self, *args: str, terminal: bool = False) -> Process:
        return Process(
            args, env=("PATH=/bin",), terminal=terminal, capabilities=default_capabilities(uid=0)
        )

    def log_folder(self, id: str) -> Path:
        return self.root.state / "containers" / id / "log"

    def lines(self, id: str, stream: str = "stdout") -> list[str]:
        """Return what the container has written."""
        found = logs.read(self.log_folder(id))
        return [line.data.decode() for line in found if line.stream == stream]

    def wait_line(self, id: str, text: str, *, timeout_s: float = 10.0) -> None:
        """Wait until the container has written that line."""
        deadline = time.monotonic() + timeout_s * SLOWNESS
        going = lambda: time.monotonic() < deadline  # noqa: E731
        for line in logs.read(self.log_folder(id), follow=True, going=going):
            if line.data.decode() == text:
                return
        raise AssertionError(f"no line {text!r} from {id}: {self.lines(id)}")

    def wait_status(
        self, id: str, wanted: Callable[[Status], bool], *, timeout_s: float = 10.0
    ) -> Status:
        """Wait for an event after which the container is as *wanted*."""
        for event in self.client.events(timeout=timeout_s * SLOWNESS):
            if event.status.id == id and wanted(event.status):
                return event.status
        raise AssertionError

    def kill_supervisor(self) -> int:
        """Kill it with -9; return the pid of its successor, which has adopted everything."""
        pid = self.client.ping()["pid"]
        os.kill(pid, 9)
        return self.wait_successor(pid)

    def wait_successor(self, pid: int) -> int:
        """Wait until another process than *pid* answers."""
        wait_until(lambda: self.client.ping()["pid"] != pid)
        return self.client.ping()["pid"]

    def processes(self, *arguments: str) -> set[int]:
        """Return the processes with exactly these arguments, or else those of our own kind."""
        found = set()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
                ours = str(self.root.run) in command
                if command == [*arguments] if arguments else ours:
                    found.add(int(pid))
        return found

    def zombies(self) -> set[int]:
        """Return the children the supervisor has not collected."""
        pid = self.client.ping()["pid"]
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        found = {int(child): read_stat(child) for child in children}
        return {child for child, stat in found.items() if stat is not None and stat.state == "Z"}

    @contextmanager
    def frozen(self, pid: int) -> Iterator[None]:
        """Freeze a process meanwhile: with cgroup v1 not even SIGKILL ends it."""
        group = Cgroup(Hierarchy.detect(), f"{self.root.cgroup}/frozen")
        group.create(Resources())
        try:
            for path in group.join_files():
                Path(path).write_text(str(pid))
            group.freeze()
            yield
        finally:
            group.thaw()
            group.kill()
            group.delete()
            Cgroup(group.hierarchy, self.root.cgroup).delete(nested=False)

    def check_count(self, id: str) -> None:
        """Check that COUNT's lines are in the log, each once, in order."""
        out, err = self.lines(id), self.lines(id, "stderr")
        last = len(out) - 1
        assert out == [*map(str, range(last)), f"end {last}"]
        assert err == [f"e{i}" for i in range(0, last, 3)]
