"""What is known of a container: its folder below ``--root``.

::

    <id>/status       what must be known of it; replaced whole
         making       the same, from when the cgroup is its own until there is a status
         config.json  as it was when it was made
         hook         the process of the hook that runs outside, and when it started
         notify/      with NOTIFY_SOCKET: what the container has at /run/notify
         doomed       there from when somebody deletes it by force
         start.sock   on which its process waits for `start`; gone when that was asked for

A container is ``creating`` without a status, ``created`` while somebody listens at start.sock,
``stopped`` when its process is gone; a pid is that process only with the start time that goes
with it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from runtime import json_text
from runtime.documents import parse_state
from runtime.errors import ConflictError, DamagedError, NotFoundError, StateError
from runtime.kernel.bare import signal, socket
from runtime.kernel.pidfd import open_running
from runtime.kernel.procfs import boot_id, is_running, start_ticks
from runtime.kernel.replace import replace_file
from runtime.record import dataclass, field, replace
from runtime.version import OCI_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@dataclass(frozen=True, slots=True)
class Status:
    """What is kept of a container."""

    id: str
    pid: int
    start: int
    """When the process started, in clock ticks after boot."""
    bundle: str
    created: str
    cgroup: str | None = None
    scope: str | None = None
    """The unit of systemd that has this cgroup."""
    cgroup_inode: int | None = None
    """Another group may be called the same when this one is gone, as a scope with its processes."""
    annotations: dict[str, str] = field(default_factory=dict)
    external_descriptors: str = "[]"
    """JSON: what its standard streams were."""
    boot: str = ""
    """Which boot of the machine it was made in: of another, nothing runs."""
    has_keyring: bool = True
    """Whether its processes leave the session keyring of whoever starts them."""


class Folder:
    """The folder of one container. Making a Folder touches nothing."""

    def __init__(self, root: str, container_id: str) -> None:
        self.root = root
        self.id = container_id
        self.path = f"{root}/{container_id}"

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Claim the id, and keep other commands waiting while the container is being made.

        Raises:
            ConflictError: there is such a container.
        """
        taken = ConflictError(f"container {self.id} exists already")
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        fd = None
        # `delete --force` may take it away before it is locked.
        while fd is None:
            try:
                os.mkdir(self.path, 0o700)
            except FileExistsError:
                raise taken from None
            fd = self._lock()
        try:
            if os.listdir(self.path):  # and somebody else may have claimed it then
                raise taken
            yield
        finally:
            os.close(fd)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands that change the container waiting.

        Raises:
            NotFoundError: there is no such container, or it went while we waited; another may
                have its id by now.
        """
        fd = self._lock()
        if fd is None:
            raise self._not_found()
        try:
            yield
        finally:
            os.close(fd)

    def _lock(self) -> int | None:
        """Return the descriptor that holds the lock; None if the folder is gone or another."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        held = False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                held = os.path.samestat(os.fstat(fd), os.stat(self.path))
        finally:
            if not held:
                os.close(fd)
        return fd if held else None

    def write(self, status: Status, *, making: bool = False) -> None:
        """Record *status*; in the *making*, where only a `read` of that finds it."""
        name = "making" if making else "status"
        replace_file(f"{self.path}/{name}", json_text.dumps(_record(status)).encode())
        if not making:
            os.unlink(f"{self.path}/making")

    def read(self, *, making: bool = False) -> Status:
        """Return what is recorded of a container, or of one still in the *making*.

        Raises:
            NotFoundError: there is no such container, or it is only being made.
            DamagedError: the record cannot be read back.
        """
        name = "making" if making else "status"
        try:
            status = Status(**self._parse(name))
            if status.boot not in ("", boot_id()):
                status = replace(status, pid=0, start=0, cgroup=None, scope=None)
            return status
        except FileNotFoundError:
            raise self._not_found() from None
        except TypeError:
            raise self._damaged(name, "not a status") from None

    def write_config(self, config: dict[str, Any]) -> None:
        """Keep the container's config.json."""
        replace_file(f"{self.path}/config.json", json_text.dumps(config).encode())

    def read_config(self) -> dict[str, Any]:
        """Return the config.json it was made with, or last updated to.

        Raises:
            NotFoundError: there is no such container, or only the folder of one.
            DamagedError: it is not there or cannot be read back, while a status is there.
        """
        try:
            return self._parse("config.json")
        except FileNotFoundError:
            if os.path.exists(f"{self.path}/status"):
                raise self._damaged("config.json", "missing") from None
            raise self._not_found() from None

    @property
    def owned_group(self) -> bool:
        """Whether since the host was started it had a cgroup of its own, be its status damaged."""
        boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        for name in ("making", "status"):
            with suppress(FileNotFoundError):
                if os.stat(f"{self.path}/{name}").st_mtime > boot:
                    return True
        return False

    def write_hook(self, pid: int) -> None:
        """Record which hook runs by now.

        Raises:
            StateError: the container is being deleted, by somebody who may not have seen it.
        """
        replace_file(f"{self.path}/hook", f"{pid} {start_ticks(pid)}".encode())
        if os.path.exists(f"{self.path}/doomed"):
            raise StateError(f"container {self.id} is being deleted")

    def doom(self) -> None:
        """Kill the hook that runs, and have whoever runs hooks give up; the lock is theirs."""
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):  # of a damaged record
            os.close(os.open(f"{self.path}/doomed", os.O_CREAT | os.O_CLOEXEC, 0o600))
            with open(f"{self.path}/hook", "rb") as file:
                pid, start = map(int, file.read().split())
            pidfd = open_running(pid, start)
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)

    @property
    def waits(self) -> bool:
        """Whether it was created and not started yet.

        The name may stay behind when a `start` is killed that had connected already.
        """
        if not os.path.exists(f"{self.path}/start.sock"):
            return False
        # Asks without connecting, which would be a start: the wrong type of socket is told only
        # when there is one to be wrong about.
        other_type = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with suppress(FileNotFoundError), closing(other_type), self._address() as address:
            return other_type.connect_ex(address) == errno.EPROTOTYPE
        return False

    def mark_started(self) -> None:
        """Take the socket's name away, if it is there: nobody waits any more."""
        with suppress(FileNotFoundError):
            os.unlink(f"{self.path}/start.sock")

    def listen(self) -> socket.socket:
        """Return a socket on which the container's process waits for `start`."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        with self._address() as address:
            listening.bind(address)
        listening.listen(1)
        return listening

    def connect(self) -> socket.socket:
        """Return a connection to the process that waits, which goes on by it.

        Raises:
            OSError: it is gone.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        with self._address() as address:
            connection.connect(address)
        self.mark_started()
        return connection

    @contextmanager
    def _address(self) -> Iterator[str]:
        """Yield a name of start.sock that fits in a socket address (108 bytes, unix(7))."""
        folder = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"/proc/self/fd/{folder}/start.sock"
        finally:
            os.close(folder)

    def remove(self) -> None:
        """Forget the container; it is gone for others at once."""
        for name in ("making", "status"):
            with suppress(FileNotFoundError):
                os.unlink(f"{self.path}/{name}")
        # Half-written files of somebody who was killed, too.
        for name in os.listdir(self.path):
            if name == "notify":
                _remove_flat(f"{self.path}/{name}")
            else:
                os.unlink(f"{self.path}/{name}")
        os.rmdir(self.path)

    def _parse(self, name: str) -> dict[str, Any]:
        """Return the object in one of the files, which need not be there."""
        path = f"{self.path}/{name}"
        with open(path, "rb") as file:
            data = parse_state(path, file.read(), self._remedy)
        if not isinstance(data, dict):
            raise self._damaged(name, "not an object")
        return data

    @property
    def _remedy(self) -> str:
        return f"`bayplan-oci delete --force {self.id}` takes the container away"

    def _damaged(self, name: str, how: str) -> DamagedError:
        return DamagedError(f"{self.path}/{name}", how, self._remedy)

    def _not_found(self) -> NotFoundError:
        return NotFoundError(f"container {self.id} does not exist")


