"""The holder of a user's namespaces: one process outside, unprivileged, as long as there is use.

It makes the namespaces, hands them to whoever connects (the folder of its socket is the user's
alone), and runs slirp4netns, anew where that died. It ends when nobody is connected, no process is
inside, and no link or mount was left there.

If it is killed, what runs inside goes on without a way out until the next command: the holder that
starts then finds the namespaces again by a process in them. When its socket is taken away, as at
the end of a session without lingering, or on SIGTERM, it kills what is inside.
"""

import fcntl
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import partial

from runtime.documents import read_note
from runtime.errors import ContainerError, NetworkError
from runtime.kernel import inotify
from runtime.kernel.interface import set_extra_addresses
from runtime.kernel.passing import receive_fds
from runtime.kernel.process import close_range
from runtime.rootless import delegation, insiders, namespaces, protocol
from runtime.rootless.forwards import Forward, extra_addresses, in_the_way
from runtime.rootless.ids import ids_of
from runtime.rootless.namespaces import Namespaces
from runtime.rootless.protocol import LISTEN_FD, LOCK_FD, REPORT_FD, Message
from runtime.rootless.resolver import write_resolv_conf
from runtime.rootless.slirp import LINK, Slirp

_LOG = "holder.log"
_VANISHED = 0x200 | inotify.IN_MOVED_FROM  # IN_DELETE
_AGAIN_MS = 2000
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Holder:
    """State of the holder, and its loop."""

    def __init__(self, run: str) -> None:
        """Have namespaces, made or found again, and a network.

        Raises:
            ContainerError: the host cannot give them; says what to do.
        """
        self._run = run
        self._note = os.path.join(run, protocol.NOTE)
        self._lines: dict[int, socket.socket] = {}
        self._forwards: dict[str, frozenset[Forward]] = {}
        self._addresses: list[str] = []
        """Those of the link in the namespace, beside its own."""
        self._survivor = -1
        """Pidfd of a process inside that was there at the last look."""
        self._calls: dict[int, Callable[[], None]] = {}
        self._poll = select.poll()
        self._going = True
        self._namespaces, self._mounts = self._have_namespaces()
        self._numbers = self._namespaces.numbers()
        if (group := delegation.own_group()) is not None:
            delegation.leave_top(group)
        write_resolv_conf(run)
        self._slirp: Slirp | None = Slirp(run, self._namespaces)
        self._watch(self._slirp.pidfd, self._slirp_ended)

    def run(self) -> None:
        """Serve until there is no use any more."""
        with socket.socket(fileno=LISTEN_FD) as listener:
            listener.setblocking(False)
            self._watch(LISTEN_FD, lambda: self._accept(listener))
            self._watch_socket()
            self._watch_signals()
            while self._going:
                for fd, _events in self._poll.poll(None if self._slirp else _AGAIN_MS):
                    if call := self._calls.get(fd):
                        call()
                if self._slirp is None:
                    self._restart_slirp()
            self._unpublish()
            for line in self._lines.values():
                line.close()
        if self._slirp is not None:
            self._slirp.stop()
        insiders.kill_all(self._numbers)
        with suppress(FileNotFoundError):
            os.unlink(self._note)
        _leave(self._run)

    def _have_namespaces(self) -> tuple[Namespaces, frozenset[int]]:
        """Return those that outlived a holder that was killed, or new ones; and their mounts."""
        known = read_note(self._note)
        if known is not None and known["boot"] == _boot():
            numbers = {kind: known[kind] for kind in namespaces.KINDS}
            for pid in insiders.processes(numbers, all_kinds=True):
                with suppress(FileNotFoundError, ProcessLookupError):
                    found = Namespaces.of_process(pid)
                    if found.numbers() == numbers:
                        return found, frozenset(known["mounts"])
                    found.close()
            # Containers without their keeper have namespaces of their own: nobody gets back in.
            insiders.kill_all(numbers)
        ids = ids_of(os.getuid(), os.getgid())
        made = namespaces.make(ids, group=delegation.own_group())
        mounts = insiders.look(made, insiders.own_mounts)
        body = {"boot": _boot(), **made.numbers(), "mounts": mounts}
        temporary = f"{self._note}.new"
        with open(temporary, "w", encoding="ascii") as file:
            json.dump(body, file)
        os.replace(temporary, self._note)
        return made, frozenset(mounts)

    def _watch(self, fd: int, call: Callable[[], None]) -> None:
        self._calls[fd] = call
        self._poll.register(fd, select.POLLIN)

    def _forget(self, fd: int) -> None:
        del self._calls[fd]
        self._poll.unregister(fd)

    def _watch_socket(self) -> None:
        events = inotify.inotify_init1(inotify.IN_CLOEXEC)
        inotify.inotify_add_watch(events, self._run, _VANISHED)

        def look() -> None:
            if any(name == protocol.SOCKET for _, _, name in inotify.read_events(events)):
                self._going = False

        self._watch(events, look)

    def _watch_signals(self) -> None:
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write)
        for number in _ENDING:
            signal.signal(number, lambda _signal, _frame: None)

        def stop() -> None:
            self._going = False

        self._watch(read, stop)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError, ConnectionError):
            line, _ = listener.accept()
            self._lines[line.fileno()] = line
            self._watch(line.fileno(), lambda: self._hear(line))

    def _hear(self, line: socket.socket) -> None:
        given: list[int] = []
        try:
            data, given = receive_fds(line, protocol.MAX_BYTES, protocol.MOST_FDS)
            if data:
                answer, fds = self._answer(json.loads(data), given)
                socket.send_fds(line, [json.dumps(answer).encode()], fds)
                return
        except (ConnectionError, BlockingIOError):
            pass
        finally:
            for fd in given:
                os.close(fd)
        self._forget(line.fileno())
        del self._lines[line.fileno()]
        line.close()
        self._end_if_idle()

    def _answer(self, asked: Message, given: list[int]) -> tuple[Message, tuple[int, ...]]:
        try:
            if asked["op"] == "enter":
                return {"ok": {}}, tuple(self._namespaces.fds.values())
            if asked["op"] == "forward":
                ports = (Forward(*port) for port in asked["ports"])
                self._forward(asked["world"], frozenset(ports))
                return {"ok": {}}, ()
            if asked["op"] == "forwards":
                mine = self._forwards.get(asked["world"], frozenset())
                found = mine & (self._slirp.open if self._slirp else frozenset())
                return {"ok": {"ports": [[f.protocol, f.ip, f.port] for f in sorted(found)]}}, ()
            if asked["op"] == "spawn":
                self._spawn(asked["words"], asked["environment"], asked["numbers"], given)
                return {"ok": {}}, ()
            return {"error": f"the holder knows no {asked['op']}: it is of another version"}, ()
        except (NetworkError, ValueError) as error:
            return {"error": str(error)}, ()

    def _spawn(
        self, words: list[str], environment: dict[str, str], numbers: list[int], fds: list[int]
    ) -> None:
        """Start a process inside that is a child of ours, and so in the cgroup we are in.

        Raises:
            NetworkError: it cannot be started.
        """
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            _become(self._namespaces, words, environment, numbers, fds, write)
        os.close(write)
        pidfd = os.pidfd_open(pid)

        def reap() -> None:
            self._forget(pidfd)
            os.close(pidfd)
            os.waitpid(pid, 0)

        self._watch(pidfd, reap)
        with open(read, encoding="utf-8") as report:
            problem = report.read()
        if problem:
            raise NetworkError(f"cannot start {words[0]}: {problem}")

    def _wanted(self) -> frozenset[Forward]:
        return frozenset().union(*self._forwards.values())

    def _forward(self, world: str, ports: frozenset[Forward]) -> None:
        """Make *ports* those of *world*; if one cannot be had, all is as it was."""
        before = self._forwards.pop(world, frozenset())
        others = self._wanted()
        try:
            for port in sorted(ports):
                for other in sorted(others):
                    if port.meets(other):
                        raise NetworkError(
                            f"port {port} is published by another world of this user"
                        )
            self._converge(others | ports)
        except (NetworkError, ValueError):
            self._forwards[world] = before
            with suppress(NetworkError):  # the first error is what counts
                self._converge(self._wanted())
            raise
        if ports:
            self._forwards[world] = ports

    def _converge(self, wanted: frozenset[Forward]) -> None:
        if self._slirp is None:
            raise NetworkError("slirp4netns was killed, and does not start again yet")
        known = self._slirp.open
        self._set_addresses(known | wanted)
        self._close(in_the_way(known, wanted) - wanted)
        for forward in sorted(wanted - known):
            self._slirp.add(forward)
        self._close(self._slirp.open - wanted)
        self._set_addresses(wanted)

    def _set_addresses(self, forwards: Collection[Forward]) -> None:
        """Let the link have the addresses at which *forwards* arrive."""
        addresses = sorted(extra_addresses(forwards))
        if addresses != self._addresses:
            insiders.look(self._namespaces, partial(set_extra_addresses, LINK, addresses))
            self._addresses = addresses

    def _close(self, forwards: Collection[Forward]) -> None:
        assert self._slirp is not None
        for forward in sorted(forwards):
            self._slirp.remove(forward)

    def _slirp_ended(self) -> None:
        assert self._slirp is not None
        self._forget(self._slirp.pidfd)
        self._slirp.stop()
        self._slirp = None
        self._restart_slirp()

    def _restart_slirp(self) -> None:
        """Start it again with all that was open; what somebody else took meanwhile stays closed."""
        try:
            self._slirp = Slirp(self._run, self._namespaces)
        except ContainerError as error:
            _say(str(error))
            return
        self._watch(self._slirp.pidfd, self._slirp_ended)
        self._addresses = []
        self._set_addresses(self._wanted())
        for forward in sorted(self._wanted()):
            try:
                self._slirp.add(forward)
            except NetworkError as error:
                _say(str(error))

    def _end_if_idle(self) -> None:
        if self._lines or self._survivor >= 0:
            return
        but = self._slirp.pid if self._slirp else 0
        for pid in insiders.processes(self._numbers, but=but):
            with suppress(ProcessLookupError):
                self._survivor = os.pidfd_open(pid)
                self._watch(self._survivor, self._survivor_ended)
                return
        if insiders.look(self._namespaces, insiders.links):
            return
        mounts = insiders.look(self._namespaces, insiders.own_mounts)
        self._going = not self._mounts.issuperset(mounts)

    def _survivor_ended(self) -> None:
        self._forget(self._survivor)
        os.close(self._survivor)
        self._survivor = -1
        self._end_if_idle()

    def _unpublish(self) -> None:
        """Let those who come now start another holder as soon as this one is gone."""
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self._run, protocol.SOCKET))


