"""What follows from the end or the health of a container is seen to, again if it fails."""

import os
from types import SimpleNamespace

import pytest

from runtime.root import Root
from runtime.supervisor.errand import Errand
from runtime.supervisor.names import Home
from runtime.supervisor.status import Status
from runtime.supervisor.traffic import Traffic
from tests.support.looping import is_collected


@pytest.fixture
def root(tmp_path):
    root = Root.at(tmp_path)
    (root.state / "containers" / "one").mkdir(parents=True)
    (root.state / "networks").mkdir()
    return root


@pytest.fixture
def context(root, loop):
    return SimpleNamespace(loop=loop, home=Home(str(root.state), str(root.run), root.cgroup))


def make(context, loop):
    return Errand(context, "runtime.container.traffic", loop.stop)


def test_it_is_done_when_the_process_has_ended(context, loop):
    errand = make(context, loop)
    errand.want("one", delay_s=0)
    assert errand.active
    loop.run()
    assert not errand.active


def test_for_containers_that_are_gone_nothing_is_started(context, loop, monkeypatch):
    monkeypatch.setattr(os, "posix_spawn", lambda *_, **__: pytest.fail("started"))
    errand = make(context, loop)
    errand.want("two", delay_s=0)
    loop.run()
    assert not errand.active


def test_what_failed_is_tried_again(context, loop, root, capfd):
    damaged = root.state / "networks" / "firewall.json"
    damaged.write_text('{"version": 0}')
    errand = make(context, loop)
    errand.want("one", delay_s=0)
    assert errand.pressing
    said = ""

    def mend_once_it_failed() -> None:
        nonlocal said
        said += capfd.readouterr().err
        if "trying again" in said:
            # Nobody who waits for a quiet moment is to wait for this.
            assert errand.active
            assert not errand.pressing
            damaged.unlink()
        else:
            loop.call_later(0.01, mend_once_it_failed)

    mend_once_it_failed()
    loop.run()
    assert not damaged.exists()
    assert not errand.active
    assert "of version 0" in said


@pytest.mark.parametrize("call", ["posix_spawn", "pidfd_open"])
def test_what_could_not_be_started_is_started_later(context, loop, monkeypatch, call):
    real, spawn, calls, pids = getattr(os, call), os.posix_spawn, [], []

    def once_not(*words, **options):
        calls.append(words)
        if len(calls) == 1:
            raise OSError(24, "Too many open files")
        return real(*words, **options)

    def noted(*words, **options):
        pids.append(spawn(*words, **options))
        return pids[-1]

    monkeypatch.setattr(os, "posix_spawn", noted)
    if call == "posix_spawn":
        real = noted
    monkeypatch.setattr(os, call, once_not)
    errand = make(context, loop)
    errand.want("one", delay_s=0)
    loop.run()
    assert len(calls) == 2
    for pid in pids:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def test_one_that_cannot_be_watched_is_killed_and_not_waited_for(context, loop, monkeypatch):
    """What it does may need an answer of the supervisor that would wait for it."""
    real, opened, (read, write) = os.posix_spawn, os.pidfd_open, os.pipe()
    pids = []

    def slow(*_words, **_options):
        script = "echo begun; sleep 3; echo done"
        out = [(os.POSIX_SPAWN_DUP2, write, 1)]
        pids.append(real("/bin/sh", ["sh", "-c", script], {"PATH": "/bin"}, file_actions=out))
        monkeypatch.setattr(os, "posix_spawn", real)
        return pids[-1]

    def none_left(_pid):
        os.close(write)
        assert os.read(read, 100) == b"begun\n"
        monkeypatch.setattr(os, "pidfd_open", opened)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "posix_spawn", slow)
    monkeypatch.setattr(os, "pidfd_open", none_left)
    errand = make(context, loop)
    errand.want("one", delay_s=0)
    loop.run()
    assert not errand.active
    assert os.read(read, 100) == b""
    os.close(read)
    assert is_collected(*pids)


class TestTraffic:
    @pytest.fixture
    def wanted(self, monkeypatch):
        calls = []
        monkeypatch.setattr(Errand, "want", lambda _, id, *, delay_s: calls.append((id, delay_s)))
        return calls

    def test_a_change_is_told_once(self, context, wanted):
        traffic = Traffic(context, lambda: None)
        for resting in (False, True, True, False, False):
            traffic.consider(Status(id="one", resting=resting, state="running"))
        assert [id for id, _ in wanted] == ["one", "one"]

    def test_who_stops_a_container_has_moved_its_traffic(self, context, wanted):
        traffic = Traffic(context, lambda: None)
        stopping = Status(id="one", ending=True, stop_requested=True, state="running")
        traffic.consider(stopping)
        ((_, delay_s),) = wanted
        assert delay_s >= 1
        ended = Status(id="one", ending=True, resting=True, stop_requested=True, state="exited")
        traffic.consider(ended)
        assert len(wanted) == 1

    def test_of_a_crash_nobody_knew_before(self, context, wanted):
        Traffic(context, lambda: None).consider(Status(id="one", resting=True, state="exited"))
        ((_, delay_s),) = wanted
        assert delay_s < 0.1

    def test_what_is_forgotten_is_new_again(self, context, wanted):
        traffic = Traffic(context, lambda: None)
        traffic.consider(Status(id="one", resting=True, state="exited"))
        traffic.forget("one")
        traffic.consider(Status(id="one", resting=True, state="exited"))
        assert len(wanted) == 2
