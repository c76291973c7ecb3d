"""What a container is to our engine: its OCI spec and what OCI has no words for.

Written once as ``state/containers/<id>/config.json`` when the container is created; live changes
(limits, restart policy, health check, log options, names) rewrite it.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from runtime.container.folders import config_file, state_folder
from runtime.documents import parse_state
from runtime.errors import BusyError, DamagedError, NotFoundError
from runtime.json_data import from_json, to_json
from runtime.kernel.flock import flock_within
from runtime.kernel.replace import replace_file
from runtime.record import dataclass, field
from runtime.root import Root
from runtime.spec import Spec
from runtime.supervisor.request import Restart

_CHANGED_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Join:
    """One network the container is on, in order; the first gives the default route."""

    network: str
    ip: str | None = None
    names: tuple[str, ...] = ()
    """Names other containers of the network resolve to this one."""


@dataclass(frozen=True, slots=True)
class Logs:
    """Rotation of the log, sizes in bytes."""

    max_size: int = 10 << 20
    max_files: int = 3


@dataclass(frozen=True, slots=True)
class Health:
    """A probe, of exactly one of *exec*, *http*, *tcp*; times in seconds."""

    exec: tuple[str, ...] | None = None
    http: dict[str, str] | None = None
    """``port``, ``path``, ``host``."""
    tcp: int | None = None
    interval: float = 10.0
    timeout: float = 3.0
    retries: int = 3
    start_period: float = 0.0
    on_unhealthy: str = "restart"


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """Everything needed to start the container again, on this boot or the next."""

    id: str
    name: str
    spec: Spec
    seccomp: str = ""
    """Name of a profile of ours (``default/2``); empty is the spec's own, or none."""
    layers: tuple[str, ...] = ()
    """Layer folders, lowest first."""
    image: str = ""
    """Digest of the image's manifest, for people and for gc."""
    network_mode: str = "bridge"
    """``bridge | host | none | container``"""
    network_of: str = ""
    """Id of the container whose network it is in, where that is its mode."""
    pid_of: str = ""
    """Id of the container whose processes it is among; empty: it has a pid namespace of its own."""
    joins: tuple[Join, ...] = ()
    extra_hosts: dict[str, str] = field(default_factory=dict)
    dns_servers: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    logs: Logs = Logs()
    restart: Restart = Restart()
    health: Health | None = None
    stop_signal: int = 15
    stop_grace: float = 10.0
    environment: str = ""
    """File with more variables, for those that hold secrets; see Containers."""
    init: bool = False
    auto_remove: bool = False
    balanced: bool = False
    """One of several behind the same ports: see LaunchRequest."""
    volatile: bool = False
    """The writable layer need not survive a power loss (``--rm``, Jobs)."""
    mark: dict[str, str] = field(default_factory=dict)
    """Whose it is: ``project``, ``kind``, ``name``, ``host``, ``index``; empty for ``run``."""
    labels: dict[str, str] = field(default_factory=dict)
    created_at: float = 0.0

    @property
    def shares_with(self) -> frozenset[str]:
        """Ids of the containers without which it cannot run: it is in namespaces of theirs."""
        return frozenset({self.network_of, self.pid_of} - {""})


def new_id() -> str:
    """Return a fresh container id: 12 hexadecimal digits."""
    return os.urandom(6).hex()


def write_config(root: Root, config: ContainerConfig) -> None:
    """Write the container's config; a loss of power leaves the old or the new one, or none.

    Its folder is there: who removes a container meanwhile has removed it.

    Raises:
        NotFoundError: it is not.
    """
    # Not json.dump, which is the slow, pure Python one.
    data = json.dumps(to_json(config)).encode()
    try:
        replace_file(config_file(root, config.id), data, safe=True)
    except FileNotFoundError:
        raise NotFoundError(f"no container {config.id}") from None


def read_config(root: Root, container_id: str) -> ContainerConfig:
    """Return the container's config.

    Raises:
        NotFoundError: there is no such container.
        DamagedError: its config cannot be read back.
    """
    path = config_file(root, container_id)
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"no container {container_id}") from None
    return from_json(ContainerConfig, parse_state(path, data))


@contextmanager
def changing(root: Root, container_id: str) -> Iterator[None]:
    """Be the only one who reads a container's config, and writes another, by hand.

    Taken before the host lock, never while holding that.

    Raises:
        NotFoundError: there is no such container.
        BusyError: somebody else changes it, and does not come to an end.
    """
    try:
        fd = os.open(state_folder(root, container_id), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFoundError(f"no container {container_id}") from None
    try:
        if not flock_within(fd, fcntl.LOCK_EX, _CHANGED_WITHIN_S):
            raise BusyError(
                f"somebody else is changing {container_id}, for {_CHANGED_WITHIN_S:g} s"
            )
        yield
    finally:
        os.close(fd)


@contextmanager
def writing_alone(root: Root, container_id: str, *, shared: bool = False) -> Iterator[None]:
    """Be the only one who may have the container's writable layer mounted.

    Who starts it does so *shared*, until its supervisor says that it runs.

    Raises:
        NotFoundError: there is no such container.
        BusyError: somebody else writes there, and does not come to an end.
    """
    try:
        upper = state_folder(root, container_id) / "upper"
        fd = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        if not shared:
            raise NotFoundError(f"no container {container_id}, or it has lost its files") from None
        yield  # the launch will say what is missing
        return
    try:
        if not flock_within(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, _CHANGED_WITHIN_S):
            raise BusyError(f"somebody copies into {container_id}, for {_CHANGED_WITHIN_S:g} s")
        yield
    finally:
        os.close(fd)


def list_configs(root: Root, *, skip_damaged: bool = False) -> Iterator[ContainerConfig]:
    """Yield every container of this world, by id; reads only, and needs no supervisor.

    Raises:
        DamagedError: a config cannot be read back, unless *skip_damaged*.
    """
    skipped = (NotFoundError, DamagedError) if skip_damaged else (NotFoundError,)
    with suppress(FileNotFoundError):
        for name in sorted(os.listdir(root.state / "containers")):
            with suppress(*skipped):
                yield read_config(root, name)
