"""Hooks at all six points: when they run, what they see, and what their failure does."""

import json
import os
import shutil
import subprocess

import pytest

from tests.support.bundle import ID, bundle_in
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kernel

POINTS = (
    *("prestart", "createRuntime", "createContainer"),
    *("startContainer", "poststart", "poststop"),
)


@pytest.fixture
def bundle(world):
    with bundle_in(world) as made:
        yield made


def _hook(script: str) -> dict:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}


def _noting(bundle, point: str) -> dict:
    # /tmp/notes is of the root as startContainer sees it; the others see the host.
    inside = "/tmp/notes"
    place = inside if point == "startContainer" else f"{bundle.path}/rootfs{inside}"
    return _hook(f"echo '{point}' >> {place}; cat >> {place}; echo >> {place}")


def _notes(bundle) -> list[tuple[str, dict]]:
    lines = (bundle.path / "rootfs/tmp/notes").read_text().split("\n")
    words = [line for line in lines if line]
    return [(name, json.loads(state)) for name, state in zip(words[::2], words[1::2], strict=True)]


def test_all_run_in_order_and_are_told_the_state(bundle):
    bundle.config["hooks"] = {point: [_noting(bundle, point)] for point in POINTS}
    bundle.start(verb="create")
    assert [name for name, _ in _notes(bundle)] == list(POINTS[:3])
    bundle.do("start", ID)
    bundle.do("delete", "--force", ID)
    notes = _notes(bundle)
    assert [name for name, _ in notes] == list(POINTS)
    assert [state["status"] for _, state in notes] == [
        *("creating", "creating", "creating", "created", "running", "stopped"),
    ]
    assert {(state["id"], state["bundle"]) for _, state in notes} == {(ID, str(bundle.path))}
    pids = [state["pid"] for _, state in notes]
    assert len(set(pids[:-1])) == 1
    assert pids[0] > 0


@pytest.mark.parametrize("point", POINTS[:3])
def test_one_that_fails_at_create_leaves_nothing(bundle, point):
    bundle.config["hooks"] = {point: [_hook("echo oh no; exit 3"), _hook("touch /tmp/never")]}
    words = bundle.fails("create", ID)
    assert "failed with 3: oh no" in words
    assert "does not exist" in bundle.fails("state", ID)
    assert bundle.groups() == []


def test_what_cannot_be_cleared_up_is_told_beside_what_went_wrong(bundle):
    """The command itself is in the group at the end, and does not kill itself."""
    join = "for each in /sys/fs/cgroup/*/$G /sys/fs/cgroup/$G; do test ! -d $each || "
    join += "echo $PPID > $each/cgroup.procs; done; exit 3"
    bundle.config["hooks"] = {"createRuntime": [_hook(join.replace("$G", bundle.cgroup))]}
    said = bundle.fails("create", ID)
    for group in bundle.groups():
        os.rmdir(group)
    assert "failed with 3" in said
    assert f"clearing up: will not kill cgroup {bundle.cgroup}" in said
    assert os.listdir(bundle.root) == []


def test_one_that_fails_at_start_ends_the_container(bundle):
    bundle.config["hooks"] = {"startContainer": [_hook("exit 4")]}
    bundle.start(verb="create")
    assert "failed with 4" in bundle.fails("start", ID)
    bundle.wait_stopped()


@pytest.mark.parametrize("privileges", [True, False], ids=["no new privileges", "any"])
def test_what_the_process_may_not_call_its_start_hooks_may_not_either(bundle, privileges):
    bundle.config["process"]["noNewPrivileges"] = privileges
    refused = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
    bundle.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [refused],
    }
    bundle.config["hooks"] = {"startContainer": [_hook("mkdir /tmp/made || exit 7")]}
    bundle.start(verb="create")
    assert "failed with 7" in bundle.fails("start", ID)


def test_one_that_fails_in_a_detached_run_leaves_nothing(bundle):
    bundle.config["hooks"] = {"startContainer": [_hook("exit 4")]}
    assert "failed with 4" in bundle.fails("run", "--detach", ID, stdin=subprocess.DEVNULL)
    assert "does not exist" in bundle.fails("state", ID)


