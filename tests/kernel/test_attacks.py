"""Attacks on the making of containers and on what enters them, by images and by neighbours.

Under the OCI command line where the attack needs a bundle, else on the launch program.
SECURITY.md says of each how it is held.
"""

import dataclasses
import hashlib
import os
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from runtime.container.defaults import default_mounts
from runtime.errors import LaunchError
from runtime.kernel import capability, mask
from runtime.spec import Mount, Process
from runtime.supervisor import interpreter
from tests.support.box import Box, run_program
from tests.support.bundle import ID, bundle_in
from tests.support.elf import write_hijacker
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kernel

SPY = (
    "exec 2>&1; p=$(cat /tmp/entering); cd /proc/$p; "
    "for f in maps mem environ auxv; do head -c 1 $f > /dev/null && echo read $f; done; "
    "for l in exe cwd root fd/0 fd/3; do readlink $l && echo saw $l; done; "
    "ls root/ cwd/ && echo listed; "
    "(: >> exe) && echo wrote exe; (: > mem) && echo wrote mem; echo looked"
)


@pytest.fixture
def box(world):
    return Box(world)


@pytest.fixture
def bundle(world):
    with bundle_in(world) as made:
        yield made


@pytest.fixture
def outside(world):
    """A folder of the host, to which links lead; nothing may come into it."""
    folder = world / "outside"
    folder.mkdir()
    (folder / "secret").write_text("of the host")
    yield folder
    assert os.listdir(folder) == ["secret"]


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@contextmanager
def swapping(one: Path, other: Path):
    """Have *one* and *other* change places, all the time: in a process, for launches fork."""
    command = [sys.executable, "-S", "-c", SWAP, str(one), str(other)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as swapper:
        assert swapper.stdout.readline()
        yield
        swapper.kill()


SWAP = """
import ctypes, os, sys
renameat2 = ctypes.CDLL(None).renameat2
one, other = map(os.fsencode, sys.argv[1:])
print("swapping", flush=True)
while True:
    renameat2(-100, one, -100, other, 2)  # RENAME_EXCHANGE
"""


def test_cve_2016_9962_what_enters_is_looked_at_from_inside(box, monkeypatch):
    """Held still when it is in all of the namespaces, between its fork and its exec."""

    def hold(child, *arguments):
        Path("/tmp/entering").write_text(str(os.getpid()))
        wait_until(Path("/tmp/looked").exists)
        os.setsid()

    script = "while [ ! -s /tmp/entering ]; do sleep 0.01; done; "
    script += f"({SPY}) > /tmp/looking; ln -s looking /tmp/looked; sleep 60"
    (box.layer / "bin/ln").symlink_to("busybox")
    with box.running(box.spec("sh", "-c", script)) as target:
        monkeypatch.setitem(interpreter.OPERATIONS, "session", hold)
        said = box.enter(target, Process(("cat", "/tmp/looked"), env=("PATH=/bin",))).out
    assert "looked" in said
    assert not {"read", "saw", "listed", "wrote"} & set(said.split()), said


def test_cve_2016_9962_what_enters_has_nothing_of_the_hosts_open(box, monkeypatch):
    """Also to one who may trace it all, there is nothing to be had."""

    def look(child, *arguments):
        links = [os.readlink(f"/proc/self/fd/{fd}") for fd in range(100) if is_open(fd)]
        child.warn(" ".join(links))
        os.setsid()

    monkeypatch.setitem(interpreter.OPERATIONS, "session", look)
    with box.running(box.spec("sleep", "60")) as target:
        (links,) = box.enter(target, Process(("true",), env=("PATH=/bin",))).warnings
    # The channel to its parent, a pidfd of the container, and the container's root.
    assert {link.split(":")[0] for link in links.split()} == {
        *("/dev/null", "/memfd", "(deleted)", "socket", "anon_inode", "/")
    }


@pytest.mark.parametrize(
    ("said", "fds"),
    [
        *((b"\xff{", 0), (b"[]", 0), (b"{}", 0), (b'{"error": 1}', 0), (b'{"forked": 1}', 0)),
        *((b'{"terminal": 1}', 0), (b'{"terminal": 1}', 3), (b'{"warning": "x"}', 3)),
        (b'{"ready": "' + b"x" * 65530, 0),
    ],
)
def test_cve_2016_9962_one_who_has_taken_over_what_enters_spoils_only_that(
    box, monkeypatch, said, fds
):
    """As who may trace it can: he speaks for it to its parent, which is the supervisor."""

    def lie(child, *arguments):
        socket.send_fds(child.channel, [said], [0] * fds)

    before = set(os.listdir("/proc/self/fd"))
    with box.running(box.spec("sleep", "60")) as target:
        monkeypatch.setitem(interpreter.OPERATIONS, "session", lie)
        with pytest.raises(LaunchError):
            box.enter(target, Process(("true",), env=("PATH=/bin",)))
        monkeypatch.setitem(interpreter.OPERATIONS, "session", lambda *_: os.setsid())
        assert box.enter(target, Process(("true",), env=("PATH=/bin",))).code == 0
    assert set(os.listdir("/proc/self/fd")) == before


HOLDS_OUR_PROGRAM = (
    "readlink /proc/self/fd/3",
    "(: >> /proc/self/fd/3)",
    "busybox chmod 777 /proc/self/fd/3",
    "busybox touch /proc/self/fd/3",
    # As one who may do all a host's root may, but for the mounts of others.
    "busybox mount -o remount,rw none /proc/self/fd/3",
    "busybox mount -o remount,rw,bind none /proc/self/fd/3",
    "busybox mount --bind /proc/self/fd/3 /there",
    "cat /proc/self/fd/3/../sh",
)
"""What a container tries that has got hold of the program which started it, as descriptor 3."""


@pytest.mark.parametrize("masked", ["", mask.OVERLAY_OF_PYTHON])
@pytest.mark.parametrize("verb", ["run", "exec"])
def test_cve_2019_5736_the_program_of_the_command_line_is_out_of_reach(
    bundle, monkeypatch, verb, masked
):
    monkeypatch.setenv(mask.VARIABLE, masked)
    python = Path(sys.executable).resolve()
    before = hashlib.sha256(python.read_bytes()).digest()
    rootfs = bundle.path / "rootfs"
    (rootfs / "self").write_text("#!/proc/self/exe\n")
    (rootfs / "self").chmod(0o755)
    (rootfs / "there").touch()
    (rootfs / "lib64").mkdir()
    script = "exec 2>&1; " + "".join(f"{each} && echo did;" for each in HOLDS_OUR_PROGRAM)
    write_hijacker(rootfs / "lib64/ld-linux-x86-64.so.2", script + " echo attacked")
    bundle.config["process"]["capabilities"] = {
        each: list(capability.NAMES) for each in ("bounding", "effective", "permitted")
    }
    if verb == "run":
        bundle.config["process"]["args"] = ["/self"]
        out = bundle.do("run", ID).splitlines()
    else:
        bundle.start()
        out = bundle.do("exec", ID, "/self").splitlines()
    assert out[0] == ("/memfd:bayplan (deleted)" if masked else f"/{python.name}")
    # It may read its name, and the mode of what is in memory is its own.
    did = ["did"] * (3 if masked else 1)
    assert [each for each in out if each == "did"] == did, out
    assert out[-1] == "attacked"
    assert hashlib.sha256(python.read_bytes()).digest() == before


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_cve_2024_21626_who_calls_with_closed_streams_hands_nothing_of_ours_in(bundle, closed):
    """What is opened next gets their numbers."""
    led = "ls -l /proc/self/fd > /tmp/fds; ls -d /proc/self/fd/[012]/ > /tmp/led 2>&1; true"
    seen = [bundle.path / "rootfs/tmp" / name for name in ("fds", "led")]
    apart = ("sh", "-c", f'"$@" {closed}', "sh")

    def nothing_is_led_in() -> bool:
        folders = [line for line in seen[1].read_text().splitlines() if line.startswith("/proc")]
        return "/dev/null" in seen[0].read_text() and not folders

    bundle.sh(led)
    assert bundle.call("run", ID, before=apart).returncode == 0
    assert nothing_is_led_in()
    bundle.sh("exec sleep 98764")
    assert bundle.call("create", ID, before=apart, capture_output=False).returncode == 0
    assert bundle.call("start", ID, before=apart).returncode == 0
    assert bundle.call("exec", ID, "sh", "-c", led, before=apart).returncode == 0
    assert nothing_is_led_in()
    for number in range(3):
        target = os.readlink(f"/proc/{bundle.state()['pid']}/fd/{number}")
        assert not target.startswith(str(bundle.root))
    bundle.do("delete", "--force", ID)


def test_cve_2024_21626_descriptors_of_the_caller_and_of_ours(bundle):
    """A caller who leaves folders of the host open, as conmon did: neither seen nor a way out."""
    fd = os.open("/", os.O_RDONLY)
    os.set_inheritable(fd, True)
    try:
        bundle.sh("ls -l /proc/self/fd | grep -c -e '-> /$'; cat /proc/self/fd/*/etc/shadow")
        assert bundle.call("run", ID, close_fds=False).stdout == "0\n"
        for number in range(3, fd + 6):
            bundle.config["process"]["cwd"] = f"/proc/self/fd/{number}"
            bundle.sh("cat ../../../etc/shadow; ls etc")
            done = bundle.call("run", ID, close_fds=False)
            assert (done.stdout, "working directory" in done.stderr) == ("", True), done
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_cve_2019_19921_proc_and_sys_are_links_in_the_image(bundle, name):
    (bundle.path / "rootfs" / name).rmdir()
    (bundle.path / "rootfs" / name).symlink_to("tmp")
    bundle.sh("true")
    assert f"/{name} is a symbolic link in the image" in bundle.fails("run", ID)


def test_cve_2021_30465_mount_targets_change_places_with_links(box, outside):
    """And CVE-2024-45310: what is made on the way is made inside."""
    shared = box.folder / "shared"
    (shared / "target").mkdir(parents=True)
    (shared / "link").symlink_to(f"../../../../../../..{outside}")
    mounts = (
        Mount("/v", None, str(shared), ("rbind",)),
        Mount("/v/target", "tmpfs", "tmpfs", ()),
        Mount("/v/target/deep/below", "tmpfs", "tmpfs", ()),
    )
    spec = box.spec("sh", "-c", "cat /v/target/secret /v/link/secret")
    spec = dataclasses.replace(spec, mounts=(*spec.mounts, *mounts))
    program = box.compile(spec)
    seen = []
    with swapping(shared / "target", shared / "link"):
        for _ in range(25):
            with suppress(LaunchError):
                seen.append(run_program(program).out)
    assert seen
    assert "of the host" not in "".join(seen)
    assert str(box.folder) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernel.core_pattern", "|/evil"),
        ("net/../kernel/core_pattern", "|/evil"),
        ("kernel.shm_rmid_forced/../core_pattern", "|/evil"),
        ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/evil"),
        ("kernel.shm_rmid_forced\nkernel.core_pattern", "|/evil"),
    ],
)
def test_cve_2022_0811_a_sysctl_that_brings_another_along(bundle, name, value):
    before = Path("/proc/sys/kernel/core_pattern").read_bytes()
    bundle.config["linux"]["sysctl"] = {name: value}
    bundle.sh("true")
    assert "sysctl" in bundle.fails("run", ID) or value in bundle.fails("run", ID)
    assert Path("/proc/sys/kernel/core_pattern").read_bytes() == before


