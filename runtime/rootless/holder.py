"""The holder of a user's namespaces: one process outside, unprivileged, as long as there is use.

It makes the namespaces, hands them to whoever connects (the folder of its socket is the user's
alone), and runs slirp4netns, anew where that died. It ends when nobody is connected, no process is
inside, and no link or mount was left there.

If it is killed, what runs inside goes on without a way out until the next command: the holder that
starts then finds the namespaces again by a process in them, and opens their ports again
(`survival`). When its socket is taken away, as at the end of a session without lingering, or on
SIGTERM, it kills what is inside.
"""

import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import partial

from runtime.errors import ContainerError, NetworkError
from runtime.kernel import inotify
from runtime.kernel.interface import set_extra_addresses
from runtime.kernel.listening import peer_uid
from runtime.kernel.passing import receive_fds
from runtime.kernel.pidfd import pidfd_open
from runtime.kernel.process import detach
from runtime.rootless import delegation, insiders, protocol, survival
from runtime.rootless.folders import leave_holder_folder
from runtime.rootless.forwards import Forward, extra_addresses, in_the_way
from runtime.rootless.protocol import LISTEN_FD, LOCK_FD, REPORT_FD, Message
from runtime.rootless.resolver import write_resolv_conf
from runtime.rootless.slirp import LINK, Slirp
from runtime.rootless.spawn import spawn
from runtime.version import VERSION