def test_a_poststart_that_fails_ends_the_container(bundle):
    bundle.config["hooks"] = {"poststart": [_hook("exit 5")]}
    bundle.start(verb="create")
    assert "failed with 5" in bundle.fails("start", ID)
    bundle.wait_stopped()


def test_a_poststop_that_fails_is_a_warning_and_the_next_runs(bundle):
    bundle.config["hooks"] = {"poststop": [_hook("exit 6"), _noting(bundle, "poststop")]}
    bundle.start()
    done = bundle.call("delete", "--force", ID)
    assert done.returncode == 0
    assert "failed with 6" in done.stderr
    assert [name for name, _ in _notes(bundle)] == ["poststop"]


@pytest.mark.parametrize("point", ["prestart", "createRuntime", "createContainer"])
def test_where_a_creation_fails_what_was_set_up_is_taken_down(bundle, point):
    bundle.config["hooks"] = {point: [_hook("exit 3")], "poststop": [_noting(bundle, "poststop")]}
    assert "failed with 3" in bundle.fails("create", ID)
    ((name, state),) = _notes(bundle)
    assert (name, state["id"], state["status"]) == ("poststop", ID, "stopped")


def test_one_that_takes_too_long_is_killed(bundle):
    bundle.config["hooks"] = {"createRuntime": [{**_hook("exec sleep 100"), "timeout": 1}]}
    assert "did not end within 1 s" in bundle.fails("create", ID)


def test_hooks_ignore_no_signals(bundle):
    seen = bundle.path / "ignored"
    note = _hook(f"grep SigIgn /proc/self/status >> {seen}")
    bundle.config["hooks"] = {point: [note] for point in ("prestart", "poststart", "poststop")}
    bundle.start()
    bundle.do("delete", "--force", ID)
    ignored = {int(line.split()[1], 16) for line in seen.read_text().splitlines()}
    assert not any(mask >> number - 1 & 1 for mask in ignored for number in (13, 25))


def test_a_hook_in_the_new_namespaces_can_mount_into_the_root(bundle):
    target = f"{bundle.path}/rootfs/etc"
    mount = f"mount -t tmpfs tmpfs {target} && echo hello > {target}/greeting"
    bundle.config["hooks"] = {"createContainer": [_hook(mount)]}
    bundle.sh("cat /etc/greeting")
    # As where systemd runs the host: what is mounted goes to all who do not look away.
    shared = 'mount --make-rshared / && "$@" && test ! -e "$0"'
    words = ["unshare", "--mount", "sh", "-c", shared, f"{target}/greeting"]
    (bundle.path / "config.json").write_text(json.dumps(bundle.config))
    done = subprocess.run(
        [*words, *bundle.command(), "run", ID], cwd=bundle.path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_no_file_of_the_container_decides_whether_it_can_be_managed(bundle):
    bundle.config["process"]["env"] = ["PATH=/bin"]
    bundle.config["hooks"] = {p: [_noting(bundle, p)] for p in ("poststart", "poststop")}
    bundle.start("mkdir /etc/passwd; sleep 1000", verb="create")
    bundle.do("start", ID)
    wait_until((bundle.path / "rootfs/etc/passwd").exists)
    bundle.do("update", "--pids-limit", "20", ID)
    assert bundle.do("exec", ID, "sh", "-c", "echo $HOME") == "/\n"
    bundle.do("delete", "--force", ID)
    assert [name for name, _ in _notes(bundle)] == ["poststart", "poststop"]


def test_a_poststop_runs_when_the_root_is_gone(bundle):
    bundle.config["process"]["env"] = ["PATH=/bin"]
    bundle.config["hooks"] = {"poststop": [_hook(f"touch {bundle.path}/stopped")]}
    bundle.start("true")
    bundle.wait_stopped()
    shutil.rmtree(bundle.path / "rootfs")
    bundle.do("delete", ID)
    assert (bundle.path / "stopped").exists()


def test_one_in_the_container_sees_its_environment_not_the_callers(bundle):
    bundle.config["process"]["env"] = ["PATH=/bin", "A=1"]
    hook = {"path": "/bin/sh", "args": ["sh", "-c", 'echo "$A:$SECRET" > /tmp/seen']}
    bundle.config["hooks"] = {"startContainer": [hook]}
    bundle.sh("cat /tmp/seen")
    assert bundle.do("run", ID, env={**os.environ, "SECRET": "x"}) == "1:\n"
