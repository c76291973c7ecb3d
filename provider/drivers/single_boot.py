"""Containers of no project over a boot and a shutdown of the host: their restart policy decides.

They come after what they share namespaces with, and end before it.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from runtime.container.config import ContainerConfig, list_configs
from runtime.container.containers import Containers
from runtime.container.revival import await_sources, comes_back, lost_secrets
from runtime.errors import ContainerError, NotFoundError, StateError

_SHARED_WITHIN_S = 120.0
"""For a container of a project that another one shares namespaces with."""
_LOOK_EVERY_S = 0.05

Told = Callable[[ContainerConfig, Exception | None], None]
"""Called with each container that was started, respectively ended, or with what went wrong."""


def bring_back(containers: Containers, told: Told, *, wait_s: float) -> None:
    """Start those whose policy says so, after those they depend on."""
    deadline = time.monotonic() + wait_s
    singles = [c for c in list_configs(containers.root, skip_damaged=True) if not c.mark]
    for config in in_order(singles):
        with suppress(NotFoundError):  # removed since
            if comes_back(config, containers.status(config.id)):
                try:
                    _start(containers, config, deadline)
                except (ContainerError, OSError) as error:
                    told(config, error)
                else:
                    told(config, None)


def take_down(containers: Containers, told: Told) -> None:
    """End all that runs still, whoever's it is, to come back as its policy says."""
    running = []
    for config in list_configs(containers.root, skip_damaged=True):
        with suppress(NotFoundError):
            if not containers.status(config.id).ended:
                running.append(config)
    threads = []
    for level in reversed([*_levels(running)]):
        threads = [
            threading.Thread(target=_stop, args=(containers, config, told)) for config in level
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def in_order(configs: Iterable[ContainerConfig]) -> list[ContainerConfig]:
    """Return *configs*, each after those it shares namespaces with, the oldest first."""
    return [config for level in _levels(configs) for config in level]


def _levels(configs: Iterable[ContainerConfig]) -> Iterator[list[ContainerConfig]]:
    left = {config.id: config for config in sorted(configs, key=lambda c: (c.created_at, c.id))}
    while left:
        level = [c for c in left.values() if not left.keys() & c.shares_with]
        if not level:  # round and round: nobody could have started them
            level = list(left.values())
        yield level
        for config in level:
            del left[config.id]


def _start(containers: Containers, config: ContainerConfig, deadline: float) -> None:
    if lost_secrets(containers.root, config):
        raise StateError("what it was given as secret is on no disk: the boot has taken it")
    for other in sorted(config.shares_with):
        _await_running(containers, other)
    await_sources(containers.root, config, deadline=deadline, stopping=threading.Event())
    containers.start(config.id)


def _await_running(containers: Containers, container_id: str) -> None:
    """Wait for what somebody else brings back.

    Raises:
        NotFoundError: there is no such container.
        StateError: it does not come.
    """
    deadline = time.monotonic() + _SHARED_WITHIN_S
    while (found := containers.status(container_id)).state != "running":
        if found.ended or time.monotonic() >= deadline:
            raise StateError(f"container {container_id}, which it depends on, is {found.state}")
        time.sleep(_LOOK_EVERY_S)


def _stop(containers: Containers, config: ContainerConfig, told: Told) -> None:
    try:
        containers.stop(config.id, resumes=True)
    except NotFoundError:
        return
    except (ContainerError, OSError) as error:
        told(config, error)
    else:
        told(config, None)
