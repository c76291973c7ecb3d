"""Entering a user's namespaces, and asking their holder.

Whoever finds no holder takes the lock, makes the listening socket and hands both to a new one, as
with the supervisor (`runtime.supervisor.start`).
"""

import os
import socket
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType

from runtime.errors import SupervisorError, UnsupportedHostError
from runtime.kernel.listening import listen, peer_uid, short, try_lock
from runtime.kernel.selfexe import command
from runtime.rootless import namespaces, outside, protocol, survival
from runtime.rootless.delegation import scope_words
from runtime.rootless.folders import make_holder_folder
from runtime.rootless.forwards import Forward
from runtime.rootless.ids import ids_of
from runtime.rootless.namespaces import Namespaces
from runtime.rootless.protocol import (
    LISTEN_FD,
    LOCK_FD,
    REPORT_FD,
    EndedError,
    ask,
)
from runtime.rootless.resolver import show_resolv_conf
from runtime.rootless.variable import holder, set_holder

_PAUSE_S = 0.01
_START_S = 30.0

_line: list[socket.socket] = []
"""The connection that says we are inside; it lasts as long as we do."""


def enter(run: str, *, start: bool) -> None:
    """Move this process, which must have one thread, into its user's namespaces, as root there.

    *run* is the folder of the holder, see `folders.holder_folder`. Without a holder, one starts if
    *start* says so, or if one was killed and its namespaces can be found again; else there are new
    ones, of which nothing is left when this process ends: enough to look.
    The current folder stays.

    Raises:
        UnsupportedHostError: this user can have none; says what to do.
        NetworkError: slirp4netns does not start.
        SupervisorError: the holder does not answer, or there may be no process for one.
    """
    folder = "/"  # in one that is gone nothing can be named
    with suppress(FileNotFoundError):
        folder = os.getcwd()
    os.environ.setdefault("HOME", os.path.expanduser("~"))  # inside we have root's name
    outside.remember()
    try:
        found = _ask_in(run, start=start)
        inside = found or namespaces.make(ids_of(os.getuid(), os.getgid()))
    except BlockingIOError as error:  # of fork(2)
        raise SupervisorError(protocol.NO_PROCESS) from error
    inside.enter()
    inside.close()
    if found is None:
        set_holder(None)
    else:
        show_resolv_conf(run)
        set_holder(os.path.join(run, protocol.SOCKET))
    os.chdir(folder)


def forward(world: str, ports: Iterable[Forward]) -> None:
    """Have *ports* of the host, and no others, handed on for *world*; all or none.

    Raises:
        NetworkError: one cannot be had; says why. Nothing has changed.
        SupervisorError: the holder does not answer.
    """
    wanted = [[port.protocol, port.ip, port.port] for port in sorted(ports)]
    with _to_holder() as line:
        ask(line, "forward", {"world": world, "ports": wanted})


def forwards(world: str) -> frozenset[Forward]:
    """Return the ports of the host that are handed on for *world*.

    Raises:
        SupervisorError: the holder does not answer.
    """
    with _to_holder() as line:
        answer, _ = ask(line, "forwards", {"world": world})
    return frozenset(Forward(*port) for port in answer["ports"])


def spawn(
    words: Sequence[str], environment: Mapping[str, str], fds: Sequence[int], numbers: Sequence[int]
) -> None:
    """Start a process inside as the holder's child, in the cgroup that is delegated to it.

    It finds *fds* by their *numbers*, but for one more, the last, which is the program.

    Raises:
        NetworkError: it cannot be started.
        SupervisorError: the holder does not answer.
    """
    wanted = {"words": [*words], "environment": dict(environment), "numbers": [*numbers]}
    with _to_holder() as line:
        ask(line, "spawn", wanted, given=fds)


def _to_holder() -> socket.socket:
    path = holder()
    if path is None or (line := _try_connect(path)) is None:
        raise SupervisorError("the holder of this user's namespaces is gone")
    return line


