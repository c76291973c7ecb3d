"""Containers of one world, from creation to removal.

The story of a start: network namespace and links, /etc files, cgroup, launch program; then the
supervisor forks and keeps the container. Everything made on the way is found again by the
container's id alone, so each function can be repeated after a crash at any point, and ``remove``
cleans up after any of them.
"""

import dataclasses
import os
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path

from runtime.cgroup import Cgroup, Hierarchy
from runtime.container import secretfs
from runtime.container.config import (
    ContainerConfig,
    Health,
    Join,
    list_configs,
    netns_path,
    private_folder,
    read_config,
    run_folder,
    state_folder,
    write_config,
)
from runtime.container.connect import RUN_NETWORK, delete_run_network_if_unused
from runtime.container.etc import hosts_file
from runtime.container.files import rewrite_file
from runtime.container.program import compile_enter, compile_program
from runtime.errors import NotFoundError, StateError, SupervisorError, UnsupportedHostError
from runtime.kernel.procfs import is_running
from runtime.kernel.seccomp_default import DEFAULT_PROFILE, default_profile
from runtime.network import dns, firewall, netns, network
from runtime.network.hostlock import host_lock
from runtime.network.model import Attachment
from runtime.root import Root
from runtime.rootfs.passwd import resolve_user
from runtime.spec import Resources, Seccomp
from runtime.supervisor import request, status
from runtime.supervisor.client import Supervisor
from runtime.supervisor.status import Status

ETC_FILES = ("hosts", "hostname", "resolv.conf")

_END_IS_TOLD_WITHIN_S = 1.0
_LOOK_AGAIN_S = 0.005
_START_WITHIN_S = 60.0


