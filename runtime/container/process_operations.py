"""What the process of a container is given and loses before its exec, as operations. Pure.

The order matters: each step comes while it is still allowed. The system call filter is last, so
that it need not allow what the set-up needs. Without no_new_privs loading one takes
CAP_SYS_ADMIN, so then it comes before the privileges go.
"""

from collections.abc import Sequence

from runtime.errors import ContainerError, UnsupportedHostError
from runtime.kernel.capability import to_mask
from runtime.kernel.program import Operation
from runtime.kernel.seccomp import compile_profile, filter_flags
from runtime.spec import DEFAULT_PATH, Capabilities, Process, Seccomp

DEFAULT_UMASK = 0o022

# getrlimit(2); asm-generic/resource.h
_RLIMITS = (
    *("RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS"),
    *("RLIMIT_NPROC", "RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS"),
    *("RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME"),
)


def rlimit_operations(process: Process) -> list[Operation]:
    """Return the resource limits of *process*, which no user namespace may raise.

    Raises:
        ContainerError: there is no such limit.
    """
    operations: list[Operation] = []
    for limit in process.rlimits:
        if limit.type not in _RLIMITS:
            raise ContainerError(f"there is no resource limit {limit.type}")
        operations.append(("rlimit", _RLIMITS.index(limit.type), limit.soft, limit.hard))
    return operations


def process_operations(
    process: Process,
    seccomp: Seccomp | None,
    *,
    init: bool,
    fork: bool = False,
    gate: Sequence[Operation] = (),
) -> list[Operation]:
    """Return how the child becomes *process*, below an *init* or after a *fork* where asked.

    *gate* comes when nothing but the exec is left to be done; after the system call filter where
    that has a listener, which whoever waits for the gate is to get.

    Raises:
        ContainerError: there is no command.
    """
    if not process.args:
        raise ContainerError("there is no command to run")
    operations: list[Operation] = []
    user = process.user
    operations.append(("umask", DEFAULT_UMASK if user.umask is None else user.umask))
    load_filter = _seccomp_operations(seccomp)
    fork_operations: list[Operation] = [("fork",)] if fork else []
    if not process.no_new_privileges:
        # The filter may forbid the fork, so that comes even earlier.
        operations += [*fork_operations, *load_filter]
    operations += _privilege_operations(process.capabilities, process)
    search_path = _search_path(process.env)
    operations.append(("find", process.args[0], tuple(search_path.split(":"))))
    if process.no_new_privileges:
        operations += [("no_new_privs",), *fork_operations]
    operations.append(("session", process.terminal and not init))
    if not process.no_new_privileges:
        operations += gate
    elif seccomp is not None and seccomp.listener_path:
        operations += [*load_filter, *gate]
    else:
        operations += [*gate, *load_filter]
    operations.append(("init" if init else "exec", process.args, process.env))
    return operations


def _privilege_operations(capabilities: Capabilities, process: Process) -> list[Operation]:
    user = process.user
    return [
        ("bounding", to_mask(capabilities.bounding)),
        ("user", user.uid, user.gid, user.additional_gids),
        (
            "capabilities",
            to_mask(capabilities.effective),
            to_mask(capabilities.permitted),
            to_mask(capabilities.inheritable),
            to_mask(capabilities.ambient),
        ),
    ]


def _seccomp_operations(seccomp: Seccomp | None) -> list[Operation]:
    if seccomp is None:
        return []
    name = "listener" if seccomp.listener_path else "seccomp"
    return [(name, compile_profile(seccomp).hex(), filter_flags(seccomp))]


def _search_path(env: Sequence[str]) -> str:
    values = [item.removeprefix("PATH=") for item in env if item.startswith("PATH=")]
    return values[-1] if values else DEFAULT_PATH


def refuse_labels(process: Process) -> None:
    """Raise UnsupportedHostError if *process* asks for a label, which nobody here can give."""
    if process.apparmor_profile:
        raise UnsupportedHostError("apparmor profiles are not supported")
    if process.selinux_label:
        raise UnsupportedHostError("selinux labels are not supported")
