"""A launch as its parent sees it, from the fork to the exec.

The child reports on a channel: one JSON object a packet, with file descriptors where needed, and
end of file when exec has closed it. An event loop calls `Launch.advance` whenever
``Launch.fileno()`` is readable; `Launch.finish` waits.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable

from runtime import json_text
from runtime.errors import LaunchError
from runtime.kernel.bare import signal, socket
from runtime.kernel.passing import send_fds
from runtime.kernel.readable import Wait, wait_readable
from runtime.kernel.terminal import is_master
from runtime.supervisor.child import GO, MOST_BYTES
from runtime.supervisor.executable import execution_error
from runtime.supervisor.report import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runtime.kernel.program import Program

TIMEOUT_S = 60.0
_WARNING_CHARS = 4096
_PACKETS_EACH = 2
"""More than that no operation has to say."""
_ANCILLARY_BYTES = socket.CMSG_SPACE(12) + socket.CMSG_SPACE(4)  # a struct ucred, a descriptor

Answer = Callable[[str, int, tuple[int, ...]], dict[str, "Any"]]
"""Does what is due at a ``stop``: its name, the child's pid and what it sent. Returns the state."""

Admit = Callable[[int], None]
"""Makes a child known by its pid, to whoever has to see to it should this process be killed."""


class _Packet:
    """What came in one packet, whose descriptors are its own until somebody takes them.

    *sender* is a pid as this process sees it.
    """

    __slots__ = ("data", "fds", "sender")

    def __init__(self, data: bytes, fds: tuple[int, ...], sender: int) -> None:
        self.data = data
        self.fds = fds
        self.sender = sender

    def take(self) -> tuple[int, ...]:
        """Return the descriptors: the caller's now."""
        fds, self.fds = self.fds, ()
        return fds

    def close(self) -> None:
        """Close what nobody has taken."""
        for fd in self.take():
            os.close(fd)


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
        program: Program,
        answer: Answer | None = None,
        *,
        admit: Admit,
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
        names = [operation[0] for operation in program.operations]
        self._packets_left = _PACKETS_EACH * (len(names) + 1)
        self._forks_left = names.count("fork")
        self._consoles_left = names.count("console")
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
            with contextlib.closing(packet):
                if not packet.data:
                    return self._ended()
                if self._is_too_much():
                    raise LaunchError("the child says more than its program has to say")
                self._take(packet)
            if self._waits:
                self._waits = False
                return self._launched()

    def finish(self, *, timeout_s: float = TIMEOUT_S, wait: Wait = wait_readable) -> Launched:
        """Wait until the process runs and return it.

        Raises:
            LaunchError: as for `advance`, *timeout_s* went by, or *wait* gave it up; the child is
                gone and collected.
        """
        try:
            while (launched := self._wait(timeout_s, wait)) is None:
                pass
        except BaseException:  # what is due at a stop may fail in its own way
            self.abandon()
            raise
        for pidfd in self.take_former():
            _collect(pidfd)
        return launched

    def _wait(self, timeout_s: float, wait: Wait) -> Launched | None:
        if not wait(self.fileno(), timeout_s):
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
            with contextlib.closing(packet):
                if not packet.data or self._is_too_much():
                    self._follow_silent()
                    return True
                with contextlib.suppress(LaunchError):  # who is given up may say what he likes
                    self._take_late(packet)

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

    def _is_too_much(self) -> bool:
        """Count a packet. Whoever has the channel may hold up others by nothing but talk."""
        self._packets_left -= 1
        return self._packets_left < 0

    def _take_late(self, packet: _Packet) -> None:
        message = parse(packet.data, len(packet.fds))
        if "forked" in message:
            # It had gone on as a sibling in the meantime.
            self._follow(packet.sender)
            self.kill()
        elif "sibling" in message:
            self._announce(packet.sender, message["sibling"])

    def _announce(self, sender: int, sibling: int) -> None:
        """Note the sibling the child will go on as, if it may know.

        One that has gone on says so for itself; after the last fork nobody has a sibling. What runs
        by then is in view of the container, and the number might be of another child of ours.
        """
        if sender == self.pid and self._forks_left:
            self._sibling = sibling

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
        if pid == self.pid or not self._forks_left:
            raise LaunchError("the child says it goes on as another, and has no fork to do so")
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except OSError as error:
            text = "the child says it goes on as a process that is no sibling of it"
            raise LaunchError(text) from error
        try:
            pidfd = os.pidfd_open(pid)  # a child of ours not collected yet: it is that process
        except OSError as error:
            os.kill(pid, signal.SIGKILL)  # it would wait for us
            raise LaunchError(f"pidfd_open(2) of the child's sibling: {error.strerror}") from error
        self._forks_left -= 1
        self._former.append(self._pidfd)
        self.pid, self._pidfd = pid, pidfd

    def _ended(self) -> Launched:
        if self._sibling or not self._program or self._will_wait:
            self._follow_silent()
            raise LaunchError(
                "the child died before it got to exec (a memory limit too low to begin with?)"
            )
        self._channel.close()
        return self._launched()

    def _launched(self) -> Launched:
        return Launched(self.pid, self._pidfd, self._terminal, tuple(self._warnings))

    def _take(self, packet: _Packet) -> None:
        message = parse(packet.data, len(packet.fds))
        if "errno" in message:  # from the built-in init, whose exec failed
            raise execution_error(self._program, message["errno"])
        if "error" in message:
            raise LaunchError(message["error"], exit_code=message["exitCode"])
        if "warning" in message:
            self._warnings.append(message["warning"][:_WARNING_CHARS])
        elif "terminal" in message:
            self._take_terminal(packet)
        elif "sibling" in message:
            self._announce(packet.sender, message["sibling"])
        elif "forked" in message:
            self._follow(packet.sender)
            self.let_go_on()
        elif "ready" in message:
            self._program = message["ready"]
        elif "waiting" in message and self._will_wait:
            self._waits = True
            self._will_wait = False
        elif self._answer is not None and "listener" in message:
            self._answer("listener", self.pid, packet.take())
        elif self._answer is not None and "stop" in message:
            self._stopped(self._answer, message["stop"])
        else:
            raise LaunchError(f"nobody is there to answer {message}")

    def _take_terminal(self, packet: _Packet) -> None:
        try:
            is_due = self._consoles_left > 0 and is_master(packet.fds[0])
        except OSError as error:  # out of descriptors
            raise LaunchError(f"the child's terminal: {error.strerror}") from error
        if not is_due:
            raise LaunchError("the child sends a terminal that is none, or that it has not to send")
        self._consoles_left -= 1
        (self._terminal,) = packet.take()

    def _stopped(self, answer: Answer, name: str) -> None:
        """Have done what is due while the child waits."""
        state = answer(name, self.pid, ())
        # Its annotations are as many as somebody likes; a packet holds no more than 200 KB.
        memory = os.memfd_create("state", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(memory), "wb") as file:
                file.write(json_text.dumps(state).encode())
            send_fds(self._channel, b"state", [memory])
        finally:
            os.close(memory)


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
