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
from typing import Any

from tests.support.cli import Bayplan
from tests.support.forks import in_fork

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
        root = ["--root", str(bayplan.folder)] if bayplan.folder else []
        return app.run([*root, *words])

    try:
        code, out, errors = in_fork(body)
        return Ran(code, os.pread(told, 200, 0).decode().strip(), out, errors)
    finally:
        os.close(told)
