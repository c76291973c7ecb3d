"""What a container's config comes to for the supervisor: programs to run, and how to keep them."""

import dataclasses
import os

from runtime.cgroup.group import Cgroup
from runtime.cgroup.hierarchy import Hierarchy
from runtime.container.config import ContainerConfig, Health, read_config
from runtime.container.folders import netns_path, run_folder, state_folder
from runtime.container.program import compile_enter, compile_program, keyring_name
from runtime.container.state import status_of
from runtime.errors import StateError, UnsupportedHostError
from runtime.kernel.procfs import is_confined
from runtime.kernel.seccomp_default import DEFAULT_PROFILES, default_profile
from runtime.root import Root
from runtime.rootfs.passwd import resolve_user
from runtime.spec import Seccomp
from runtime.supervisor import request


def cgroup_of(root: Root, hierarchy: Hierarchy, container_id: str) -> Cgroup:
    """Return the container's cgroup, which may not exist."""
    return Cgroup(hierarchy, f"{root.cgroup}/{container_id}")


def launch_request(
    root: Root, config: ContainerConfig, group: Cgroup, size: os.terminal_size | None = None
) -> request.LaunchRequest:
    """Return what starts the container in its cgroup *group*; *size* is its terminal's."""
    folder = state_folder(root, config.id)
    join_files = group.join_files()
    linux = dataclasses.replace(config.spec.linux, seccomp=_profile(config))
    program = compile_program(
        dataclasses.replace(config.spec, linux=linux),
        layers=config.layers,
        upper=str(folder / "upper"),
        work=str(folder / "work"),
        volatile=config.volatile,
        netns=_netns(root, config),
        among=str(run_folder(root, config.pid_of)) if config.pid_of else None,
        cgroup_join=join_files,
        init=config.init,
        environment=config.environment or None,
        confined=is_confined(),
        keyring=keyring_name(config.id),
    )
    user = config.spec.process.user
    return request.LaunchRequest(
        id=config.id,
        program=program.to_json(),
        logs=request.Logs(
            path=str(folder / "log"),
            max_size=config.logs.max_size,
            max_files=config.logs.max_files,
        ),
        terminal=config.spec.process.terminal,
        rows=size.lines if size else 0,
        columns=size.columns if size else 0,
        uid=user.uid,
        gid=user.gid,
        restart=config.restart,
        stop=request.Stop(signal=config.stop_signal, grace=config.stop_grace),
        health=_health(root, config, join_files) if config.health else None,
        auto_remove=config.auto_remove,
        balanced=config.balanced,
        among=bool(config.pid_of),
        oom_files=_oom_files(join_files),
        cgroup_procs=tuple(_procs_file(path) for path in join_files),
        token=os.urandom(8).hex(),
    )


def _health(root: Root, config: ContainerConfig, join_files: tuple[str, ...]) -> request.Health:
    health = config.health or Health()
    kind = "exec" if health.exec else "http" if health.http else "tcp"
    program = None
    if health.exec:
        process = dataclasses.replace(config.spec.process, args=health.exec, terminal=False)
        program = compile_enter(
            process,
            seccomp=_profile(config),
            cgroup_join=join_files,
            environment=config.environment or None,
            prelude=[("keyring", keyring_name(config.id))],
        ).to_json()
    http = health.http or {}
    return request.Health(
        kind=kind,
        port=int(http.get("port") or health.tcp or 0),
        path=http.get("path") or "/",
        host=http.get("host"),
        netns=_netns(root, config),
        program=program,
        interval=health.interval,
        timeout=health.timeout,
        retries=health.retries,
        start_period=health.start_period,
        on_unhealthy=health.on_unhealthy,
    )


def _netns(root: Root, config: ContainerConfig) -> str | None:
    """Return where the network namespace the container is in is pinned; None for the host's."""
    if config.network_mode == "host":
        return None
    return str(netns_path(root, config.network_of or config.id))


def exec_request(
    root: Root,
    hierarchy: Hierarchy,
    container_id: str,
    arguments: tuple[str, ...],
    *,
    env: tuple[str, ...] = (),
    user: str | None = None,
    cwd: str | None = None,
    terminal: bool = False,
    size: os.terminal_size | None = None,
    attached: bool = False,
) -> request.ExecRequest:
    """Return what runs *arguments* inside, with the container's own rights at most.

    *attached*: it ends with its client.

    Raises:
        NotFoundError: no such container, or no such *user* in its image.
        StateError: it does not run.
    """
    config = read_config(root, container_id)
    found = status_of(root, container_id)
    if found.state != "running":
        raise StateError(f"cannot exec in {config.name}: it is {found.state}")
    group = cgroup_of(root, hierarchy, container_id)
    if group.is_frozen():
        raise StateError(f"cannot exec in {config.name}: it is paused; see `bayplan unpause`")
    own = config.spec.process
    account = resolve_user(config.layers, user).user if user else own.user
    capabilities = own.capabilities
    if account.uid == 0 and own.user.uid != 0:
        # What the container's own user could come by as root, were that not forbidden to it.
        bound = capabilities.bounding
        capabilities = dataclasses.replace(capabilities, effective=bound, permitted=bound)
    process = dataclasses.replace(
        own,
        args=arguments,
        cwd=cwd or own.cwd,
        env=(*(("TERM=xterm",) if terminal else ()), *own.env, *env),
        user=account,
        capabilities=capabilities,
        terminal=terminal,
    )
    program = compile_enter(
        process,
        seccomp=_profile(config),
        cgroup_join=group.join_files(),
        environment=config.environment or None,
        prelude=[("keyring", keyring_name(config.id))],
    )
    shape = size or os.terminal_size((80, 24))
    return request.ExecRequest(
        id=container_id,
        program=program.to_json(),
        terminal=terminal,
        rows=shape.lines,
        columns=shape.columns,
        uid=process.user.uid,
        attached=attached,
    )


def _profile(config: ContainerConfig) -> Seccomp | None:
    if not config.seccomp:
        return config.spec.linux.seccomp
    if config.seccomp not in DEFAULT_PROFILES:
        raise UnsupportedHostError(
            f"container {config.name} wants seccomp profile {config.seccomp}; this version of"
            f" bayplan has {' and '.join(DEFAULT_PROFILES)} only"
        )
    capabilities = frozenset(config.spec.process.capabilities.bounding)
    return default_profile(capabilities, version=config.seccomp)


def _procs_file(join_file: str) -> str:
    return os.path.join(os.path.dirname(join_file), "cgroup.procs")


def _oom_files(join_files: tuple[str, ...]) -> tuple[str, ...]:
    names = ("memory.events", "memory.oom_control")
    candidates = (os.path.join(os.path.dirname(f), name) for f in join_files for name in names)
    return tuple(path for path in candidates if os.path.exists(path))
