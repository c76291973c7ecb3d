"""Errors the runtime raises.

::

    ContainerError
    ├── NotFoundError          no such container, image, network ...
    ├── StateError             the thing exists but is in the wrong state ("cannot start: running")
    ├── ConflictError          a name, address or port is taken
    │   └── BusyError          somebody else is at it; the same again may be done
    ├── LaunchError            a step between fork and exec failed; names the operation
    ├── ImageError
    │   └── LayerError         a layer is damaged or would leave its root
    ├── NetworkError
    ├── DamagedError           a state file cannot be read back; names it
    ├── SupervisorError        the supervisor cannot be reached or broke the protocol
    └── UnsupportedHostError   the host lacks something; says what and how it was found out
    KernelError(OSError)       a system call failed

Texts are lower case, without a full stop, and name the object.
"""

import errno as _errno
import os


class ContainerError(Exception):
    """Base of everything the runtime raises on purpose."""


class NotFoundError(ContainerError):
    """The named thing does not exist."""


class StateError(ContainerError):
    """The thing exists, but not in a state that allows the request."""


class ConflictError(ContainerError):
    """A name, address or port is already taken."""


class BusyError(ConflictError):
    """Somebody else is at work on the thing, and did not come to an end in time."""


class LaunchError(ContainerError):
    """A step between fork and exec failed.

    *exit_code* is what a shell would report: 126 found but not executable, 127 not found,
    125 anything of ours, 128 + n where signal n had it given up.
    """

    def __init__(self, message: str, *, exit_code: int = 125) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class ImageError(ContainerError):
    """An image cannot be read, built or found."""


class LayerError(ImageError):
    """A layer is damaged, or one of its entries would leave the root."""


class NetworkError(ContainerError):
    """A network cannot be made or changed as asked."""


class DamagedError(ContainerError):
    """A state file is not what was written, as after a loss of power; *how* says in what way.

    *remedy* says what to do about it.
    """

    DOCTOR = (
        "`bayplan doctor --mend` takes it away, and the next apply makes anew what it was about"
    )

    def __init__(self, path: str | os.PathLike[str], how: str, remedy: str = DOCTOR) -> None:
        super().__init__(f"{os.fspath(path)} is damaged ({how}); {remedy}")
        self.path = os.fspath(path)
        self.how = how


class SupervisorError(ContainerError):
    """The supervisor cannot be reached, or answered outside the protocol."""


class UnsupportedHostError(ContainerError):
    """The host lacks something that was asked for."""


class KernelError(OSError):
    """A system call failed. Text: ``mount(2) /a -> /b: Invalid argument [EINVAL]``."""

    def __init__(self, errno: int, syscall: str, detail: str = "") -> None:
        super().__init__(errno, os.strerror(errno))
        self.syscall = syscall
        self.detail = detail

    def __str__(self) -> str:
        name = _errno.errorcode.get(self.errno or 0, "?")
        where = f" {self.detail}" if self.detail else ""
        return f"{self.syscall}(2){where}: {self.strerror} [{name}]"
