"""From a launch program to a running process.

The supervisor forks itself (clone3, into the new namespaces) and the child runs the operations
one by one, the last of which is exec. The child reports on a channel: one JSON object a packet,
with file descriptors where needed, and end of file when exec has closed it. So a launch can be
waited for (`launch`, `enter`) or watched by an event loop (`start`, then `Launch.advance` whenever
``Launch.fileno()`` is readable).

The child is a copy of this process, so this must be a single-threaded one, and a small one to be
quick. Nothing of it reaches the container: its other descriptors are closed before the first
operation, the child cannot be traced (CVE-2016-9962), and it ends by exec or os._exit, never
through Python's own exit.
"""

import contextlib
import errno
import fcntl
import functools
import gc
import json
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from runtime.errors import ContainerError, KernelError, LaunchError
from runtime.kernel import process
from runtime.kernel.capability import host_bounding
from runtime.kernel.init_elf import NAME, has_init, init_program
from runtime.kernel.namespaces import CLONE_CLEAR_SIGHAND, CLONE_INTO_CGROUP, clone3
from runtime.kernel.procfs import boot_id
from runtime.kernel.program import Program
from runtime.kernel.selfexe import sealed_program
from runtime.supervisor import operations_bundle, operations_mount, operations_process
from runtime.supervisor.child import GO, MOST_BYTES, Child
from runtime.supervisor.executable import execution_error

OPERATIONS = {
    **operations_mount.OPERATIONS,
    **operations_process.OPERATIONS,
    **operations_bundle.OPERATIONS,
}
TIMEOUT_S = 60.0
_FAILED = 125
_ANCILLARY_BYTES = socket.CMSG_SPACE(12) + socket.CMSG_SPACE(4)  # a struct ucred, a descriptor
_SIGNALS = frozenset(signal.valid_signals())


class Launched:
    """A process that has been started. The caller closes the descriptors."""

    __slots__ = ("pid", "pidfd", "terminal", "warnings")

    def __init__(self, pid: int, pidfd: int, terminal: int | None, warnings: tuple[str, ...]):
        self.pid = pid
        """In this process's pid namespace; its exit is this process's to collect."""
        self.pidfd = pidfd
        self.terminal = terminal
        """Master of the terminal, if the program has a console."""
        self.warnings = warnings
        """What was asked for and this host cannot give, in words."""


