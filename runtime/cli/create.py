"""``create`` and ``run``."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress

from runtime import json_text
from runtime.cgroup.group import Cgroup
from runtime.cli import group as cgroups
from runtime.cli.arguments import UsageError, given_descriptors, one, only
from runtime.cli.bundle import read_json, to_spec, with_home
from runtime.cli.commands import wanted
from runtime.cli.context import Context
from runtime.cli.folder import Folder, Status, state_of
from runtime.cli.hooks import run_all, run_poststop
from runtime.cli.launched import abandon, send_terminal
from runtime.cli.listener import send_listener
from runtime.cli.report import clear_up
from runtime.container.program import compile_program, keyring_name
from runtime.container.stages import Stages
from runtime.errors import ContainerError, LaunchError, NotFoundError
from runtime.kernel.namespaces import write_maps
from runtime.kernel.procfs import boot_id, is_confined, start_ticks
from runtime.kernel.replace import replace_file
from runtime.record import replace
from runtime.spec import Resources, Spec
from runtime.supervisor.interpreter import start
from runtime.supervisor.launch import Launched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runtime.cgroup.scope import Scope

_PATIENCE_S = 1e6
"""Hooks take as long as they take."""

Values = Mapping[str, list[str]]


def create(context: Context, values: Values, rest: list[str]) -> int:
    """Make a container whose process waits for `start`."""
    if "detach" in values or "keep" in values:
        raise UsageError("create takes neither --detach nor --keep")
    _Making(context, values, only(rest)).make(needs_socket=True)
    return 0


def run(context: Context, values: Values, rest: list[str]) -> int:
    """Make a container and start it; wait for its end and delete it unless detached."""
    from runtime.cli.foreground import Foreground
    from runtime.cli.start import notification, start_process

    detach = "detach" in values
    making = _Making(context, values, only(rest))
    if detach:
        making.make(needs_socket=True)
        try:
            with notification(context, making.folder, making.status) as notify:
                start_process(context, making.folder, making.status)
                if notify is not None:
                    notify.wait()
        except BaseException as cause:
            clear_up(cause, lambda: _clear_away(making))
            raise
        return 0
    with Foreground(context) as foreground:
        launched = making.make(needs_socket=False)
        try:
            with notification(context, making.folder, making.status) as notify:
                start_process(context, making.folder, making.status)
                code = foreground.follow(launched.pidfd, launched.terminal, notify)
        except BaseException as cause:
            if "keep" not in values:
                clear_up(cause, lambda: _clear_away(making))
            raise
        if "keep" not in values:
            _clear_away(making)
        return code


def _clear_away(making: _Making) -> None:
    """Delete the container, unless somebody has; its id may be another's by now."""
    from runtime.cli.ending import destroy

    folder, ours = making.folder, making.status
    with suppress(NotFoundError), folder.locked():
        found = folder.read()
        if (found.pid, found.start) == (ours.pid, ours.start):
            destroy(making.context, folder, ours)


