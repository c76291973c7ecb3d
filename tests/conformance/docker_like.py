"""What both docker and podman are asked, in the same words."""

import os
import pty
import re
import subprocess
from collections.abc import Callable

from tests.conformance.checks import Engine, Unexpected
from tests.conformance.podman import IMAGE

_ULIMITS = ("--ulimit", "nofile=77:88", "--ulimit", "nproc=1024:1024")
_SLEEP = ("sh", "-c", "trap exit TERM; echo up; while :; do sleep 0.1; done")


def run(engine: Engine) -> None:
    engine.says("hello", "run", "--rm", IMAGE, "echo", "hello")


def exit_codes(engine: Engine) -> None:
    engine.call("run", "--rm", IMAGE, "sh", "-c", "exit 7", code=7)
    script = "sh -c 'kill -9 $$'; exit $?"  # the first process of all does not mind
    engine.call("run", "--rm", IMAGE, "sh", "-c", script, code=137)
    engine.call("run", "--rm", IMAGE, "/no/such/program", code=127)
    engine.call("run", "--rm", IMAGE, "/etc/passwd", code=126)


def run_with_terminal(engine: Engine) -> None:
    _on_terminal(engine, "run", "--rm", "-t", IMAGE, "tty", expected="/dev/(pts/0|console)")


def run_reads_stdin(engine: Engine) -> None:
    engine.says("from outside", "run", "--rm", "-i", IMAGE, "cat", given="from outside")


def user_workdir_env(engine: Engine) -> None:
    words = ("run", "--rm", "-u", "12:34", "-w", "/tmp", "-e", "A=b", IMAGE)
    engine.says("12:34 /tmp b", *words, "sh", "-c", "echo $(id -u):$(id -g) $(pwd) $A")


def limits(engine: Engine) -> None:
    words = ("run", "--rm", "-m", "32m", "--pids-limit", "20", "--cpus", "0.5", IMAGE)
    files = "/sys/fs/cgroup"
    script = (
        f"cat {files}/memory/memory.limit_in_bytes {files}/pids/pids.max"
        f" {files}/cpu/cpu.cfs_quota_us || cat {files}/memory.max {files}/pids.max {files}/cpu.max"
    )
    engine.says(r".*33554432\s20\s50000.*", *words, "sh", "-c", script)


def out_of_memory(engine: Engine) -> None:
    script = "x=a; while :; do x=$x$x; done"
    words = ("--name", "oom", "-m", "16m", "--memory-swap", "16m", IMAGE, "sh", "-c", script)
    engine.call("run", *words, code=137)
    if "podman" not in engine.words[0]:  # Debian's looks for conmon's note in another folder
        engine.says("true", "inspect", "-f", "{{.State.OOMKilled}}", "oom")
    engine.call("rm", "oom")


def privileges(engine: Engine) -> None:
    words = ("run", "--rm", "--cap-drop", "all", "--cap-add", "chown", IMAGE)
    engine.says(r"CapEff:\s*0000000000000001", *words, "grep", "CapEff", "/proc/self/status")
    words = ("run", "--rm", "--security-opt", "no-new-privileges", "--read-only", IMAGE)
    engine.says(r".*Read-only file system", *words, "sh", "-c", "touch /x || :")
    engine.call("run", "--rm", "--privileged", IMAGE, "mount", "-t", "tmpfs", "x", "/mnt")


def devices_and_ulimits(engine: Engine) -> None:
    words = ("run", "--rm", "--device", "/dev/fuse:/dev/other:r", *_ULIMITS)
    engine.says("c 77", *words, IMAGE, "sh", "-c", "test -c /dev/other && echo c $(ulimit -n)")


def volumes_and_tmpfs(engine: Engine) -> None:
    words = ("run", "--rm", "-v", "kept:/data", "--tmpfs", "/scratch:size=1m", IMAGE)
    engine.call(*words, "sh", "-c", "echo x > /data/file && echo y > /scratch/file")
    engine.says("x", *words, "cat", "/data/file")
    engine.call("volume", "rm", "kept")


