"""Finding the supervisor of a world, and starting it on demand.

The client that finds none takes the lock, makes the listening socket and hands both to a fresh
keeper; then it connects as usual, and waits in the socket's backlog until somebody accepts. The
lock is an open file description that keeper and supervisor share for as long as either lives,
so there is at most one pair of them, and it is free at once when both are gone.
"""

import contextlib
import fcntl
import os
import socket
import time

from runtime.errors import NotFoundError, SupervisorError
from runtime.kernel import mask
from runtime.kernel.listening import listen, short, try_lock
from runtime.kernel.selfexe import sealed_interpreter
from runtime.root import Root
from runtime.rootless.variable import environment, holder
from runtime.supervisor import boot, codecopy
from runtime.supervisor.names import LISTEN_FD, LOCK, LOCK_FD, LOG, SOCKET, Home, own_code
from runtime.supervisor.protocol import VERSION, Decoder, Message, receive, send

# A host that is just booting, or starved, needs that long to start Python twice. One that breaks
# at each start is waited for as long: the error says how its log ends.
TIMEOUT_S = 60.0
_GONE_S = 15.0
_PAUSE_S = 0.005
_LINE_BYTES = 1024


def home_of(root: Root) -> Home:
    """Return what keeper and supervisor are told of *root*."""
    return Home(os.fspath(root.state), os.fspath(root.run), root.cgroup)


def connect(root: Root, *, start: bool, timeout: float = TIMEOUT_S) -> socket.socket:
    """Return a connection to the supervisor of *root*; see `greet`."""
    return greet(root, start=start, timeout=timeout)[0]


def greet(root: Root, *, start: bool, timeout: float = TIMEOUT_S) -> tuple[socket.socket, Message]:
    """Return a connection to the supervisor of *root* after the exchange of hellos, and its one.

    That says of its code ``version``, ``origin`` and ``fingerprint``, as far as it is not older
    than the question. With *start*, one is started if there is none; several callers start exactly
    one. A supervisor that is just ending or starting over is waited for.

    Raises:
        NotFoundError: there is none, and *start* is not set.
        SupervisorError: none could be reached within *timeout* seconds, or no version of the
            protocol is spoken by both.
    """
    deadline = time.monotonic() + timeout
    path = os.path.join(root.run, SOCKET)
    while True:
        connection = _connect(root, path, deadline)
        if connection is None and not start:
            raise NotFoundError(f"no supervisor runs for {root.run}")
        child = _start_one(root, path, deadline) if connection is None else 0
        if child:
            connection = _connect(root, path, deadline)
        if connection is not None and (hello := _greet(connection, deadline)) is not None:
            if child:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child, 0)
            return connection, hello
        _pause(root, path, deadline)


def _connect(root: Root, path: str, deadline: float) -> socket.socket | None:
    """Return a connection, or None if nobody listens."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Else it would wait for room in the backlog, as long as a stopped supervisor stays so.
        connection.setblocking(False)
        with short(path) as address:
            while True:
                try:
                    connection.connect(address)
                except BlockingIOError:
                    _pause(root, path, deadline)
                else:
                    return connection
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise


def _pause(root: Root, path: str, deadline: float) -> None:
    if time.monotonic() > deadline:
        told = f"supervisor at {path} does not answer ({_owner(root)})"
        raise SupervisorError(f"{told}{_last_words(root)}")
    time.sleep(_PAUSE_S)


def _greet(connection: socket.socket, deadline: float) -> Message | None:
    """Return the other side's hello; None, with *connection* closed, if that went away."""
    decoder = Decoder()
    try:
        connection.settimeout(max(0.1, deadline - time.monotonic()))
        send(connection, {"hello": VERSION})
        while receive(connection, decoder):
            for message, _fds in decoder.messages():
                if not message.get("hello"):
                    raise SupervisorError(f"the supervisor speaks no version up to {VERSION}")
                connection.settimeout(None)
                return message
    except (ConnectionError, TimeoutError):
        pass
    except BaseException:
        connection.close()
        raise
    connection.close()
    return None


def _owner(root: Root) -> str:
    try:
        with open(os.path.join(root.run, LOCK), encoding="ascii") as file:
            return f"pid {file.read().strip() or 'unknown'}"
    except FileNotFoundError:
        return "no lock file"


def _last_words(root: Root) -> str:
    """Return how its log ends, if it has anything to say."""
    path = os.path.join(root.run, LOG)
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - _LINE_BYTES))
        lines = log.read().decode(errors="replace").strip().splitlines()
        if lines:
            return f"; {path} ends with: {lines[-1]}"
    return ""


def _start_one(root: Root, path: str, deadline: float) -> int:
    """Start keeper and supervisor unless somebody else is at it; return the pid to wait for.

    0 if somebody else is. That pid ends as soon as the keeper is on its own.
    """
    boot.enter(os.fspath(root.run))
    lock = try_lock(os.path.join(root.run, LOCK))
    if lock < 0:
        return 0
    try:
        if (connection := _connect(root, path, deadline)) is not None:
            connection.close()
            return 0
        with listen(path) as listener:
            return _spawn(root, listener.fileno(), lock)
    finally:
        os.close(lock)


def wait_gone(root: Root, *, timeout: float = _GONE_S) -> None:
    """Return when no supervisor or keeper lives, or after *timeout* seconds.

    Meant for when none answers any more.
    """
    deadline = time.monotonic() + timeout
    path = os.path.join(root.run, LOCK)
    while time.monotonic() < deadline:
        try:
            with open(path, "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return
        except FileNotFoundError:
            return
        except BlockingIOError:
            time.sleep(_PAUSE_S)


def _spawn(root: Root, listener: int, lock: int) -> int:
    code = codecopy.keep(os.fspath(root.run), own_code())
    log = os.open(
        os.path.join(root.run, LOG),
        os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
        0o600,
    )
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    interpreter = sealed_interpreter()
    words = code.command("runtime.supervisor.keeper", *home_of(root).arguments())
    numbers = (0, 1, 2, LISTEN_FD, LOCK_FD)
    low = (null, null, log, listener, lock, interpreter)
    # Out of the way of the numbers they get in the child.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in low]
    try:
        if holder() is not None:
            from runtime.rootless.client import spawn

            spawn(words, {**environment(), **mask.environment()}, high, numbers)
            return 0  # no child of ours: waited for like one that somebody else starts
        pairs = zip(high, numbers, strict=False)  # the last is the program
        return os.posix_spawn(
            f"/proc/self/fd/{high[-1]}",
            words,
            {**environment(), **mask.environment()},
            file_actions=[(os.POSIX_SPAWN_DUP2, source, target) for source, target in pairs],
            setsid=True,
            setsigmask=[],
        )
    finally:
        for fd in (*high, log, null, interpreter):
            os.close(fd)
