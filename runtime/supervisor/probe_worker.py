"""The process that makes HTTP and TCP probes: unprivileged, one for all containers.

It gets a packet of JSON with a socket (non-blocking, not connected, of the container's network
namespace) on descriptor 0 and answers with one of ``{"number", "passed", "output"}``. It ends
with that descriptor.
"""

import errno
import json
import os
import select
import socket
import time
from contextlib import suppress
from typing import Any

from runtime.kernel.passing import receive_fds
from runtime.kernel.process import PR_SET_NO_NEW_PRIVS, prctl

_NOBODY = 65534
_MAX_MESSAGE = 65536
_MAX_RESPONSE = 64 << 10
_MAX_OUTPUT = 2048
_MOST_DIGITS = 20
_PENDING = (errno.EINPROGRESS, errno.EAGAIN)


class Probe:
    """One connection, from connect to verdict."""

    def __init__(self, wanted: dict[str, Any], connection: socket.socket) -> None:
        self.number: int = wanted["number"]
        self.connection = connection
        self.deadline: float = time.monotonic() + wanted["timeout"]
        self.verdict: tuple[bool, str] | None = None
        """Whether it passed and what was said, once that is known."""
        self._where = f"{wanted['address']} port {wanted['port']}"
        self._timeout = wanted["timeout"]
        self._request = _request(wanted) if wanted["kind"] == "http" else None
        self._response = b""
        self._connected = False
        try:
            code = connection.connect_ex((wanted["address"], wanted["port"]))
        except OSError as error:  # not an address
            self.verdict = False, f"{self._where}: {error}"
        else:
            if code and code not in _PENDING:
                self._fail(code)

    @property
    def events(self) -> int:
        """What to wait for."""
        return select.EPOLLIN if self._connected and not self._request else select.EPOLLOUT

    def advance(self) -> None:
        """Go on as far as can be without waiting."""
        try:
            self._advance()
        except BlockingIOError:
            return
        except OSError as error:
            if not self._judge_response():
                self._fail(error.errno or 0)
        except Exception as error:
            # A fault of ours that one container's answer finds must not end the others' probes.
            self.verdict = False, f"{self._where}: {type(error).__name__}: {error}"

    def time_out(self) -> None:
        """Judge by what there is."""
        if not self._judge_response():
            done = "response" if self._connected else "connection"
            self.verdict = False, f"{self._where}: no {done} within {self._timeout:g} s"

    def _advance(self) -> None:
        if not self._connected:
            code = self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self._fail(code)
                return
            self._connected = True
            if self._request is None:
                self.verdict = True, f"{self._where}: connected"
                return
        if self._request:
            self._request = self._request[self.connection.send(self._request) :]
            return
        data = self.connection.recv(65536)
        self._response += data
        complete = not data or _is_complete(self._response)
        if complete and not self._judge_response():
            self.verdict = False, f"{self._where}: not an HTTP response"

    def _judge_response(self) -> bool:
        """Set the verdict if the status line is there."""
        line, end, rest = self._response.partition(b"\r\n")
        words = line.split(None, 2)
        if not end or len(words) < 2 or not line.startswith(b"HTTP/"):
            return False
        if len(words[1]) != 3 or not words[1].isdigit():
            return False
        passed = 200 <= int(words[1]) < 400
        text = b" ".join(words[1:])[:_MAX_OUTPUT].decode(errors="replace")
        if not passed:
            body = rest.partition(b"\r\n\r\n")[2][:_MAX_OUTPUT].decode(errors="replace").strip()
            if body and not body.startswith("<"):  # a page of HTML says no more than its status
                text += f": {body}"
        self.verdict = passed, text
        return True

    def _fail(self, code: int) -> None:
        self.verdict = False, f"{self._where}: {os.strerror(code)}"


def _request(wanted: dict[str, Any]) -> bytes:
    lines = (
        f"GET {wanted['path']} HTTP/1.1",
        f"Host: {wanted['host']}",
        "User-Agent: bayplan-probe",
        "Accept: */*",
        "Connection: close",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _is_complete(response: bytes) -> bool:
    """Tell whether no more needs to be read of *response*."""
    head, end, body = response.partition(b"\r\n\r\n")
    if len(response) > _MAX_RESPONSE:
        return True
    if not end:
        return False
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        # One of more digits will never be there in full.
        if name == b"content-length" and value.strip().isdigit() and len(value) < _MOST_DIGITS:
            return len(body) >= int(value)
    return False


class Worker:
    """The loop over all probes under way."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._epoll = select.epoll()
        self._epoll.register(channel.fileno(), select.EPOLLIN)
        self._probes: dict[int, Probe] = {}

    def run(self) -> None:
        """Probe until the supervisor is gone."""
        while True:
            for fd, _events in self._epoll.poll(self._patience()):
                if fd == self._channel.fileno():
                    if not self._accept():
                        return
                elif fd in self._probes:
                    self._advance(fd)
            now = time.monotonic()
            for fd in [fd for fd, probe in self._probes.items() if probe.deadline <= now]:
                self._probes[fd].time_out()
                self._finish(fd)

    def _patience(self) -> float:
        if not self._probes:
            return -1
        return max(0.0, min(p.deadline for p in self._probes.values()) - time.monotonic())

    def _accept(self) -> bool:
        try:
            data, fds = receive_fds(self._channel, _MAX_MESSAGE, 1)
        except ConnectionError:
            return False
        if not data:
            return False
        connection = socket.socket(fileno=fds[0])
        probe = Probe(json.loads(data), connection)
        fd = connection.fileno()
        self._probes[fd] = probe
        self._epoll.register(fd, probe.events)
        if probe.verdict is not None:
            self._finish(fd)
        return True

    def _advance(self, fd: int) -> None:
        probe = self._probes[fd]
        probe.advance()
        if probe.verdict is not None:
            self._finish(fd)
        else:
            self._epoll.modify(fd, probe.events)

    def _finish(self, fd: int) -> None:
        probe = self._probes.pop(fd)
        assert probe.verdict is not None
        passed, output = probe.verdict
        self._epoll.unregister(fd)
        probe.connection.close()
        answer = {"number": probe.number, "passed": passed, "output": output}
        # The supervisor may just have died.
        with suppress(ConnectionError):
            self._channel.send(json.dumps(answer).encode())


def _drop_privileges() -> None:
    os.chdir("/")
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def main(_arguments: list[str]) -> None:
    """Serve the socket on descriptor 0."""
    channel = socket.socket(fileno=0)
    _drop_privileges()
    Worker(channel).run()
