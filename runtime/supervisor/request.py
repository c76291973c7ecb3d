"""What a client asks the supervisor for, as frozen data with a JSON form.

A LaunchRequest holds everything needed to start the container again: it is what the supervisor
keeps in ``run/containers/<id>/launch.json`` (0600, on a tmpfs in the default world), so
that restarts, and adoption by a new supervisor, ask nobody. Times are seconds, sizes bytes.
"""

import dataclasses
from typing import Any, TypeVar

from runtime.record import dataclass

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """What happens when the container ends by itself."""

    policy: str = "no"
    """``no | on-failure | always | unless-stopped``; the last two differ after a reboot only."""
    max_retries: int | None = None
    """Of on-failure: give up after that many failures in a row; None is never."""
    backoff: float = 0.1
    """First wait; doubles with each quick end up to *max_backoff*."""
    max_backoff: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """A probe of the container and what its answers mean."""

    kind: str
    """``http | tcp | exec``"""
    port: int = 0
    path: str = "/"
    host: str | None = None
    """Host header of an http probe; None is the address."""
    address: str = "127.0.0.1"
    """Where http and tcp connect to, as seen inside *netns*."""
    netns: str | None = None
    """Path of the network namespace http and tcp probes start from; None is the host's."""
    program: dict[str, Any] | None = None
    """Of exec: the JSON form of the Program that enters the container."""
    interval: float = 10.0
    timeout: float = 3.0
    retries: int = 3
    """Failures in a row that make it unhealthy."""
    start_period: float = 0.0
    """Failures this soon after the start do not count."""
    on_unhealthy: str = "restart"
    """``restart | none``; a container whose restart policy is ``no`` is never restarted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """Where output goes and how much of it is kept."""

    path: str
    """Folder; see runtime.supervisor.logs for what is in it."""
    max_size: int = 10 << 20
    """Bytes of one file."""
    max_files: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """How the container is asked to end: *signal*, then SIGKILL *grace* seconds later."""

    signal: int = 15
    grace: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRequest:
    """One container to start and to keep as its policy says."""

    id: str
    program: dict[str, Any]
    """JSON form of the Program the launch child interprets; run again at each restart."""
    logs: Logs
    terminal: bool = False
    """Give it a terminal; what it writes there is logged as stdout."""
    rows: int = 0
    """Of the terminal, at each start; 0 is unknown."""
    columns: int = 0
    uid: int = 0
    """Owner of the FIFOs, so that the container may open /dev/stdout again."""
    gid: int = 0
    restart: Restart = Restart()
    stop: Stop = Stop()
    health: Health | None = None
    auto_remove: bool = False
    """Forget the container as soon as it has ended for good."""
    balanced: bool = False
    """It shares published traffic with others, which shall go to those that are well."""
    among: bool = False
    """It is in another's pid namespace: what it leaves behind does not end with it by itself."""
    oom_files: tuple[str, ...] = ()
    """Files with an ``oom_kill N`` line (memory.oom_control of v1, memory.events of v2); a count
    that grew tells that the container was killed for its memory."""
    cgroup_procs: tuple[str, ...] = ()
    """``cgroup.procs`` files of the container; after a crash, what a launch that was never
    recorded left running is found and killed by them."""
    token: str = ""
    """Made up by the client for each launch: the same token again is the same launch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecRequest:
    """One more process inside a running container."""

    id: str
    """Of the container."""
    program: dict[str, Any]
    """JSON form of the Program that enters the container."""
    terminal: bool = False
    rows: int = 24
    columns: int = 80
    uid: int = 0
    """Whom it runs as, and who must own pipes to open them again by /dev/stdout."""
    attached: bool = False
    """Whether its client's end shall be its own; see execution."""


_NESTED: dict[str, Any] = {"logs": Logs, "restart": Restart, "stop": Stop, "health": Health}


def encode(value: Any) -> dict[str, Any]:
    """Return *value*, one of this module's dataclasses, as a JSON object with camelCase keys."""
    members: dict[str, Any] = {}
    for member in dataclasses.fields(value):
        item = getattr(value, member.name)
        members[_camel(member.name)] = encode(item) if dataclasses.is_dataclass(item) else item
    return members


def decode(cls: type[T], data: dict[str, Any]) -> T:
    """Return *data* as a *cls*; keys a newer version wrote are ignored.

    Raises:
        TypeError: a required member is missing.
    """
    members: dict[str, Any] = {}
    for member in dataclasses.fields(cls):  # type: ignore[arg-type]  # T is one of ours
        key = _camel(member.name)
        if key in data:
            item = data[key]
            if item is None and member.default is not None:
                raise TypeError(f"{key} is null")
            if member.name in _NESTED and item is not None:
                item = decode(_NESTED[member.name], item)
            members[member.name] = tuple(item) if isinstance(item, list) else item
    return cls(**members)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(map(str.capitalize, rest))
