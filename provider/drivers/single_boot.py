"""Containers of no project over a boot and a shutdown of the host: their restart policy decides.

They come after what they share namespaces with, and end before it, whoever's that is.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Protocol

from provider.engine.crew import all_at_once
from runtime.container.config import ContainerConfig, list_configs
from runtime.container.containers import Containers
from runtime.container.revival import await_sources, comes_back, lost_secrets
from runtime.errors import ContainerError, NotFoundError, StateError

_SHARED_WITHIN_S = 120.0
"""For a container of a project that another one shares namespaces with, once it is begun."""
_LOOK_EVERY_S = 0.05
_AT_ONCE = 8
"""Starts under way, as an apply has them; what waits for something is none."""


class Told(Protocol):
    """Called by any thread with each container that was started, respectively ended, or failed."""

    def __call__(
        self, config: ContainerConfig, error: Exception | None, warnings: tuple[str, ...] = ()
    ) -> None:
        """Take note of it; *warnings* are the host's."""


def bring_back(
    containers: Containers, told: Told, *, wait_s: float, projects_done: threading.Event
) -> None:
    """Start those whose policy says so, after those they depend on.

    Of these the ones of projects are started by somebody else, who sets *projects_done* when
    nothing more will come of that.
    """
    singles = [c for c in list_configs(containers.root, skip_damaged=True) if not c.mark]
    boot = _Boot(containers, told, time.monotonic() + wait_s, projects_done)
    expected = [config for level in _levels(singles) for config in boot.expect(level)]
    all_at_once(*(partial(boot.bring_back, config) for config in expected))


class _Boot:
    """One boot. Each container has a thread, which waits for what it needs."""

    def __init__(
        self,
        containers: Containers,
        told: Told,
        deadline: float,
        projects_done: threading.Event,
    ) -> None:
        self._containers, self._told, self._deadline = containers, told, deadline
        self._projects_done = projects_done
        self._tried: dict[str, threading.Event] = {}
        """Of singles, by id: set when it runs, or does not come."""
        self._needs: dict[str, list[threading.Event]] = {}
        self._turn = threading.BoundedSemaphore(_AT_ONCE)

    def expect(self, level: list[ContainerConfig]) -> list[ContainerConfig]:
        """Take in containers that depend on earlier ones only."""
        for config in level:
            self._needs[config.id] = [
                self._tried[other] for other in config.shares_with & self._tried.keys()
            ]
        self._tried.update((config.id, threading.Event()) for config in level)
        return level

    def bring_back(self, config: ContainerConfig) -> None:
        """Start a container if it is to come back, and tell of it."""
        try:
            for tried in self._needs[config.id]:
                tried.wait()
            with suppress(NotFoundError):  # removed since
                if comes_back(config, self._containers.status(config.id)):
                    self._start(config)
        finally:
            self._tried[config.id].set()

    def _start(self, config: ContainerConfig) -> None:
        root = self._containers.root
        try:
            if lost_secrets(root, config):
                raise StateError("what it was given as secret is on no disk: the boot has taken it")
            for other in sorted(config.shares_with):
                self._await_running(other)
            await_sources(root, config, deadline=self._deadline, stopping=threading.Event())
            with self._turn:
                warnings = self._containers.start(config.id)
        except (ContainerError, OSError) as error:
            self._told(config, error)
        else:
            self._told(config, None, warnings)

    def _await_running(self, container_id: str) -> None:
        """Wait for what somebody else brings back: nobody does so with one that was tried here.

        Raises:
            NotFoundError: there is no such container.
            StateError: it does not come.
        """
        deadline = time.monotonic() + _SHARED_WITHIN_S
        while True:
            comes = container_id not in self._tried and not self._projects_done.is_set()
            found = self._containers.status(container_id)
            if found.state == "running":
                return
            late = found.state != "restarting" or time.monotonic() >= deadline
            if late and not comes:
                raise StateError(f"container {container_id}, which it depends on, is {found.state}")
            time.sleep(_LOOK_EVERY_S)


def take_down_sharers(containers: Containers, told: Told) -> None:
    """End those of no project that are in namespaces of one of a project, over others or not."""
    running = _running(containers)
    sharers: set[str] = set()
    for level in _levels(running):
        for config in level:
            others = [c for c in running if c.id in config.shares_with]
            if not config.mark and any(c.mark or c.id in sharers for c in others):
                sharers.add(config.id)
    _take_down([c for c in running if c.id in sharers], containers, told)


def take_down(containers: Containers, told: Told) -> None:
    """End all that runs still, whoever's it is, to come back as its policy says."""
    _take_down(_running(containers), containers, told)


def _take_down(configs: Iterable[ContainerConfig], containers: Containers, told: Told) -> None:
    for level in reversed([*_levels(configs)]):
        all_at_once(*(partial(_stop, containers, config, told) for config in level))


def _running(containers: Containers) -> list[ContainerConfig]:
    running = []
    for config in list_configs(containers.root, skip_damaged=True):
        with suppress(NotFoundError):
            if containers.status(config.id).state in ("running", "restarting"):
                running.append(config)
    return running


def _levels(configs: Iterable[ContainerConfig]) -> Iterator[list[ContainerConfig]]:
    left = {config.id: config for config in sorted(configs, key=lambda c: (c.created_at, c.id))}
    while left:
        level = [c for c in left.values() if not left.keys() & c.shares_with]
        if not level:  # round and round: nobody could have started them
            level = list(left.values())
        yield level
        for config in level:
            del left[config.id]


def _stop(containers: Containers, config: ContainerConfig, told: Told) -> None:
    try:
        containers.stop(config.id, resumes=True)
    except NotFoundError:
        return
    except (ContainerError, OSError) as error:
        told(config, error)
    else:
        told(config, None)