def test_cve_2025_52881_sysctls_are_not_written_to_what_only_looks_like_them(box):
    """A link of the image leads a volume into /proc/sys."""
    false = box.folder / "false"
    false.mkdir()
    (false / "shm_rmid_forced").write_text("0")
    (box.layer / "data").symlink_to("/proc/sys/kernel")
    spec = box.spec("true", linux={"sysctl": {"kernel.shm_rmid_forced": "1"}})
    for target in ("/data", "/proc/sys/kernel"):
        mounts = (*spec.mounts, Mount(target, None, str(false), ("bind",)))
        with pytest.raises(LaunchError, match="/proc"):
            box.run(dataclasses.replace(spec, mounts=mounts))
    assert (false / "shm_rmid_forced").read_text() == "0"


@pytest.mark.parametrize("leads_to", ["/proc", "/proc/self", "/proc/sys/kernel", "/sys/kernel"])
def test_cve_2023_28642_a_volume_led_over_proc_and_sys_by_a_link(box, leads_to):
    """Masks and read-only mounts would be put on what the volume has there instead."""
    (box.layer / "data").symlink_to(leads_to)
    volume = box.folder / "volume"
    volume.mkdir()
    spec = box.spec("true")
    for mount in (
        Mount("/data", None, str(volume), ("rbind",)),
        Mount("/data", "tmpfs", "tmpfs", ()),
    ):
        with pytest.raises(LaunchError, match=r"/data leads into /(proc|sys)"):
            box.run(dataclasses.replace(spec, mounts=(*spec.mounts, mount)))