class Launch:
    """A launch under way, from clone to exec.

    One that is given up is killed (`kill`), and goes when the kernel lets it: not while its cgroup
    is frozen, or it waits for a file system that does not answer. Event loops see it off with
    `drain` and `leave`; `abandon` waits for all that.
    """

    def __init__(
        self,
        pid: int,
        pidfd: int,
        channel: socket.socket,
        answer: "Answer | None" = None,
        *,
        admit: "Admit",
        will_wait: bool = False,
    ) -> None:
        self.pid = pid
        """Of the child; it may still go on as a sibling, whose pid is another."""
        self._admit = admit
        self._pidfd = pidfd
        self._channel = channel
        self._answer = answer
        self._waits = False
        self._will_wait = will_wait
        self._former: list[int] = []
        self._sibling = 0
        """Pid of one that the child goes on as, from when it is there."""
        self._terminal: int | None = None
        self._warnings: list[str] = []
        self._program = ""

    def fileno(self) -> int:
        """Return what becomes readable when `advance` or `drain` has something to do."""
        return self._channel.fileno()

    def advance(self) -> Launched | None:
        """Take in what the child has reported, without waiting; return the process once it runs.

        Of a program with an ``await_start`` it is returned when it waits there, and again when it
        runs. Not to be called again after that or after it has raised.

        Raises:
            LaunchError: an operation failed; the child is ending, and is still to be killed and
                collected.
        """
        while True:
            try:
                packet = _receive(self._channel)
            except BlockingIOError:
                return None
            if not packet.data:
                return self._ended()
            try:
                self._take(packet)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                # Who may trace what enters his container may speak for it, too.
                for fd in packet.fds:
                    os.close(fd)
                text = f"the child does not speak our language: {type(error).__name__}: {error}"
                raise LaunchError(text) from error
            if self._waits:
                self._waits = False
                return self._launched()

    def finish(self, *, timeout_s: float = TIMEOUT_S) -> Launched:
        """Wait until the process runs and return it.

        Raises:
            LaunchError: as for `advance`, or *timeout_s* went by; the child is gone and collected.
        """
        poller = select.poll()
        poller.register(self._channel, select.POLLIN)
        try:
            while (launched := self._wait(poller, timeout_s)) is None:
                pass
        except BaseException:  # what is due at a stop may fail in its own way
            self.abandon()
            raise
        for pidfd in self.take_former():
            _collect(pidfd)
        return launched

    def _wait(self, poller: select.poll, timeout_s: float) -> Launched | None:
        if not poller.poll(timeout_s * 1000):
            raise LaunchError(f"the launch did not get to exec within {timeout_s:g} s")
        return self.advance()

    def let_go_on(self) -> None:
        """Make the child known, and only then have it begin."""
        self._admit(self.pid)
        with contextlib.suppress(ConnectionError):  # killed: `advance` tells
            self._channel.send(GO)

    def take_former(self) -> tuple[int, ...]:
        """Return pidfds of processes the child was before; they are ending. The caller's now."""
        former, self._former = tuple(self._former), []
        return former

    def kill(self) -> None:
        """Kill the child, without waiting."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def drain(self) -> bool:
        """After `kill`: take in what the child still said; True if nobody is left to say more."""
        while True:
            try:
                packet = _receive(self._channel)
            except BlockingIOError:
                return False
            if not packet.data:
                self._follow_silent()
                return True
            if b'"forked"' in packet.data:
                # It had gone on as a sibling in the meantime.
                with contextlib.suppress(LaunchError):
                    self._follow(packet.sender)
                self.kill()
            elif b'"sibling"' in packet.data:
                self._sibling = int(json.loads(packet.data)["sibling"])
            for fd in packet.fds:
                os.close(fd)

    def leave(self) -> tuple[int, ...]:
        """Close everything but the pidfds of what is still to be collected: the caller's now."""
        self._channel.close()
        if self._terminal is not None:
            os.close(self._terminal)
        return (*self.take_former(), self._pidfd)

    def abandon(self) -> None:
        """Kill and collect the child and close everything; waits until it is gone."""
        self.kill()
        self._channel.setblocking(True)
        self.drain()
        for pidfd in self.leave():
            _collect(pidfd)

    def _follow_silent(self) -> None:
        """Take the sibling in the child's place that has died before it could say anything."""
        if self._sibling:
            with contextlib.suppress(LaunchError):  # it is nobody of ours, whatever was said
                self._follow(self._sibling)

    def _follow(self, pid: int) -> None:
        """Take the child's sibling *pid* in its place.

        Raises:
            LaunchError: it is no other child of ours.
        """
        self._sibling = 0
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            pid = self.pid
        if pid == self.pid:
            raise LaunchError("the child says it goes on as a process that is no sibling of it")
        self._former.append(self._pidfd)
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)  # a child of ours not collected yet: it is that process

    def _ended(self) -> Launched:
        if self._sibling or not self._program or self._will_wait:
            self._follow_silent()
            raise LaunchError("the child died before it got to exec")
        self._channel.close()
        return self._launched()

    def _launched(self) -> Launched:
        return Launched(self.pid, self._pidfd, self._terminal, tuple(self._warnings))

    def _take(self, packet: "_Packet") -> None:
        if len(packet.data) == 4:  # from the built-in init: its exec failed with this errno
            raise execution_error(self._program, int.from_bytes(packet.data, sys.byteorder))
        message: dict[str, Any] = json.loads(packet.data)
        if packet.fds and not {"terminal", "listener"} & message.keys():
            raise ValueError("descriptors nobody asked for")
        if "error" in message:
            raise LaunchError(message["error"], exit_code=message["exitCode"])
        if "warning" in message:
            self._warnings.append(message["warning"])
        elif "terminal" in message:
            self._take_terminal(packet.fds)
        elif "sibling" in message:
            if message["sibling"] != self.pid:  # else it has announced itself already
                self._sibling = int(message["sibling"])
        elif "forked" in message:
            self._follow(packet.sender)
            self.let_go_on()
        elif "ready" in message:
            self._program = message["ready"]
        elif "waiting" in message:
            self._waits = True
            self._will_wait = False
        else:
            self._stopped(packet, message)

    def _take_terminal(self, fds: tuple[int, ...]) -> None:
        if len(fds) != 1 or self._terminal is not None:
            raise ValueError("a terminal is one descriptor, once")
        (self._terminal,) = fds

    def _stopped(self, packet: "_Packet", message: dict[str, Any]) -> None:
        """Have done what is due while the child waits."""
        if self._answer is None:
            for fd in packet.fds:
                os.close(fd)
            raise LaunchError(f"nobody is there to answer {message}")
        if "listener" in message:
            self._answer("listener", self.pid, packet.fds)
            return
        state = self._answer(message["stop"], self.pid, ())
        self._channel.send(json.dumps(state).encode())


