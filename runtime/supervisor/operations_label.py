"""Operations on security labels; see `runtime.kernel.program`."""

import os
from collections.abc import Callable

from runtime.errors import LaunchError
from runtime.kernel import lsm
from runtime.supervisor.child import Child


def labels(child: Child, modules: tuple[str, ...], keep: bool) -> None:
    """See that there is what labels are asked of, and *keep* the host's /proc to ask through.

    The container's own need not be there, nor be one.

    Raises:
        LaunchError: this host has no such security module.
    """
    for module in modules:
        if not lsm.is_enabled(module):
            raise LaunchError(f"this host has no {_NAMES[module]}, of which a label is asked")
    if keep:
        child.proc_fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def label(child: Child, module: str, text: str) -> None:
    """Have the exec change to a label.

    Raises:
        LaunchError: the host does not know it, or does not let us.
    """
    try:
        lsm.set_exec(child.proc_fd, module, text)
    except OSError as error:
        raise LaunchError(f"{_NAMES[module]} label {text}: {error.strerror}") from error


def close_labels(child: Child) -> None:
    """Let go of the host's /proc."""
    os.close(child.proc_fd)
    child.proc_fd = -1


_NAMES = {lsm.APPARMOR: "AppArmor", lsm.SELINUX: "SELinux"}

OPERATIONS: dict[str, Callable[..., None]] = {
    "labels": labels,
    "label": label,
    "close_labels": close_labels,
}
