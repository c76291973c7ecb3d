"""What the process of a container is given and loses before its exec, as operations. Pure.

The order matters: each step comes while it is still allowed. The system call filter is last, so
that it need not allow what the set-up needs; startContainer hooks are under it, too. Without
no_new_privs loading one takes CAP_SYS_ADMIN, so then it comes before the privileges go.
"""

from collections.abc import Sequence

from runtime.errors import ContainerError
from runtime.kernel.capability import to_mask
from runtime.kernel.lsm import APPARMOR, SELINUX
from runtime.kernel.program import RLIMITS, Operation
from runtime.kernel.seccomp import compile_profile, filter_flags
from runtime.spec import DEFAULT_PATH, Capabilities, Personality, Process, Seccomp

DEFAULT_UMASK = 0o022

# personality(2); linux/personality.h
PERSONALITIES = {"LINUX": 0x0000, "LINUX32": 0x0008}


def rlimit_operations(process: Process) -> list[Operation]:
    """Return the resource limits of *process*, which no user namespace may raise.

    Raises:
        ContainerError: there is no such limit.
    """
    operations: list[Operation] = []
    for limit in process.rlimits:
        if limit.type not in RLIMITS:
            raise ContainerError(f"there is no resource limit {limit.type}")
        if limit.soft > limit.hard:
            raise ContainerError(f"{limit.type}: soft {limit.soft} is above hard {limit.hard}")
        operations.append(("rlimit", RLIMITS.index(limit.type), limit.soft, limit.hard))
    return operations


def process_operations(
    process: Process,
    seccomp: Seccomp | None,
    *,
    init: bool,
    fork: bool = False,
    personality: Personality | None = None,
    gate: Sequence[Operation] = (),
    last: Sequence[Operation] = (),
) -> list[Operation]:
    """Return how the child becomes *process*, below an *init* or after a *fork* where asked.

    *gate* comes when nothing but the exec is left to be done; after the system call filter where
    that has a listener, which whoever waits for the gate is to get. *last* is always under the
    filter, as the process is. At the stop ``scheduling``
    before it the parent sets what a process with no privileges left, which may not fork any more
    from then on (SCHED_DEADLINE), could not set itself.

    Raises:
        ContainerError: there is no command, or no such personality.
    """
    if not process.args:
        raise ContainerError("there is no command to run")
    for item in process.env:
        if item.startswith("="):
            raise ContainerError(f"environment variable {item!r} has no name")
    operations: list[Operation] = []
    user = process.user
    operations.append(("umask", DEFAULT_UMASK if user.umask is None else user.umask))
    if personality is not None:
        operations.append(("personality", _persona(personality)))
    operations += _label_operations(process)
    moves_last = fork and process.exec_cpu_affinity is not None
    if process.scheduler is not None or process.io_priority is not None or moves_last:
        gate = (("stop", "scheduling"), *gate)
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
    operations += last
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


def labels_of(process: Process) -> dict[str, str]:
    """Return security module -> the label that *process* is to have."""
    given = {APPARMOR: process.apparmor_profile, SELINUX: process.selinux_label}
    return {module: label for module, label in given.items() if label}


def _label_operations(process: Process) -> list[Operation]:
    labels = labels_of(process)
    operations: list[Operation] = [("label", module, text) for module, text in labels.items()]
    return [*operations, ("close_labels",)] if labels else []


def _persona(personality: Personality) -> int:
    if personality.domain not in PERSONALITIES:
        raise ContainerError(f"there is no personality {personality.domain}")
    return PERSONALITIES[personality.domain]
