"""Our default profile beside that of Docker's kin: what theirs refuses ours refuses.

Theirs is read from Debian's golang-github-containers-common, which knows the calls up to 5.16;
what it does not know gets ENOSYS from it, and so from ours.
"""

import functools
import itertools
import json
from errno import ENOSYS
from pathlib import Path
from typing import Any

import pytest

from runtime.kernel.capability import DEFAULT, NAMES
from runtime.kernel.seccomp import compile_profile
from runtime.kernel.seccomp_default import default_profile
from runtime.kernel.syscalls import SYSCALLS
from tests.support.bpf import simulate

THEIRS = Path("/usr/share/containers/seccomp.json")
PACKAGE = "golang-github-containers-common"

ALLOW = 0x7FFF0000
ERRNO = 0x00050000
X86_64, X86 = 0xC000003E, 0x40000003
X32_BIT = 0x40000000
ARCHITECTURES = {"x86_64": X86_64, "x86": X86}

DOCKERS = frozenset({*DEFAULT, "CAP_AUDIT_WRITE", "CAP_MKNOD", "CAP_NET_RAW"})

# Capabilities that the profile of 2022 does not know, and that Docker's opens the same call with.
OPENED_SINCE = {"bpf": "CAP_BPF", "perf_event_open": "CAP_PERFMON"}

# What theirs allows all, and ours only with a capability or nobody: new user namespaces and what
# they open, keyrings, memory policies, the descriptors of others; and what left with Linux 2.0.
STRICTER = """
    clone3 unshare mount umount umount2 pivot_root open_tree move_mount fsopen fsconfig
    fsmount fspick mount_setattr syslog reboot mbind get_mempolicy set_mempolicy keyctl pidfd_getfd
    signal sigaction sigsuspend sigpending readdir
"""

# Calls that either profile looks at the arguments of, and what is telling there.
ARGUMENTS = {
    "clone": [(0,), (17,), (0x3D0F00,), (0x10000011,), (0x7E020000,)],
    "personality": [(0,), (4,), (8,), (0x20000,), (0x20008,), (0x40000,), (0xFFFFFFFF,), (2**32,)],
    "socket": [
        (family, 3, protocol)
        for family in (0, 1, 2, 10, 16, 17, 38, 40, 45, 46, 2**32 + 16)
        for protocol in (0, 9, 10, 2**32 + 9)
    ],
}


@functools.cache
def their_rules() -> list[dict[str, Any]]:
    if not THEIRS.exists():
        pytest.skip(f"no {THEIRS}: install {PACKAGE}")
    rules: list[dict[str, Any]] = json.loads(THEIRS.read_text())["syscalls"]
    return rules


def rules_for(capabilities: frozenset[str]) -> dict[str, list[dict[str, Any]]]:
    """Return their rules on an x86-64 machine, by call."""
    found: dict[str, list[dict[str, Any]]] = {}
    for rule in their_rules():
        only, never = rule.get("includes") or {}, rule.get("excludes") or {}
        if (
            "amd64" in only.get("arches", ["amd64"])
            and "amd64" not in never.get("arches", ())
            and capabilities.issuperset(only.get("caps", ()))
            and capabilities.isdisjoint(never.get("caps", ()))
        ):
            for name in rule["names"]:
                found.setdefault(name, []).append(rule)
    return found


def capability_sets() -> list[frozenset[str]]:
    """Return none, all, the defaults, and each one alone and missing that either looks at."""
    nothing, everything = frozenset[str](), frozenset(NAMES)
    telling = [
        name
        for name in NAMES
        if rules_for(frozenset({name})) != rules_for(nothing)
        or default_profile(frozenset({name})) != default_profile(nothing)
    ]
    one = (frozenset({name}) for name in telling)
    all_but_one = (everything - {name} for name in telling)
    return [nothing, frozenset(DEFAULT), DOCKERS, *one, *all_but_one, everything]


def holds(condition: dict[str, Any], args: tuple[int, ...]) -> bool:
    value = args[condition["index"]]
    match condition["op"]:
        case "SCMP_CMP_EQ":
            return bool(value == condition["value"])
        case "SCMP_CMP_NE":
            return bool(value != condition["value"])
    raise AssertionError(condition)


def they_allow(rules: list[dict[str, Any]], args: tuple[int, ...]) -> bool:
    args = (*args, *(0,) * (6 - len(args)))
    actions = {
        rule["action"] for rule in rules if all(holds(c, args) for c in rule.get("args") or ())
    }
    return actions == {"SCMP_ACT_ALLOW"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_theirs_refuses_ours_refuses(architecture: str) -> None:
    audit, table = ARCHITECTURES[architecture], SYSCALLS[architecture]
    weaker = set()
    for capabilities in capability_sets():
        rules = rules_for(capabilities)
        program = compile_profile(default_profile(capabilities), machine="x86_64")
        for name, number in table.items():
            for args in ARGUMENTS.get(name, [()]):
                if (
                    simulate(program, audit, number, args) == ALLOW
                    and not they_allow(rules.get(name, []), args)
                    and OPENED_SINCE.get(name) not in capabilities
                ):
                    weaker.add((name, args))
    assert weaker == set()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_theirs_does_not_know_is_not_implemented(architecture: str) -> None:
    audit, table = ARCHITECTURES[architecture], SYSCALLS[architecture]
    known = {name for rule in their_rules() for name in rule["names"]}
    beyond = set(range(1000)) - set(table.values())
    newer = {number for name, number in table.items() if number >= 424} - {
        table[name] for name in known if name in table
    }
    for capabilities in (frozenset[str](), DOCKERS, frozenset(NAMES)):
        program = compile_profile(default_profile(capabilities), machine="x86_64")
        verdicts = {n: simulate(program, audit, n) for n in beyond | newer}
        refused = {n: verdict for n, verdict in verdicts.items() if verdict != ERRNO | ENOSYS}
        assert refused == {}


def test_x32_is_not_implemented_whatever_the_capabilities() -> None:
    for capabilities in (frozenset[str](), DOCKERS, frozenset(NAMES)):
        program = compile_profile(default_profile(capabilities), machine="x86_64")
        for number in itertools.chain(range(600), (2**30 - 1,)):
            assert simulate(program, X86_64, X32_BIT | number) == ERRNO | ENOSYS


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_ordinary_programs_miss_nothing(architecture: str) -> None:
    """With Docker's capabilities, all that theirs allows works, but for what is known."""
    audit, table = ARCHITECTURES[architecture], SYSCALLS[architecture]
    rules = rules_for(DOCKERS)
    program = compile_profile(default_profile(DOCKERS), machine="x86_64")
    stricter = {
        name
        for name, number in table.items()
        if they_allow(rules.get(name, []), ()) and simulate(program, audit, number) != ALLOW
    }
    assert stricter == {name for name in STRICTER.split() if name in table}