class _Making:
    """One container on its way."""

    status: Status
    cgroup: str | None = None
    scope: Scope | None = None
    cgroup_inode: int | None = None

    def __init__(self, context: Context, values: Values, container_id: str) -> None:
        self.context = context
        self.values = values
        self.folder: Folder = context.folder(container_id)
        self.bundle = os.path.realpath(one(values, "bundle") or ".")
        count = wanted(values, "preserve-fds") or 0
        # systemd's way to pass sockets, sd_listen_fds(3).
        listen_fds = os.environ.get("LISTEN_FDS") or "0"
        if not listen_fds.isdecimal():
            raise UsageError(f"LISTEN_FDS is a number, not {listen_fds}")
        self.listen_fds = int(listen_fds)
        # Looked for now, before we open anything ourselves.
        self.kept = given_descriptors(count + self.listen_fds)
        self.created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    def make(self, *, needs_socket: bool) -> Launched:
        """Make everything up to the start; on failure nothing is left.

        A terminal goes to the console socket; one that is not given is the caller's to serve,
        unless it *needs_socket*.
        """
        config = read_json(os.path.join(self.bundle, one(self.values, "config") or "config.json"))
        console = one(self.values, "console-socket")
        if needs_socket and console is None and _wants_terminal(config):
            raise UsageError("the process has a terminal: use --console-socket")
        spec = to_spec(config, self.bundle, warn=self.context.report.warning)
        spec = replace(spec, process=with_home(spec.process, spec.root.path))
        if console is not None and not spec.process.terminal:
            raise UsageError("--console-socket is for a process with a terminal")
        self._name_group(config, spec)
        with self.folder.claimed():
            group = launched = None
            try:
                self.folder.write_config(config)
                with self._made_group(spec) as group:
                    self.folder.write(self._status(spec, 0, 0), making=True)
                    if manager := os.environ.get("NOTIFY_SOCKET"):
                        from runtime.cli.notify import prepare

                        spec = prepare(self.folder, spec, manager)
                    launched = self._launch(spec, group)
                if console is not None:
                    send_terminal(console, launched)
                self._record(spec, launched)
            except BaseException as cause:
                if launched is not None:
                    clear_up(cause, functools.partial(abandon, launched))
                if group is not None:
                    clear_up(cause, functools.partial(cgroups.remove, group, self.unit))
                clear_up(cause, self.folder.remove)
                if spec.hooks.poststop and group is not None:
                    gone = self._status(spec, 0, 0)
                    clear_up(cause, functools.partial(run_poststop, self.context, spec, gone))
                raise
        for warning in launched.warnings:
            self.context.report.warning(warning)
        return launched

    def _name_group(self, config: dict[str, Any], spec: Spec) -> None:
        if self.context.has_scopes:
            from runtime.cgroup.scope import scope_of

            self.scope = scope_of(spec.linux.cgroups_path, self.folder.id)
            self.cgroup = self.scope.group
        elif self.context.has_cgroups and cgroups.are_delegated():
            self.cgroup = cgroups.group_name(config, self.folder.id, self.folder.root)
        elif self.context.has_cgroups:
            cgroups.refuse_limits(spec.linux.resources)

    @property
    def unit(self) -> str | None:
        """The unit of systemd that has the cgroup, if one has."""
        return None if self.scope is None else self.scope.unit

    @contextmanager
    def _made_group(self, spec: Spec) -> Iterator[Cgroup | None]:
        """Make the container's group, in which its process has to be by the end of the ``with``."""
        resources = spec.linux.resources
        if self.scope is not None:
            from runtime.cli import scope

            where = cgroups.hierarchy()
            with scope.started(
                self.scope, where, self.folder.id, resources, spec.annotations
            ) as group:
                self.cgroup_inode = group.inode()
                yield group
        elif self.cgroup is not None:
            made = cgroups.make(self.cgroup, resources)
            self.cgroup_inode = made.inode()
            yield made
        elif resources != Resources() and not self.context.has_cgroups:
            raise ContainerError("resources need a cgroup manager")
        else:
            yield None

    def _launch(self, spec: Spec, group: Cgroup | None) -> Launched:
        join = () if group is None else group.join_files()
        stages = Stages(
            spec.hooks,
            pivot="no-pivot" not in self.values,
            # The streams of a process with a terminal are that: those of now stay the caller's.
            owner=0 if spec.process.terminal else spec.process.user.uid,
        )
        spec = self._with_listen_fds(spec)
        keyring = None if "no-new-keyring" in self.values else keyring_name(self.folder.id)
        program = compile_program(
            spec, cgroup_join=join, keyring=keyring, stages=stages, confined=is_confined()
        )
        console = spec.process.console_size
        with closing(self.folder.listen()) as listening:
            launch = start(
                program,
                stdin=0,
                stdout=1,
                stderr=2,
                size=None if console is None else (console.height, console.width),
                answer=lambda name, pid, fds: self._answer(spec, name, pid, fds),
                start_fd=listening.fileno(),
                kept=self.kept,
            )
            return launch.finish(timeout_s=_PATIENCE_S, wait=self.context.wait)

    def _answer(self, spec: Spec, name: str, pid: int, fds: tuple[int, ...]) -> dict[str, Any]:
        """Do what is due while the child waits at *name*."""
        state = state_of(self._status(spec, pid, 0), "creating")
        if name == "mappings":
            linux = spec.linux
            uids, gids = linux.uid_mappings, linux.gid_mappings
            write_maps(pid, [m.triple for m in uids], [m.triple for m in gids])
        elif name == "offsets":
            _write_offsets(pid, spec.linux.time_offsets)
        elif name == "runtime":
            # From here on the child outlives us, as long as a hook of its own takes.
            self.folder.write(self._found(spec, pid), making=True)
            hooks = (*spec.hooks.prestart, *spec.hooks.create_runtime)
            run_all(hooks, state, self.context.wait, self.folder)
        elif name == "listener":
            send_listener(spec, state, pid, fds)
        elif name == "scheduling":
            from runtime.cli.scheduling import schedule

            schedule(pid, spec.process)
        return state

    def _record(self, spec: Spec, launched: Launched) -> None:
        self.status = self._found(spec, launched.pid)
        self.folder.write(self.status)
        pid_file = one(self.values, "pid-file")
        if pid_file is not None:
            replace_file(pid_file, str(launched.pid).encode(), mode=0o644)

    def _found(self, spec: Spec, pid: int) -> Status:
        began = start_ticks(pid)
        if began is None:
            raise LaunchError("the container's process has ended already")
        return self._status(spec, pid, began)

    def _status(self, spec: Spec, pid: int, began: int) -> Status:
        streams = [os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2)]
        return Status(
            id=self.folder.id,
            pid=pid,
            start=began,
            bundle=self.bundle,
            created=self.created,
            cgroup=self.cgroup,
            scope=self.unit,
            cgroup_inode=self.cgroup_inode,
            boot=boot_id(),
            annotations=spec.annotations,
            external_descriptors=json_text.dumps(streams),
            has_keyring="no-new-keyring" not in self.values,
        )

    def _with_listen_fds(self, spec: Spec) -> Spec:
        if not self.listen_fds:
            return spec
        more = (f"LISTEN_FDS={self.listen_fds}", "LISTEN_PID=1")
        process = replace(spec.process, env=(*spec.process.env, *more))
        return replace(spec, process=process)


def _wants_terminal(config: Any) -> bool:
    """Tell whether the command line has to suit a terminal, whatever is wrong with *config*."""
    process = config.get("process") if isinstance(config, dict) else None
    return isinstance(process, dict) and process.get("terminal") is True


def _write_offsets(pid: int, offsets: Mapping[str, Mapping[str, int]]) -> None:
    """Set the clocks of the time namespace *pid* has made, time_namespaces(7)."""
    with open(f"/proc/{pid}/timens_offsets", "w", encoding="ascii") as file:
        for clock, offset in offsets.items():
            file.write(f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}\n")
