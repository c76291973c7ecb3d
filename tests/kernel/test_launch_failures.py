"""A launch that fails: what is said, and that nothing is left."""

import dataclasses
import os
import select
import signal
import stat
import sys
import threading
from pathlib import Path

import pytest

from runtime.container.program import compile_enter
from runtime.errors import LaunchError
from runtime.kernel import mask
from runtime.kernel.namespaces import CLONE_NEWPID
from runtime.kernel.program import Program
from runtime.spec import Mount, Process
from runtime.supervisor import interpreter, operations_host
from runtime.supervisor.interpreter import launch, start
from tests.support.box import Box

pytestmark = pytest.mark.kernel


@pytest.fixture
def box(world):
    return Box(world)


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        ("nope", 127, "nope: not found in the container's PATH (/bin)"),
        ("/bin/nope", 127, "/bin/nope: no such file or directory in the container"),
        ("/etc", 126, "/etc: permission denied, it is a directory"),
        ("/plain", 126, "/plain: permission denied, it is not executable for user 0"),
        ("/script", 127, "/script needs the script interpreter /opt/lua, which is not in"),
        ("/dynamic", 127, "/dynamic needs the dynamic loader /lib"),
        ("/text", 126, "/text is neither a program for this machine nor a script"),
        ("/foreign", 126, "/foreign is a program for riscv64, this machine is"),
    ],
)
def test_a_command_that_cannot_run_is_explained(box, command, code, text):
    (box.layer / "plain").write_text("")
    files = {"script": b"#!/opt/lua -x\n", "text": b"hello", "foreign": _elf(243)}
    with open(os.path.realpath(sys.executable), "rb") as python:
        files["dynamic"] = python.read()
    for name, content in files.items():
        (box.layer / name).write_bytes(content)
        (box.layer / name).chmod(0o755)
    with pytest.raises(LaunchError) as caught:
        box.run(box.spec(command))
    assert str(caught.value).startswith(text)
    assert caught.value.exit_code == code


def test_the_operation_is_named(box):
    spec = box.spec("true")
    spec = dataclasses.replace(spec, mounts=(*spec.mounts, Mount("/x", "nofs", "nofs")))
    with pytest.raises(LaunchError) as caught:
        box.run(spec)
    assert str(caught.value).startswith("mount(2) nofs -> /x: No such device [ENODEV] (operat")
    assert caught.value.exit_code == 125


def test_a_missing_bind_source_is_named(box):
    spec = box.spec("true")
    missing = Mount("/x", None, f"{box.folder}/gone", ("bind",))
    spec = dataclasses.replace(spec, mounts=(missing,))
    with pytest.raises(LaunchError, match=f"{box.folder}/gone: No such file"):
        box.run(spec)


def _refuse(*_):
    raise LaunchError("/ is no mount point here")


def _die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("name", "act", "said"),
    [
        ("private", _refuse, "/ is no mount point here (operation 0: device)"),
        ("unshare", _die, "was killed by signal 9, without a word (operation 0: device)"),
    ],
)
def test_the_helper_that_clones_a_device_is_heard(monkeypatch, name, act, said):
    monkeypatch.setattr(mask, "_masked", {mask.DETACHED_CLONES})
    monkeypatch.setattr(operations_host, name, act)
    node = stat.S_IFCHR | 0o600
    with pytest.raises(LaunchError) as caught:
        launch(Program(0, (("device", 0, node, 1, 5, 0, 0),)))
    assert str(caught.value).endswith(said)


@pytest.mark.parametrize("name", ["unshare", "overlay", "pivot", "mask", "capabilities", "find"])
def test_whatever_fails_leaves_nothing(box, monkeypatch, name):
    def fail(child, *arguments):
        raise OSError(28, "made up", "/there")

    monkeypatch.setitem(interpreter.OPERATIONS, name, fail)
    before, others = set(os.listdir("/proc/self/fd")), children()
    with pytest.raises(LaunchError, match=rf"made up /there \[ENOSPC\] \(operation \d+: {name}\)"):
        box.sh("true")
    assert set(os.listdir("/proc/self/fd")) == before
    assert children() == others


def children() -> set[str]:
    """Return the children of this process, others than ours among them."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_a_bug_in_an_operation_is_told_not_unwound(box, monkeypatch):
    monkeypatch.setitem(interpreter.OPERATIONS, "pivot", lambda child: 1 // 0)
    with pytest.raises(LaunchError, match="ZeroDivisionError"):
        box.sh("true")


def test_a_child_that_dies_is_noticed(box, monkeypatch):
    def die(child):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setitem(interpreter.OPERATIONS, "private", die)
    program = box.compile(box.spec("true"))
    # Process 1 of a namespace cannot kill itself.
    program = Program(program.namespaces & ~CLONE_NEWPID, program.operations)
    with pytest.raises(LaunchError, match="died before it got to exec"):
        launch(program)


def test_a_child_that_hangs_is_killed(box, monkeypatch):
    monkeypatch.setitem(interpreter.OPERATIONS, "private", lambda child: signal.pause())
    with pytest.raises(LaunchError, match=r"within 0\.2 s"):
        launch(box.compile(box.spec("true")), timeout_s=0.2)


def test_a_sibling_is_killed_with_its_launch(box, monkeypatch):
    """The child of an exec goes on as a sibling; giving up just then must not leave it."""
    others = children()
    with box.running(box.spec("sleep", "60")) as target:
        monkeypatch.setitem(interpreter.OPERATIONS, "session", lambda child, take: signal.pause())
        started = start(compile_enter(Process(("true",))), target=target.pidfd)
        select.select([started], [], [])
        started.abandon()
        assert children() - others == {str(target.pid)}


@pytest.mark.parametrize("sibling", [False, True])
def test_nothing_runs_that_its_parent_could_not_make_known(box, sibling):
    """The parent is killed just then: whoever cleans up would not find it, and start it again."""
    with box.running(box.spec("sleep", "60")) as target:
        program, options = box.compile(box.spec("echo", "once")), {}
        if sibling:
            program = compile_enter(Process(("/bin/echo", "once"), env=("PATH=/bin",)))
            options = {"target": target.pidfd}
        known: list[int] = []

        def admit(pid: int) -> None:
            known.append(pid)
            if len(known) > sibling:
                os.kill(os.getpid(), signal.SIGKILL)

        read, write = os.pipe()
        parent = os.fork()
        if parent == 0:
            start(program, stdout=write, admit=admit, **options).finish()
        os.close(write)
        assert os.waitpid(parent, 0)[1] == signal.SIGKILL
        with open(read, "rb") as pipe:
            assert pipe.read() == b""


def test_a_cgroup_that_is_not_there_is_named(box):
    program = box.compile(box.spec("true"), cgroup_join=("/nowhere/cgroup.procs",))
    with pytest.raises(LaunchError, match="/nowhere"):
        start(program)


def test_a_process_with_threads_does_not_launch(box):
    program = box.compile(box.spec("true"))
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with pytest.raises(LaunchError, match="single-threaded"):
            launch(program)
    finally:
        stop.set()
        thread.join()


def _elf(machine: int) -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(9) + b"\2\0" + machine.to_bytes(2, "little") + bytes(44)
