"""A command that is killed with -9 at its n-th step, by functions of ours being wrapped in it.

The command runs in a forked child of the test, with one worker, so that the same n is the same
step each time. A step is what the engine writes down, what a driver does, a mount, a message to
kernel, firewall or supervisor; each counts before and after. Deeper, every change of the file
tree counts as well.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.cli import Bayplan

_OWN_STEPS = (
    ("provider.engine.ledger", "Ledger", ("write", "delete", "sync")),
    ("provider.engine.journal", "Journal", ("begin", "started", "end")),
    ("provider.engine.revision", "Revisions", ("write",)),
    *(
        (f"provider.drivers.{module}", name, ("prepare", "perform", "settle", "finish"))
        for module, name in (
            ("container", "ContainerDriver"),
            ("content", "ContentDriver"),
            ("image", "ImageDriver"),
            ("network", "NetworkDriver"),
            ("volume", "VolumeDriver"),
        )
    ),
    ("runtime.kernel.netlink", "Netlink", ("request",)),
    ("runtime.supervisor.client", "Supervisor", ("talk",)),
)
_IMPORTED = (
    *(f"provider.cli.{verb}" for verb in ("apply", "delete", "doctor", "plan", "ps", "show")),
    *("provider.cli.planning", "provider.manifest.load", "provider.manifest.graph"),
    *(
        f"provider.drivers.{kind}"
        for kind in ("container", "content", "image", "network", "volume")
    ),
    *("jinja2", "jsonschema_rs", "networkx", "yaml"),
)
_CHANGES_OF_FILES = ("rename", "replace", "link", "unlink", "remove", "mkdir", "rmdir", "fsync")


class Fuse:
    """Kills this process at the *left*-th point it passes, or the first one named *at*."""

    def __init__(
        self, left: int, told: int, at: str = "", blow: Callable[[], object] | None = None
    ) -> None:
        """*told* is a file that holds, in the end, how many points were passed, and the last.

        *blow* is called instead of killing.
        """
        self._left = left
        self._at = at
        self._blow = blow or self._kill
        self._told = told
        self._passed = 0
        self._pid = os.getpid()
        self._write = os.pwrite

    def fit(self, *, deep: bool) -> None:
        """Put itself into everything that leaves a trace; for the life of this process."""
        from runtime.kernel import mount

        for module, kind, names in _OWN_STEPS:
            for name in names:
                self._wrap(getattr(importlib.import_module(module), kind), name)
        for name in ("_mount", "_umount2"):
            self._wrap(mount, name)
        self._wrap(subprocess.Popen, "__init__")
        for name in _CHANGES_OF_FILES if deep else ():
            self._wrap(os, name)

    def _wrap(self, owner: Any, name: str) -> None:
        original, what = getattr(owner, name), f"{getattr(owner, '__name__', owner)}.{name}"

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self._point(f"before {what}")
            result = original(*args, **kwargs)
            if owner is not os:  # the next change comes soon enough
                self._point(f"after {what}")
            return result

        setattr(owner, name, wrapped)

    def _point(self, name: str) -> None:
        if os.getpid() != self._pid:
            return  # a child just forked, about to become somebody else
        self._write(self._told, f"{self._passed} {name:<60}".encode(), 0)
        if self._passed >= self._left or name == self._at:
            self._blow()
        self._passed += 1

    def _kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)


@dataclass(frozen=True)
class Ran:
    """What became of a command."""

    code: int
    """-9 if it was killed."""
    last: str
    """The last point it passed: number and name."""
    out: str
    errors: str

    @property
    def was_killed(self) -> bool:
        return self.code == -signal.SIGKILL


def run_with_fuse(
    bayplan: Bayplan,
    words: list[str],
    left: int = sys.maxsize,
    *,
    at: str = "",
    deep: bool = False,
    blow: Callable[[], object] | None = None,
) -> Ran:
    """Run a verb in a fork of this process; it is killed at a point (see ``Fuse``)."""
    told = os.memfd_create("told")

    def body() -> int:
        from provider.cli import app
        from provider.engine import crew

        Fuse(left, told, at, blow).fit(deep=deep)
        one_worker = crew.Crew.__init__
        crew.Crew.__init__ = lambda self, workers: one_worker(self, 1)  # type: ignore[method-assign]
        return app.run([*_root(bayplan), *words])

    try:
        code, out, errors = _in_fork(body)
        return Ran(code, os.pread(told, 200, 0).decode().strip(), out, errors)
    finally:
        os.close(told)


class Forked(Bayplan):
    """The command without the cost of starting Python, for tests that run it hundreds of times."""

    def __post_init__(self) -> None:
        """Import what the verbs import, once and here, instead of in each fork."""
        for name in _IMPORTED:
            importlib.import_module(name)

    def __call__(
        self, *words: str, stdin: str | None = None, code: int | None = 0, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        from provider.cli import app

        result, out, errors = _in_fork(lambda: app.run([*_root(self), *words]), stdin=stdin or "")
        said = f"$ bayplan {' '.join(words)}\n{out}\n{errors}"
        assert code is None or result == code, f"exit code {result}\n{said}"
        return subprocess.CompletedProcess(list(words), result, out, errors)


def _root(bayplan: Bayplan) -> list[str]:
    return ["--root", str(bayplan.folder)] if bayplan.folder else []


def _in_fork(body: Callable[[], int], *, stdin: str = "") -> tuple[int, str, str]:
    """Return exit code (negative: the signal), stdout and stderr of *body* run in a fork."""
    files = [os.memfd_create(name) for name in ("in", "out", "errors")]
    os.pwrite(files[0], stdin.encode(), 0)
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            for number, fd in enumerate(files):
                os.dup2(fd, number)
            sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for the rest of its life
            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
            code = body()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    texts = [Path(f"/proc/self/fd/{fd}").read_text() for fd in files[1:]]
    for fd in files:
        os.close(fd)
    return os.waitstatus_to_exitcode(status), texts[0], texts[1]
