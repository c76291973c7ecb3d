"""``run`` and ``exec`` in the foreground: whose signals are whose, and a terminal nobody serves."""

import os
import select
import signal
import subprocess
from contextlib import contextmanager

import pytest

from tests.support.bundle import ID, bundle_in
from tests.support.waiting import SLOWNESS, wait_until

pytestmark = pytest.mark.kernel

_CATCHING = "trap 'touch /tmp/caught; echo caught; exit 7' TERM; echo ready"


@pytest.fixture
def bundle(world):
    with bundle_in(world) as made:
        yield made


@contextmanager
def _command(bundle, *words, **streams):
    """Yield a command that is killed should it not have ended by the end."""
    bundle.call("state", ID)  # writes the config
    arguments = [*bundle.command(), *words]
    with subprocess.Popen(arguments, cwd=bundle.path, **streams) as process:
        try:
            yield process
        finally:
            process.kill()


def _read_until(pipe, word: bytes) -> None:
    text = b""
    while word not in text:
        assert select.select([pipe], [], [], 20 * SLOWNESS)[0], f"{word!r} did not come: {text!r}"
        text = text[-20:] + os.read(pipe.fileno(), 1 << 16)


def _on_terminal(bundle, verb: str, script: str) -> tuple[str, ...]:
    """Have a script run on a terminal, and return how."""
    if verb == "exec":
        bundle.start()
        return ("exec", "--tty", ID, "sh", "-c", script)
    bundle.config["process"]["terminal"] = True
    bundle.sh(script)
    return ("run", ID)


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_a_program_that_does_not_read_its_terminal_is_heard_and_gets_signals(
    bundle, tmp_path, verb
):
    (tmp_path / "input").write_bytes(b"a line\n" * 150_000)
    script = f"stty -echo; sleep 0.5; {_CATCHING}; while :; do sleep 0.05; done"
    words = _on_terminal(bundle, verb, script)
    with (
        open(tmp_path / "input", "rb") as given,
        _command(bundle, *words, stdin=given, stdout=subprocess.PIPE) as process,
    ):
        _read_until(process.stdout, b"ready")
        process.send_signal(signal.SIGTERM)
        _read_until(process.stdout, b"caught")
        assert process.wait(20 * SLOWNESS) == 7


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_who_does_not_read_our_output_keeps_no_signal_from_the_program(bundle, kind):
    words = _on_terminal(bundle, "run", "trap 'touch /tmp/caught; exit 7' TERM; busybox yes & wait")
    ours, theirs = os.pipe() if kind == "pipe" else os.openpty()
    try:
        with _command(bundle, *words, stdin=subprocess.DEVNULL, stdout=theirs) as process:
            wait_until(lambda: _is_full(theirs))
            process.send_signal(signal.SIGTERM)
            wait_until((bundle.path / "rootfs/tmp/caught").exists)
            # What it wrote waits for who reads it, unless we are told not to.
            wait_until(lambda: bundle.state()["status"] == "stopped")
            process.send_signal(signal.SIGTERM)
            assert process.wait(20 * SLOWNESS) == 7
    finally:
        os.close(ours)
        os.close(theirs)


def _is_full(stream: int) -> bool:
    return not select.select([], [stream], [], 0.2)[1]


def test_output_reaches_a_slow_reader_whole_after_the_end(bundle):
    words = _on_terminal(bundle, "run", "stty -opost; busybox seq 100000")
    ours, theirs = os.pipe()
    with (
        open(ours, "rb") as reading,
        _command(bundle, *words, stdin=subprocess.DEVNULL, stdout=theirs) as process,
    ):
        wait_until(lambda: _is_full(theirs))
        os.close(theirs)
        text = reading.read()
        assert process.wait() == 0
    assert text == b"".join(b"%d\n" % number for number in range(1, 100001))


@pytest.mark.parametrize(
    ("point", "number"),
    [
        ("prestart", signal.SIGTERM),
        ("createContainer", signal.SIGINT),
        ("startContainer", signal.SIGHUP),
        ("poststart", signal.SIGTERM),
    ],
)
def test_a_run_ends_while_a_hook_hangs_and_leaves_nothing(bundle, point, number):
    inside = point == "startContainer"
    told = bundle.path / ("rootfs/hook" if inside else "hook")
    bundle.config["hooks"] = {point: [_hanging("/hook" if inside else told)]}
    bundle.sh("sleep 1000")
    with _command(bundle, "run", ID, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        wait_until(lambda: told.exists() and told.read_text())
        assert bundle.groups()
        process.send_signal(number)
        assert process.wait(20 * SLOWNESS) == 128 + number
        assert f"interrupted by signal {number}".encode() in process.stderr.read()
    assert os.listdir(bundle.root) == []
    assert bundle.groups() == []
    if point in ("prestart", "poststart"):
        assert not os.path.exists(f"/proc/{told.read_text().strip()}")


def _hanging(told) -> dict:
    script = f"echo $$ >{told}; exec sleep 1000"
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}


def test_a_poststop_hook_that_hangs_is_given_up(bundle):
    told = bundle.path / "hook"
    bundle.config["hooks"] = {"poststop": [_hanging(told)]}
    bundle.sh("exit 3")
    with _command(bundle, "run", ID, stdin=subprocess.DEVNULL) as process:
        wait_until(lambda: told.exists() and told.read_text())
        process.send_signal(signal.SIGTERM)
        assert process.wait(20 * SLOWNESS) == 3
    assert not os.path.exists(f"/proc/{told.read_text().strip()}")


def test_what_is_kept_of_a_run_given_up_does_not_run(bundle):
    bundle.config["hooks"] = {"startContainer": [_hanging("/hook")]}
    with _command(bundle, "run", "--keep", ID, stdin=subprocess.DEVNULL) as process:
        wait_until((bundle.path / "rootfs/hook").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20 * SLOWNESS) == 128 + signal.SIGTERM
    assert bundle.state()["status"] == "stopped"


def test_a_signal_not_seen_before_the_program_runs_is_the_programs(bundle):
    os.mkfifo(bundle.path / "rootfs/go")
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "touch /hook; read x </go"]}
    bundle.config["hooks"] = {"startContainer": [{**hook, "env": ["PATH=/bin"]}]}
    bundle.sh(f"{_CATCHING}; touch /ready; while :; do sleep 0.05; done")
    with _command(bundle, "run", ID, stdin=subprocess.DEVNULL) as process:
        wait_until((bundle.path / "rootfs/hook").exists)
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        (bundle.path / "rootfs/go").write_text("\n")
        wait_until((bundle.path / "rootfs/ready").exists)
        process.send_signal(signal.SIGCONT)
        assert process.wait(20 * SLOWNESS) == 7


def test_signals_that_end_no_command_wait_for_the_program(bundle):
    """So does one that was ignored when the command was called, as by nohup(1)."""
    os.mkfifo(bundle.path / "go")
    script = f"touch {bundle.path}/hook; read x <{bundle.path}/go"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}
    bundle.config["hooks"] = {"createRuntime": [hook]}
    # The first process of a pid namespace would get no signal it has not asked for.
    spaces = bundle.config["linux"]["namespaces"]
    bundle.config["linux"]["namespaces"] = [s for s in spaces if s["type"] != "pid"]
    bundle.sh("sleep 1000")
    ignoring = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    with _command(bundle, "run", ID, stdin=subprocess.DEVNULL, **ignoring) as process:
        wait_until((bundle.path / "hook").exists)
        process.send_signal(signal.SIGHUP)
        (bundle.path / "go").write_text("\n")
        assert process.wait(20 * SLOWNESS) == 128 + signal.SIGHUP
