"""The engines that are compared, each behind the same few calls."""

# ruff: noqa: D102 - what overrides a method does what that one's docstring says

import json
import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import timed
from tests.support.calling import call

IMAGE = "localhost/bench"
SLEEP = ["sleep", "1000000"]
MEMORY = "64m"


class Engine(ABC):
    """One container engine with a world of its own below *folder*."""

    name: str
    beside: tuple[bytes, ...]
    """Words in the command line of the processes that it keeps beside containers."""
    rotation: tuple[str, ...]
    """Options of `run` with which logs are kept in files of 10 MiB."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / self.name
        self.folder.mkdir()

    @abstractmethod
    def load(self, archive: Path) -> None:
        """Make the image from *archive*, a tar of its root."""

    @abstractmethod
    def run(self, name: str, *options: str) -> list[str]:
        """Return the command that starts a detached container with network and limits."""

    @abstractmethod
    def remove(self, *names: str) -> list[str]:
        """Return the command that kills and removes containers."""

    @abstractmethod
    def execute(self, name: str, *command: str) -> list[str]:
        """Return the command that runs *command* in a container."""

    @abstractmethod
    def wait(self, name: str) -> list[str]:
        """Return the command that waits for a container's end."""

    @abstractmethod
    def up(self, count: int) -> float:
        """Start *count* containers on one network, the fastest way it has; return seconds."""

    @abstractmethod
    def again(self, count: int) -> float:
        """Do the same once more, or what comes nearest to it; return seconds."""

    @abstractmethod
    def down(self, count: int) -> float:
        """Remove them all; return seconds."""

    def close(self) -> None:  # noqa: B027 - few have something to do
        """End what the engine keeps running."""


class Bayplan(Engine):
    """This checkout."""

    name = "bayplan"
    beside = (b"runtime.supervisor", b"runtime.network")
    rotation = ()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        program = str(Path(sys.executable).parent / "bayplan")
        self._cli = [program, "--root", str(self.folder / "world")]
        self._manifest = self.folder / "bench.yaml"

    def load(self, archive: Path) -> None:
        assert archive  # the same busybox, from the host
        self._apply(0)

    def run(self, name: str, *options: str) -> list[str]:
        return [*self._cli, "run", "-d", "-m", "64Mi", "--name", name, *options, "bench/box"]

    def remove(self, *names: str) -> list[str]:
        return [*self._cli, "rm", "-f", *names]

    def execute(self, name: str, *command: str) -> list[str]:
        return [*self._cli, "exec", name, *command]

    def wait(self, name: str) -> list[str]:
        return [*self._cli, "wait", name]

    def up(self, count: int) -> float:
        return self._apply(count)

    def again(self, count: int) -> float:
        return self._apply(count)

    def down(self, count: int) -> float:
        assert count
        return self._apply(0)

    def close(self) -> None:
        call(*self._cli, "delete", "-p", "bench", "--delete-volumes")

    def _apply(self, count: int) -> float:
        self._manifest.write_text(manifest(count))
        return timed([*self._cli, "apply", "-f", str(self._manifest), "--allow-prune"])


class Podman(Engine):
    """Podman with crun, each container by a command of its own: it has nothing faster."""

    name = "podman"
    beside = (b"conmon",)
    rotation = ("--log-driver", "k8s-file", "--log-opt", "max-size=10mb")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        # The default limits are more than root may set on some hosts.
        conf = self.folder / "containers.conf"
        conf.write_text('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n')
        os.environ["CONTAINERS_CONF"] = str(conf)
        state, run = self.folder / "state", self.folder / "run"
        place = ["--root", str(state), "--runroot", str(run), "--tmpdir", str(run / "tmp")]
        how = ["--runtime", "crun", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]
        self._cli = ["podman", *place, *how]

    def load(self, archive: Path) -> None:
        call(*self._cli, "import", "-q", str(archive), IMAGE)

    def run(self, name: str, *options: str) -> list[str]:
        limits = ["--ulimit", "host", "-m", MEMORY]
        return [*self._cli, "run", "-d", *limits, "--name", name, *options, IMAGE]

    def remove(self, *names: str) -> list[str]:
        return [*self._cli, "rm", "-f", "-t", "0", *names]

    def execute(self, name: str, *command: str) -> list[str]:
        return [*self._cli, "exec", name, *command]

    def wait(self, name: str) -> list[str]:
        return [*self._cli, "wait", name]

    def up(self, count: int) -> float:
        return sum(timed([*self.run(f"c{number}"), *SLEEP]) for number in range(count))

    def again(self, count: int) -> float:
        assert count
        return timed([*self._cli, "ps", "-a"])

    def down(self, count: int) -> float:
        return timed(self.remove(*(f"c{number}" for number in range(count))))


