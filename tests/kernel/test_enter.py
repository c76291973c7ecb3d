"""Entering a running container."""

import dataclasses
import os

import pytest

from runtime.container.program import compile_enter
from runtime.errors import LaunchError
from runtime.kernel.seccomp_default import default_profile
from runtime.spec import Process, User
from runtime.supervisor import interpreter
from runtime.supervisor.interpreter import enter, launch
from tests.support.box import Box, collect
from tests.support.host import cannot
from tests.support.reading import read_lines

pytestmark = pytest.mark.kernel


@pytest.fixture
def box(world):
    return Box(world)


def make_process(*args, **changes):
    return Process(args, env=("PATH=/bin",), **changes)


def test_it_is_in_the_containers_world(box):
    with box.running(box.spec("sleep", "60")) as target:
        process = make_process("sh", "-c", "hostname; ps; readlink /proc/1/ns/* /proc/self/ns/*")
        out = box.enter(target, process).out.splitlines()
    assert out[0] == "box"
    assert any("sleep 60" in line for line in out)
    spaces = [line for line in out if ":[" in line]
    assert sorted(spaces) == sorted(2 * list(set(spaces)))


def test_exit_code_user_and_capabilities(box):
    script = "id -u; grep -E 'CapBnd|NoNew' /proc/self/status; exit 9"
    with box.running(box.spec("sleep", "60")) as target:
        result = box.enter(target, make_process("sh", "-c", script, user=User(5, 6)))
    assert result.code == 9
    assert result.out.split() == ["5", "CapBnd:", "0" * 16, "NoNewPrivs:", "1"]


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_the_system_call_filter_holds(box, no_new_privileges):
    process = make_process("grep", "Seccomp:", "/proc/self/status")
    process = dataclasses.replace(process, no_new_privileges=no_new_privileges)
    with box.running(box.spec("sleep", "60")) as target:
        result = box.enter(target, process, seccomp=default_profile(frozenset()))
    assert result.out.split() == ["Seccomp:", "2"]


def test_its_files_are_closed_and_its_streams_given(box):
    with box.running(box.spec("sleep", "60")) as target:
        result = box.enter(target, make_process("ls", "/proc/self/fd"))
    assert result.out.split() == ["0", "1", "2", "3"]


def test_it_joins_cgroups(box):
    group = f"/sys/fs/cgroup/pids/bayplan-enter-{os.getpid()}"
    if not os.path.isdir("/sys/fs/cgroup/pids"):
        cannot("no version 1 cgroups here")
    os.mkdir(group)
    try:
        with box.running(box.spec("sleep", "60"), cgroup_join=[f"{group}/tasks"]) as target:
            result = box.enter(
                target,
                make_process("cat", "/sys/fs/cgroup/pids/tasks"),
                cgroup_join=[f"{group}/tasks"],
            )
        assert len(result.out.split()) == 2
    finally:
        os.rmdir(group)


def test_errors_are_told_and_nothing_is_left(box):
    with box.running(box.spec("sleep", "60")) as target:
        before = set(os.listdir("/proc/self/fd"))
        for process, code in (
            (make_process("nope"), 127),
            (make_process("true", cwd="/nowhere"), 126),
        ):
            with pytest.raises(LaunchError) as caught:
                box.enter(target, process)
            assert caught.value.exit_code == code
        assert set(os.listdir("/proc/self/fd")) == before


def test_a_dead_container_cannot_be_entered(box):
    launched = launch(box.compile(box.spec("true")))
    os.waitid(os.P_PIDFD, launched.pidfd, os.WEXITED)
    with pytest.raises(LaunchError, match=r"setns\(2\)"):
        box.enter(launched, make_process("true"))
    os.close(launched.pidfd)


def test_the_entering_process_cannot_be_traced(box, monkeypatch):
    """Nobody in the container gets hold of it through /proc before it has exec'd."""

    def look(child, *arguments):
        # Of a process that may be traced, these files belong to its user.
        child.warn(f"owner {os.stat('/proc/self/fd').st_uid}, user {os.getuid()}")

    monkeypatch.setitem(interpreter.OPERATIONS, "session", look)
    with box.running(box.spec("sleep", "60")) as target:
        result = box.enter(target, make_process("true", user=User(1234, 1234)))
    assert result.warnings == ("owner 0, user 1234",)


def test_exec_with_a_terminal(box):
    process = Process(
        ("sh", "-c", "tty; ls -l /dev/pts | wc -l"), env=("PATH=/bin",), terminal=True
    )
    with box.running(box.spec("sleep", "60")) as target:
        entered = enter(target.pidfd, compile_enter(process))
        assert collect(entered) == 0
        assert read_lines(entered.terminal, 2) == b"/dev/pts/0\r\n3\r\n"
        os.close(entered.terminal)