class _Packet:
    """What came in one packet; *sender* is a pid as this process sees it."""

    __slots__ = ("data", "fds", "sender")

    def __init__(self, data: bytes, fds: tuple[int, ...], sender: int) -> None:
        self.data = data
        self.fds = fds
        self.sender = sender


Answer = Callable[[str, int, tuple[int, ...]], dict[str, Any]]
"""Does what is due at a ``stop``: its name, the child's pid and what it sent. Returns the state."""

Admit = Callable[[int], None]
"""Makes a child known by its pid, to whoever has to see to it should this process be killed."""


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
    init_fd = _init() if program.operations[-1][0] == "init" and has_init() else -1
    with contextlib.ExitStack() as opened:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        opened.callback(os.close, null)
        standard = tuple(null if fd is None else fd for fd in (stdin, stdout, stderr))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        opened.callback(theirs.close)
        try:
            pid, pidfd = _clone(program)
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
            _run(child, program, standard)
    ours.setblocking(False)
    started = Launch(pid, pidfd, ours, answer, admit=admit, will_wait=start_fd >= 0)
    try:
        started.let_go_on()
    except BaseException:
        started.abandon()
        raise
    return started


def _clone(program: Program) -> tuple[int, int]:
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
            cgroup = os.open(program.cgroup, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            flags |= CLONE_INTO_CGROUP
        process.prctl(process.PR_SET_DUMPABLE, 0)
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


@functools.cache
def _init() -> int:
    """Return the sealed built-in init, one for all containers."""
    fd = sealed_program(NAME, init_program())
    try:
        return _moved(fd)
    finally:
        os.close(fd)


def _receive(channel: socket.socket) -> _Packet:
    """Take one packet, with empty data at the end of file.

    Raises:
        BlockingIOError: there is none yet, on a channel that does not block.
    """
    how = (MOST_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
    try:
        data, ancillary, _, _ = channel.recvmsg(*how)
    except ConnectionResetError:
        # Said once, of a child that died before it read what we sent; what it sent comes now.
        data, ancillary, _, _ = channel.recvmsg(*how)
    fds: tuple[int, ...] = ()
    sender = 0
    for _, kind, content in ancillary:
        if kind == socket.SCM_RIGHTS:
            fds += struct.unpack(f"{len(content) // 4}i", content)
        elif kind == socket.SCM_CREDENTIALS:
            sender = struct.unpack_from("i", content)[0]
    return _Packet(data, fds, sender)


def _collect(pidfd: int) -> None:
    """Wait until a child has ended, and close its pidfd."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
