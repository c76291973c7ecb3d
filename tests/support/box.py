"""A small container to launch in tests: busybox over overlay, below a test's world folder."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.container.defaults import (
    MASKED_PATHS,
    READONLY_PATHS,
    default_capabilities,
    default_mounts,
    default_namespaces,
)
from runtime.container.program import compile_enter, compile_program
from runtime.kernel.program import Program
from runtime.spec import Linux, Process, Spec
from runtime.supervisor.interpreter import enter, launch
from runtime.supervisor.launch import Launched

APPLETS = (
    *("sh", "cat", "id", "hostname", "ls", "sleep", "ps", "true", "grep", "touch", "tty", "kill"),
    *("echo", "mount", "head", "wc", "readlink", "stat", "mkdir", "dd", "ping", "stty", "trap"),
)


@dataclass(frozen=True)
class Result:
    """What one run left."""

    code: int
    out: str
    warnings: tuple[str, ...] = ()


class Box:
    """Builds specs and runs them, each over a fresh upper folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.layer = folder / "layer"
        self.upper = folder / "upper"
        for name in ("bin", "etc", "tmp"):
            (self.layer / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", self.layer / "bin/busybox")
        for applet in APPLETS:
            (self.layer / "bin" / applet).symlink_to("busybox")

    def spec(self, *args: str, user=None, linux=None, process=None, **changes) -> Spec:
        """Return a spec with the defaults of a container; the rest replaces members of it."""
        uid = user.uid if user else 0
        base = Process(
            args, env=("PATH=/bin",), capabilities=default_capabilities(uid=uid), **(process or {})
        )
        if user:
            base = dataclasses.replace(base, user=user)
        return Spec(
            **{
                "process": base,
                "hostname": "box",
                "mounts": default_mounts(),
                "linux": dataclasses.replace(
                    Linux(
                        namespaces=default_namespaces(),
                        masked_paths=MASKED_PATHS,
                        readonly_paths=READONLY_PATHS,
                    ),
                    **(linux or {}),
                ),
                **changes,
            }
        )

    def compile(self, spec: Spec, **options) -> Program:
        """Return the program of *spec* over this box's layer and a fresh upper folder."""
        for name in ("upper", "work", "empty"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir()
        return compile_program(
            spec,
            **{
                "layers": (str(self.folder / "empty"), str(self.layer)),
                "upper": str(self.upper),
                "work": str(self.folder / "work"),
                "volatile": True,
                **options,
            },
        )

    def run(self, spec: Spec, **options) -> Result:
        """Run *spec* to its end; its stdout and stderr are one text."""
        return run_program(self.compile(spec, **options))

    def sh(self, script: str, **changes) -> Result:
        """Run a shell script in a default container."""
        return self.run(self.spec("sh", "-c", script, **changes))

    def status(self, spec: Spec, **options) -> dict[str, str]:
        """Run *spec*, which prints its /proc/self/status, and return that."""
        lines = self.run(spec, **options).out.splitlines()
        return dict(line.split(":\t") for line in lines)

    @contextmanager
    def running(self, spec: Spec, **options) -> Iterator[Launched]:
        """Start *spec*; it is killed at the end."""
        launched = launch(self.compile(spec, **options))
        try:
            yield launched
        finally:
            signal.pidfd_send_signal(launched.pidfd, signal.SIGKILL)
            collect(launched)
            if launched.terminal is not None:
                os.close(launched.terminal)

    def enter(self, target: Launched, process: Process, **options) -> Result:
        """Run *process* inside *target* to its end."""
        with _output() as output:
            program = compile_enter(process, **options)
            return _result(enter(target.pidfd, program, stdout=output, stderr=output), output)


def with_process(spec: Spec, **changes) -> Spec:
    """Return *spec* with members of its process replaced."""
    return dataclasses.replace(spec, process=dataclasses.replace(spec.process, **changes))


def run_program(program: Program) -> Result:
    """Run a compiled program to its end."""
    with _output() as output:
        return _result(launch(program, stdout=output, stderr=output), output)


def collect(launched: Launched) -> int:
    """Wait for the process and return its exit code, 128 plus the signal for a killed one."""
    ended = os.waitid(os.P_PIDFD, launched.pidfd, os.WEXITED)
    os.close(launched.pidfd)
    return ended.si_status + (0 if ended.si_code == os.CLD_EXITED else 128)


@contextmanager
def _output() -> Iterator[int]:
    fd = os.memfd_create("output")
    try:
        yield fd
    finally:
        os.close(fd)


def _result(launched: Launched, output: int) -> Result:
    code = collect(launched)
    text = os.pread(output, 1 << 20, 0).decode()
    return Result(code, text, launched.warnings)
