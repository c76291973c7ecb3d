"""Configurations that make no sense are refused in words, or run; they leave nothing either way."""

from __future__ import annotations

import json
import os
import random
import subprocess

import pytest

from runtime.cgroup.hierarchy import Hierarchy
from tests.support.bundle import ID, bundle_in
from tests.support.mutation import mutated
from tests.support.waiting import SLOWNESS

pytestmark = [pytest.mark.kernel, pytest.mark.long, pytest.mark.timeout(1800)]

CASES = round(500 / SLOWNESS)
# What would make it another container's, or the host's, than the one that is looked at.
KEPT = frozenset(("cgroupsPath", "args"))

SWAPPINESS = {"swappiness": 10} if Hierarchy.detect().places["memory"].version == 1 else {}
MORE = {
    "linux": {
        "resources": {
            "memory": {"limit": 1 << 27, "swap": 1 << 28, **SWAPPINESS},
            "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"},
            "pids": {"limit": 50},
            "devices": [{"allow": False, "access": "rwm"}],
            "blockIO": {"weight": 100},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1 << 21}],
        },
        "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}],
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [
                {
                    "names": ["personality"],
                    "action": "SCMP_ACT_ERRNO",
                    "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}],
                }
            ],
        },
        "rootfsPropagation": "rprivate",
        "timeOffsets": {},
        "personality": {"domain": "LINUX"},
    },
    "process": {
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}],
        "oomScoreAdj": 100,
        "user": {"uid": 1, "gid": 1, "umask": 18, "additionalGids": [5]},
        "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0},
        "scheduler": {"policy": "SCHED_BATCH", "nice": 5},
    },
    "hooks": {"prestart": [{"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 5}]},
    "annotations": {"com.example.key": "value"},
    "domainname": "example",
}


def _whole(config: dict) -> dict:
    merged = {**config, **MORE}
    for section in ("linux", "process"):
        merged[section] = {**config[section], **MORE[section]}
    return merged


def test_no_configuration_ends_in_a_stack_or_leaves_anything(world):
    seed = int(os.environ.get("BAYPLAN_FUZZ_SEED") or random.randrange(1 << 32))
    print(f"BAYPLAN_FUZZ_SEED={seed}")
    chance = random.Random(seed)
    ran = 0
    with bundle_in(world) as bundle:
        bundle.sh("exit 0")
        whole = _whole(bundle.config)
        # What mounts show elsewhere, and what hooks leave, is of no matter to the machine.
        apart = ["unshare", "--mount", "--propagation", "private", *bundle.command()]
        for number in range(CASES):
            text = json.dumps(mutated(whole, chance, KEPT))
            if number == 0:
                text = "[" * 100_000
            (bundle.path / "config.json").write_text(text)
            done = subprocess.run(
                [*apart, "run", ID], cwd=bundle.path, capture_output=True, timeout=60, check=False
            )
            ran += done.returncode == 0
            told = done.stderr.decode(errors="replace")
            about = f"case {number}: {done.returncode}\n{told}\n{text}"
            assert "Traceback" not in told, about
            assert done.returncode >= 0, about
            assert done.returncode == 0 or told.startswith("bayplan-oci: "), about
            subprocess.run([*apart, "delete", "--force", ID], capture_output=True, check=False)
            assert bundle.groups() == [], about
            assert not bundle.root.exists() or os.listdir(bundle.root) == [], about
    # Neither is all refused, nor does all run.
    assert CASES // 20 < ran < CASES - CASES // 20
