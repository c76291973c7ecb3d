"""The host's end of the serial port: commands in the machine as objects of this process."""

from __future__ import annotations

import itertools
import json
import queue
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tests.vm.wire import CHUNK, Kind, decode, encode


class MachineGone(ConnectionError):
    """qemu has ended, so nothing more comes from the machine."""


@dataclass(frozen=True)
class Ran:
    """What became of a command in the machine."""

    argv: tuple[str, ...]
    code: int
    """Negative: the signal it was killed by."""
    out: str
    errors: str

    def __str__(self) -> str:
        return f"# {' '.join(self.argv)}\nexit code {self.code}\n{self.out}\n{self.errors}"


class Command:
    """A command that runs in the machine."""

    def __init__(self, channel: Channel, stream: int, argv: Sequence[str]) -> None:
        self._channel, self._stream, self._argv = channel, stream, tuple(argv)
        self._frames: queue.SimpleQueue[tuple[Kind, bytes] | None] = queue.SimpleQueue()
        self._said = {Kind.OUTPUT: bytearray(), Kind.ERRORS: bytearray()}
        self._read = 0
        self._code: int | None = None

    def give(self, data: bytes) -> None:
        """Send *data* to its stdin."""
        for start in range(0, len(data), CHUNK):
            self._channel.send(Kind.INPUT, self._stream, data[start : start + CHUNK])

    def end_input(self) -> None:
        """Close its stdin."""
        self._channel.send(Kind.INPUT, self._stream)

    def signal(self, number: int) -> None:
        """Signal its process group."""
        self._channel.send(Kind.SIGNAL, self._stream, str(number).encode())

    def next(self, timeout_s: float) -> tuple[Kind, bytes]:
        """Return what it says next: OUTPUT or ERRORS with bytes, or EXIT.

        Raises:
            TimeoutError: nothing came in that time.
            MachineGone: nothing will come.
        """
        try:
            frame = self._frames.get(timeout=max(timeout_s, 0))
        except queue.Empty:
            raise TimeoutError(
                f"{' '.join(self._argv)}: no end after {timeout_s:.0f} s; it has said\n{self.said}"
            ) from None
        if frame is None:
            self._frames.put(None)
            raise MachineGone(f"{' '.join(self._argv)}: the machine is gone")
        kind, payload = frame
        if kind is Kind.EXIT:
            self._code = int(payload)
        else:
            self._said[kind] += payload
        return kind, payload

    def wait(self, timeout_s: float) -> Ran:
        """Wait for its end; raises as ``next``."""
        deadline = time.monotonic() + timeout_s
        while self._code is None:
            self.next(deadline - time.monotonic())
        out, errors = (bytes(part).decode(errors="replace") for part in self._said.values())
        return Ran(self._argv, self._code, out, errors)

    def next_line(self, timeout_s: float) -> str:
        """Return the next line of its stdout; raises as ``next``, and if it ended instead."""
        deadline = time.monotonic() + timeout_s
        while True:
            line, end, _ = bytes(self._said[Kind.OUTPUT][self._read :]).partition(b"\n")
            if end:
                self._read += len(line) + 1
                return line.decode()
            assert self._code is None, f"{' '.join(self._argv)}: {self._code}\n{self.said}"
            self.next(deadline - time.monotonic())

    @property
    def said(self) -> str:
        """What it has written so far."""
        return b"".join(self._said.values()).decode(errors="replace")

    def deliver(self, frame: tuple[Kind, bytes] | None) -> None:
        """Take a frame from the channel; none means that there will be no more."""
        self._frames.put(frame)


class Channel:
    """One boot's connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._numbers = itertools.count(1)
        self._commands: dict[int, Command] = {}
        self._hello: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_hello(self, timeout_s: float) -> str:
        """Return the id of the boot, as soon as the machine takes commands.

        Raises:
            TimeoutError: it does not in that time.
            MachineGone: qemu ended instead.
        """
        try:
            hello = self._hello.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError(f"the machine takes no commands after {timeout_s:.0f} s") from None
        if hello is None:
            raise MachineGone("qemu ended before the machine took commands")
        return str(hello["boot"])

    def start(self, argv: Sequence[str], env: Mapping[str, str], cwd: str) -> Command:
        """Start a command."""
        stream = next(self._numbers)
        command = self._commands[stream] = Command(self, stream, argv)
        request = {"argv": list(argv), "env": dict(env), "cwd": cwd}
        self.send(Kind.RUN, stream, json.dumps(request).encode())
        return command

    def send(self, kind: Kind, stream: int, payload: bytes = b"") -> None:
        """Send a frame.

        Raises:
            MachineGone: nobody is there to read it.
        """
        try:
            with self._sending:
                self._connection.sendall(encode(kind, stream, payload))
        except OSError as error:
            raise MachineGone("the machine is gone") from error

    def close(self) -> None:
        """End it; commands still waited for learn that the machine is gone."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._connection.close()

    def _read(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                kind, stream, payload = decode(self._connection.recv)
                if kind is Kind.HELLO:
                    self._hello.put(json.loads(payload))
                elif command := self._commands.get(stream):
                    command.deliver((kind, payload))
                    if kind is Kind.EXIT:
                        del self._commands[stream]
        self._hello.put(None)
        for command in list(self._commands.values()):
            command.deliver(None)
