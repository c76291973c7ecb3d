"""A launch as its parent sees it, from the fork to the exec.

The child reports on a channel: one JSON object a packet, with file descriptors where needed, and
end of file when exec has closed it. An event loop calls `Launch.advance` whenever
``Launch.fileno()`` is readable; `Launch.finish` waits.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from collections.abc import Callable

from runtime import json_text
from runtime.errors import LaunchError
from runtime.kernel.bare import send_fds, signal, socket
from runtime.kernel.readable import Wait, wait_readable
from runtime.supervisor.child import GO, MOST_BYTES
from runtime.supervisor.executable import execution_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TIMEOUT_S = 60.0
_ANCILLARY_BYTES = socket.CMSG_SPACE(12) + socket.CMSG_SPACE(4)  # a struct ucred, a descriptor

Answer = Callable[[str, int, tuple[int, ...]], dict[str, "Any"]]
"""Does what is due at a ``stop``: its name, the child's pid and what it sent. Returns the state."""

Admit = Callable[[int], None]
"""Makes a child known by its pid, to whoever has to see to it should this process be killed."""


class _Packet:
    """What came in one packet; *sender* is a pid as this process sees it."""

    __slots__ = ("data", "fds", "sender")

    def __init__(self, data: bytes, fds: tuple[int, ...], sender: int) -> None:
        self.data = data
        self.fds = fds
        self.sender = sender


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
            if not packet.data:
                self._follow_silent()
                return True
            if b'"forked"' in packet.data:
                # It had gone on as a sibling in the meantime.
                with contextlib.suppress(LaunchError):
                    self._follow(packet.sender)
                self.kill()
            elif b'"sibling"' in packet.data:
                self._sibling = int(json_text.loads(packet.data)["sibling"])
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

    def _take(self, packet: _Packet) -> None:
        if len(packet.data) == 4:  # from the built-in init: its exec failed with this errno
            raise execution_error(self._program, int.from_bytes(packet.data, sys.byteorder))
        message: dict[str, Any] = json_text.loads(packet.data)
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

    def _stopped(self, packet: _Packet, message: dict[str, Any]) -> None:
        """Have done what is due while the child waits."""
        if self._answer is None:
            for fd in packet.fds:
                os.close(fd)
            raise LaunchError(f"nobody is there to answer {message}")
        if "listener" in message:
            self._answer("listener", self.pid, packet.fds)
            return
        state = self._answer(message["stop"], self.pid, ())
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
