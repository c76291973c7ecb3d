"""Attacks from inside a container of `bayplan run`, by its users and with what is in its image.

SECURITY.md says of each how it is held.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from runtime.kernel.syscalls import SYSCALLS
from tests.support.cli import COMMAND, Bayplan
from tests.support.drift import container
from tests.support.elf import results, write_calls, write_fork_bomb, write_hijacker
from tests.support.manifests import HEAD, document, sleeper
from tests.support.waiting import wait_until
from tests.support.worlds import fresh_world

pytestmark = pytest.mark.e2e

RUN = ("run", "--rm", "--network", "none")
LOADER = "/lib64/ld-linux-x86-64.so.2"
HIJACK = (
    "readlink /proc/self/fd/3; (: > /proc/self/fd/3) 2>/dev/null && echo written; "
    "(: >> /proc/self/fd/3) 2>/dev/null && echo writable; echo attacked"
)
# A session keyring with a key that only its possessors see, keyctl(2).
HOLD = (
    "import ctypes; c = ctypes.CDLL(None).syscall; c(250, 1, None); "
    "k = c(248, b'user', b'bayplan-secret', b'x', ctypes.c_size_t(1), -3); c(250, 5, k, 0x3F000000)"
)
FORBIDDEN = ("unshare", "setns", "mount", "keyctl", "add_key", "bpf", "pivot_root", "clone3")
FORBIDDEN += ("userfaultfd", "perf_event_open", "open_by_handle_at", "vmsplice", "reboot")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[SimpleNamespace]:
    """A world whose containers have in /evil what an attacker brings along; ``p`` runs."""
    evil = tmp_path_factory.mktemp("evil")
    (evil / "self").write_text("#!/proc/self/exe\n")
    (evil / "self").chmod(0o755)
    write_hijacker(evil / "loader", HIJACK)
    write_fork_bomb(evil / "bomb")
    for abi in ("x86_64", "x86", "x32"):
        table = SYSCALLS["x86" if abi == "x86" else "x86_64"]
        write_calls(evil / abi, [table[name] for name in FORBIDDEN], abi=abi)
    with fresh_world() as folder:
        bayplan = Bayplan(folder)
        volume = "user: '0', volumes: [{volume: shared, target: /v}]"
        bayplan.apply(HEAD + document("Volume", "shared", "{}") + sleeper("a", volume))
        binds = ("-v", f"{evil}:/evil:ro", "-v", f"{evil}/loader:{LOADER}:ro")
        words = ("run", "-d", "--name", "p", "--network", "none", *binds, "--pids-limit", "64")
        bayplan(*words, "test/box", "sleep", "98771")
        yield SimpleNamespace(bayplan=bayplan, binds=binds, folder=folder)
        bayplan("rm", "-f", "p")
        assert [each["name"] for each in bayplan.json("ps", "-a")] == ["test.a"]
        bayplan.delete("test")


def sh(site: SimpleNamespace, script: str, *options: str, name: str = "p") -> str:
    """Return what a script says, on both streams; it may fail."""
    done = site.bayplan("exec", *options, name, "sh", "-c", f"exec 2>&1; {script}", code=None)
    return done.stdout + done.stderr


def test_cve_2019_5736_an_entrypoint_that_is_our_own_program(site):
    """``#!/proc/self/exe``, with a dynamic loader of the attacker's: he has it, and it is a copy
    nobody can write. In an exec there is no such file: it is born outside."""
    python = Path(sys.executable).resolve()
    before = hashlib.sha256(python.read_bytes()).digest()
    out = site.bayplan(*RUN, *site.binds, "test/box", "/evil/self").stdout
    assert out.splitlines() == ["/memfd:bayplan (deleted)", "attacked"]
    assert (
        "needs the script interpreter" in site.bayplan("exec", "p", "/evil/self", code=127).stderr
    )
    assert hashlib.sha256(python.read_bytes()).digest() == before


def test_cve_2024_21626_a_descriptor_of_ours_as_working_directory(site):
    for number in (3, 6, 9):
        place = f"/proc/self/fd/{number}"
        for words in (("exec", "-w", place, "p"), (*RUN, "-w", place, "test/box")):
            said = site.bayplan(*words, "cat", "../../../etc/shadow", code=126)
            assert (said.stdout, f"working directory {place}" in said.stderr) == ("", True)


def test_calls_by_the_numbers_of_other_architectures(site):
    for abi in ("x86_64", "x86", "x32"):
        words = [*COMMAND, "exec", "p", f"/evil/{abi}"]
        done = subprocess.run(words, env=site.bayplan.environment, capture_output=True, check=True)
        assert len(results(done.stdout)) == len(FORBIDDEN)
        assert set(results(done.stdout)) <= {-1, -38}


def test_mounts_over_what_is_masked_and_a_second_view_of_proc(site):
    attempts = (
        "mount --bind /evil /proc/interrupts",
        "mount --bind /evil /sys/firmware",
        "umount /proc/keys",
        "mount -t proc proc /tmp",
        "mount -o remount,rw /proc/sys",
        "unshare -rm true",
    )
    script = "mkdir -p /tmp; " + "; ".join(f"busybox {each} && echo held not" for each in attempts)
    script += "; echo seen; cat /proc/interrupts /proc/keys /proc/timer_list; ls /sys/firmware"
    said = sh(site, script)
    assert "held not" not in said
    assert said.endswith("seen\n")


def test_the_hosts_kernel_is_not_set_through_proc_and_sys(site):
    paths = (
        *("/proc/sys/kernel/core_pattern", "/proc/sys/vm/panic_on_oom", "/proc/sysrq-trigger"),
        *(
            "/proc/irq/default_smp_affinity",
            "/sys/kernel/mm/ksm/run",
            "/sys/fs/cgroup/cgroup.procs",
        ),
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    )
    there = [path for path in paths if os.path.exists(path)]
    said = sh(site, "; ".join(f"(echo c > {path})" for path in there))
    assert said.count("Read-only file system") == len(there)


def test_device_nodes_are_not_made_and_those_that_may_be_are_not_opened(site):
    assert "not permitted" in sh(site, "busybox mknod /disk b 8 0")
    # With CAP_MKNOD only the device cgroup is in the way: of /dev/null it is not.
    script = (
        "exec 2>&1; busybox mknod /n c 1 3; : > /n && echo null; "
        "for d in 'b 254 0' 'b 8 0' 'c 1 1' 'c 10 229'; do "
        "busybox mknod /d $d; head -c1 /d; busybox rm /d; done"
    )
    out = site.bayplan(*RUN, "--cap-add", "MKNOD", "test/box", "sh", "-c", script, code=None).stdout
    assert out.startswith("null\n")
    assert out.count("/d: Operation not permitted") == 4


def test_cve_2022_29162_nothing_is_inheritable(site):
    said = sh(site, "grep -h CapInh /proc/self/status /proc/1/status")
    assert said.split() == ["CapInh:", "0" * 16] * 2
    said = sh(site, "grep -h -E 'Cap(Inh|Prm|Eff|Amb)' /proc/self/status", "-u", "1234")
    assert set(said.split()[1::2]) == {"0" * 16}


def test_a_set_user_id_program_in_a_volume_lifts_nobody(site):
    sh(site, "busybox cp /bin/busybox /v/busybox; busybox chmod 4755 /v/busybox /v", name="test.a")
    # Neither another user of the container,
    said = sh(site, "/v/busybox id -u; grep CapEff /proc/self/status", "-u", "1234", name="test.a")
    assert said.split() == ["1234", "CapEff:", "0" * 16]
    # nor one of the host, who does not get there.
    (program,) = (path for path in site.folder.rglob("busybox") if "/volumes/" in str(path))
    assert program.stat().st_mode & 0o4000
    site.folder.chmod(0o755)
    script = f"import os; os.setgid(1234); os.setuid(1234); os.execv({str(program)!r}, ['id'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "PermissionError" in done.stderr


def test_environment_and_descriptors_of_the_caller_stay_there(site):
    environment = {**site.bayplan.environment, "BAYPLAN_TEST_SECRET": "told-to-nobody"}
    read, write = os.pipe()
    script = "env; cat /proc/1/environ /proc/*/cmdline; ls -l /proc/self/fd"
    words = [*COMMAND, "exec", "p", "sh", "-c", script]
    inherited = {"env": environment, "pass_fds": (read, write)}
    done = subprocess.run(words, **inherited, capture_output=True, text=True, check=False)
    os.close(read)
    os.close(write)
    assert "told-to-nobody" not in done.stdout
    assert str(site.folder) not in done.stdout
    open_there = [line.split(" -> ")[0][-1] for line in done.stdout.splitlines() if "->" in line]
    assert open_there == ["0", "1", "2"]


def test_the_session_keyring_of_whoever_started_us_stays_there(bayplan):
    """Where nothing else is in the way: keyctl(2) is allowed, and /proc/keys is in view."""
    hold = f"import sys; {HOLD}; import os; os.execv(sys.argv[1], sys.argv[1:])"
    bayplan.apply(HEAD)
    words = ("run", "-d", "--name", "k", "--privileged", "--network", "none", "test/box")
    held = [sys.executable, "-c", hold, *COMMAND]
    show = ("sh", "-c", "cat /proc/keys")
    subprocess.run([*held, *words, "sleep", "98775"], env=bayplan.environment, check=True)
    for command in (["exec", "k", *show], [*RUN, "--privileged", "test/box", *show]):
        done = subprocess.run(
            [*held, *command], env=bayplan.environment, capture_output=True, text=True, check=True
        )
        assert "_ses." in done.stdout or "keyring" in done.stdout
        assert "bayplan-secret" not in done.stdout
    bayplan("rm", "-f", "k")
    bayplan.delete("test")


def test_an_environment_too_large_for_exec_is_told(site, tmp_path):
    variables = ", ".join(f"V{n}: {'x' * 130_000}" for n in range(30))
    big = HEAD.replace("name: test}", "name: big}") + sleeper("huge", f"env: {{{variables}}}")
    (tmp_path / "big.yaml").write_text(big)
    report = site.bayplan.json("apply", "-f", str(tmp_path / "big.yaml"), code=1)
    (told,) = (r["error"]["message"] for r in report["resources"] if r["error"])
    assert "Argument list too long" in told
    site.bayplan.delete("big")


def test_a_fork_bomb_stays_within_its_limit_and_holds_up_nobody(site):
    words = ("run", "-d", "--name", "bomb", "--network", "none", *site.binds)
    words += ("--pids-limit", "40", "--cpus", "0.5", "test/box")
    site.bayplan(*words, "/evil/bomb")
    first = container(site.bayplan, "bomb")["pid"]
    # It is full, and yet it is told of, and others are served.
    wait_until(lambda: len(site.bayplan.json("top", "bomb")) == 40)
    assert sh(site, "echo served") == "served\n"
    site.bayplan("kill", "bomb")
    assert site.bayplan("wait", "bomb", code=None).returncode == 137
    wait_until(lambda: not Path(f"/proc/{first}").exists())
    site.bayplan("rm", "bomb")


def test_thousands_of_files_hold_up_nobody_and_go_with_the_container(site):
    script = "cd /tmp; i=0; while [ $((i+=1)) -le 5000 ]; do : > n$i; done"
    site.bayplan("run", "--name", "many", "--network", "none", "test/box", "sh", "-c", script)
    with site.bayplan.start("rm", "many") as removing:
        assert sh(site, "echo served") == "served\n"
    assert removing.returncode == 0
    assert not list(site.folder.rglob("n4999"))


def test_names_of_processes_do_not_reach_the_terminal_raw(site):
    evil = "\x1b]0;owned\x07\x1b[2J"
    words = ("run", "-d", "--name", "evil", "--network", "none", "test/box", "sh", "-c")
    site.bayplan(*words, "sleep 98772; true", evil)
    for verb in (("top", "evil"), ("ps",), ("inspect", "evil")):
        assert "\x1b" not in site.bayplan(*verb).stdout
    site.bayplan("rm", "-f", "evil")