def test_cve_2025_52565_the_console_is_led_over_proc_by_a_link(box):
    mounts = tuple(m for m in default_mounts() if m.destination != "/dev")
    for name in ("dev/pts", "dev/shm", "dev/mqueue"):
        (box.layer / name).mkdir(parents=True)
    os.mknod(box.layer / "dev/null", 0o020666, os.makedev(1, 3))
    (box.layer / "dev/console").symlink_to("/proc/sys/kernel/panic")
    spec = dataclasses.replace(box.spec("true", process={"terminal": True}), mounts=mounts)
    with pytest.raises(LaunchError, match="/dev/console is a symbolic link"):
        box.run(spec)


def test_cve_2025_31133_the_null_device_is_another_file_that_would_show(box):
    mounts = tuple(m for m in default_mounts() if not m.destination.startswith("/dev"))
    (box.layer / "dev").mkdir()
    (box.layer / "dev/null").symlink_to("/proc/sys/kernel/core_pattern")
    with pytest.raises(LaunchError, match="not the null device"):
        box.run(dataclasses.replace(box.spec("true"), mounts=mounts))


def test_passwd_of_the_image_is_no_way_to_files_or_pipes_of_the_host(bundle):
    etc = bundle.path / "rootfs/etc"
    bundle.start()
    for make in (
        lambda path: path.symlink_to("/etc/shadow"),
        lambda path: path.symlink_to("../../../../../../../../etc/passwd"),
        lambda path: os.mkfifo(path),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("/proc/self/environ"),
    ):
        make(etc / "passwd")
        assert bundle.call("exec", "--user", "daemon", ID, "true", timeout=20).returncode == 255
        (etc / "passwd").unlink()