def shared_namespaces(engine: Engine) -> None:
    engine.call("run", "-d", "--name", "first", IMAGE, *_SLEEP)
    words = ("run", "--rm", "--pid", "container:first", "--network", "container:first")
    engine.says(r".*trap exit.*", *words, IMAGE, "ps")
    engine.call("rm", "-f", "first")


def execute(engine: Engine) -> None:
    engine.call("run", "-d", "--name", "main", IMAGE, *_SLEEP)
    engine.says("inside", "exec", "main", "echo", "inside")
    engine.says("via stdin", "exec", "-i", "main", "cat", given="via stdin")
    engine.says("5 /tmp", "exec", "-u", "5", "-w", "/tmp", "main", "sh", "-c", "echo $(id -u) $PWD")
    engine.call("exec", "main", "sh", "-c", "exit 9", code=9)
    engine.call("exec", "main", "sh", "-c", "kill -9 $$", code=137)
    engine.call("exec", "main", "no-such-program", code=127)
    engine.call("exec", "main", "/etc/passwd", code=126)
    _on_terminal(engine, "exec", "-t", "main", "tty", expected="/dev/pts/.*")
    engine.call("exec", "-d", "main", "touch", "/made")
    engine.becomes("/made", "exec", "main", "ls", "/made")


def logs(engine: Engine) -> None:
    engine.becomes("up", "logs", "main")


def top_and_stats(engine: Engine) -> None:
    engine.says(r".*trap exit.*", "top", "main")
    engine.says(r"\d[^/]* / .*", "stats", "--no-stream", "--format", "{{.MemUsage}}", "main")


def pause(engine: Engine) -> None:
    engine.call("pause", "main")
    engine.says("paused", "inspect", "-f", "{{.State.Status}}", "main")
    engine.call("unpause", "main")
    engine.says("running", "inspect", "-f", "{{.State.Status}}", "main")


def update(engine: Engine) -> None:
    engine.call("update", "-m", "48m", "--memory-swap", "96m", "main")
    script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max"
    engine.says(".*50331648", "exec", "main", "sh", "-c", script)


def copy(engine: Engine) -> None:
    engine.call("cp", "/etc/hostname", "main:/tmp/copied")
    engine.call("exec", "main", "test", "-f", "/tmp/copied")


def kill(engine: Engine) -> None:
    engine.call("kill", "-s", "TERM", "main")
    engine.becomes("exited 0", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "main")


def start_again_and_stop(engine: Engine) -> None:
    engine.call("start", "main")
    engine.becomes("running", "inspect", "-f", "{{.State.Status}}", "main")
    engine.call("stop", "-t", "20", "main")
    engine.call("restart", "main")
    engine.call("rm", "-f", "main")


def healthcheck(engine: Engine) -> None:
    options = ("--health-cmd", "test -f /tmp/well", "--health-interval", "1s")
    engine.call("run", "-d", "--name", "health", *options, IMAGE, *_SLEEP)
    engine.call("exec", "health", "touch", "/tmp/well")
    if "podman" in engine.words[0]:
        engine.call("healthcheck", "run", "health")  # timers are systemd's
    status = "{{.State.Health.Status}}"
    engine.becomes("healthy", "inspect", "-f", status, "health")
    engine.call("rm", "-f", "health")


CASES: tuple[Callable[[Engine], None], ...] = (
    *(run, exit_codes, run_with_terminal, run_reads_stdin, user_workdir_env, limits),
    *(out_of_memory, privileges, devices_and_ulimits, volumes_and_tmpfs, shared_namespaces),
    *(execute, logs, top_and_stats, pause, update, copy, kill, start_again_and_stop, healthcheck),
)
"""In this order: some go on with the container ``main``."""


def _on_terminal(engine: Engine, *words: str, expected: str) -> None:
    """Have a command that wants a terminal print *expected* on one."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [*engine.words, *words], env=engine.env, stdin=slave, stdout=slave, stderr=slave
    ) as process:
        os.close(slave)
        output = b""
        while b"\n" not in output:
            try:
                output += os.read(master, 1024)
            except OSError:
                break
        code = process.wait(60)
    os.close(master)
    text = output.decode().strip()
    if code or not re.fullmatch(expected, text):
        raise Unexpected(f"{' '.join(words)}: code {code}, {text!r}, not {expected!r}")
