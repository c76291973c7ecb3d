"""slirp4netns: the way from the namespace to the outside, and from ports of the host into it.

It runs as the user, outside; what leaves the namespace leaves the host as the user's own
connections. Ports can be opened and closed while it runs, by a socket of its own.

Source: slirp4netns(1).
"""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from typing import Any

from runtime.errors import NetworkError, UnsupportedHostError
from runtime.kernel.listening import short
from runtime.kernel.readable import wait_readable
from runtime.rootless.forwards import Forward, arrives_at
from runtime.rootless.namespaces import Namespaces
from runtime.rootless.programs import find

LINK = "tap0"
DNS = "10.0.2.3"
"""Where it answers questions for names, by what the host's resolv.conf says at that time."""
PROGRAM, PACKAGE = "slirp4netns", "slirp4netns"
_TUN = "/dev/net/tun"
_MTU = 65520
_READY_S = 10.0
_ANSWER_S = 10.0
_LOG_TAIL = 400


class Slirp:
    """One running slirp4netns; it ends with this process."""

    def __init__(self, run: str, namespaces: Namespaces) -> None:
        """Start it and wait until the namespace has its link.

        Raises:
            UnsupportedHostError: it is not installed, or has no device for the link.
            NetworkError: it did not come up; with its own words.
        """
        program = find(PROGRAM, package=PACKAGE)
        if not os.access(_TUN, os.R_OK | os.W_OK):
            what = "cannot be opened" if os.path.exists(_TUN) else "is not there"
            raise UnsupportedHostError(
                f"{_TUN}, which {PROGRAM} needs, {what}; as root: modprobe tun; chmod 666 {_TUN}"
            )
        self._api = os.path.join(run, "slirp.sock")
        self._ids: dict[Forward, int] = {}
        with suppress(FileNotFoundError):
            os.unlink(self._api)
        log_path = os.path.join(run, "slirp.log")
        with ExitStack() as undo, ExitStack() as stack:
            pid = stack.enter_context(_somebody_inside(namespaces))
            log = stack.enter_context(open(log_path, "wb"))
            ready, ready_theirs = _pipe(stack, stack)
            exit_theirs, _ours = _pipe(stack, undo)
            theirs = (ready_theirs.fileno(), exit_theirs.fileno())
            self._process = subprocess.Popen(
                (program, *self._options(*theirs), str(pid), LINK),
                pass_fds=theirs,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            undo.callback(self._process.wait)
            undo.callback(self._process.kill)
            self.pidfd = os.pidfd_open(self._process.pid)
            """Readable when it has ended."""
            undo.callback(os.close, self.pidfd)
            ready_theirs.close()
            if not (wait_readable(ready.fileno(), _READY_S) and ready.read(1)):
                raise NetworkError(f"{PROGRAM} gives no network: {_last_words(log_path)}")
            self._undo = undo.pop_all()

    @property
    def pid(self) -> int:
        """Its pid: it has gone into the user namespace, but is not one of those we care for."""
        return self._process.pid

    def _options(self, ready: int, exit_fd: int) -> Iterator[str]:
        yield "--configure"
        yield f"--mtu={_MTU}"
        yield "--disable-host-loopback"
        yield "--enable-sandbox"
        yield "--enable-seccomp"
        yield f"--api-socket={self._api}"
        yield f"--ready-fd={ready}"
        yield f"--exit-fd={exit_fd}"

    @property
    def open(self) -> frozenset[Forward]:
        """The ports of the host that are handed on."""
        return frozenset(self._ids)

    def add(self, forward: Forward) -> None:
        """Open a port of the host.

        Raises:
            NetworkError: it cannot be had; says why.
        """
        answer = self._ask(
            "add_hostfwd",
            proto=forward.protocol,
            host_addr=forward.ip,
            host_port=forward.port,
            guest_addr=arrives_at(forward.ip),
            guest_port=forward.port,
        )
        if "error" in answer:
            raise NetworkError(f"port {forward} of the host: {_why(forward, answer['error'])}")
        self._ids[forward] = answer["return"]["id"]

    def remove(self, forward: Forward) -> None:
        """Close a port; connections that are there go on."""
        answer = self._ask("remove_hostfwd", id=self._ids[forward])
        if "error" in answer:
            raise NetworkError(f"port {forward} of the host stays open: {answer['error']}")
        del self._ids[forward]

    def stop(self) -> None:
        """End it."""
        self._undo.close()
        with suppress(FileNotFoundError):
            os.unlink(self._api)

    def _ask(self, execute: str, **arguments: object) -> dict[str, Any]:
        request = json.dumps({"execute": execute, "arguments": arguments}).encode()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
                line.settimeout(_ANSWER_S)
                with short(self._api) as path:
                    line.connect(path)
                line.sendall(request)
                line.shutdown(socket.SHUT_WR)
                answer = b""
                while data := line.recv(4096):
                    answer += data
        except OSError as error:
            raise NetworkError(f"{PROGRAM} does not answer: {error}") from error
        try:
            found: dict[str, Any] = json.loads(answer)
        except ValueError:
            raise NetworkError(f"{PROGRAM} answered {answer[:_LOG_TAIL]!r}") from None
        return found


@contextmanager
def _somebody_inside(namespaces: Namespaces) -> Iterator[int]:
    """Yield the pid of a process in *namespaces*: by it slirp4netns finds the way into both."""
    with ExitStack() as stack:
        read, write = _pipe(stack, stack)
        inside, told = _pipe(stack, stack)
        pid = os.fork()
        if pid == 0:
            try:
                write.close()
                namespaces.enter()
                told.write(b"1")
                read.read(1)
            finally:
                os._exit(0)
        try:
            told.close()
            inside.read(1)
            yield pid
        finally:
            write.close()
            os.waitpid(pid, 0)


def _pipe(reading: ExitStack, writing: ExitStack) -> tuple[FileIO, FileIO]:
    """Return both ends of a pipe, each closed with its stack."""
    read, write = os.pipe()
    return (
        reading.enter_context(FileIO(read)),
        writing.enter_context(FileIO(write, "w")),
    )


def _last_words(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        said = file.read().strip()
    return said[-_LOG_TAIL:].replace("\n", "; ") or "it said nothing"


def _why(forward: Forward, error: Any) -> str:
    """Return what the host says to that port: slirp4netns itself tells no reason."""
    kind = socket.SOCK_STREAM if forward.protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, forward.protocol == "tcp")
        try:
            probe.bind((forward.ip, forward.port))
            if forward.protocol == "tcp":
                probe.listen(1)
        except PermissionError:
            return (
                "ports below the sysctl net.ipv4.ip_unprivileged_port_start are root's; take"
                " another one, or have root lower that"
            )
        except OSError as why:
            return (why.strerror or str(why)).lower()
    return str(error.get("desc", error) if isinstance(error, dict) else error)
