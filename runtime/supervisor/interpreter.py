"""From a launch program to a running process.

The supervisor forks itself (clone3, into the new namespaces) and the child runs the operations
one by one, the last of which is exec. What the child reports until then, its parent takes in by
`runtime.supervisor.launch`: so a launch can be waited for (`launch`, `enter`) or watched by an
event loop (`start`).

The child is a copy of this process, so this must be a single-threaded one, and a small one to be
quick. Nothing of it reaches the container: its other descriptors are closed before the first
operation, what it was called with is overwritten, it cannot be traced (CVE-2016-9962), and it ends
by exec or os._exit, never through Python's own exit.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import gc
import os
import sys

from runtime.errors import ContainerError, KernelError, LaunchError
from runtime.kernel import process
from runtime.kernel.bare import signal, socket
from runtime.kernel.capability import host_bounding
from runtime.kernel.init_elf import NAME, has_init, init_program
from runtime.kernel.namespaces import CLONE_CLEAR_SIGHAND, CLONE_INTO_CGROUP, clone3, number_in_proc
from runtime.kernel.procfs import boot_id, read_cgroup
from runtime.kernel.program import Program
from runtime.kernel.selfexe import sealed_program
from runtime.supervisor import (
    operations_bundle,
    operations_host,
    operations_inside,
    operations_process,
)
from runtime.supervisor.child import Child
from runtime.supervisor.launch import TIMEOUT_S, Admit, Answer, Launch, Launched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

OPERATIONS = {
    **operations_host.OPERATIONS,
    **operations_inside.OPERATIONS,
    **operations_process.OPERATIONS,
    **operations_bundle.OPERATIONS,
}
_FAILED = 125
_CGROUP = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_SIGNALS = frozenset(signal.valid_signals())


def launch(
    program: Program,
    *,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Launched:
    """Run *program* in a child and return its process once exec has succeeded.

    The standard streams are /dev/null unless given, or the console's if the program has one.

    Raises:
        LaunchError: an operation failed, in words; nothing is left running. Its exit code is 127
            if the command does not exist, 126 if it cannot be executed, else 125.
    """
    return start(program, stdin=stdin, stdout=stdout, stderr=stderr).finish(timeout_s=timeout_s)


def enter(
    pidfd: int,
    program: Program,
    *,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Launched:
    """Run *program*, from `compile_enter`, in the namespaces of the process *pidfd* refers to.

    Otherwise as `launch`; the process is a child of this one, not of the container's.
    """
    started = start(program, stdin=stdin, stdout=stdout, stderr=stderr, target=pidfd)
    return started.finish(timeout_s=timeout_s)


def start(
    program: Program,
    *,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    target: int | None = None,
    size: tuple[int, int] | None = None,
    admit: Admit = lambda _pid: None,
    answer: Answer | None = None,
    start_fd: int = -1,
    kept: tuple[int, ...] = (),
) -> Launch:
    """Fork the child that runs *program*, and return without waiting for it.

    *admit* is called with the pid of the child, and of each sibling it goes on as, before that
    does anything. If this process is killed before *admit* has returned, the child ends by itself.

    *target* is a pidfd of the process whose namespaces an ``enter`` operation enters, *size* the
    rows and columns of the terminal that a ``console`` operation makes. *answer* is called at each
    ``stop``, while the child waits; *start_fd* is the listening socket of ``await_start``; *kept*
    are descriptors ``inherit`` leaves to the program. All stay the caller's.

    Raises:
        LaunchError: there is no child: no such cgroup, or the kernel refused the namespaces.
    """
    if len(sys._current_frames()) > 1:
        raise LaunchError("only a single-threaded process can launch: a thread may hold a lock")
    # Asked here once, not in every child.
    host_bounding()
    boot_id()
    words = _command_line_area()
    init_fd = _init() if program.operations[-1][0] == "init" and has_init() else -1
    with contextlib.ExitStack() as opened:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        opened.callback(os.close, null)
        standard = tuple(null if fd is None else fd for fd in (stdin, stdout, stderr))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        opened.callback(theirs.close)
        try:
            pid, pidfd = _clone(program, target)
        except BaseException:
            ours.close()
            raise
        if pid == 0:
            entered = -1 if target is None else target
            child = Child(
                theirs,
                target=entered,
                init_fd=init_fd,
                size=size,
                start_fd=start_fd,
                kept=kept,
            )
            process.forget_command_line(words)
            _run(child, program, standard)
    ours.setblocking(False)
    started = Launch(pid, pidfd, ours, program, answer, admit=admit, will_wait=start_fd >= 0)
    try:
        started.let_go_on()
    except BaseException:
        started.abandon()
        raise
    return started


def _clone(program: Program, target: int | None) -> tuple[int, int]:
    """Fork into the namespaces and cgroup of *program*, with signals blocked in the child.

    Between birth and exec nobody may trace the child, so its memory is born non-dumpable.
    """
    flags = program.namespaces | CLONE_CLEAR_SIGHAND
    cgroup = 0
    dumpable = process.prctl(process.PR_GET_DUMPABLE)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    pid = -1
    try:
        if program.cgroup is not None:
            cgroup = os.open(program.cgroup, _CGROUP)
            flags |= CLONE_INTO_CGROUP
        process.prctl(process.PR_SET_DUMPABLE, 0)
        try:
            pid, pidfd = clone3(flags, exit_signal=signal.SIGCHLD, cgroup=cgroup)
        except KernelError as error:
            # What runs in there arranges its own groups, and has gone to one below.
            if error.errno != errno.EBUSY or program.cgroup is None or target is None:
                raise
            os.close(cgroup)
            cgroup = 0
            cgroup = os.open(_below(program.cgroup, target), _CGROUP)
            pid, pidfd = clone3(flags, exit_signal=signal.SIGCHLD, cgroup=cgroup)
        return pid, pidfd
    except OSError as error:
        raise LaunchError(str(error)) from error
    finally:
        if pid != 0:
            if dumpable == 1:  # 2 can be read, but not set
                process.prctl(process.PR_SET_DUMPABLE, dumpable)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if cgroup:
                os.close(cgroup)


def _below(group: str, target: int) -> str:
    """Return the version 2 group the process *target* is in, which is *group* or one below it."""
    path = (read_cgroup(number_in_proc(target)) or {}).get("", "")
    above = path
    while above:
        if group.endswith(above):
            return group.removesuffix(above) + path
        above = above.rpartition("/")[0]
    return group


def _run(child: Child, program: Program, standard: tuple[int, ...]) -> NoReturn:
    """Be the child: run the operations, or report the one that failed."""
    index, name = -1, "descriptors"
    try:
        gc.disable()
        os.umask(0)
        _keep_only(child, standard)
        child.await_parent()
        process.default_signals()
        for index, operation in enumerate(program.operations):  # noqa: B007 - for the report
            name = operation[0]
            OPERATIONS[name](child, *operation[1:])
        raise LaunchError("the program does not end in exec")
    except BaseException as error:
        # The last line of the child: whatever it is, the parent says it.
        exit_code = error.exit_code if isinstance(error, LaunchError) else _FAILED
        text = _explain(error)
        if exit_code == _FAILED:  # else it is about the command, not about us
            text += f" (operation {index}: {name})"
        with contextlib.suppress(OSError):
            child.send({"error": text, "exitCode": exit_code})
    finally:
        os._exit(_FAILED)


def _explain(error: BaseException) -> str:
    if isinstance(error, (KernelError, ContainerError)):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:
        where = f" {error.filename}" if error.filename is not None else ""
        code = errno.errorcode.get(error.errno, "?")
        return f"{error.strerror}{where} [{code}]"
    return f"{type(error).__name__}: {error}"


def _keep_only(child: Child, standard: tuple[int, ...]) -> None:
    """Put the standard streams in place, and close all else but what the operations need.

    Descriptors must be closed, not only marked: until exec, they could be reached by name
    through /proc/self/fd.
    """
    # Out of the way of 0, 1, 2 and of each other first.
    streams = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in standard]
    if child.channel.fileno() < 10:
        child.channel = socket.socket(fileno=_moved(child.channel.detach()))
    if 0 <= child.target < 10:
        child.target = _moved(child.target)
    if 0 <= child.start_fd < 3:
        child.start_fd = _moved(child.start_fd)
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
    first = 3
    for fd in sorted(child.descriptors()):
        if fd > first:
            process.close_range(first, fd - 1)
        first = fd + 1
    process.close_range(first)


def _moved(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)


_command_line_area = functools.cache(process.command_line_area)


@functools.cache
def _init() -> int:
    """Return the sealed built-in init, one for all containers."""
    fd = sealed_program(NAME, init_program())
    try:
        return _moved(fd)
    finally:
        os.close(fd)
