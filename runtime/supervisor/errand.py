"""A process for what the supervisor has to see to, but must not wait for.

It knows networks, firewalls and images, which the supervisor does not, and starts without any of
the supervisor's descriptors or environment.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from runtime.supervisor import exits
from runtime.supervisor.context import Context
from runtime.supervisor.loop import IN
from runtime.supervisor.names import command

_AGAIN_S = 1.0


class Errand:
    """Runs a module of ours, one process at a time."""

    def __init__(self, context: Context, module: str, done: Callable[[], None]) -> None:
        """Call ``done()`` when the process has ended, however it did."""
        self._loop = context.loop
        self._home = context.home
        self._module = module
        self._done = done
        self.active = False
        """Whether one is under way."""

    def start(self, *arguments: str) -> None:
        """Start it, in a while if there is no memory or process left for one now.

        It is told state folder, run folder and cgroup of this world, and *arguments*.
        """
        self.active = True
        argv = command(self._module, *self._home.arguments(), *arguments)
        try:
            pid = os.posix_spawn("/proc/self/exe", argv, {}, setsigmask=[])
        except OSError as error:
            print(f"cannot start {self._module} yet: {error}", file=sys.stderr)
            self._loop.call_later(_AGAIN_S, partial(self.start, *arguments))
            return
        pidfd = os.pidfd_open(pid)
        self._loop.watch(pidfd, IN, lambda _events: self._on_end(pidfd))

    def _on_end(self, pidfd: int) -> None:
        self._loop.forget(pidfd)
        with suppress(ChildProcessError):
            exits.reap(pidfd)
        os.close(pidfd)
        self.active = False
        self._done()