class Containers:
    """The containers of one world. Making one touches nothing on disk.

    Methods that change something may be called from several threads, for different containers.
    """

    def __init__(self, root: Root, *, hierarchy: Hierarchy | None = None) -> None:
        self.root = root
        self._hierarchy = hierarchy

    @property
    def hierarchy(self) -> Hierarchy:
        """Where the host keeps its cgroup controllers; read once."""
        if self._hierarchy is None:
            self._hierarchy = Hierarchy.detect()
        return self._hierarchy

    def cgroup(self, container_id: str) -> Cgroup:
        """Return the container's cgroup, which may not exist."""
        return Cgroup(self.hierarchy, f"{self.root.cgroup}/{container_id}")

    def status(self, container_id: str) -> Status:
        """Return where the container is, from files and the kernel; starts nothing.

        Raises:
            NotFoundError: there is no such container.
        """
        recorded = status.read_recorded(str(run_folder(self.root, container_id)))
        if recorded is None:
            read_config(self.root, container_id)
            return Status(id=container_id)
        if recorded.state != "running" or is_running(recorded.pid, recorded.start_time):
            return recorded
        return self._just_ended(container_id)

    def _just_ended(self, container_id: str) -> Status:
        """Return how a container ended whose end may not have been written down yet.

        Only the supervisor knows; without one nobody does, and the exit code stays unknown.
        """
        deadline = time.monotonic() + _END_IS_TOLD_WITHIN_S
        while time.monotonic() < deadline:
            try:
                told = Supervisor(self.root, start=False).status(container_id)
            except (NotFoundError, StateError, SupervisorError):
                break
            if told.state != "running" or is_running(told.pid, told.start_time):
                return told
            time.sleep(_LOOK_AGAIN_S)
        return status.read(self.root, container_id)

    def create(self, config: ContainerConfig) -> None:
        """Record a container and make its folders; nothing runs yet. Idempotent."""
        folder = state_folder(self.root, config.id)
        for name in ("upper", "work", "log"):
            private_folder(folder / name)
        # The root of the overlay takes its mode from the upper folder.
        (folder / "upper").chmod(0o755)
        write_config(self.root, config)

    def start(self, container_id: str) -> tuple[str, ...]:
        """Start a created or ended container; return warnings of the host. Running is fine.

        Raises:
            NotFoundError: there is no such container.
            LaunchError: its program could not be executed; the container is ``dead``.
            NetworkError, ConflictError, UnsupportedHostError: as the parts raise them.
        """
        config = read_config(self.root, container_id)
        if self.status(container_id).state in ("running", "restarting"):
            return ()
        attachments = self._connect(config)
        self._write_etc(config, attachments)
        group = self.cgroup(container_id)
        warnings = group.create(config.spec.linux.resources)
        try:
            launched = Supervisor(self.root).launch(self._request(config, group))
        except StateError:
            # Its restart policy was faster.
            if self.status(container_id).state in ("running", "restarting"):
                return warnings
            raise
        return (*warnings, *launched.warnings)

    def stop(
        self, container_id: str, *, signal: int | None = None, grace: float | None = None
    ) -> None:
        """Ask the container to end, and make it after *grace*; return when it has. Idempotent.

        It stays stopped, whatever its restart policy, and gives its links and cgroup back; its
        addresses stay reserved.
        """
        config = read_config(self.root, container_id)
        if not self.status(container_id).ended:
            with suppress(NotFoundError):
                Supervisor(self.root).stop(
                    container_id,
                    signal=config.stop_signal if signal is None else signal,
                    grace=config.stop_grace if grace is None else grace,
                )
        self._let_go(container_id)

    def kill(self, container_id: str, signal: int) -> None:
        """Send *signal* to the container's first process.

        Raises:
            StateError: it does not run.
        """
        if self.status(container_id).state != "running":
            raise StateError(f"cannot signal {container_id}: it does not run")
        Supervisor(self.root).kill(container_id, signal)

    def restart(self, container_id: str) -> tuple[str, ...]:
        """Stop and start."""
        self.stop(container_id)
        return self.start(container_id)

    def remove(self, container_id: str, *, force: bool = False) -> None:
        """Remove the container and everything that is its own. Idempotent.

        Raises:
            StateError: it runs and *force* is not given.
        """
        on_run_network = False
        with suppress(NotFoundError):
            joins = read_config(self.root, container_id).joins
            on_run_network = any(join.network == RUN_NETWORK for join in joins)
            found = self.status(container_id)
            if not (found.ended or found.state == "created"):
                if not force:
                    raise StateError(f"cannot remove {container_id}: it is {found.state}")
                with suppress(NotFoundError):
                    Supervisor(self.root).stop(container_id, signal=9, grace=0.0)
        # Without a supervisor there is nobody to forget it.
        with suppress(NotFoundError, StateError):
            Supervisor(self.root, start=False).forget(container_id)
        self._let_go(container_id)
        owner = self.publications_owner(container_id)
        if owner in firewall.publications(self.root):
            firewall.unpublish(self.root, owner)
        with host_lock(self.root, f"remove container {container_id}"):
            network.release(self.root, container_id)
            secretfs.remove_folder(self.root, container_id)
        if on_run_network:
            delete_run_network_if_unused(self.root)
        Cgroup(self.hierarchy, self.root.cgroup).delete(nested=False)
        for folder in (run_folder(self.root, container_id), state_folder(self.root, container_id)):
            with suppress(FileNotFoundError):
                shutil.rmtree(folder)

    def supervise(self) -> None:
        """Make sure that what runs is being looked after; idempotent, and cheap if it is."""
        if is_unattended(self.root):
            Supervisor(self.root).ping()

    def reap(self) -> None:
        """Remove what was to be removed at its end, and ended with nobody there to do it.

        One just being made is left alone: it has not run yet either.
        """
        for config in list_configs(self.root):
            ended = config.auto_remove and self._is_over(config)
            if ended and time.time() - config.created_at > _START_WITHIN_S:
                self.remove(config.id, force=True)

    def _is_over(self, config: ContainerConfig) -> bool:
        found = self.status(config.id)
        return found.ended or found.state == "created"

    def update(self, config: ContainerConfig) -> tuple[str, ...]:
        """Make *config* the container's, as far as that can be done while it runs; idempotent.

        Limits, restart policy, health check, log options, stop signal and grace, names on
        networks, marks and labels. Everything else in *config* must be as it was.
        """
        before = read_config(self.root, config.id)
        write_config(self.root, config)
        warnings: tuple[str, ...] = ()
        group = self.cgroup(config.id)
        if group.exists():
            warnings = group.update(config.spec.linux.resources)
        if self.status(config.id).state in ("running", "restarting"):
            wanted = self._request(config, group)
            Supervisor(self.root).configure(
                config.id,
                restart=wanted.restart,
                health=wanted.health,
                logs=wanted.logs,
                stop=wanted.stop,
            )
        if before.joins != config.joins:
            for join in config.joins:
                network.set_names(self.root, join.network, config.id, join.names)
        return warnings

    def exec_request(
        self,
        container_id: str,
        arguments: tuple[str, ...],
        *,
        env: tuple[str, ...] = (),
        user: str | None = None,
        cwd: str | None = None,
        terminal: bool = False,
        size: os.terminal_size | None = None,
    ) -> request.ExecRequest:
        """Return what runs *arguments* inside, with the container's own rights at most.

        Raises:
            NotFoundError: no such container, or no such *user* in its image.
            StateError: it does not run.
        """
        config = read_config(self.root, container_id)
        found = self.status(container_id)
        if found.state != "running":
            raise StateError(f"cannot exec in {config.name}: it is {found.state}")
        own = config.spec.process
        process = dataclasses.replace(
            own,
            args=arguments,
            cwd=cwd or own.cwd,
            env=(*own.env, *env, *(("TERM=xterm",) if terminal else ())),
            user=resolve_user(config.layers, user).user if user else own.user,
            terminal=terminal,
        )
        program = compile_enter(
            process,
            seccomp=_profile(config),
            cgroup_join=self.cgroup(container_id).join_files(),
            environment=config.environment or None,
        )
        shape = size or os.terminal_size((80, 24))
        return request.ExecRequest(
            id=container_id,
            program=program.to_json(),
            terminal=terminal,
            rows=shape.lines,
            columns=shape.columns,
        )

    def set_resources(self, container_id: str, resources: Resources) -> tuple[str, ...]:
        """Change the limits, live, and in the record."""
        config = read_config(self.root, container_id)
        linux = dataclasses.replace(config.spec.linux, resources=resources)
        spec = dataclasses.replace(config.spec, linux=linux)
        return self.update(dataclasses.replace(config, spec=spec))

    def reserve(self, container_id: str) -> None:
        """Give a container that is not started yet its addresses. Idempotent."""
        self._connect(read_config(self.root, container_id))

    @staticmethod
    def publications_owner(container_id: str) -> str:
        """Return the owner of ports that go with the container itself, and leave with it."""
        return f"container/{container_id}"

    def _connect(self, config: ContainerConfig) -> tuple[Attachment, ...]:
        """Give the container its namespace and links; returns what it is attached to."""
        if config.network_mode == "host":
            return ()
        path = str(netns_path(self.root, config.id))
        netns.create(path)
        attachments = tuple(
            self._attach(config, path, join, position) for position, join in enumerate(config.joins)
        )
        gateways = [a.gateway for a in attachments]
        if gateways:
            Supervisor(self.root).dns(gateways)
        return attachments

    def _attach(self, config: ContainerConfig, path: str, join: Join, position: int) -> Attachment:
        return network.attach(
            self.root,
            join.network,
            config.id,
            path,
            ip=join.ip,
            names=join.names,
            interface=f"eth{position}",
            servers=config.dns_servers,
        )

    def _write_etc(self, config: ContainerConfig, attachments: tuple[Attachment, ...]) -> None:
        folder = run_folder(self.root, config.id) / "etc"
        private_folder(folder)
        hostname = config.spec.hostname or config.id
        texts = {
            "hostname": f"{hostname}\n",
            "hosts": hosts_file(
                hostname,
                [a.ip for a in attachments],
                config.extra_hosts,
                gateway=attachments[0].gateway if attachments else None,
            ),
            "resolv.conf": dns.resolv_conf(
                attachments,
                servers=config.dns_servers,
                search=config.dns_search,
                options=config.dns_options,
            ),
        }
        for name, text in texts.items():
            rewrite_file(folder / name, text.encode())

    def _request(self, config: ContainerConfig, group: Cgroup) -> request.LaunchRequest:
        folder = state_folder(self.root, config.id)
        bridged = config.network_mode != "host"
        join_files = group.join_files()
        linux = dataclasses.replace(config.spec.linux, seccomp=_profile(config))
        program = compile_program(
            dataclasses.replace(config.spec, linux=linux),
            layers=config.layers,
            upper=str(folder / "upper"),
            work=str(folder / "work"),
            volatile=config.volatile,
            netns=str(netns_path(self.root, config.id)) if bridged else None,
            cgroup_join=join_files,
            init=config.init,
            environment=config.environment or None,
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
            uid=user.uid,
            gid=user.gid,
            restart=config.restart,
            stop=request.Stop(signal=config.stop_signal, grace=config.stop_grace),
            health=self._health(config, join_files) if config.health else None,
            auto_remove=config.auto_remove,
            oom_files=_oom_files(join_files),
            cgroup_procs=tuple(_procs_file(path) for path in join_files),
            token=secrets.token_hex(8),
        )

    def _health(self, config: ContainerConfig, join_files: tuple[str, ...]) -> request.Health:
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
            ).to_json()
        http = health.http or {}
        bridged = config.network_mode != "host"
        return request.Health(
            kind=kind,
            port=int(http.get("port") or health.tcp or 0),
            path=http.get("path") or "/",
            host=http.get("host"),
            netns=str(netns_path(self.root, config.id)) if bridged else None,
            program=program,
            interval=health.interval,
            timeout=health.timeout,
            retries=health.retries,
            start_period=health.start_period,
            on_unhealthy=health.on_unhealthy,
        )

    def _let_go(self, container_id: str) -> None:
        """Give back what only a running container needs. Idempotent."""
        network.park(self.root, container_id)
        netns.delete(str(netns_path(self.root, container_id)))
        group = self.cgroup(container_id)
        group.kill()
        group.delete()


