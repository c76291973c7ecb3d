"""Changing a container that is there, also while it runs."""

from contextlib import suppress

from runtime.cgroup.group import Cgroup
from runtime.container.config import ContainerConfig, read_config, write_config
from runtime.container.containers import Containers
from runtime.container.requests import launch_request
from runtime.errors import ContainerError, KernelError, NotFoundError
from runtime.network import attachment
from runtime.supervisor.client import Supervisor


def update(containers: Containers, config: ContainerConfig) -> tuple[str, ...]:
    """Make *config* the container's, as far as that can be done while it runs; idempotent.

    Limits, restart policy, health check, log options, stop signal and grace, names on
    networks, marks and labels. Everything else in *config* must be as it was.

    Raises:
        NotFoundError: there is no such container, or no more.
        StateError: a limit is below what is in use. Nothing has changed.
    """
    root = containers.root
    before = read_config(root, config.id)
    group = containers.cgroup(config.id)
    warnings = _set_limits(group, before, config)
    write_config(root, config)
    if containers.status(config.id).state in ("running", "restarting"):
        wanted = launch_request(root, config, group)
        Supervisor(root).configure(
            config.id,
            restart=wanted.restart,
            health=wanted.health,
            logs=wanted.logs,
            stop=wanted.stop,
            balanced=wanted.balanced,
        )
    if before.joins != config.joins:
        for join in config.joins:
            # One without an address (it ended, or never started) gets its names with one.
            with suppress(NotFoundError):
                attachment.set_names(root, join.network, config.id, join.names)
    return warnings


def _set_limits(group: Cgroup, before: ContainerConfig, config: ContainerConfig) -> tuple[str, ...]:
    """Change the limits of a living group, all or none: what the kernel refused never holds.

    Killed in the middle, limits differ from the config: of what belongs to a project that is
    drift, which the next apply mends; of others they hold until the next change or start.
    """
    if not group.exists():
        group.refuse_unmet(config.spec.linux.resources)
        return ()
    try:
        return group.update(config.spec.linux.resources)
    except BaseException:
        with suppress(ContainerError, KernelError):  # the first error is what counts
            group.update(before.spec.linux.resources)
        raise
