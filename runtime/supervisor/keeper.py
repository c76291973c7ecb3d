"""The keeper: parent of the supervisor, and what outlives it.

It starts the supervisor, holds duplicates of the descriptors that must not be lost with it
(listening socket, lock, FIFOs, terminals), and, being a subreaper, becomes the parent of all
containers when the supervisor is killed: so it reaps them, and nobody's exit code is lost. Then
it starts the next supervisor at once and tells it everything. When the keeper itself is killed,
the supervisor turns into a keeper (see link), which restores exactly this order.

The two talk in packets of one line, over a socket pair::

    hold NAME          with a descriptor: keep it
    drop NAME          close it
    intent NAME TICKS  a fork is coming; at that time since boot
    forked NAME PID    it has come, and that is the child's pid
    child NAME PID     the child has got to its exec: the process may outlive the supervisor
    exit NAME CODE     the supervisor has reaped it, but somebody may still ask for its code
    gone NAME          nobody will: it was reaped, or the fork failed
    settled            it has adopted everything, and serves
    upgrade PY FOLDER  with an interpreter: the next one shall be of that code; see upgrade
    bye                the supervisor ends, and so shall the keeper

The keeper says ``hold``, ``child`` and ``exit`` to a supervisor it has just started, and
``unborn NAME`` of a container that did not get to its exec, then ``ready``; and later
``ended NAME CODE PID``: the name may be another child's by then. A signal is a negative code.

Few imports: every world has a keeper.
"""

import errno
import os
import select
import signal
import socket
import time
from contextlib import ExitStack, suppress

from runtime.kernel.passing import receive_fds
from runtime.kernel.pidfd import pidfd_open
from runtime.kernel.process import PR_SET_CHILD_SUBREAPER, detach, prctl
from runtime.supervisor import codecopy, leaf, limits, strays
from runtime.supervisor.names import (
    CONTAINER,
    KEEPER_FD,
    LISTEN_FD,
    LOCK,
    LOCK_FD,
    LOG,
    PROBE,
    Code,
    Home,
    own_code,
)
from runtime.supervisor.note import note

MAX_LINE = 4096
_OOM_SCORE = b"-900"
_LOG_BYTES = 1 << 20
_QUICK_S = 1.0
"""A supervisor that crashed sooner, and more than once, is started again only after a pause."""
_MAX_PAUSE_S = 5.0
_KILLED = (-signal.SIGKILL, -signal.SIGTERM)
_LAST_WAIT_S = 5.0
_TRIAL_S = 30.0
"""How long a supervisor of another version may take to settle."""


class Trial:
    """A version that has not shown yet that it can go on with what is there."""

    __slots__ = ("code", "interpreter", "settled", "until")

    def __init__(self, code: Code, interpreter: int) -> None:
        self.code = code
        self.interpreter = interpreter
        self.settled = False
        self.until = 0.0