_VANISHED = 0x200 | inotify.IN_MOVED_FROM  # IN_DELETE
_AGAIN_S = 1.0
"""How long to wait where the host has nothing left for what must be done, or it fails."""
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
        self._nofile = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._nofile[1], self._nofile[1]))
        self._lines: dict[int, socket.socket] = {}
        self._addresses: list[str] = []
        """Those of the link in the namespace, beside its own."""
        self._survivor = -1
        """Pidfd of a process inside that was there at the last look."""
        self._calls: dict[int, Callable[[], None]] = {}
        self._later: list[tuple[float, Callable[[], None]]] = []
        """What is to be done when, in the order of time."""
        self._poll = select.poll()
        self._going = True
        self._kept = survival.find_or_make(self._note)
        self._forwards = dict(self._kept.forwards)
        self._namespaces = self._kept.namespaces
        self._numbers = self._namespaces.numbers()
        self._astray = ""
        """Why this process is not in the cgroup of the namespaces, if it is not."""
        self._enter_group()
        write_resolv_conf(run)
        self._slirp: Slirp | None = Slirp(run, self._namespaces)
        self._slirp_up = time.monotonic()
        self._watch(self._slirp.pidfd, self._slirp_ended)
        survival.remember(self._note, self._kept, self._forwards)
        try:
            self._open_again()
        except (ContainerError, OSError) as error:
            _say(str(error))  # told as drift; the namespaces are worth more than their ports

    def run(self) -> None:
        """Serve until there is no use any more."""
        with socket.socket(fileno=LISTEN_FD) as listener:
            listener.setblocking(False)
            self._watch(LISTEN_FD, lambda: self._accept(listener))
            self._watch_socket()
            self._watch_signals()
            while self._going:
                for fd, _events in self._poll.poll(self._wait_ms()):
                    if call := self._calls.get(fd):
                        call()
                while self._later and self._later[0][0] <= time.monotonic():
                    self._later.pop(0)[1]()
            self._unpublish()
            for line in self._lines.values():
                line.close()
        if self._slirp is not None:
            self._slirp.stop()
        insiders.kill_all(self._numbers)
        with suppress(FileNotFoundError):
            os.unlink(self._note)
        leave_holder_folder(self._run)

    def _enter_group(self) -> None:
        """Go where the processes inside are; those started from here follow."""
        if self._kept.group is not None:
            try:
                delegation.leave_top(self._kept.group)
            except OSError as error:
                self._astray = (
                    f"this user's containers are in the cgroup {self._kept.group}, where none can"
                    f" be added from here ({error.strerror}): `kill -9 {os.getpid()}` and do the"
                    " same in the session they were started in, or end them all by"
                    f" `kill {os.getpid()}`"
                )

    def _wait_ms(self) -> float | None:
        if not self._later:
            return None
        return max(0.0, self._later[0][0] - time.monotonic()) * 1000

    def _do_later(self, call: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + _AGAIN_S, call))

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
        try:
            line, _ = listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:  # nothing is left to take it in with: it waits
            _say(str(error))
            self._forget(LISTEN_FD)
            self._do_later(lambda: self._watch(LISTEN_FD, lambda: self._accept(listener)))
            return
        if peer_uid(line) not in (0, os.geteuid()):
            line.close()
            return
        line.setblocking(False)
        self._lines[line.fileno()] = line
        self._watch(line.fileno(), lambda: self._hear(line))

    def _hear(self, line: socket.socket) -> None:
        try:
            data, given = receive_fds(line, protocol.MAX_BYTES, protocol.MOST_FDS)
        except BlockingIOError:  # what was to be heard was the one who had this number before
            return
        except OSError:
            data, given = b"", []
        try:
            if data:
                answer, fds = self._answer(data, given)
                socket.send_fds(line, [json.dumps(answer).encode()], fds)
                return
        except OSError as error:  # gone, or it does not read what it is told
            _say(f"hung up on who asked {data[:80]!r}: {error}")
        finally:
            for fd in given:
                os.close(fd)
        self._forget(line.fileno())
        del self._lines[line.fileno()]
        line.close()
        self._end_if_idle()
        if self._going:
            self._remember()

    def _answer(self, request: bytes, given: list[int]) -> tuple[Message, tuple[int, ...]]:
        try:
            return self._do(json.loads(request), given)
        except (NetworkError, ValueError) as error:
            return {"error": str(error)}, ()
        except (KeyError, TypeError, AttributeError) as error:
            return {"error": f"the holder does not understand this: {error!r}"}, ()
        except OSError as error:
            said = error.strerror or error
            return {"error": f"the holder of this user's namespaces: {said}".lower()}, ()

    def _do(self, asked: Message, given: list[int]) -> tuple[Message, tuple[int, ...]]:
        if asked["op"] == "enter":
            self._do_later(self._remember)  # then it is inside
            return {"ok": {}}, tuple(self._namespaces.fds.values())
        if asked["op"] == "forward":
            ports = (Forward(*port) for port in asked["ports"])
            self._forward(asked["world"], frozenset(ports))
            self._remember()  # whoever comes after this process opens them again
            return {"ok": {}}, ()
        if asked["op"] == "forwards":
            mine = self._forwards.get(asked["world"], frozenset())
            found = mine & (self._slirp.open if self._slirp else frozenset())
            return {"ok": {"ports": [[f.protocol, f.ip, f.port] for f in sorted(found)]}}, ()
        if asked["op"] == "spawn":
            self._spawn(asked["words"], asked["environment"], asked["numbers"], given)
            return {"ok": {}}, ()
        return {
            "error": f"the holder of this user's namespaces, process {os.getpid()} of version"
            f" {VERSION}, knows no {asked['op']}: after `kill -9 {os.getpid()}` the next command"
            " starts one of its own version; containers go on, and another apply publishes their"
            " ports again"
        }, ()

    def _spawn(
        self, words: list[str], environment: dict[str, str], numbers: list[int], fds: list[int]
    ) -> None:
        """Start a process inside that is a child of ours, and so in the cgroup we are in.

        Raises:
            NetworkError: it cannot be started.
        """
        if self._astray:
            raise NetworkError(self._astray)

        def prepare() -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._nofile)
            signal.set_wakeup_fd(-1)
            for caught in _ENDING:
                signal.signal(caught, signal.SIG_DFL)

        pid, pidfd = spawn(self._namespaces, words, environment, fds, numbers, prepare=prepare)

        def reap() -> None:
            self._forget(pidfd)
            os.close(pidfd)
            os.waitpid(pid, 0)
            self._remember()  # it was the parent of those that stay

        self._watch(pidfd, reap)

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
        except (NetworkError, ValueError, OSError):
            self._forwards[world] = before
            with suppress(NetworkError, OSError):  # the first error is what counts
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
        self._stop_slirp()
        if time.monotonic() - self._slirp_up < _AGAIN_S:
            _say("slirp4netns ended as soon as it was up")
            self._do_later(self._restart_slirp)
        else:
            self._restart_slirp()

    def _stop_slirp(self) -> None:
        assert self._slirp is not None
        self._forget(self._slirp.pidfd)
        self._slirp.stop()
        self._slirp = None

    def _restart_slirp(self) -> None:
        """Start it again with all that was open; what somebody else took meanwhile stays closed."""
        try:
            self._slirp = Slirp(self._run, self._namespaces)
            self._slirp_up = time.monotonic()
            self._watch(self._slirp.pidfd, self._slirp_ended)
            self._open_again()
        except (ContainerError, OSError) as error:
            _say(str(error))
            if self._slirp is not None:
                self._stop_slirp()
            self._do_later(self._restart_slirp)

    def _open_again(self) -> None:
        """Open all that is wanted at a slirp4netns that is new; what cannot be had stays closed."""
        assert self._slirp is not None
        self._addresses = []
        self._set_addresses(self._wanted())
        for forward in sorted(self._wanted()):
            try:
                self._slirp.add(forward)
            except (NetworkError, OSError) as error:
                _say(str(error))

    def _remember(self) -> None:
        """Note who is inside by now."""
        try:
            survival.remember(self._note, self._kept, self._forwards)
        except OSError as error:
            _say(str(error))

    def _end_if_idle(self) -> None:
        try:
            self._going = self._going and self._is_used()
        except OSError as error:
            _say(str(error))
            self._do_later(self._end_if_idle)

    def _is_used(self) -> bool:
        """Tell whether anything is inside, or somebody connected; watch one of those, if any."""
        if self._lines or self._survivor >= 0:
            return True
        but = self._slirp.pid if self._slirp else 0
        for stat in insiders.processes(self._numbers, but=but):
            with suppress(ProcessLookupError):
                self._survivor = pidfd_open(stat.pid)
                self._watch(self._survivor, self._survivor_ended)
                return True
        if insiders.look(self._namespaces, insiders.links):
            return True
        mounts = insiders.look(self._namespaces, insiders.own_mounts)
        return not self._kept.mounts.issuperset(mounts)

    def _survivor_ended(self) -> None:
        self._forget(self._survivor)
        os.close(self._survivor)
        self._survivor = -1
        self._end_if_idle()

    def _unpublish(self) -> None:
        """Let those who come now start another holder as soon as this one is gone."""
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self._run, protocol.SOCKET))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Iterable[str]) -> None:
    """Hold namespaces for the user; the folder of the holder is given."""
    (run,) = arguments
    with open(REPORT_FD, "w", encoding="utf-8", closefd=True) as report:
        try:
            detach(LISTEN_FD, LOCK_FD, REPORT_FD)
            holder = Holder(run)
        except (ContainerError, OSError) as error:
            no_process = isinstance(error, BlockingIOError)  # of fork(2)
            report.write(protocol.NO_PROCESS if no_process else str(error))
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(run, protocol.SOCKET))
            leave_holder_folder(run)
            return
    holder.run()
