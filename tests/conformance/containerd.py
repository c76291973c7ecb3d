"""A containerd of its own, by ``ctr run --runtime io.containerd.runc.v2 --runc-binary``."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conformance.checks import Engine, Unexpected, run_checks
from tests.conformance.outcome import Outcomes
from tests.conformance.podman import write_image
from tests.support.calling import call

NAME = "containerd --runc-binary"
PEER = "runc"
FEWEST = 8


def fetch() -> None:
    """Have nothing: containerd is installed."""


def outcomes(runtime: str, scratch: Path) -> Outcomes:
    """Run all cases."""
    archive, _changes = write_image(scratch)
    (scratch / "root").mkdir()
    call("tar", "--extract", "--file", str(archive), "--directory", str(scratch / "root"))
    with _daemon(scratch) as address:
        env = os.environ | {"TRIED": runtime, "ROOT": str(scratch / "root")}
        return run_checks(Engine(["ctr", "-a", address], env, scratch), _CASES)


@contextmanager
def _daemon(scratch: Path) -> Iterator[str]:
    """Yield the address of a containerd."""
    address = f"{scratch}/containerd.sock"
    conf = scratch / "config.toml"
    conf.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    words = ["containerd", "--config", str(conf), "--root", f"{scratch}/data"]
    words += ["--state", f"{scratch}/state", "--address", address]
    with (scratch / "log").open("wb") as log:
        daemon = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        Engine(["ctr", "-a", address], dict(os.environ), scratch).becomes(".*", "version")
        yield address
    finally:
        daemon.terminate()
        daemon.wait(60)


def _run(engine: Engine, name: str, *command: str, options: tuple[str, ...] = ()) -> list[str]:
    """Return how a container is made of the folder with the root; ctr gives it no PATH."""
    how: tuple[str, ...]
    how = ("--runtime", "io.containerd.runc.v2", "--runc-binary", engine.env["TRIED"])
    how += ("--env", "PATH=/bin:/usr/bin")
    return ["run", *how, *options, "--rootfs", engine.env["ROOT"], name, *command]


def run(engine: Engine) -> None:
    engine.says("hello", *_run(engine, "a", "echo", "hello", options=("--rm",)))


def exit_codes(engine: Engine) -> None:
    engine.call(*_run(engine, "b", "sh", "-c", "exit 7", options=("--rm",)), code=7)
    script = "sh -c 'kill -9 $$'; exit $?"
    engine.call(*_run(engine, "c", "sh", "-c", script, options=("--rm",)), code=137)
    engine.call(*_run(engine, "d", "/no/such/program", options=("--rm",)), code=1)


def limits(engine: Engine) -> None:
    options = ("--rm", "--memory-limit", "33554432", "--env", "A=b")
    words = ("sh", "-c", "echo $A; cat /proc/self/cgroup")
    engine.says("b.*", *_run(engine, "e", *words, options=options))


def detached(engine: Engine) -> None:
    script = "trap exit TERM; while :; do sleep 0.1; done"
    engine.call(*_run(engine, "f", "sh", "-c", script, options=("-d",)))
    engine.says(r".*\bf\s+\d+\s+RUNNING.*", "task", "ls")


def execute(engine: Engine) -> None:
    engine.says("inside", "task", "exec", "--exec-id", "x", "f", "echo", "inside")
    engine.call("task", "exec", "--exec-id", "y", "f", "sh", "-c", "exit 9", code=9)


def ps_and_metrics(engine: Engine) -> None:
    engine.says(r"PID.*\d+.*", "task", "ps", "f")
    engine.says(r".*pids.current.*", "task", "metrics", "f")


def pause(engine: Engine) -> None:
    engine.call("task", "pause", "f")
    engine.says(r".*\bf\s+\d+\s+PAUSED.*", "task", "ls")
    engine.call("task", "resume", "f")
    engine.says(r".*\bf\s+\d+\s+RUNNING.*", "task", "ls")


def kill(engine: Engine) -> None:
    engine.call("task", "kill", "-s", "SIGTERM", "f")
    engine.becomes(r".*\bf\s+\d+\s+STOPPED.*", "task", "ls")
    engine.call("task", "delete", "f")
    engine.call("container", "delete", "f")
    if "f" in engine.call("container", "ls", "-q").split():
        raise Unexpected("the container is still there")


_CASES = (run, exit_codes, limits, detached, execute, ps_and_metrics, pause, kill)
"""In this order: from `detached` on they are about one container."""