def _become(
    inside: Namespaces,
    words: list[str],
    environment: dict[str, str],
    numbers: list[int],
    fds: list[int],
    report: int,
) -> None:
    """In a child: enter, put descriptors in their places, execute the last of them."""
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for caught in _ENDING:
            signal.signal(caught, signal.SIG_DFL)
        inside.enter()
        # Out of the way of the numbers they get.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in fds]
        report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, 64)
        for fd, number in zip(high[:-1], numbers, strict=True):
            os.dup2(fd, number)
        os.execve(f"/proc/self/fd/{high[-1]}", words, environment)
    except (OSError, ValueError) as error:
        os.write(report, str(error).encode())
    finally:
        os._exit(127)


def _boot() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _settle() -> None:
    """Become nobody's child in nobody's folder."""
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.umask(0o077)
    close_range(REPORT_FD + 1, 0x7FFFFFFF)
    for fd in (LISTEN_FD, LOCK_FD, REPORT_FD):
        os.set_inheritable(fd, False)


def _leave(run: str) -> None:
    """Take away our files; the lock last, whose taker starts afresh."""
    names = ["slirp.log", "resolv.conf", protocol.LOCK]
    with suppress(FileNotFoundError):
        if not os.stat(os.path.join(run, _LOG)).st_size:
            names.insert(0, _LOG)
    for name in names:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(run, name))
    with suppress(OSError):  # there is a log worth keeping, or somebody starts another holder
        os.rmdir(run)


def main(arguments: Iterable[str]) -> None:
    """Hold namespaces for the user; the folder of the holder is given."""
    (run,) = arguments
    _settle()
    with open(REPORT_FD, "w", encoding="utf-8", closefd=True) as report:
        try:
            holder = Holder(run)
        except (ContainerError, OSError) as error:
            report.write(str(error))
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(run, protocol.SOCKET))
            _leave(run)
            return
    holder.run()
