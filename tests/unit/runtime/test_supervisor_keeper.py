"""The keeper's loop, with supervisors that are only a pid and an end of a socket."""

import errno
import os
import select
import signal
import socket
import subprocess

from runtime.kernel.procfs import is_running, start_ticks
from runtime.supervisor import keeper, strays
from runtime.supervisor.names import PROBE, Home

FIRST, SECOND = 1001, 1002


class Poll:
    """poll(2), and what it watches; *before* is called with that before each wait."""

    def __init__(self, before):
        self._poll = _REAL()
        self._before = before
        self.watched = set()

    def register(self, file, events):
        self.watched.add(getattr(file, "fileno", lambda: file)())
        self._poll.register(file, events)

    def unregister(self, file):
        self._poll.unregister(file)
        self.watched.remove(getattr(file, "fileno", lambda: file)())

    def poll(self, patience_ms):
        self._before(self.watched)
        return self._poll.poll(patience_ms)


_REAL = select.poll


def test_a_host_with_nothing_left_does_not_end_it(tmp_path, monkeypatch):
    answers = iter([OSError(errno.EAGAIN, "no process to be had"), FIRST])

    def spawn(*_arguments, **_options):
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(keeper.os, "posix_spawn", spawn)
    monkeypatch.setattr(keeper.time, "sleep", lambda _seconds: None)
    kept = keeper.Keeper(Home(str(tmp_path), str(tmp_path), "none"))
    kept._start()
    assert kept._supervisor == FIRST
    kept._socket.close()


def test_what_is_not_its_child_is_not_killed(tmp_path):
    """The supervisor had reaped it, and was killed before it said so."""
    with subprocess.Popen(["sh", "-c", "sleep 100 & echo $!"], stdout=subprocess.PIPE) as shell:
        stranger = int(shell.stdout.readline())
    kept = keeper.Keeper(Home(str(tmp_path), str(tmp_path), "none"))
    start = start_ticks(stranger)
    kept._children, kept._forked = {f"{PROBE}a": stranger}, {"exec": stranger}
    kept._settle_leftovers()
    assert is_running(stranger, start)
    assert kept._forked == {}
    os.kill(stranger, signal.SIGKILL)


def test_a_socket_is_watched_no_more_when_its_supervisor_is_gone(tmp_path, monkeypatch):
    """Though another process still has the other end, and its number is soon something else's."""
    theirs, waits = [], []
    ends = iter([(FIRST, -signal.SIGKILL, True), None, (SECOND, 0, True), None])

    def spawn(*_args, file_actions, setsigmask):
        theirs.append(socket.socket(fileno=os.dup(file_actions[0][1])))
        if len(theirs) == 1:
            theirs[0].send(f"forked container/a {os.getpid()}".encode())
        return (FIRST, SECOND)[len(theirs) - 1]

    def before_wait(watched):
        waits.append(len(watched))
        if len(waits) == 2:
            theirs[1].send(b"bye ")

    def wake():
        os.write(write, b"\0")
        return read

    read, write = os.pipe()
    monkeypatch.setattr(keeper, "_wake_on_children", wake)
    monkeypatch.setattr(keeper, "_next_ended", lambda: next(ends))
    monkeypatch.setattr(keeper.Keeper, "_wait_for_rest", lambda _: None)
    monkeypatch.setattr(strays, "decide", lambda _: strays.Fate.RUNS)
    monkeypatch.setattr(os, "posix_spawn", spawn)
    monkeypatch.setattr(select, "poll", lambda: Poll(before_wait))
    kept = keeper.Keeper(Home(str(tmp_path), str(tmp_path), "none"))
    kept.run()
    assert waits == [2, 2]
    kept._drop("container/a/pidfd")
    for end in theirs:
        end.close()
    for fd in (read, write):
        os.close(fd)
