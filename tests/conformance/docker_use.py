"""What people do with docker, under a dockerd of its own with ``--add-runtime``."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conformance import docker_like
from tests.conformance.checks import Engine, run_checks
from tests.conformance.outcome import Outcomes
from tests.conformance.podman import IMAGE, write_image
from tests.support.calling import call

NAME = "dockerd --add-runtime"
PEER = "runc"
FEWEST = 18


def fetch() -> None:
    """Have nothing: docker is installed."""


def outcomes(runtime: str, scratch: Path) -> Outcomes:
    """Run all cases."""
    archive, changes = write_image(scratch)
    with _daemon(runtime, scratch) as address:
        call("docker", "-H", address, "import", *changes, str(archive), IMAGE)
        engine = Engine(["docker", "-H", address], dict(os.environ), scratch)
        return run_checks(engine, docker_like.CASES)


@contextmanager
def _daemon(runtime: str, scratch: Path) -> Iterator[str]:
    """Yield the address of a dockerd whose containers have *runtime*."""
    address = f"unix://{scratch}/docker.sock"
    words = ["dockerd", "-H", address, "--data-root", f"{scratch}/data"]
    words += ["--exec-root", f"{scratch}/exec", "--pidfile", f"{scratch}/pid"]
    words += ["--add-runtime", f"tried={runtime}", "--default-runtime", "tried"]
    with (scratch / "log").open("wb") as log:
        daemon = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        Engine(["docker", "-H", address], dict(os.environ), scratch).becomes(".*", "info")
        yield address
    finally:
        daemon.terminate()
        daemon.wait(60)
