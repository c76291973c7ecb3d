"""`run` and `exec` as people use them: streams, terminals, signals, clients that vanish."""

import os
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.cli import COMMAND
from tests.support.leaks import Snapshot
from tests.support.manifests import HEAD
from tests.support.terminal import terminal
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

RUN = ("run", "--rm", "--network", "none")


@pytest.fixture
def box(bayplan):
    """A world with an image, and one container called ``keep``."""
    bayplan.apply(HEAD)
    bayplan("run", "-d", "--network", "none", "--name", "keep", "test/box", "sleep", "1000000")
    yield bayplan
    bayplan("rm", "-f", "keep")
    assert bayplan.json("ps", "-a") == []
    bayplan.delete("test")


def running(*arguments: str) -> bool:
    command = "\0".join([*arguments, ""])
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                if file.read() == command:
                    return True
        except OSError:
            continue
    return False


def catches(pid: int, number: int) -> bool:
    """Tell whether a process hears a signal; before it does, that ends it as it ends any."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (mask,) = [line for line in lines if line.startswith("SigCgt:")]
    return bool(int(mask.split()[1], 16) >> (number - 1) & 1)


def test_streams_of_run_are_kept_apart_and_its_input_is_handed_on(box):
    done = box(*RUN, "-i", "test/box", "sh", "-c", "cat; echo err >&2; exit 7", stdin="in", code=7)
    assert (done.stdout, done.stderr) == ("in", "err\n")
    assert box(*RUN, "test/box", "cat", stdin="not asked for").stdout == ""
    assert box("exec", "-i", "keep", "cat", stdin="in").stdout == "in"
    assert box("exec", "keep", "cat", stdin="not asked for").stdout == ""


def test_a_slow_reader_gets_all_of_it(box, tmp_path):
    big = tmp_path / "big"
    big.write_bytes(os.urandom(40 << 20))
    for words in ([*RUN, "-i", "test/box"], ["exec", "-i", "keep"]):
        with (
            big.open("rb") as stdin,
            subprocess.Popen(
                [*COMMAND, *words, "cat"],
                stdin=stdin,
                stdout=subprocess.PIPE,
                env=box.environment,
            ) as process,
        ):
            time.sleep(1)
            assert process.stdout.read() == big.read_bytes()
        assert process.returncode == 0


def test_another_user_may_open_the_streams_again(box):
    script = "cat /dev/stdin; echo out > /dev/stdout; echo err > /dev/stderr"
    for words in ([*RUN, "-i", "-u", "1234", "test/box"], ["exec", "-i", "-u", "1234", "keep"]):
        done = box(*words, "sh", "-c", script, stdin="in ")
        assert (done.stdout, done.stderr) == ("in out\n", "err\n")


def test_root_of_an_exec_has_what_root_of_the_container_would_have(box):
    box("run", "-d", "--name", "other", "-u", "1234", "test/box", "sleep", "1000")
    caps = ("grep", "Cap[EB]", "/proc/self/status")
    effective, bounding = box("exec", "-u", "0", "other", *caps).stdout.split()[1::2]
    assert effective == bounding != "0" * 16
    assert box("exec", "other", *caps).stdout.split()[1] == "0" * 16
    box("rm", "-f", "other")


def test_run_with_a_terminal(box):
    with terminal(box, *RUN, "-it", "test/box", "sh") as user:
        user.expect(b"# ")
        user.type(b"tty; stty size; echo $TERM\n")
        user.expect(b"/dev/pts/0\r\n31 97\r\nxterm\r\n")
        user.resize(40, 120)
        user.type(b"sleep 0.1; stty size\n")
        user.expect(b"\r\n40 120\r\n")
        user.type(b"sleep 98766\n")
        wait_until(lambda: running("sleep", "98766"))
        user.type(b"\x03")
        wait_until(lambda: not running("sleep", "98766"))
        user.type(b"exit 9\n")
        assert user.ends() == 9


def test_a_window_has_its_size_before_the_program_starts(box):
    for words in (["exec", "-it", "keep"], [*RUN, "-it", "test/box"], [*RUN, "-t", "test/box"]):
        with terminal(box, *words, "stty", "size") as user:
            user.expect(b"31 97\r")
            assert user.ends() == 0


def test_exec_at_a_terminal_follows_its_size_and_ends_with_the_programs_code(box):
    with terminal(box, "exec", "-it", "keep", "sh") as user:
        user.expect(b"# ")
        user.resize(40, 120)
        user.type(b"sleep 0.1; stty size\n")
        user.expect(b"\r\n40 120\r\n")
        user.type(b"kill -9 $$\n")
        assert user.ends() == 137
    for words, code in (
        (["sh", "-c", "kill $$"], 143),
        (["no-such-program"], 127),
        (["/etc/hosts"], 126),
    ):
        with terminal(box, "exec", "-it", "keep", *words) as user:
            assert user.ends() == code


def test_the_terminal_is_restored_whatever_ends_it(box):
    with terminal(box, "exec", "-it", "keep", "sh") as user:
        user.expect(b"# ")
        user.process.send_signal(signal.SIGHUP)
        assert user.ends() == 128 + signal.SIGHUP
    with terminal(box, *RUN, "-it", "--name", "doomed", "test/box", "sh") as user:
        user.expect(b"# ")
        box("kill", "doomed")
        assert user.ends() == 137
    with terminal(box, *RUN, "-it", "test/box", "no-such-program") as user:
        assert user.ends() == 127


def test_a_shell_leaves_although_something_still_has_the_terminal(box):
    with terminal(box, "exec", "-it", "keep", "sh") as user:
        user.expect(b"# ")
        user.type(b"nohup sleep 98768 & exit 3\n")
        assert user.ends() == 3
    with_sleep = "sleep 98768 & echo here"
    assert box("exec", "keep", "sh", "-c", with_sleep, timeout=20).stdout == "here\n"


def test_the_container_goes_when_the_users_terminal_does(box):
    with terminal(box, *RUN, "-it", "test/box", "sh") as user:
        user.expect(b"# ")
        os.close(user.slave)
        os.close(user.master)
        user.process.wait(20)
        user.master, user.slave = os.open("/dev/null", os.O_RDONLY), os.open("/dev/null", 0)
    wait_until(lambda: len(box.json("ps", "-a")) == 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_what_exec_runs(box, number):
    # Not the shell alone, as for ctrl-c at a terminal.
    with box.start("exec", "keep", "sh", "-c", "sleep 98767; true") as process:
        wait_until(lambda: running("sleep", "98767") and catches(process.pid, number))
        process.send_signal(number)
        assert process.wait(20) == 128 + number
    wait_until(lambda: not running("sleep", "98767"))


def test_what_exec_runs_is_hung_up_when_its_client_is_killed(box):
    with box.start("exec", "keep", "sh", "-c", "sleep 98767; true") as process:
        wait_until(lambda: running("sleep", "98767"))
        process.kill()
    wait_until(lambda: not running("sleep", "98767"))
    box("exec", "-d", "keep", "sleep", "98767")
    wait_until(lambda: running("sleep", "98767"))
    box("exec", "keep", "sh", "-c", "kill $(pidof sleep | sed s/1$//)")
    wait_until(lambda: not running("sleep", "98767"))


def test_signals_reach_what_run_runs(box):
    script = "trap 'echo asked; exit 5' TERM; echo up; while :; do sleep 0.02; done"
    with box.start(*RUN, "test/box", "sh", "-c", script) as process:
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "asked\n"
        assert process.wait(20) == 5


def test_what_was_ignored_from_the_start_is_not_handed_on(box):
    script = "trap 'echo hung up' HUP; trap 'exit 5' TERM; echo up; while :; do sleep 0.02; done"
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup(1) does
    try:
        process = box.start(*RUN, "test/box", "sh", "-c", script)
    finally:
        signal.signal(signal.SIGHUP, former)
    with process:
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == ""
        assert process.wait(20) == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("words", [(), ("-d",)], ids=["foreground", "detached"])
def test_a_run_ended_while_it_begins_leaves_nothing(box, world, number, words):
    known = set(os.listdir(world / "lib" / "containers"))
    command = ("run", *words, "--rm", "--init", "-p", "18119:80", "test/box", "sleep", "98766")
    with box.start(*command) as process:
        wait_until(lambda: set(os.listdir(world / "lib" / "containers")) > known)
        process.send_signal(number)
        process.communicate()
        assert process.returncode == 128 + number
    assert [c["name"] for c in box.json("ps", "-a")] == ["keep"]
    assert box("doctor").stdout == "all is well\n"


def test_following_a_log_ends_with_its_container(box):
    script = "for i in 1 2 3; do echo $i; sleep 0.4; done"
    box("run", "-d", "--name", "talks", "--network", "none", "test/box", "sh", "-c", script)
    assert box("logs", "-f", "talks").stdout.split() == ["1", "2", "3"]
    assert box("logs", "-f", "--tail", "1", "talks").stdout == "3\n"
    with box.start("logs", "-f", "keep") as follower:
        script = "echo here; exec sleep 1000000"
        box("run", "-d", "--name", "gone", "--network", "none", "test/box", "sh", "-c", script)
        with box.start("logs", "-f", "gone") as other:
            assert other.stdout.readline() == "here\n"
            box("rm", "-f", "gone")
            assert other.wait(20) == 0
        assert follower.poll() is None
        follower.terminate()
    box("rm", "talks")


def test_a_line_of_any_length_is_one_in_the_log(box):
    script = "head -c 3000000 /dev/zero | busybox tr '\\0' x; echo; busybox printf end"
    box(*RUN[:1], "--network", "none", "--name", "long", "test/box", "sh", "-c", script)
    assert box("logs", "long").stdout == "x" * 3_000_000 + "\nend"
    first, last = box("logs", "-t", "long").stdout.split("\n")
    assert len(first) == 3_000_000 + len("2026-01-31T12:00:00.000Z ")
    assert last.endswith("Z end")
    box("rm", "long")


def test_one_name_is_given_once(box):
    with ExitStack() as stack:
        words = (*RUN, "-d", "--name", "twin", "test/box", "sleep", "1000000")
        both = [stack.enter_context(box.start(*words)) for _ in range(2)]
        for process in both:
            process.communicate()
        assert sorted(process.returncode for process in both) == [0, 125]
    box("rm", "-f", "twin")


def test_what_ignores_signals_is_left_at_the_third(box):
    script = "trap 'echo heard' INT; echo up; while :; do sleep 0.02; done"
    with box.start(*RUN, "--name", "deaf", "test/box", "sh", "-c", script) as process:
        assert process.stdout.readline() == "up\n"
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "heard\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert [c["name"] for c in box.json("ps", "-a")] == ["keep"]


def test_a_reader_that_leaves_ends_it(box):
    with box.start(*RUN, "test/box", "yes") as process:
        assert process.stdout.readline() == "y\n"
        process.stdout.close()
        assert process.wait(20) == 128 + signal.SIGPIPE


def test_a_killed_client_leaves_the_container_as_it_is(box):
    with box.start(*RUN, "--name", "left", "test/box", "sh", "-c", "sleep 1; seq 9") as process:
        wait_until(lambda: len(box.json("ps")) == 2)
        process.kill()
    assert box("wait", "left").stdout == "0\n"
    assert box("logs", "left").stdout.split() == list("123456789")
    box("rm", "left", code=None)


def test_exit_codes_are_the_programs_or_ours(box):
    for words in (["exec", "keep"], [*RUN, "test/box"]):
        box(*words, "no-such-program", code=127)
        box(*words, "/etc/hosts", code=126)
        box(*words, "/", code=126)
        box(*words, "sh", "-c", "exit 3", code=3)
    box("exec", "keep", "sh", "-c", "kill -9 $$", code=137)
    box("exec", "-u", "nobody-here", "keep", "true", code=125)
    box("exec", "-w", "/nowhere", "keep", "true", code=126)
    box("exec", "-it", "keep", "true", code=64)
    box(*RUN, "-it", "test/box", "true", code=64)


def test_the_options_of_run_reach_the_program(box, tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "file").write_text("from the host\n")
    (tmp_path / "env").write_text("A=file\nB=file\n")
    script = (
        "echo $A $B; pwd; hostname; id -u; id -G; ulimit -n; cat /data/file; "
        "grep -c ^CapEff:.0000000000002000 /proc/self/status; "
        "cat /proc/sys/net/ipv4/ip_default_ttl; "
        "df -m /t | tail -1 | awk '{print $2}'; ls /dev/other; grep printer /etc/hosts; "
        "touch /x; df -m /dev/shm | tail -1 | awk '{print $2}'; cat /proc/1/comm"
    )
    done = box(
        *RUN, "--env-file", str(tmp_path / "env"), "-e", "B=flag", "-w", "/work",
        "--hostname", "me", "-u", "5:6", "--group-add", "7", "--ulimit", "nofile=99",
        "-v", f"{tmp_path}:/data:ro", "--cap-drop", "ALL", "--cap-add", "NET_RAW",
        "--sysctl", "net.ipv4.ip_default_ttl=77", "--tmpfs", "/t:size=2m",
        "--device", "/dev/null:/dev/other", "--add-host", "printer:10.9.8.7", "--read-only",
        "--shm-size", "3m", "--init", "-m", "64m", "--cpus", "0.5", "--pids-limit", "50",
        "--entrypoint", "sh", "test/box", "-c", script,
    )  # fmt: skip
    *said, comm = done.stdout.splitlines()
    assert said == [
        *("file flag", "/work", "me", "5", "6 7", "99", "from the host", "1", "77", "2"),
        *("/dev/other", "10.9.8.7\tprinter", "3"),
    ]
    assert comm != "sh"
    assert "Read-only file system" in done.stderr


def test_health_labels_and_restarts_of_run(box):
    box(
        *("run", "-d", "--network", "none", "--name", "sick", "-l", "tier=front"),
        *("--health-cmd", "false", "--health-interval", "100ms", "--health-retries", "1"),
        *("--restart", "on-failure:1", "--stop-signal", "KILL", "test/box", "sleep", "1000000"),
    )
    wait_until(lambda: "unhealthy" in box("ps").stdout)
    (found,) = [c for c in box.json("ps") if c["name"] == "sick"]
    assert (found["health"], found["restarts"]) == ("unhealthy", 0)
    assert '"tier": "front"' in box("inspect", "sick").stdout
    box("rm", "-f", "sick")


@pytest.mark.parametrize("how", ["detached", "killed client"])
def test_what_is_to_be_removed_goes_with_nobody_there(bayplan, world, how):
    """With its network, ports and files, and the supervisor after it."""
    bayplan.apply(HEAD)
    before = Snapshot.take(world, files=True)
    words = ("--rm", "-p", "18118:80", "test/box", "sleep", "0.5")
    if how == "detached":
        bayplan("run", "-d", *words)
    else:
        with bayplan.start("run", *words) as client:
            while not bayplan.json("ps"):
                pass
            client.kill()
    assert Snapshot.take(world, files=True).wait_settled(before, timeout_s=15) == []
    assert bayplan.json("ps", "-a") == []
    bayplan.delete("test")
