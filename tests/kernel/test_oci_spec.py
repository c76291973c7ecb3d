"""What a config.json asks for, seen from inside."""

import json
import os
import socket
import subprocess
import threading
from contextlib import contextmanager

import pytest

from runtime.kernel import mask
from tests.support.bundle import ID, bundle_in
from tests.support.host import cannot

pytestmark = pytest.mark.kernel

MAPPING = [{"containerID": 0, "hostID": 100000, "size": 65536}]
ALLOW = {"defaultAction": "SCMP_ACT_ALLOW"}


@pytest.fixture
def bundle(world):
    with bundle_in(world) as made:
        yield made


def test_a_user_namespace_with_all_that_belongs_in_it(bundle):
    bundle.with_user_namespace()
    script = (
        "cat /proc/self/uid_map; id -u; echo $$; touch /tmp/x; stat -c %u /tmp/x;"
        " echo x > /dev/null && stat -c %t:%T /dev/null; ls /sys/class | head -1; hostname"
    )
    out = bundle.run(script).split()
    assert out[:3] == ["0", "100000", "1000"]
    assert out[3:7] == ["0", "1", "0", "1:3"]
    assert out[-1] == "box"
    assert os.stat(bundle.path / "rootfs/tmp/x").st_uid == 100000


def test_exec_enters_the_user_namespace(bundle):
    bundle.with_user_namespace()
    bundle.start()
    out = bundle.do("exec", ID, "sh", "-c", "cat /proc/self/uid_map; id -u; hostname")
    assert out.split() == ["0", "100000", "1000", "0", "box"]


def test_a_user_namespace_needs_mappings(bundle):
    bundle.config["linux"]["namespaces"].append({"type": "user"})
    assert "needs uidMappings" in bundle.fails("create", ID)


@pytest.mark.parametrize("own", [True, False], ids=["own", "the containers"])
@pytest.mark.parametrize("word", ["idmap", "idmap=uids=0-100000-1#5-100500-2;gids=@0-0-10"])
def test_a_bind_seen_with_other_owners(bundle, tmp_path, own, word):
    bundle.with_user_namespace()
    (tmp_path / "file").touch()
    maps = [{"containerID": 0, "hostID": 100000, "size": 1000}] if own else []
    mount = {
        "destination": "/mnt",
        "type": "bind",
        "source": str(tmp_path),
        "options": ["bind", word],
    }
    bundle.config["mounts"].append({**mount, "uidMappings": maps, "gidMappings": maps})
    assert bundle.run("stat -c %u:%g /mnt/file") == "0:0\n"


def test_a_bind_seen_with_other_owners_without_a_user_namespace(bundle, tmp_path):
    # Its maps are written by one who counts pids in the new pid namespace, but sees the host's.
    (tmp_path / "file").touch()
    maps = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    mount = {
        "destination": "/mnt",
        "type": "bind",
        "source": str(tmp_path),
        "options": ["bind", "idmap"],
    }
    bundle.config["mounts"].append({**mount, "uidMappings": maps, "gidMappings": maps})
    assert bundle.run("stat -c %u:%g /mnt/file") == "100000:100000\n"


@pytest.mark.parametrize(("word", "below"), [("ro", "made"), ("rro", "refused")])
def test_a_read_only_bind_is_so_itself_or_with_what_is_below(bundle, tmp_path, word, below):
    (tmp_path / "sub").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "sub", tmp_path / "sub"], check=True)
    try:
        options = ["rbind", word]
        mount = {"destination": "/mnt", "type": "bind", "source": str(tmp_path)}
        bundle.config["mounts"].append({**mount, "options": options})
        script = (
            "for f in /mnt/x /mnt/sub/x; do touch $f 2>/dev/null && echo made || echo refused; done"
        )
        assert bundle.run(script).split() == ["refused", below]
    finally:
        subprocess.run(["umount", tmp_path / "sub"], check=True)


def test_without_pivot_there_is_no_proc_but_the_masked_one(bundle):
    process = bundle.config["process"]
    process["capabilities"]["bounding"].append("CAP_SETFCAP")
    process["capabilities"]["permitted"].append("CAP_SETFCAP")
    # As root of a user namespace of its own.
    bundle.sh("unshare -mrpf mount -t proc none /proc; echo $?")
    done = bundle.call("run", "--no-pivot", ID)
    assert "ermission denied" in done.stderr, (done.stdout, done.stderr)


def test_clocks_of_a_time_namespace(bundle):
    if not os.path.exists("/proc/self/ns/time"):
        cannot("have time namespaces: the kernel lacks them")
    bundle.config["linux"]["namespaces"].append({"type": "time"})
    bundle.config["linux"]["timeOffsets"] = {"boottime": {"secs": 1_000_000, "nanosecs": 0}}
    assert float(bundle.run("cat /proc/uptime").split()[0]) > 1_000_000