class Docker(Engine):
    """Docker with runc, and docker-compose for many."""

    name = "docker"
    beside = (b"dockerd", b"containerd", b"docker-proxy")
    rotation = ("--log-opt", "max-size=10m", "--log-opt", "max-file=3")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        socket = self.folder / "docker.sock"
        os.environ["DOCKER_HOST"] = f"unix://{socket}"
        place = ["--data-root", str(self.folder / "data"), "--exec-root", str(self.folder / "run")]
        how = ["--pidfile", str(self.folder / "pid"), "-H", os.environ["DOCKER_HOST"]]
        with (self.folder / "log").open("wb") as log:
            self._daemon = subprocess.Popen(["dockerd", *place, *how], stdout=log, stderr=log)
        self._cli = ["/usr/bin/docker"]
        self._project = self.folder / "project"
        self._project.mkdir()
        for _ in range(100):
            if not subprocess.run(
                [*self._cli, "info"], capture_output=True, check=False
            ).returncode:
                return
            time.sleep(0.1)
        raise SystemExit(f"dockerd does not answer: {(self.folder / 'log').read_text()[-2000:]}")

    def load(self, archive: Path) -> None:
        call(*self._cli, "import", str(archive), IMAGE)

    def run(self, name: str, *options: str) -> list[str]:
        return [*self._cli, "run", "-d", "-m", MEMORY, "--name", name, *options, IMAGE]

    def remove(self, *names: str) -> list[str]:
        return [*self._cli, "rm", "-f", *names]

    def execute(self, name: str, *command: str) -> list[str]:
        return [*self._cli, "exec", name, *command]

    def wait(self, name: str) -> list[str]:
        return [*self._cli, "wait", name]

    def up(self, count: int) -> float:
        service = {"image": IMAGE, "command": SLEEP, "mem_limit": MEMORY, "stop_signal": "SIGKILL"}
        services = {f"c{number}": service for number in range(count)}
        compose = {"version": "2.4", "services": services}
        (self._project / "docker-compose.yml").write_text(json.dumps(compose))
        return timed(self._compose("up", "-d"))

    def again(self, count: int) -> float:
        assert count
        return timed(self._compose("up", "-d"))

    def down(self, count: int) -> float:
        assert count
        return timed(self._compose("down", "-t", "0"))

    def close(self) -> None:
        self._daemon.terminate()
        self._daemon.wait(60)

    def _compose(self, *words: str) -> list[str]:
        return ["docker-compose", "--project-directory", str(self._project), "-f",
                str(self._project / "docker-compose.yml"), *words]  # fmt: skip


@contextmanager
def removed(command: list[str]) -> Iterator[None]:
    """Run *command* afterwards."""
    try:
        yield
    finally:
        call(*command)


def manifest(count: int) -> str:
    """Return *count* sleeping containers on one network, and an image of the same busybox."""
    head = "\n---\napiVersion: bayplan/v1alpha1\n"
    text = f"{head}kind: Project\nmetadata: {{name: bench}}\n"
    text += f"{head}kind: Image\nmetadata: {{name: box}}\n"
    text += "spec: {host: {programs: [/bin/busybox]}}\n"
    text += f"{head}kind: Network\nmetadata: {{name: net}}\nspec: {{}}\n"
    for number in range(count):
        text += (
            f"{head}kind: Container\nmetadata: {{name: c{number}}}\nspec: {{container: {{"
            f"image: box, command: {json.dumps(SLEEP)}, stopSignal: SIGKILL, networks: [net], "
            "resources: {memory: 64Mi}}, update: {healthyFor: 0s}}\n"
        )
    return text
