"""``exec``: one more process in a running container."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial

from runtime.cgroup.group import Cgroup
from runtime.cli import group as cgroups
from runtime.cli.arguments import UsageError, given_descriptors, one
from runtime.cli.bundle import (
    add_capabilities,
    known_capabilities,
    read_json,
    to_process,
    to_spec,
    with_home,
)
from runtime.cli.commands import wanted
from runtime.cli.context import Context
from runtime.cli.folder import condition, state_of
from runtime.cli.foreground import Foreground
from runtime.cli.launched import abandon, send_terminal
from runtime.cli.listener import send_listener
from runtime.cli.report import clear_up
from runtime.container.program import compile_enter, keyring_name
from runtime.errors import ContainerError, StateError
from runtime.kernel.namespaces import NAMESPACE_FLAGS
from runtime.kernel.pidfd import open_running
from runtime.kernel.program import Operation
from runtime.kernel.replace import replace_file
from runtime.record import replace
from runtime.rootfs.passwd import resolve_user
from runtime.spec import Process, Spec
from runtime.supervisor.interpreter import start
from runtime.supervisor.launch import Launched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Values = Mapping[str, list[str]]


def execute(context: Context, values: Values, rest: list[str]) -> int:
    """Run a process in the container; wait for its end unless detached."""
    if not rest:
        raise UsageError("give a container id")
    kept = given_descriptors(wanted(values, "preserve-fds") or 0)
    folder = context.folder(rest[0])
    status = folder.read()
    word = condition(folder, status, frozen=cgroups.is_frozen(status))
    may_be = ("created", "running", *(("paused",) if "ignore-paused" in values else ()))
    if word not in may_be:
        raise StateError(f"cannot exec in a {word} container: {folder.id}")
    spec = to_spec(folder.read_config(), status.bundle, warn=lambda _text: None)
    process = _process(context, values, rest[1:], spec, f"/proc/{status.pid}/root")
    console = one(values, "console-socket")
    if process.terminal and "detach" in values and console is None:
        raise UsageError("the process has a terminal: use --console-socket")
    if console is not None and not process.terminal:
        raise UsageError("--console-socket is for a process with a terminal")
    try:
        pidfd = open_running(status.pid, status.start)
    except ProcessLookupError:
        raise StateError(f"container not running: {folder.id}") from None
    group = cgroups.open_group(status)
    prelude: list[Operation] = []
    if status.has_keyring:
        prelude.append(("keyring", keyring_name(folder.id)))
    if process.user.uid and not process.terminal:
        prelude.append(("own_streams", process.user.uid))
    program = compile_enter(
        process,
        seccomp=spec.linux.seccomp,
        personality=spec.linux.personality,
        cgroup_join=() if group is None else _join_files(group, values.get("cgroup", ())),
        namespaces=_flags(spec),
        prelude=prelude,
        gate=[("inherit",)],
    )
    cpus = process.exec_cpu_affinity
    if cpus is not None and cpus.initial:
        from runtime.cli.scheduling import set_affinity

        set_affinity(0, cpus.initial, "initial")  # ours is the child's until it is in its cgroups
    with Foreground(context) as foreground:
        size = process.console_size
        launched = start(
            program,
            stdin=0,
            stdout=1,
            stderr=2,
            target=pidfd,
            size=None if size is None else (size.height, size.width),
            answer=_Answer(spec, process, state_of(status, word)),
            kept=kept,
        ).finish(wait=context.wait)
        try:
            _hand_out(context, values, launched, console)
        except BaseException as cause:
            clear_up(cause, partial(abandon, launched))
            raise
        if "detach" in values:
            return 0
        return foreground.follow(launched.pidfd, launched.terminal)


class _Answer:
    """Does what is due while the child waits."""

    def __init__(self, spec: Spec, process: Process, state: dict[str, Any]) -> None:
        self.spec = spec
        self.process = process
        self.state = state

    def __call__(self, name: str, pid: int, fds: tuple[int, ...]) -> dict[str, Any]:
        if name == "listener":
            send_listener(self.spec, self.state, pid, fds)
            return self.state
        from runtime.cli.scheduling import schedule, set_affinity

        cpus = self.process.exec_cpu_affinity
        if cpus is not None and cpus.final:
            set_affinity(pid, cpus.final, "final")
        schedule(pid, self.process)
        return self.state


def _hand_out(context: Context, values: Values, launched: Launched, console: str | None) -> None:
    for warning in launched.warnings:
        context.report.warning(warning)
    if console is not None:
        send_terminal(console, launched)
    pid_file = one(values, "pid-file")
    if pid_file is not None:
        replace_file(pid_file, str(launched.pid).encode(), mode=0o644)


def _process(context: Context, values: Values, args: list[str], spec: Spec, root: str) -> Process:
    """Return what is to be run: a file's, or the container's own process with other words."""
    file = one(values, "process")
    if file is not None:
        process = to_process(read_json(file), warn=context.report.warning)
        terminal = process.terminal or "tty" in values
        return with_home(replace(process, terminal=terminal), root)
    if not args:
        raise UsageError("give a command, or --process")
    process = replace(
        spec.process,
        args=tuple(args),
        env=(*spec.process.env, *values.get("env", ())),
        cwd=one(values, "cwd") or spec.process.cwd,
        terminal="tty" in values,
        # The container's own is not kept: crun's tests hold a runtime to that (runc's do not).
        no_new_privileges="no-new-privs" in values,
    )
    if not process.cwd.startswith("/"):
        raise ContainerError(f"--cwd {process.cwd} is not absolute")
    if (user := one(values, "user")) is not None:
        # A number alone is that and no account, as for runc and crun.
        account = resolve_user(root, f"{user}:0" if user.isdecimal() else user)
        env = tuple(e for e in spec.process.env if not e.startswith("HOME="))
        env = (*env, f"HOME={account.home}", *values.get("env", ()))
        process = replace(process, user=account.user, env=env)
    words = [gid for given in values.get("additional-gids", ()) for gid in given.split(",")]
    if wrong := [gid for gid in words if not gid.isdecimal()]:
        raise UsageError(f"--additional-gids are numbers, not {wrong[0]}")
    if groups := tuple(map(int, words)):
        user_with = replace(process.user, additional_gids=groups)
        process = replace(process, user=user_with)
    added = known_capabilities(values.get("cap", []), context.report.warning)
    capabilities = add_capabilities(process.capabilities, added)
    return with_home(replace(process, capabilities=capabilities), root)


def _join_files(group: Cgroup, wanted: Sequence[str]) -> tuple[str, ...]:
    """Return what the process writes to, to be in groups below the container's, which must exist.

    *wanted* are paths from the container's group on, of all hierarchies or, as ``cpu,memory:a/b``,
    of those with these controllers.
    """
    below: dict[str, str] = {}
    for word in wanted:
        controllers, given, path = word.rpartition(":")
        if ".." in path.split("/"):
            raise UsageError(f"--cgroup: {path} is not a sub cgroup path")
        places = group.hierarchy.places
        if unknown := [name for name in controllers.split(",") if given and name not in places]:
            raise UsageError(f"--cgroup: unknown controller {unknown[0]}")
        folders = [places[name].folder for name in controllers.split(",")] if given else None
        for folder in folders or group.hierarchy.folders():
            below[folder] = path.strip("/")
    found = []
    for file in group.join_files():
        top, _, name = file.rpartition("/")
        path = below.get(top.removesuffix(f"/{group.name}"), "")
        joined = os.path.join(top, path, name)
        if not os.path.exists(joined):
            raise ContainerError(f"--cgroup: {joined}: no such file or directory")
        found.append(joined)
    return tuple(found)


def _flags(spec: Spec) -> int:
    """Return the namespaces the container has of its own."""
    return sum(NAMESPACE_FLAGS[namespace.type] for namespace in spec.linux.namespaces)