def is_unattended(root: Root) -> bool:
    """Tell whether containers run, or wait to be started again, and no supervisor is there."""
    found = status.read_all(root).values()
    if all(s.ended or s.state == "created" for s in found):
        return False
    try:
        Supervisor(root, start=False).ping()
    except (NotFoundError, StateError, SupervisorError):
        return True
    return False


def etc_source(root: Root, container_id: str, name: str) -> Path:
    """Return the host's file behind one of ETC_FILES, for the container's mounts."""
    return run_folder(root, container_id) / "etc" / name


def log_folder(root: Root, container_id: str) -> Path:
    """Return where the container's log is."""
    return state_folder(root, container_id) / "log"


def uptime(found: Status) -> float:
    """Return seconds since the container was started; 0 if it does not run."""
    if found.state != "running" or found.started_at is None:
        return 0.0
    return max(0.0, time.time() - found.started_at)


def _profile(config: ContainerConfig) -> Seccomp | None:
    if not config.seccomp:
        return config.spec.linux.seccomp
    if config.seccomp != DEFAULT_PROFILE:
        raise UnsupportedHostError(
            f"container {config.name} wants seccomp profile {config.seccomp}; this version of"
            f" bayplan has {DEFAULT_PROFILE} only"
        )
    return default_profile(frozenset(config.spec.process.capabilities.bounding))


def _procs_file(join_file: str) -> str:
    return os.path.join(os.path.dirname(join_file), "cgroup.procs")


def _oom_files(join_files: tuple[str, ...]) -> tuple[str, ...]:
    names = ("memory.events", "memory.oom_control")
    candidates = (os.path.join(os.path.dirname(f), name) for f in join_files for name in names)
    return tuple(path for path in candidates if os.path.exists(path))