def test_namespaces_of_another_container_are_joined_by_path(bundle):
    with subprocess.Popen(
        ["unshare", "-niu", "sh", "-c", "hostname other; echo; cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        other.stdout.readline()
        kinds = {"network": "net", "ipc": "ipc", "uts": "uts"}
        for namespace in bundle.config["linux"]["namespaces"]:
            if namespace["type"] in kinds:
                namespace["path"] = f"/proc/{other.pid}/ns/{kinds[namespace['type']]}"
        del bundle.config["hostname"]
        out = bundle.run("hostname; readlink /proc/self/ns/net; readlink /proc/self/ns/ipc")
        expected = [os.readlink(f"/proc/{other.pid}/ns/{n}") for n in ("net", "ipc")]
        other.stdin.close()
    assert out.split() == ["other", *expected]


def test_masked_and_readonly_paths_and_root(bundle):
    (bundle.path / "rootfs/etc/secret").write_text("hidden")
    (bundle.path / "rootfs/etc/fixed").write_text("fixed")
    linux = bundle.config["linux"]
    linux["maskedPaths"] += ["/etc/secret", "/etc/not-there"]
    linux["readonlyPaths"] += ["/etc/fixed"]
    bundle.config["root"]["readonly"] = True
    out = bundle.run("cat /etc/secret; echo x > /etc/fixed || echo no; touch /x || echo root too")
    assert out == "no\nroot too\n"


def test_device_rules_hold_and_the_basic_devices_stay(bundle):
    if not os.path.isdir("/sys/fs/cgroup/devices"):
        cannot("enforce device rules: cgroup v1 has no devices controller here")
    linux = bundle.config["linux"]
    linux["devices"] = [
        {"path": "/dev/mem0", "type": "c", "major": 1, "minor": 1, "fileMode": 0o600, "uid": 3},
        {"path": "/dev/zeros", "type": "c", "major": 1, "minor": 5},
    ]
    linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    out = bundle.run(
        "stat -c '%a %u' /dev/mem0; head -c1 /dev/mem0 2>&1 | grep -o 'not permitted';"
        " head -c2 /dev/zeros | wc -c; echo x > /dev/null && echo null"
    )
    assert out.split("\n")[:4] == ["600 3", "not permitted", "2", "null"]


@pytest.mark.parametrize("without", ["", mask.DETACHED_CLONES])
def test_a_device_in_a_user_namespace_belongs_to_whom_it_should(bundle, monkeypatch, without):
    monkeypatch.setenv(mask.VARIABLE, without)
    bundle.with_user_namespace()
    device = {"path": "/dev/mem0", "type": "b", "major": 1, "minor": 5, "fileMode": 0o640}
    bundle.config["linux"]["devices"] = [{**device, "uid": 100010, "gid": 100011}]
    assert bundle.run("stat -c '%F %t:%T %a %u:%g' /dev/mem0") == (
        "block special file 1:5 640 10:11\n"
    )


def test_limits_of_the_cgroup(bundle):
    bundle.config["linux"]["resources"] = {
        "memory": {"limit": 64 << 20},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000},
        "pids": {"limit": 33},
    }
    assert "33" in bundle.run("cat /sys/fs/cgroup/pids/pids.max || cat /sys/fs/cgroup/pids.max")


@pytest.mark.parametrize(
    ("member", "where"),
    [
        ({"linux": {"intelRdt": {"closID": "x"}}}, "intelRdt"),
        ({"linux": {"cgroupsPath": "user.slice:a:b"}}, "systemd"),
        ({"linux": {"timeOffsets": {"monotonic": {"secs": 5}}}}, "timeOffsets need a time"),
        ({"process": {"capabilities": {"effective": ["CAP_CHOWN"]}}}, "not permitted: CAP_CHOWN"),
        ({"linux": {"uidMappings": MAPPING, "gidMappings": MAPPING}}, "need a user namespace"),
        ({"linux": {"seccomp": {**ALLOW, "architectures": ["SCMP_ARCH_FOO"]}}}, "SCMP_ARCH_FOO"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_supported_is_refused_by_name(bundle, member, where):
    for section, change in member.items():
        bundle.config[section] |= change
    assert where in bundle.fails("create", ID)
    assert "does not exist" in bundle.fails("state", ID)


def test_words_for_what_is_mounted_below_as_well(bundle):
    """Set and taken away in all of a bind; what is plain is for its top."""
    source = bundle.path / "source"
    (source / "below").mkdir(parents=True)
    words = ["rbind", "nodev", "rrw", "rexec", "rnosuid", "rnosymfollow", "rnoatime"]
    bundle.config["mounts"] += [
        {"destination": "tmp", "source": str(source), "options": words},  # relative is to the root
        {"destination": "/dev/shm", "options": ["remount", "bind", "ro"]},
    ]
    bundle.sh("awk '$2 ~ \"^/tmp|^/dev/shm\" {print $2, $4}' /proc/mounts; echo x > /tmp/below/f")
    below = f"{source}/below"
    make = f"mount -t tmpfs t {below} && mount -o remount,bind,ro,noexec {below}"
    apart = ("unshare", "-m", "sh", "-c", f'{make} && exec "$@"', "sh")
    done = bundle.call("run", ID, before=apart)
    assert done.returncode == 0, done.stderr
    shown = {line.split()[0]: set(line.split()[1].split(",")) for line in done.stdout.splitlines()}
    both = {"rw", "nosuid", "noatime", "nosymfollow"}
    assert both | {"nodev"} <= shown["/tmp"]
    assert both <= shown["/tmp/below"]
    assert not shown["/tmp/below"] & {"noexec", "ro", "nodev"}
    assert "ro" in shown["/dev/shm"]


def test_nothing_is_mounted_over_the_root(bundle):
    bundle.config["mounts"].append({"destination": "/tmp/..", "type": "tmpfs", "source": "t"})
    assert "would hide the container's root" in bundle.fails("create", ID)


def test_members_that_ask_for_nothing_are_no_request(bundle):
    bundle.config["linux"]["resources"] = {
        "memory": {"disableOOMKiller": False, "limit": None},
        "hugepageLimits": [],
        "network": {},
    }
    bundle.config["linux"]["intelRdt"] = None
    bundle.config["windows"] = {"layerFolders": ["x"]}
    assert bundle.run("echo ok") == "ok\n"


@pytest.mark.parametrize(
    ("section", "member", "where"),
    [
        ("process", {"env": [5]}, "process.env.0"),
        ("process", {"env": [None]}, "process.env.0"),
        ("process", {"capabilities": {"bounding": 5}}, "process.capabilities.bounding"),
        ("process", {"capabilities": 5}, "process.capabilities"),
        ("process", {"user": {"uid": "x"}}, "process.user.uid"),
        ("process", {"terminal": 1}, "process.terminal"),
        ("root", {"path": 5}, "root.path"),
        ("linux", {"cgroupsPath": 5}, "linux.cgroupsPath"),
        ("linux", {"sysctl": {"net.x": 1}}, "linux.sysctl.net.x"),
        ("linux", {"resources": {"pids": {"limit": True}}}, "linux.resources.pids.limit"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_types_are_said_in_the_log_too(bundle, tmp_path, section, member, where):
    bundle.config[section] |= member
    log = tmp_path / "log"
    words = bundle.fails("--log", str(log), "create", ID)
    assert "Traceback" not in words
    assert f"{where} has the wrong type" in words
    assert where in log.read_text()


@pytest.mark.parametrize(
    ("section", "member", "words"),
    [
        ("process", {"args": None}, "process.args is empty"),
        ("process", {"env": ["=b"]}, "'=b' has no name"),
        (
            "process",
            {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 8}]},
            "RLIMIT_NOFILE: soft 9 is above hard 8",
        ),
        ("linux", {"resources": {"memory": {"limit": -7}}}, "-7 is no limit"),
    ],
)
def test_what_cannot_be_meant_is_said(bundle, section, member, words):
    bundle.config[section] |= member
    assert words in bundle.fails("run", ID)


def test_annotations_may_be_as_many_as_a_pod_has(bundle, tmp_path):
    bundle.config["annotations"] = {f"key{number}": "v" * 1000 for number in range(1000)}
    assert bundle.run("echo up") == "up\n"


def test_warnings_are_in_the_log_where_there_is_one(bundle, tmp_path):
    bundle.config["process"]["capabilities"]["bounding"].append("CAP_NOT_KNOWN")
    bundle.sh("true")
    log = tmp_path / "log"
    assert "warning: " in bundle.call("run", ID).stderr
    assert bundle.call("--log", str(log), "run", ID).stderr == ""
    assert "CAP_NOT_KNOWN" in log.read_text()


def test_a_number_of_sockets_that_is_none_is_said(bundle):
    words = bundle.fails("create", ID, env={**os.environ, "LISTEN_FDS": "x"})
    assert words == "bayplan-oci: LISTEN_FDS is a number, not x\n"


def test_empty_resources_need_no_cgroup_manager(bundle):
    bundle.config["linux"]["resources"] = {"memory": {}, "devices": []}
    bundle.sh("echo ok")
    assert bundle.do("--cgroup-manager", "disabled", "run", ID) == "ok\n"


@pytest.mark.parametrize("action", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"])
def test_a_filter_that_forbids_to_wait_for_the_start_fails_the_create(bundle, action):
    calls = {"names": ["accept4"], "action": action}
    bundle.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [calls]}
    bundle.config["process"]["noNewPrivileges"] = False
    bundle.sh("echo ok")
    said = "refuses accept4" if action == "SCMP_ACT_ERRNO" else "died before"
    assert said in bundle.fails("create", ID, stdin=subprocess.DEVNULL)
    assert "does not exist" in bundle.fails("state", ID)
    bundle.config["process"]["noNewPrivileges"] = True
    assert bundle.run("echo ok") == "ok\n"


def test_a_filter_that_forbids_to_ask_of_sockets_does_not_end_the_container_at_its_start(bundle):
    calls = {"names": ["getsockname", "getsockopt"], "action": "SCMP_ACT_ERRNO"}
    bundle.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [calls]}
    bundle.config["process"]["noNewPrivileges"] = False
    assert bundle.run("echo ok") == "ok\n"
    calls["action"] = "SCMP_ACT_KILL_PROCESS"
    assert "died before" in bundle.fails("create", ID, stdin=subprocess.DEVNULL)


def _with_listener(bundle, path: str) -> None:
    bundle.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": path,
        "listenerMetadata": "meta",
        "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_NOTIFY"}],
    }


@contextmanager
def _agent(path: str, times: int = 1):
    """Yield the messages of *times* listeners, all there afterwards; what is asked is ENOSYS."""
    got = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        listening.settimeout(20)

        def serve():
            for _ in range(times):
                connection, _ = listening.accept()
                with connection:
                    message, fds, _, _ = socket.recv_fds(connection, 8192, 1)
                os.close(fds[0])
                got.append(json.loads(message))

        thread = threading.Thread(target=serve)
        thread.start()
        yield got
        thread.join()


def test_a_seccomp_listener_gets_descriptor_and_state(bundle, tmp_path):
    path = str(tmp_path / "agent")
    _with_listener(bundle, path)
    with _agent(path) as got:
        out = bundle.run("hostname new || echo refused")
    assert out.endswith("refused\n")
    (message,) = got
    assert (message["metadata"], message["fds"]) == ("meta", ["seccompFd"])
    assert (message["state"]["id"], message["state"]["status"]) == (ID, "creating")


@pytest.mark.parametrize("privileges", [True, False], ids=["no new privileges", "any"])
def test_exec_hands_over_a_seccomp_listener_too(bundle, tmp_path, privileges):
    path = str(tmp_path / "agent")
    _with_listener(bundle, path)
    bundle.config["process"]["noNewPrivileges"] = privileges
    with _agent(path, 2) as got:
        bundle.start()
        out = bundle.do("exec", ID, "sh", "-c", "hostname new || echo refused")
    assert out.endswith("refused\n")
    state = got[1]["state"]
    assert (state["id"], state["status"], state["pid"]) == (ID, "running", bundle.state()["pid"])
    assert got[1]["pid"] not in (0, state["pid"])
    assert "agent" in bundle.fails("exec", ID, "true")


def test_a_tmpfs_that_begins_with_what_it_hides(bundle):
    folder = bundle.path / "rootfs/etc"
    (folder / "sub").mkdir()
    (folder / "sub/file").write_text("content")
    os.chown(folder / "sub/file", 5, 6)
    (folder / "sub/file").chmod(0o4751)
    (folder / "link").symlink_to("/etc/passwd")
    mount = {"destination": "/etc", "type": "tmpfs", "source": "tmpfs"}
    bundle.config["mounts"].append({**mount, "options": ["nosuid", "ro", "tmpcopyup"]})
    script = (
        "cat /etc/sub/file; stat -c ' %a %u %g' /etc/sub/file; readlink /etc/link; touch /etc/x"
    )
    done = bundle.run(f"{script} 2>/dev/null || echo ro")
    assert done.splitlines() == ["content 4751 5 6", "/etc/passwd", "ro"]
    bundle.config["mounts"][-1] |= {"type": "proc"}
    assert "tmpcopyup is for tmpfs only" in bundle.fails("create", ID)


@pytest.mark.parametrize("propagation", ["rprivate", "rslave", "rshared"])
def test_no_mount_of_the_container_reaches_the_host(bundle, propagation):
    bundle.config["linux"]["rootfsPropagation"] = propagation
    bundle.start("mount -t tmpfs from-inside /tmp; sleep 1000")
    with open("/proc/self/mountinfo") as file:
        mounts = file.read()
    assert "from-inside" not in mounts
    assert str(bundle.path) not in mounts
