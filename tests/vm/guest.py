"""Inside the machine: runs what the host asks for. A systemd service, see ``image``.

Threads, since each only moves bytes from one end to another: one a pipe of a command. What a
command leaves running stays, as on a host where somebody logged in; a pipe is read to its end.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from tests.vm.wire import CHUNK, Kind, decode, encode

HOME = {"HOME": "/root", "LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


class Command:
    """One command; *send* tells the host of it."""

    def __init__(self, port: Port, stream: int, request: dict[str, Any]) -> None:
        self._port, self._stream = port, stream
        self._input: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            request["argv"],
            env=HOME | request["env"],
            cwd=request["cwd"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )

    def begin(self) -> None:
        """Move its bytes from now on, and tell of its end."""
        threading.Thread(target=self._feed, daemon=True).start()
        threading.Thread(target=self._follow, daemon=True).start()

    def give(self, data: bytes) -> None:
        """Pass *data* to its stdin; none closes it."""
        self._input.put(data)

    def signal(self, number: int) -> None:
        """Signal its process group, if there is still one."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _feed(self) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError), self._process.stdin as pipe:
            while data := self._input.get():
                view = memoryview(data)
                while view:
                    view = view[pipe.write(view) :]

    def _follow(self) -> None:
        pipes = ((Kind.OUTPUT, self._process.stdout), (Kind.ERRORS, self._process.stderr))
        pumps = [threading.Thread(target=self._pump, args=pair, daemon=True) for pair in pipes]
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        code = self._process.wait()
        self._input.put(b"")
        self._port.end(self._stream, code)

    def _pump(self, kind: Kind, pipe: IO[bytes]) -> None:
        with pipe:
            while data := pipe.read(CHUNK):
                self._port.send(kind, self._stream, data)


class Port:
    """The machine's end of the serial port, and the commands that use it."""

    def __init__(self, device: str) -> None:
        self._fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        self._writing = threading.Lock()
        self._commands: dict[int, Command] = {}

    def send(self, kind: Kind, stream: int, payload: bytes = b"") -> None:
        """Write one whole frame."""
        view = memoryview(encode(kind, stream, payload))
        with self._writing:
            while view:
                view = view[os.write(self._fd, view) :]

    def end(self, stream: int, code: int) -> None:
        """Say that a command has ended."""
        self._commands.pop(stream, None)
        self.send(Kind.EXIT, stream, str(code).encode())

    def serve(self) -> None:
        """Say hello, then do what the host asks for, for ever."""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self.send(Kind.HELLO, 0, json.dumps({"boot": boot}).encode())
        while True:
            kind, stream, payload = decode(lambda count: os.read(self._fd, count))
            if kind is Kind.RUN:
                self._start(stream, json.loads(payload))
                continue
            command = self._commands.get(stream)
            if command is None:
                continue  # it ended while this was on its way
            if kind is Kind.INPUT:
                command.give(payload)
            elif kind is Kind.SIGNAL:
                command.signal(int(payload))

    def _start(self, stream: int, request: dict[str, Any]) -> None:
        try:
            command = Command(self, stream, request)
        except OSError as error:
            self.send(Kind.ERRORS, stream, f"{error}\n".encode())
            self.send(Kind.EXIT, stream, b"127")
            return
        self._commands[stream] = command
        command.begin()


if __name__ == "__main__":
    Port(sys.argv[1]).serve()