def _remove_flat(folder: str) -> None:
    for name in os.listdir(folder):
        os.unlink(f"{folder}/{name}")
    os.rmdir(folder)


def _record(status: Status) -> dict[str, Any]:
    """Return the record as JSON data, by the names of its members."""
    return {name: getattr(status, name) for name in Status.__annotations__}


def condition(folder: Folder, status: Status, *, frozen: bool = False) -> str:
    """Return ``created``, ``running``, ``paused`` or ``stopped``."""
    if not is_running(status.pid, status.start):
        return "stopped"
    if frozen:
        return "paused"
    return "created" if folder.waits else "running"


def state_of(status: Status, word: str) -> dict[str, Any]:
    """Return the state the specification describes, in the condition *word*."""
    state: dict[str, Any] = {
        "ociVersion": OCI_VERSION,
        "id": status.id,
        "pid": status.pid,
        "status": word,
        "bundle": status.bundle,
        "annotations": status.annotations,
    }
    if word == "stopped":
        state["pid"] = 0  # it may be somebody else's by now
    return state


def is_id(text: str) -> bool:
    """Tell whether a container may be called that."""
    allowed = all(c.isascii() and (c.isalnum() or c in "_+-.") for c in text)
    return allowed and text not in ("", ".", "..")


def list_ids(root: str) -> list[str]:
    """Return the ids of all containers below *root*, sorted; folders of others are left out."""
    try:
        with os.scandir(root) as entries:
            return sorted(
                e.name for e in entries if is_id(e.name) and e.is_dir(follow_symlinks=False)
            )
    except FileNotFoundError:
        return []
