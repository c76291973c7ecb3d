"""An ordinary user where systemd is: limits, in a cgroup that the service manager gives."""

from __future__ import annotations

import pytest

from tests.support.manifests import HEAD
from tests.vm.channel import Ran
from tests.vm.machine import Machine

pytestmark = [
    pytest.mark.machine,
    pytest.mark.long,
    pytest.mark.download,
    pytest.mark.timeout(1800),
]

_USER, _UID = "ordinary", 1000
_PREPARE = f"""
modprobe tun
chmod 666 /dev/net/tun
useradd --create-home --uid {_UID} {_USER}
systemctl start user@{_UID}.service
"""
_SESSION = f"/run/user/{_UID}"
_MANAGER = f"/sys/fs/cgroup/user.slice/user-{_UID}.slice/user@{_UID}.service"


def _as_user(machine: Machine, *words: str, stdin: str = "", code: int = 0) -> Ran:
    credentials = [f"--reuid={_UID}", f"--regid={_UID}", "--init-groups"]
    return machine.run(
        ["setpriv", *credentials, "bayplan", *words],
        stdin=stdin.encode(),
        code=code,
        env={"HOME": f"/home/{_USER}", "XDG_RUNTIME_DIR": _SESSION},
        cwd="/",
    )


def test_limits_hold_by_what_is_delegated_also_after_the_holder_was_killed(machine: Machine):
    machine.run(["sh", "-ec", _PREPARE])
    _as_user(machine, "apply", "-f", "-", stdin=HEAD)
    limits = ("--memory", "64m", "--cpus", "0.5", "--pids-limit", "50")
    name = _as_user(machine, "run", "-d", *limits, "test/box", "sleep", "1000").out.strip()
    find = ["find", _MANAGER, "-path", f"*/bayplan/{name}/memory.max"]
    group = machine.run(find).out.strip().removesuffix("/memory.max")
    assert ".scope/" in group
    assert machine.read(f"{group}/memory.max") == f"{64 << 20}\n"
    assert machine.read(f"{group}/cpu.max") == "50000 100000\n"
    assert machine.read(f"{group}/pids.max") == "50\n"
    greedy = ("sh", "-c", "a=x; while :; do a=$a$a; done")
    _as_user(machine, "run", "--rm", "--memory", "16m", "test/box", *greedy, code=137)
    refused = _as_user(machine, "run", "--rm", "--cpuset-cpus", "0", "test/box", "true", code=125)
    assert "controllers there: cpu, memory, pids; systemd gives more" in refused.errors

    machine.run(["pkill", "-KILL", "-f", "runtime.rootless.holder"])
    other = ("--root", f"/home/{_USER}/other")
    _as_user(machine, *other, "apply", "-f", "-", stdin=HEAD)
    words = (*other, "run", "-d", "--memory", "32m", "test/box", "sleep", "1000")
    second = _as_user(machine, *words).out.strip()
    find = ["find", _MANAGER, "-path", f"*/{second}/memory.max"]
    assert machine.run(find).out.startswith(group.partition(".scope/")[0])

    _as_user(machine, "rm", "-f", name)
    _as_user(machine, *other, "rm", "-f", second)
    for words in ((), other):
        _as_user(machine, *words, "delete", "-p", "test")
    machine.run(
        ["timeout", "60", "sh", "-c", f"while [ -e {_SESSION}/bayplan-holder ]; do sleep 1; done"]
    )