class Keeper:
    """State of the keeper, and its loop."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._held: dict[str, int] = {}
        self._children: dict[str, int] = {}
        self._exits: dict[str, int] = {}
        self._intents: dict[str, int] = {}
        self._forked: dict[str, int] = {}
        self._unborn: set[str] = set()
        self._supervisor = 0
        self._socket: socket.socket | None = None
        self._poll = select.poll()
        self._born = 0.0
        self._crashes = 0
        self._bye = False
        self._trial: Trial | None = None
        """Of the next supervisor, or of the one that runs."""

    def resume(self, state: str) -> None:
        """Take over from what became this process.

        That is a supervisor, see link.become_keeper, or a keeper of another version, see _become.
        """
        for line in state.splitlines():
            word, name, value = line.split(" ")
            if word == "hold":
                self._held[name] = int(value)
                os.set_inheritable(int(value), False)
            elif word == "supervisor":
                self._supervisor = int(name)
                self._listen_to(socket.socket(fileno=int(value)))
            else:
                self._note(word, name, value)
        if not self._supervisor:
            self._settle_leftovers()
            self._reap()

    def run(self) -> None:
        """Keep until the supervisor says bye."""
        wake = _wake_on_children()
        self._poll.register(wake, select.POLLIN)
        while not self._bye or self._supervisor:
            if not self._supervisor:
                self._start()
            for fd, _events in self._poll.poll(self._patience_ms()):
                if fd == wake:
                    os.read(wake, 4096)
                elif not self._hear_all():
                    self._poll.unregister(fd)
            self._reap()
            # Not while a child is being reaped: what has become of it would be lost.
            if self._trial is not None and self._trial.settled and not self._bye:
                self._become(self._trial)
        self._wait_for_rest()

    def _start(self) -> None:
        if self._crashes > 1:
            time.sleep(min(_MAX_PAUSE_S, 0.05 * 2**self._crashes))
        with suppress(FileNotFoundError):
            if os.stat(self._log_path()).st_size > _LOG_BYTES:
                os.truncate(self._log_path(), 0)
        while self._socket is None:
            try:
                self._listen_to(self._spawn())
            except OSError as error:  # a host with nothing left: then above all this must stay
                note(f"cannot start a supervisor yet: {error}")
                time.sleep(_MAX_PAUSE_S)
        self._tell_everything()

    def _spawn(self) -> socket.socket:
        """Start the supervisor and return our end of the line to it."""
        code, program = own_code(), "/proc/self/exe"
        if self._trial is not None:
            code, program = self._trial.code, f"/proc/self/fd/{self._trial.interpreter}"
            self._trial.until = time.monotonic() + _TRIAL_S
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ExitStack() as undo, theirs:
            undo.callback(ours.close)
            self._born = time.monotonic()
            self._supervisor = os.posix_spawn(
                program,
                code.command("runtime.supervisor.main", *self._home.arguments()),
                limits.environment(),
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), KEEPER_FD),
                    (os.POSIX_SPAWN_DUP2, LISTEN_FD, LISTEN_FD),
                    (os.POSIX_SPAWN_DUP2, LOCK_FD, LOCK_FD),
                ],
                setsigmask=[],
            )
            undo.pop_all()
        return ours

    def _listen_to(self, ours: socket.socket) -> None:
        ours.set_inheritable(False)
        self._socket = ours
        self._poll.register(ours, select.POLLIN)

    def _patience_ms(self) -> float | None:
        """Return how long to wait; what is on trial too long is killed, which ends the trial."""
        if self._trial is None or not self._trial.until:
            return None
        left = self._trial.until - time.monotonic()
        if left <= 0 and self._supervisor:
            os.kill(self._supervisor, signal.SIGKILL)
            return None
        return max(0.0, left * 1000)

    def _tell_everything(self) -> None:
        for name, fd in self._held.items():
            self._tell(f"hold {name}", (fd,))
        for name, pid in self._children.items():
            self._tell(f"child {name} {pid}")
        for name, code in self._exits.items():
            self._tell(f"exit {name} {code}")
        for name in self._unborn:
            self._tell(f"unborn {name}")
        self._tell("ready")

    def _tell(self, line: str, fds: tuple[int, ...] = ()) -> None:
        """Send to the supervisor; waiting for it is all there is to do anyway."""
        if self._socket is not None:
            # A dead one is told nothing; its death is noticed by reaping it.
            with suppress(ConnectionError):
                socket.send_fds(self._socket, [line.encode()], fds)

    def _hear_all(self) -> bool:
        """Take what the supervisor has said so far; return False if it will say no more."""
        assert self._socket is not None
        try:
            while True:
                try:
                    data, fds = receive_fds(self._socket, MAX_LINE, 1, flags=socket.MSG_DONTWAIT)
                except OSError as error:
                    if error.errno != errno.EMFILE:
                        raise
                    note(f"no room for what is to be held: {error.strerror}")
                    continue
                if not data:
                    return False
                word, _, rest = data.decode().partition(" ")
                name, _, value = rest.partition(" ")
                if word == "hold":
                    self._drop(name)
                    self._held[name] = fds[0]
                elif word == "upgrade":
                    self._end_trial()
                    code = Code(*(os.fsdecode(bytes.fromhex(text)) for text in (name, value)))
                    self._trial = Trial(code, fds[0])
                elif word == "settled" and self._trial is not None:
                    self._trial.settled = True
                else:
                    self._note(word, name, value)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False

    def _note(self, word: str, name: str, value: str) -> None:
        if word == "drop":
            self._drop(name)
        elif word == "bye":
            self._bye = True
        elif word == "intent":
            self._intents[name] = int(value)
        elif word == "forked":
            self._forked[name] = int(value)
        elif word == "unborn":
            self._unborn.add(name)
        elif word in ("child", "exit", "gone"):
            for known in (self._intents, self._forked, self._children, self._exits):
                known.pop(name, None)
            self._unborn.discard(name)
            if word == "child":
                self._children[name] = int(value)
            elif word == "exit":
                self._exits[name] = int(value)

    def _drop(self, name: str) -> None:
        fd = self._held.pop(name, -1)
        if fd >= 0:
            os.close(fd)

    def _reap(self) -> None:
        while (ended := _next_ended()) is not None:
            # What the supervisor has said until now may be about that very child.
            if self._socket is not None:
                self._hear_all()
            pid, code, executed = ended
            if pid == self._supervisor:
                self._supervisor_ended(code)
            elif (name := _name_of(pid, self._children)) is not None:
                del self._children[name]
                self._exits[name] = code
                self._tell(f"ended {name} {code} {pid}")
            elif (name := _name_of(pid, self._forked)) is not None:
                del self._forked[name]
                if executed:
                    self._exits[name] = code
                else:
                    self._unborn.add(name)

    def _supervisor_ended(self, code: int) -> None:
        assert self._socket is not None
        with suppress(KeyError):  # heard to its end already
            self._poll.unregister(self._socket)
        self._socket.close()
        self._socket, self._supervisor = None, 0
        if self._trial is not None and self._trial.until:
            copy = self._trial.code.folder
            why = f"the version in {codecopy.origin(copy)} ended with {code} before it served"
            note(why)
            # Killed by somebody else it was not at fault.
            if code not in _KILLED or time.monotonic() >= self._trial.until:
                codecopy.condemn(copy, why)
            self._end_trial()
        # Being killed is no fault of its own.
        crashed = code not in _KILLED and time.monotonic() - self._born < _QUICK_S
        self._crashes = self._crashes + 1 if crashed else 0
        self._settle_leftovers()

    def _end_trial(self) -> None:
        if self._trial is not None:
            os.close(self._trial.interpreter)
            self._trial = None

    def _become(self, trial: Trial) -> None:
        """Replace this program by the keeper of the version that has shown that it can go on.

        Where that fails, this one goes on: the two understand each other.
        """
        assert self._socket is not None
        lines = [f"supervisor {self._supervisor} {self._socket.fileno()}"]
        lines += [f"hold {name} {fd}" for name, fd in self._held.items()]
        for word, known in (
            ("child", self._children),
            ("exit", self._exits),
            ("intent", self._intents),
            ("forked", self._forked),
        ):
            lines += [f"{word} {name} {value}" for name, value in known.items()]
        lines += [f"unborn {name} 0" for name in self._unborn]
        state = os.memfd_create("keeper")
        os.write(state, "\n".join(lines).encode())
        kept = (LISTEN_FD, LOCK_FD, state, self._socket.fileno(), *self._held.values())
        for fd in kept:
            os.set_inheritable(fd, True)
        code = trial.code
        arguments = code.command("runtime.supervisor.keeper", *self._home.arguments(), str(state))
        try:
            os.execve(trial.interpreter, arguments, limits.environment())
        except OSError as error:
            note(f"the keeper stays of the old version: {error}")
        for fd in kept:
            os.set_inheritable(fd, False)
        os.close(state)
        self._end_trial()

    def _settle_leftovers(self) -> None:
        """See to what only the supervisor that died could have seen to.

        These are probes, execs whose client was never answered, and containers that were not
        known to have got to their exec.
        """
        for name, pid in self._children.items():
            if name.startswith(PROBE) and strays.is_child(pid):
                strays.kill(pid)
        for name, pid in tuple(self._forked.items()):
            if not name.startswith(CONTAINER):
                # Else reaped just before the supervisor was killed, and somebody else's pid by now.
                if strays.is_child(pid):
                    strays.kill(pid)
                del self._forked[name]
                continue
            # Of a container the parent may be init, since a keeper was killed.
            fate = strays.decide(pid)
            # One that has ended is left to be reaped like all others.
            if fate is not strays.Fate.ENDED:
                del self._forked[name]
            if fate is strays.Fate.RUNS:
                self._children[name] = pid
                # It may end before the next supervisor looks, so that must get this with it.
                with suppress(OSError):  # it may have ended by now
                    self._held[f"{name}/pidfd"] = pidfd_open(pid)
            elif fate is strays.Fate.UNBORN:
                self._unborn.add(name)
        self._kill_unknown()

    def _kill_unknown(self) -> None:
        """Kill children that were forked and not told of, or were forked by such children."""
        if self._intents:
            since = min(self._intents.values())
            known = {*self._children.values(), *self._forked.values()}
            for pid, start in strays.children_of(os.getpid()).items():
                if pid not in known and start >= since:
                    strays.kill(pid)
            self._intents.clear()

    def _wait_for_rest(self) -> None:
        """Reap the processes that end with the supervisor, then leave nothing behind."""
        deadline = time.monotonic() + _LAST_WAIT_S
        while strays.children_of(os.getpid()) and time.monotonic() < deadline:
            _next_ended()
            time.sleep(0.005)
        leaf.leave(self._home.cgroup)
        with suppress(FileNotFoundError):
            if not os.stat(self._log_path()).st_size:
                os.unlink(self._log_path())
        # Last: whoever takes the lock next starts afresh.
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self._home.run, LOCK))

    def _log_path(self) -> str:
        return os.path.join(self._home.run, LOG)


def _wake_on_children() -> int:
    """Return a descriptor that becomes readable when a child ends."""
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    # Children that ended before the handler was there.
    os.write(write, b"\0")
    return read


def _next_ended() -> tuple[int, int, bool] | None:
    """Reap one child; None if none has ended.

    Return its pid, its code (a signal is a negative code), and whether it had got to an exec.
    """
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if ended is None:
        return None
    executed = strays.has_executed(strays.name_of(ended.si_pid))
    os.waitid(os.P_PID, ended.si_pid, os.WEXITED)
    code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
    return ended.si_pid, code, executed


def _name_of(pid: int, names: dict[str, int]) -> str | None:
    return next((name for name, known in names.items() if known == pid), None)


def _settle(home: Home) -> None:
    """Become nobody's child in nobody's folder and cgroup."""
    detach(LISTEN_FD, LOCK_FD)
    leaf.enter(home.cgroup)
    # Needs CAP_SYS_RESOURCE. Containers get a score of their own.
    with suppress(PermissionError), open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
        file.write(_OOM_SCORE)


def main(arguments: list[str]) -> None:
    """Run the keeper of Home(*arguments[:3]); a fourth is a descriptor resume() is fed from."""
    limits.raise_own_limits()
    home = Home(*arguments[:3])
    keeper = Keeper(home)
    if arguments[3:]:
        with open(int(arguments[3]), encoding="ascii") as file:
            file.seek(0)
            keeper.resume(file.read())
    else:
        _settle(home)
    # For people, and for the error that nobody answers.
    os.ftruncate(LOCK_FD, 0)
    os.pwrite(LOCK_FD, b"%d\n" % os.getpid(), 0)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    codecopy.remove_others(home.run, own_code().folder)
    keeper.run()
