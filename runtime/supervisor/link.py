"""The supervisor's side of the talk with its keeper; see keeper for the words."""

import errno
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from runtime.kernel.passing import receive_fds
from runtime.supervisor import limits
from runtime.supervisor.loop import IN, OUT, Loop
from runtime.supervisor.names import LISTEN_FD, LOCK_FD, Code, Home, command
from runtime.supervisor.note import note

_MAX_LINE = 4096
_TICKS = os.sysconf("SC_CLK_TCK")


class Link:
    """What the keeper knows, and how it is told. Owns the descriptors it holds."""

    def __init__(self, home: Home, fd: int) -> None:
        """Hear everything a former supervisor left behind."""
        self.held: dict[str, int] = {}
        """Our duplicates of what the keeper holds, by name."""
        self.children: dict[str, int] = {}
        """Children the keeper knows; those forked by a former supervisor are the keeper's."""
        self.exits: dict[str, int] = {}
        """Codes of those that ended while nobody was there."""
        self.unborn: set[str] = set()
        """Containers that did not get to their exec when the supervisor before us was killed."""
        self._home = home
        self._intents: dict[str, int] = {}
        self._forked: dict[str, int] = {}
        self._socket = socket.socket(fileno=fd)
        self._socket.set_inheritable(False)
        self._queue: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._writing = False
        self._loop: Loop | None = None
        self._on_exit: Callable[[str, int], None] = lambda _name, _code: None
        while self._hear() != "ready":
            pass
        # From here on the keeper may be waiting for us to hear that children have ended.
        self._socket.setblocking(False)

    def watch(self, loop: Loop, on_exit: Callable[[str, int], None]) -> None:
        """From now on call ``on_exit(name, code)`` for each child the keeper reaps."""
        self._loop, self._on_exit = loop, on_exit
        loop.watch(self._socket.fileno(), IN, self._on_ready)
        self._flush()

    def hold(self, name: str, fd: int) -> None:
        """Have the keeper keep a duplicate; *fd* is ours to close from now on, by drop()."""
        copy = os.dup(fd)
        previous = self.held.get(name)
        if previous is not None and previous != fd:
            os.close(previous)
        self.held[name] = fd
        self._tell(f"hold {name}", (copy,))

    def drop(self, name: str) -> None:
        """Close both; does nothing if there is none."""
        fd = self.held.pop(name, None)
        if fd is not None:
            os.close(fd)
            self._tell(f"drop {name}")

    def intend(self, name: str) -> None:
        """Say that a fork is coming, so that a child we cannot announce is found."""
        ticks = int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS)
        self._intents[name] = ticks
        self._tell(f"intent {name} {ticks}")

    def forked(self, name: str, pid: int) -> None:
        """Say that the fork has come, with that child."""
        self._forked[name] = pid
        self._tell(f"forked {name} {pid}")

    def announce(self, name: str, pid: int) -> None:
        """Say that this child has got to its exec, and may outlive us."""
        self._intents.pop(name, None)
        self._forked.pop(name, None)
        self.children[name] = pid
        self._tell(f"child {name} {pid}")

    def ended(self, name: str, code: int) -> None:
        """Have the keeper remember how a child of ours has ended, until it is gone()."""
        self.children.pop(name, None)
        self.exits[name] = code
        self._tell(f"exit {name} {code}")

    def gone(self, name: str) -> None:
        """Say that nothing about this child is open any more."""
        self._intents.pop(name, None)
        self._forked.pop(name, None)
        self.children.pop(name, None)
        self.exits.pop(name, None)
        self.unborn.discard(name)
        self._tell(f"gone {name}")

    def bye(self) -> None:
        """Say that we end, and wait until that is said."""
        self._last_word("bye")

    def settled(self) -> None:
        """Say that everything is adopted."""
        self._tell("settled")

    def hand_over(self, code: Code, interpreter: int) -> None:
        """Say that the next supervisor is to be of *code*, and wait until that is said."""
        words = (os.fsencode(word).hex() for word in (code.python, code.folder))
        self._last_word(f"upgrade {' '.join(words)}", (os.dup(interpreter),))

    def _last_word(self, line: str, fds: tuple[int, ...] = ()) -> None:
        """Say it, and wait until it is said; *fds* are closed then.

        The keeper may be waiting for us to hear that children have ended; whoever comes after us
        is told that again.
        """
        self._tell(line, fds)
        poller = select.poll()
        poller.register(self._socket, select.POLLIN | select.POLLOUT)
        while self._queue:
            poller.poll()
            with suppress(BlockingIOError, ConnectionError):
                self._socket.recv(_MAX_LINE)
            self._flush()

    def _tell(self, line: str, fds: tuple[int, ...] = ()) -> None:
        """Say it as soon as that is possible; *fds* are closed then."""
        self._queue.append((line.encode(), fds))
        self._flush()

    def _flush(self) -> None:
        while self._queue:
            data, fds = self._queue[0]
            try:
                socket.send_fds(self._socket, [data], fds)
            except BlockingIOError:
                break
            except ConnectionError:
                self.become_keeper()
            for fd in fds:
                os.close(fd)
            self._queue.popleft()
        if self._loop is not None and self._writing != bool(self._queue):
            self._writing = bool(self._queue)
            self._loop.change(self._socket.fileno(), IN | OUT if self._writing else IN)

    def _on_ready(self, events: int) -> None:
        if events & OUT:
            self._flush()
        if events & ~OUT:
            word = self._hear()
            if not word:
                self.become_keeper()

    def _hear(self) -> str:
        """Take in one packet and return its first word; an empty one at the end."""
        try:
            data, fds = receive_fds(self._socket, _MAX_LINE, 1)
        except BlockingIOError:
            return "nothing"
        except ConnectionError:
            return ""
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            note(f"no room for what the keeper holds: {error.strerror}")
            return "nothing"
        word, *rest = data.decode().split(" ")
        if word == "hold":
            (self.held[rest[0]],) = fds
        elif word == "child":
            self.children[rest[0]] = int(rest[1])
        elif word == "exit":
            self.exits[rest[0]] = int(rest[1])
        elif word == "ended" and self.children.get(rest[0]) == int(rest[2]):
            del self.children[rest[0]]
            self.exits[rest[0]] = int(rest[1])
            self._on_exit(rest[0], int(rest[1]))
        elif word == "unborn":
            self.unborn.add(rest[0])
        elif not word and self._loop is None:
            self.become_keeper()
        return word

    def become_keeper(self) -> None:
        """Replace this program by a keeper, which starts the next supervisor; never returns.

        The keeper is dead. This process is the parent of the containers, so it must stay, and
        be what reaps them; clients are hung up on, connect again, and are served by the next.
        """
        lines = [f"hold {name} {fd}" for name, fd in self.held.items()]
        lines += [f"child {name} {pid}" for name, pid in self.children.items()]
        lines += [f"exit {name} {code}" for name, code in self.exits.items()]
        lines += [f"intent {name} {ticks}" for name, ticks in self._intents.items()]
        lines += [f"forked {name} {pid}" for name, pid in self._forked.items()]
        state = os.memfd_create("keeper")
        os.write(state, "\n".join(lines).encode())
        for fd in (LISTEN_FD, LOCK_FD, state, *self.held.values()):
            os.set_inheritable(fd, True)
        os.execve(
            "/proc/self/exe",
            command("runtime.supervisor.keeper", *self._home.arguments(), str(state)),
            limits.environment(),
        )
