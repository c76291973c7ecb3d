"""The cgroup of a container as a scope of systemd."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from runtime.cgroup import systemd
from runtime.cgroup.group import Cgroup
from runtime.cgroup.hierarchy import Hierarchy
from runtime.cgroup.scope import Scope, limit_properties, start_properties
from runtime.cgroup.variant import annotated_properties
from runtime.cli.report import clear_up
from runtime.errors import ContainerError, UnsupportedHostError
from runtime.kernel.bare import signal
from runtime.kernel.process import PR_SET_PDEATHSIG, prctl
from runtime.spec import Resources


@contextmanager
def started(
    scope: Scope,
    hierarchy: Hierarchy,
    container_id: str,
    resources: Resources,
    annotations: dict[str, str],
) -> Iterator[Cgroup]:
    """Start *scope* with these limits and yield its cgroup; on failure there is none of ours.

    systemd stops a scope that has no process: until the end of the ``with`` one of ours is in it,
    by then the container's has to be.

    Raises:
        ConflictError: there is such a scope.
        ContainerError: systemd refuses it, or the kernel a limit.
        UnsupportedHostError: there is no systemd, or this host cannot enforce a limit.
    """
    group = Cgroup.of_caller(hierarchy, scope.group)
    with _placeholder() as pid:
        properties = {
            **dict(start_properties(scope, f"bayplan-oci container {container_id}", pid)),
            **dict(limit_properties(resources, hierarchy)),
            **dict(annotated_properties(annotations)),
        }
        systemd.start_scope(scope.unit, properties.items())
        try:
            if pid not in group.pids():
                raise ContainerError(f"systemd has made no cgroup {group.name}")
            if missing := group.create(resources):
                raise UnsupportedHostError("; ".join(missing))
        except BaseException as cause:
            # systemd takes away what it has made; v1 has hierarchies that it leaves alone.
            clear_up(cause, group.kill, lambda: stop(scope.unit), group.delete)
            raise
        yield group


def change(unit: str, group: Cgroup, resources: Resources) -> tuple[str, ...]:
    """Change the limits of a living scope; return, in words, what this host cannot enforce.

    The group first, which refuses a memory limit below what is in use; systemd does not.
    """
    missing = group.update(resources)
    systemd.set_properties(unit, limit_properties(resources, group.hierarchy))
    return missing


def stop(unit: str) -> None:
    """Stop the scope, which has no process any more or is to lose them, if it is there."""
    systemd.stop_unit(unit)


@contextmanager
def _placeholder() -> Iterator[int]:
    """Yield the pid of a process that does nothing, and ends with the ``with`` or with us."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            while os.getppid() == parent:
                signal.pause()
        finally:
            os._exit(1)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
