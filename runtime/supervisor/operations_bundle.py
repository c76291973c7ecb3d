"""Operations only containers made for another engine need; see `runtime.kernel.program`.

Such a container is made in steps between which the parent acts, and its hooks with it.
"""

import contextlib
import errno
import os
from collections.abc import Callable

from runtime import json_text
from runtime.errors import KernelError, LaunchError
from runtime.kernel import lsm, mask, process
from runtime.kernel.bare import accept, signal, socket
from runtime.kernel.capability import host_bounding
from runtime.kernel.passing import receive_fds
from runtime.supervisor.child import Child, environment
from runtime.supervisor.hook import run_hook

_MODULES = {lsm.APPARMOR: "AppArmor", lsm.SELINUX: "SELinux"}


def stop(child: Child, name: str) -> None:
    """Wait until the parent has done what is due at this point, and take the state it sends."""
    child.send({"stop": name})
    answer, fds = receive_fds(child.channel, 16, 1)
    if not answer:
        raise LaunchError(f"nobody answered at {name}")
    with os.fdopen(fds[0], "rb") as file:
        file.seek(0)
        child.state = json_text.loads(file.read())


def hooks(
    child: Child,
    status: str,
    items: tuple[tuple[str, tuple[str, ...], tuple[str, ...], int | None], ...],
) -> None:
    """Run hooks one after the other, in whatever is in view now."""
    state = json_text.dumps({**child.state, "status": status}).encode()
    for path, args, env, timeout_s in items:
        run_hook(path, args, environment(env), state, timeout_s=timeout_s)


def await_start(child: Child) -> None:
    """Tell the parent that all is ready, and wait for somebody to connect.

    From there on that is who is told how it goes: the parent need not be there any more.

    Raises:
        LaunchError: the system call filter, which may be in force already, keeps us from it.
    """
    # All that a filter could refuse is done now, while somebody is told.
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, child.start_fd)
    try:
        # It waits for nobody: this socket does not listen.
        accept(child.channel)
    except OSError as error:
        if error.errno != errno.EINVAL:
            text = f"the seccomp profile refuses accept4, with which start is waited for: {error}"
            raise LaunchError(text) from error
    child.send({"waiting": True})
    child.channel.close()
    with contextlib.closing(listening):
        child.channel = accept(listening)
    child.start_fd = -1


def started(child: Child) -> None:
    """Tell whoever connected that the hooks are through: end of file alone might be our death."""
    # They may be gone; and the filter in force may know this call only as write(2).
    with contextlib.suppress(OSError):
        os.write(child.channel.fileno(), json_text.dumps({"started": True}).encode())


def identity(child: Child) -> None:
    """Become root of the user namespace just entered, whose bounding set is its own, and full."""
    host_bounding.cache_clear()
    host_bounding()
    os.setgroups(())
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    # The kernel has set it to fs.suid_dumpable.
    process.prctl(process.PR_SET_DUMPABLE, 0)


def own_streams(child: Child, uid: int) -> None:
    """Give the standard streams to *uid*, which can then open /dev/stdout; not the null device."""
    for stream in (0, 1, 2):
        if os.fstat(stream).st_rdev != os.makedev(1, 3):
            # Of a read-only file system, or an owner without a number in this namespace.
            with contextlib.suppress(OSError):
                os.fchown(stream, uid, -1)


def inherit(child: Child) -> None:
    """Let the program have the descriptors its caller wants it to have."""
    for fd in child.kept:
        os.set_inheritable(fd, True)


def keyring(child: Child, name: str) -> None:
    """Leave the session keyring of whoever called us (no kernel need have keyrings).

    Raises:
        LaunchError: it cannot be left; its keys would be the container's.
    """
    if mask.is_masked(mask.KEYRINGS):
        return
    try:
        process.join_session_keyring(name)
    except KernelError as error:
        if error.errno != errno.ENOSYS:
            raise LaunchError(f"{error}; --no-new-keyring leaves the caller's") from error


def labels(child: Child, modules: tuple[str, ...], keep: bool) -> None:
    """See that there is what labels are asked of, and *keep* the host's /proc to ask through.

    The container's own need not be there, nor be one.

    Raises:
        LaunchError: this host has no such security module.
    """
    for module in modules:
        if not lsm.is_enabled(module):
            raise LaunchError(f"this host has no {_MODULES[module]}, of which a label is asked")
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
        raise LaunchError(f"{_MODULES[module]} label {text}: {error.strerror}") from error


def close_labels(child: Child) -> None:
    """Let go of the host's /proc."""
    os.close(child.proc_fd)
    child.proc_fd = -1


def domainname(child: Child, name: str) -> None:
    """Give the UTS namespace a domain name."""
    process.setdomainname(name)


def listener(child: Child, program: str, flags: int) -> None:
    """Load a filter some of whose calls are decided elsewhere, and hand over its listener."""
    # Signals are blocked until exec; one that kills is the way out if nobody ever listens.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
    fd = process.seccomp(process.SECCOMP_SET_MODE_FILTER, flags, bytes.fromhex(program))
    child.send({"listener": True}, (fd,))
    os.close(fd)


OPERATIONS: dict[str, Callable[..., None]] = {
    "stop": stop,
    "hooks": hooks,
    "await_start": await_start,
    "started": started,
    "identity": identity,
    "own_streams": own_streams,
    "inherit": inherit,
    "keyring": keyring,
    "domainname": domainname,
    "listener": listener,
    "labels": labels,
    "label": label,
    "close_labels": close_labels,
}