def test_cve_2022_29162_capabilities_of_an_exec_are_not_inheritable(bundle):
    bundle.start()
    out = bundle.do("exec", "--cap", "CAP_SYS_PTRACE", ID, "grep", "CapInh", "/proc/self/status")
    assert out.split() == ["CapInh:", "0" * 16]


@pytest.mark.parametrize("clones", [True, False], ids=["6.15", "before"])
def test_mountinfo_tells_nothing_of_the_hosts_paths(box, monkeypatch, clones):
    if not clones:
        monkeypatch.setattr(mask, "_masked", frozenset({mask.DETACHED_CLONES}))
    out = box.sh("cat /proc/self/mountinfo; touch /there").out
    assert (box.upper / "there").exists()
    root = next(line for line in out.splitlines() if line.split()[4] == "/")
    by_descriptors = "lowerdir=/proc/self/fd/" in root  # the way of kernels without "lowerdir+"
    named = not clones or kernel_before(6, 15)
    assert (str(box.folder) in root) == (named and not by_descriptors)
    assert str(box.folder) not in out.replace(root, "")


def kernel_before(*version: int) -> bool:
    found = os.uname().release.split("-")[0].split(".")[:2]
    return tuple(map(int, found)) < version


def test_what_an_exec_was_called_with_is_not_seen_inside(bundle, monkeypatch):
    """Neither the caller's variables, by who may trace all there is, nor paths of the host."""
    monkeypatch.setenv("OF_THE_CALLER", "bayplan-secret")
    every = ["CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]
    sets = ("bounding", "effective", "permitted", "inheritable", "ambient")
    bundle.config["process"] |= {"capabilities": {each: every for each in sets}}
    bundle.sh("exec sleep 98765")
    bundle.start()
    # In files, or he would see himself.
    (bundle.path / "rootfs/words").write_text("bayplan-secret\npython\n/tmp/\n")
    (bundle.path / "rootfs/watch").write_text(
        "echo up; while :; do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null"
        " | tr '\\0' '\\n' | grep -f /words; done"
    )
    arguments = [*bundle.command(), "exec", ID, "sh", "/watch"]
    quiet = {"env": {"PATH": os.environ["PATH"]}, "stdout": subprocess.PIPE}
    with subprocess.Popen(arguments, cwd="/", **quiet) as watching:
        assert watching.stdout.read(3) == b"up\n"
        for _ in range(20):
            bundle.do("exec", ID, "true")
        bundle.do("kill", "--all", ID, "KILL")
        assert watching.stdout.read() == b""
