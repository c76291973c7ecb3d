"""The steps in which a container is made for another engine, and its hooks between them. Pure.

::

    create    namespaces -> stop "runtime" (prestart, createRuntime: the parent's)
              -> createContainer hooks -> root, mounts, privileges
              -> wait for somebody to connect
    start     -> the system call filter, if it is not there yet -> startContainer hooks -> exec

Source: OCI runtime-spec runtime.md (lifecycle), config.md (POSIX-platform hooks).
"""

from collections.abc import Sequence

from runtime.kernel.program import Operation
from runtime.record import dataclass
from runtime.spec import Hook, Hooks

_STARTED: Operation = ("started",)


@dataclass(frozen=True, slots=True)
class Stages:
    """What happens between the steps."""

    hooks: Hooks = Hooks()
    pivot: bool = True
    """Not where the host's root is a ramfs, which pivot_root(2) refuses."""
    owner: int = 0
    """User the standard streams are given to, so that they can be opened again."""

    def before_root(self) -> list[Operation]:
        """Return what is done in the new namespaces while the host's files are in view."""
        operations: list[Operation] = []
        if self.owner:
            operations.append(("own_streams", self.owner))
        operations.append(("stop", "runtime"))
        operations += _hooks("creating", self.hooks.create_container)
        return operations

    def before_exec(self) -> list[Operation]:
        """Return what is done when all but the exec is, without the process's filter."""
        return [("inherit",), ("await_start",), *([] if self.last() else [_STARTED])]

    def last(self) -> list[Operation]:
        """Return what is held to what the process is held to, and comes just before its exec."""
        hooks = _hooks("created", self.hooks.start_container)
        return [*hooks, _STARTED] if hooks else []


def _hooks(status: str, hooks: Sequence[Hook]) -> list[Operation]:
    if not hooks:
        return []
    items = tuple((h.path, h.args, h.env or (), h.timeout) for h in hooks)
    return [("hooks", status, items)]