def _ask_in(run: str, *, start: bool) -> Namespaces | None:
    """Return the namespaces of the holder; None if there is none, and none is to start."""
    deadline = time.monotonic() + _START_S
    path = os.path.join(run, protocol.SOCKET)
    while True:
        if (line := _try_connect(path)) is not None:
            try:
                _, fds = ask(line, "enter", {})
                found = Namespaces(dict(zip(namespaces.KINDS, fds, strict=True)))
            except EndedError:  # nothing was left inside, just as we came
                line.close()
                time.sleep(_PAUSE_S)
            else:
                _line.append(line)
                return found
        elif start or survival.are_left(os.path.join(run, protocol.NOTE)):
            _start_one(run, path)
        else:
            return None
        if time.monotonic() > deadline:
            raise SupervisorError(f"no holder answers at {path}; see {run}/{protocol.LOG}")


def _try_connect(path: str) -> socket.socket | None:
    """Return a connection to the holder, None if nobody listens.

    Raises:
        SupervisorError: who listens is not of this user, in whose name everything would be done.
    """
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with short(path) as address:
            line.connect(address)
        if peer_uid(line) != os.geteuid():
            raise SupervisorError(f"who listens at {path} is another user")
    except (FileNotFoundError, ConnectionRefusedError):
        line.close()
        return None
    except BaseException:
        line.close()
        raise
    return line


def _start_one(run: str, path: str) -> None:
    """Start a holder and wait until it serves, unless somebody else is at it."""
    ids_of(os.getuid(), os.getgid())  # who has none leaves no folder either
    make_holder_folder(run)
    lock = -1
    with suppress(FileNotFoundError):  # one that ends takes its folder away
        lock = try_lock(os.path.join(run, protocol.LOCK))
    if lock < 0:
        time.sleep(_PAUSE_S)
        return
    try:
        _tell_doomed(os.path.join(run, protocol.NOTE))
        with listen(path, socket.SOCK_SEQPACKET) as listener:
            words, environment = scope_words(os.environ)
            if words and _start(run, listener.fileno(), lock, words, environment):
                return
            # Without a service manager that answers, there is just no cgroup.
            if not _start(run, listener.fileno(), lock):
                raise SupervisorError(f"the holder ended at once; see {run}/{protocol.LOG}")
    finally:
        os.close(lock)


def _tell_doomed(note: str) -> None:
    """Say whom the holder that is about to start kills: nobody reads its own words."""
    if pids := survival.doomed(note):
        told = ", ".join(map(str, pids))  # their names are what containers like
        with suppress(OSError):
            print(
                "bayplan: left of this user's containers, without a way back into their network"
                f" and mounts since the holder was killed, and killed now: processes {told}",
                file=sys.stderr,
                flush=True,
            )


def _start(
    run: str,
    listener: int,
    lock: int,
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> bool:
    """Start a holder by the words in *prefix*; return whether it got as far as to serve.

    Raises:
        UnsupportedHostError: it says what it lacks.
    """
    read, write = os.pipe()
    with open(read, encoding="utf-8") as report:
        try:
            child = _spawn(
                run, {LISTEN_FD: listener, LOCK_FD: lock, REPORT_FD: write}, prefix, environment
            )
        finally:
            os.close(write)
        _, status = os.waitpid(child, 0)
        problem = report.read()
    if problem:
        raise UnsupportedHostError(problem)
    return status == 0


def _spawn(
    run: str, fds: Mapping[int, int], prefix: Sequence[str], environment: Mapping[str, str]
) -> int:
    log = os.open(
        os.path.join(run, protocol.LOG), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
    )
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    # Out of the way of the numbers they get in the child.
    high = {number: _above(fd) for number, fd in {0: null, 1: null, 2: log, **fds}.items()}
    words = [*prefix, *command("runtime.rootless.holder", run)]
    try:
        return os.posix_spawn(
            words[0],
            words,
            {"PATH": os.environ.get("PATH", ""), **environment},
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in high.items()],
            setsid=True,
            setsigmask=[],
        )
    finally:
        for fd in (*high.values(), log, null):
            os.close(fd)


def _above(fd: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
