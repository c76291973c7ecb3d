"""NOTIFY_SOCKET: a service says that it is ready, from inside its container.

What the process is given is a socket of ours, so that nothing it sends reaches the service manager
but that it is READY; and then, from us, which process that is. As with runc, `start` (and `run`)
return when that has happened, or the process has ended. As with crun, it is ``notify`` in a folder
that is where the manager's socket is outside.

Source: sd_notify(3), sd_notify_barrier in it.
"""

import os
import select
from collections.abc import Callable
from contextlib import closing, suppress

from runtime.cli.folder import Folder, Status
from runtime.kernel.bare import socket
from runtime.kernel.passing import send_fds
from runtime.kernel.pidfd import pidfd_open
from runtime.kernel.procfs import is_running
from runtime.kernel.readable import wait_readable
from runtime.record import replace
from runtime.spec import Mount, Spec

_VARIABLE = "NOTIFY_SOCKET"
_INSIDE = "/run/notify"
"""Where the folder is for a manager whose socket is at no path."""
_NAME = "notify"
_READY = b"READY=1"
_MOST_BYTES = 4096
_BARRIER_S = 30.0

Warn = Callable[[str], None]


def prepare(folder: Folder, spec: Spec, manager: str) -> Spec:
    """Return *spec* with a place for the socket, which `Notification` binds there."""
    inside = manager if manager.startswith("/") else _INSIDE
    place = f"{folder.path}/notify"
    os.mkdir(place)
    os.chmod(place, 0o755)
    mount = Mount(
        inside, "bind", place, options=("bind", "nosuid", "noexec", "nodev", "ro", "private")
    )
    variables = (*spec.process.env, f"{_VARIABLE}={inside}/{_NAME}")
    process = replace(spec.process, env=variables)
    return replace(spec, process=process, mounts=(*spec.mounts, mount))


class Notification:
    """From being made on, the process of the container *status* can notify; use it in a ``with``.

    That the manager cannot be told is a warning: the container runs.
    """

    def __init__(self, folder: Folder, status: Status, manager: str, warn: Warn) -> None:
        self._status = status
        self._manager = manager
        self._warn = warn
        self._socket = _datagrams()
        place = os.open(f"{folder.path}/notify", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            address = f"/proc/self/fd/{place}/{_NAME}"
            with suppress(FileNotFoundError):  # of a `start` that was killed
                os.unlink(address)
            self._socket.bind(address)
            os.chmod(address, 0o777)  # whoever the process is
        finally:
            os.close(place)

    @classmethod
    def wanted(cls, folder: Folder, status: Status, warn: Warn) -> "Notification | None":
        """Return one if our caller wants to be notified, and the container was made for that."""
        manager = os.environ.get(_VARIABLE)
        if not manager or not os.path.isdir(f"{folder.path}/notify"):
            return None
        return cls(folder, status, manager, warn)

    def __enter__(self) -> "Notification":
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """Return what is readable when there is something for `take_all`."""
        return self._socket.fileno()

    def wait(self) -> None:
        """Return when the process has said that it is ready, or has ended."""
        try:
            pidfd = pidfd_open(self._status.pid)
        except ProcessLookupError:
            return
        try:
            poller = select.poll()
            for fd in (self.fileno(), pidfd):
                poller.register(fd, select.POLLIN)
            while is_running(self._status.pid, self._status.start):
                poller.poll()
                if self.take_all(leaving=True):
                    return
            self.take_all(leaving=True)
        finally:
            os.close(pidfd)

    def take_all(self, *, leaving: bool = False) -> bool:
        """Take what has been sent, as `take`."""
        while wait_readable(self.fileno(), 0):
            if self.take(leaving=leaving):
                return True
        return False

    def take(self, *, leaving: bool = False) -> bool:
        """Take one message; if it says so, tell the manager that the container is ready.

        Who is *leaving* then waits until the manager has seen who told it.
        """
        if _READY not in self._socket.recv(_MOST_BYTES).split(b"\n"):
            return False
        try:
            with closing(_datagrams()) as manager:
                manager.connect(_address(self._manager))
                manager.send(_READY)
                manager.send(b"MAINPID=%d" % self._status.pid)
                if leaving:
                    _barrier(manager)
        except OSError as error:
            self._warn(f"{_VARIABLE} {self._manager}: {error.strerror or error}")
        return True


def _datagrams() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)


def _address(manager: str) -> str:
    # systemd's own may be in the abstract namespace, unix(7).
    return f"\0{manager[1:]}" if manager.startswith("@") else manager


def _barrier(manager: socket.socket) -> None:
    """Wait until what was sent has been taken: our end, which goes along, is closed then."""
    ours, theirs = os.pipe()
    try:
        try:
            send_fds(manager, b"BARRIER=1", [theirs])
        finally:
            os.close(theirs)
        poll = select.poll()
        poll.register(ours, 0)  # POLLHUP is always told
        poll.poll(_BARRIER_S * 1000)
    finally:
        os.close(ours)
