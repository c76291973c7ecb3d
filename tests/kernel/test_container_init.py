"""The init of a container: the machine code, and its stand-in in Python."""

import os
import signal

import pytest

from runtime.errors import LaunchError
from runtime.kernel.seccomp_default import default_profile
from runtime.supervisor import interpreter
from runtime.supervisor.interpreter import launch
from tests.support.box import Box, collect
from tests.support.host import cannot
from tests.support.reading import read_lines

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("any_init")]


@pytest.fixture
def box(world):
    return Box(world)


@pytest.fixture(params=["machine code", "python"])
def any_init(request, monkeypatch):
    if request.param == "python":
        monkeypatch.setattr(interpreter, "has_init", lambda: False)
    elif not interpreter.has_init():
        cannot("no built-in init for this machine")


def test_it_is_process_1_and_the_command_is_not(box):
    result = box.run(box.spec("sh", "-c", "echo $$ $PPID; exit 7"), init=True)
    assert (result.out, result.code) == ("2 1\n", 7)


def test_it_forwards_signals_and_reports_their_end(box):
    script = "trap 'echo got; exit 5' TERM; echo up; while :; do sleep 0.02; done"
    read, write = os.pipe()
    launched = launch(box.compile(box.spec("sh", "-c", script), init=True), stdout=write)
    os.close(write)
    with open(read) as output:
        assert output.readline() == "up\n"
        signal.pidfd_send_signal(launched.pidfd, signal.SIGTERM)
        assert output.read() == "got\n"
    assert collect(launched) == 5


def test_a_default_signal_ends_the_command(box):
    launched = launch(box.compile(box.spec("sleep", "60"), init=True))
    signal.pidfd_send_signal(launched.pidfd, signal.SIGTERM)
    assert collect(launched) == 128 + signal.SIGTERM


def test_it_reaps_orphans(box):
    script = "(sleep 0.05 &); sleep 0.2; cat /proc/[0-9]*/status | grep -c 'State:.Z'"
    assert box.run(box.spec("sh", "-c", script), init=True).out == "0\n"


def test_a_missing_command_is_told(box):
    with pytest.raises(LaunchError) as caught:
        box.run(box.spec("nope"), init=True)
    assert caught.value.exit_code == 127


def test_an_exec_that_fails_below_it_is_told(box):
    (box.layer / "text").write_bytes(b"hello")
    (box.layer / "text").chmod(0o755)
    with pytest.raises(LaunchError) as caught:
        box.run(box.spec("/text"), init=True)
    assert str(caught.value).startswith("/text is neither a program for this machine nor")
    assert caught.value.exit_code == 126


def test_signals_are_default_and_unblocked_for_the_command(box):
    seen = box.status(box.spec("cat", "/proc/self/status"), init=True)
    assert int(seen["SigBlk"], 16) == int(seen["SigIgn"], 16) == 0


def test_keys_reach_the_command_and_not_the_init(box):
    script = "trap 'exit 6' INT; echo up; while :; do sleep 0.02; done"
    spec = box.spec("sh", "-c", script, process={"terminal": True})
    launched = launch(box.compile(spec, init=True))
    assert read_lines(launched.terminal) == b"up\r\n"
    os.write(launched.terminal, b"\3")
    assert collect(launched) == 6
    os.close(launched.terminal)


def test_the_default_system_call_filter_lets_it_work(box):
    profile = default_profile(frozenset())
    spec = box.spec("sh", "-c", "true; exit 4", linux={"seccomp": profile})
    assert box.run(spec, init=True).code == 4
