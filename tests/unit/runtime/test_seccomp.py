"""Compiled programs, run by a small simulator, against the profile read the plain way."""

import functools
import itertools
import re
from errno import ENOSYS, EPERM
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import ContainerError, UnsupportedHostError
from runtime.kernel.seccomp import compile_profile, filter_flags
from runtime.kernel.seccomp_default import default_profile
from runtime.kernel.syscalls import SYSCALLS
from runtime.spec import Seccomp, SeccompArg, SyscallRule
from tests.support.bpf import simulate

ALLOW, KILL_PROCESS, LOG = 0x7FFF0000, 0x80000000, 0x7FFC0000
X86_64, X86, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
BITS_64 = 2**64 - 1

DEFAULT_CAPABILITIES = frozenset(
    f"CAP_{name}"
    for name in (
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_RAW"),
        *("NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    )
)


def errno(number: int) -> int:
    return 0x00050000 | number


def holds(argument: SeccompArg, args: tuple[int, ...]) -> bool:
    value, wanted = args[argument.index], argument.value
    return {
        "SCMP_CMP_EQ": value == wanted,
        "SCMP_CMP_NE": value != wanted,
        "SCMP_CMP_LT": value < wanted,
        "SCMP_CMP_LE": value <= wanted,
        "SCMP_CMP_GT": value > wanted,
        "SCMP_CMP_GE": value >= wanted,
        "SCMP_CMP_MASKED_EQ": value & wanted == argument.value_two,
    }[argument.op]


@functools.lru_cache(maxsize=4)
def rules_by_number(profile: Seccomp, table: str) -> dict[int, list[SyscallRule]]:
    found: dict[int, list[SyscallRule]] = {}
    for rule in profile.syscalls:
        for name in dict.fromkeys(rule.names):
            if name in SYSCALLS[table]:
                found.setdefault(SYSCALLS[table][name], []).append(rule)
    return found


def verdict(profile: Seccomp, table: str, nr: int, args: tuple[int, ...]) -> int:
    """Return what the profile says, rule by rule."""
    actions = {"SCMP_ACT_ALLOW": ALLOW, "SCMP_ACT_KILL_PROCESS": KILL_PROCESS}

    def value(action: str, errno_ret: int | None) -> int:
        return actions.get(action, errno(EPERM if errno_ret is None else errno_ret))

    rules = rules_by_number(profile, table)
    for rule in rules.get(nr, ()):
        results = [holds(argument, args) for argument in rule.args]
        repeated = len({argument.index for argument in rule.args}) < len(rule.args)
        if any(results) if repeated else all(results):
            return value(rule.action, rule.errno_ret)
    if nr > max(rules, default=-1) and profile.default_action != "SCMP_ACT_ALLOW":
        return errno(ENOSYS)
    return value(profile.default_action, profile.default_errno_ret)


@pytest.mark.parametrize("capabilities", [frozenset(), DEFAULT_CAPABILITIES, {"CAP_SYS_ADMIN"}])
@pytest.mark.parametrize(
    ("machine", "arch", "table"),
    [("x86_64", X86_64, "x86_64"), ("x86_64", X86, "x86"), ("aarch64", AARCH64, "aarch64")],
)
def test_default_profile_says_the_same_as_its_program_for_every_call(
    capabilities: frozenset[str], machine: str, arch: int, table: str
) -> None:
    profile = default_profile(frozenset(capabilities))
    program = compile_profile(profile, machine=machine)
    arguments = (0, 1, 8, 17, 38, 40, 41, 46, 0x20000, 0x7E020000, 0x10000000, 0xFFFFFFFF)
    for nr, first in itertools.product(range(600), (*arguments, 2**32, 2**32 + 40, BITS_64)):
        args = (first, 0, 0, 0, 0, 0)
        found = simulate(program, arch, nr, args)
        assert found == verdict(profile, table, nr, args), (nr, first)


def argument_strategy() -> st.SearchStrategy[SeccompArg]:
    interesting = st.sampled_from([0, 1, 2, 2**32 - 1, 2**32, 2**32 + 1, 2**63, BITS_64])
    values = interesting | st.integers(0, BITS_64)
    operations = st.sampled_from(["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"])
    return st.builds(
        lambda index, value, op, two: SeccompArg(index, value, f"SCMP_CMP_{op}", value_two=two),
        st.integers(0, 5),
        values,
        operations,
        values,
    )


def rule_strategy() -> st.SearchStrategy[SyscallRule]:
    return st.builds(
        lambda names, action, args: SyscallRule(tuple(names), *action, tuple(args)),
        st.lists(st.sampled_from(["read", "write", "clone", "socket", "mseal"]), min_size=1),
        st.sampled_from(
            [
                *(("SCMP_ACT_ERRNO", number) for number in (None, 0, 13)),
                *((f"SCMP_ACT_{name}", None) for name in ("ALLOW", "KILL_PROCESS")),
            ]
        ),
        st.lists(argument_strategy(), max_size=3),
    )


@settings(max_examples=200, deadline=None)
@given(
    rules=st.lists(rule_strategy(), max_size=6),
    default=st.sampled_from(["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"]),
    data=st.data(),
)
def test_any_profile_says_the_same_as_its_program(
    rules: list[SyscallRule], default: str, data: st.DataObject
) -> None:
    profile = Seccomp(default, syscalls=tuple(rules))
    program = compile_profile(profile, machine="x86_64")
    # Near the values of the rules is where comparisons go wrong.
    near = [a.value + d for r in rules for a in r.args for d in (-1, 0, 1)]
    values = st.sampled_from([v & BITS_64 for v in (0, *near)]) | st.integers(0, BITS_64)
    for nr in (0, 1, 2, 41, 56, 462, 463):
        args = tuple(data.draw(st.tuples(*[values] * 6)))
        found = simulate(program, X86_64, nr, args)
        assert found == verdict(profile, "x86_64", nr, args)


def test_program_of_a_large_profile_jumps_far() -> None:
    """More than 255 instructions apart, a jump needs a second one."""
    names = sorted(SYSCALLS["x86_64"], key=SYSCALLS["x86_64"].__getitem__)
    rules = tuple(SyscallRule((n,), "SCMP_ACT_ERRNO", i % 3 + 1) for i, n in enumerate(names))
    profile = Seccomp("SCMP_ACT_ALLOW", syscalls=rules)
    program = compile_profile(profile, machine="x86_64")
    assert len(program) // 8 > 700
    for nr in range(600):
        assert simulate(program, X86_64, nr) == verdict(profile, "x86_64", nr, (0,) * 6)


def test_calls_of_other_architectures_do_not_slip_through_a_list_of_denials() -> None:
    denial = Seccomp(
        "SCMP_ACT_ALLOW",
        architectures=("SCMP_ARCH_X86_64",),
        syscalls=(SyscallRule(("mount",), "SCMP_ACT_ERRNO"),),
    )
    program = compile_profile(denial, machine="x86_64")
    mount = SYSCALLS["x86_64"]["mount"]
    assert simulate(program, X86_64, mount) == errno(EPERM)
    assert simulate(program, X86_64, 0x40000000 | mount) == errno(ENOSYS)
    assert simulate(program, X86, SYSCALLS["x86"]["mount"]) == errno(ENOSYS)
    assert simulate(program, AARCH64, SYSCALLS["aarch64"]["mount"]) == errno(ENOSYS)
    assert simulate(program, X86_64, 0) == ALLOW


def test_an_errno_for_what_returns_none_is_refused() -> None:
    allowed = (SyscallRule(("read",), "SCMP_ACT_ALLOW", 5),)
    for profile in (
        Seccomp("SCMP_ACT_ALLOW", default_errno_ret=1),
        Seccomp("SCMP_ACT_ERRNO", syscalls=allowed),
    ):
        with pytest.raises(ContainerError, match="SCMP_ACT_ALLOW takes no errno"):
            compile_profile(profile)


def test_the_own_architecture_is_always_meant_and_no_unknown_one_is_taken() -> None:
    """As libseccomp has it, on which runc and crun are built: no profile is for others only."""
    profile = Seccomp(
        "SCMP_ACT_ALLOW",
        architectures=("SCMP_ARCH_S390X", "SCMP_ARCH_X32"),
        syscalls=(SyscallRule(("mount",), "SCMP_ACT_ERRNO"),),
    )
    program = compile_profile(profile, machine="x86_64")
    assert simulate(program, X86_64, 0) == ALLOW
    assert simulate(program, X86_64, SYSCALLS["x86_64"]["mount"]) == errno(EPERM)
    assert simulate(program, X86, 0) == errno(ENOSYS)
    with pytest.raises(ContainerError, match="unknown seccomp architecture: x86_64"):
        compile_profile(Seccomp("SCMP_ACT_ALLOW", architectures=("x86_64",)))


def default_verdict(name: str, first: int = 0, *, capabilities: frozenset[str]) -> int:
    program = compile_profile(default_profile(capabilities), machine="x86_64")
    return simulate(program, X86_64, SYSCALLS["x86_64"][name], (first,))


@pytest.mark.parametrize(
    "name",
    [
        *("keyctl", "add_key", "request_key", "bpf", "perf_event_open", "userfaultfd", "mount"),
        *("umount2", "pivot_root", "unshare", "setns", "kexec_load", "init_module", "swapon"),
        *("vmsplice", "open_by_handle_at", "kcmp", "acct", "reboot", "iopl", "syslog"),
        *("mbind", "settimeofday", "vhangup", "quotactl", "fsopen", "move_mount", "sethostname"),
    ],
)
def test_dangerous_calls_are_refused_with_the_default_capabilities(name: str) -> None:
    assert default_verdict(name, capabilities=DEFAULT_CAPABILITIES) == errno(EPERM)


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("mount", "CAP_SYS_ADMIN"),
        ("clone3", "CAP_SYS_ADMIN"),
        ("chroot", "CAP_SYS_CHROOT"),
        ("open_by_handle_at", "CAP_DAC_READ_SEARCH"),
        ("kcmp", "CAP_SYS_PTRACE"),
        ("mbind", "CAP_SYS_NICE"),
        ("settimeofday", "CAP_SYS_TIME"),
        ("vhangup", "CAP_SYS_TTY_CONFIG"),
        ("syslog", "CAP_SYSLOG"),
        ("bpf", "CAP_BPF"),
        ("perf_event_open", "CAP_PERFMON"),
        ("acct", "CAP_SYS_PACCT"),
        ("reboot", "CAP_SYS_BOOT"),
        ("init_module", "CAP_SYS_MODULE"),
        ("iopl", "CAP_SYS_RAWIO"),
    ],
)
def test_capability_opens_its_calls(name: str, capability: str) -> None:
    assert default_verdict(name, capabilities=frozenset()) != ALLOW
    assert default_verdict(name, capabilities=frozenset({capability})) == ALLOW


def test_a_container_recorded_under_the_first_profile_goes_on_under_it() -> None:
    profile = default_profile(DEFAULT_CAPABILITIES, version="default/1")
    program = compile_profile(profile, machine="x86_64")
    for name in ("vmsplice", "io_pgetevents", "mseal", "fchmodat2"):
        number = SYSCALLS["x86_64"][name]
        assert simulate(program, X86_64, number) == ALLOW
        assert default_verdict(name, capabilities=DEFAULT_CAPABILITIES) != ALLOW


def test_newer_and_unknown_calls_look_unimplemented() -> None:
    program = compile_profile(default_profile(DEFAULT_CAPABILITIES), machine="x86_64")
    for nr in (
        SYSCALLS["x86_64"]["clone3"],
        336,
        337,
        423,
        425,
        462,
        467,
        470,
        471,
        100_000,
        0xFFFFFFFF,
    ):
        assert simulate(program, X86_64, nr) == errno(ENOSYS), nr


@pytest.mark.parametrize("flag", [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x40000000])
def test_clone_makes_threads_and_processes_but_no_namespaces(flag: int) -> None:
    thread = 0x3D0F00
    sigchld = 17
    for flags in (thread, sigchld, thread | 2**40):
        assert default_verdict("clone", flags, capabilities=DEFAULT_CAPABILITIES) == ALLOW
    assert default_verdict("clone", sigchld | flag, capabilities=frozenset()) == errno(EPERM)


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        *((family, ALLOW) for family in (1, 2, 10, 16, 17, 29, 44)),
        *((family, errno(EPERM)) for family in (38, 40, 46, 12)),
        # The kernel looks at 32 bits only; so must nobody hide vsock behind the others.
        (2**32 + 40, errno(EPERM)),
        (2**63 + 38, errno(EPERM)),
    ],
)
def test_socket_families(family: int, expected: int) -> None:
    assert default_verdict("socket", family, capabilities=DEFAULT_CAPABILITIES) == expected


@pytest.mark.parametrize(
    ("persona", "expected"),
    [(0, ALLOW), (8, ALLOW), (0xFFFFFFFF, ALLOW), (0x0040000, errno(EPERM)), (4, errno(EPERM))],
)
def test_personality_cannot_switch_off_randomisation(persona: int, expected: int) -> None:
    assert default_verdict("personality", persona, capabilities=frozenset()) == expected


def test_32_bit_programs_run_under_the_same_rules_unless_left_out() -> None:
    numbers = SYSCALLS["x86"]
    with_32 = compile_profile(default_profile(frozenset()), machine="x86_64")
    assert simulate(with_32, X86, numbers["read"]) == ALLOW
    assert simulate(with_32, X86, numbers["umount2"]) == errno(EPERM)
    assert simulate(with_32, X86, numbers["socket"], (40,)) == errno(EPERM)
    without = compile_profile(default_profile(frozenset(), compat=False), machine="x86_64")
    assert simulate(without, X86, numbers["read"]) == errno(ENOSYS)
    assert simulate(without, X86_64, 0) == ALLOW


def test_default_profile_names_only_real_calls_and_each_once() -> None:
    known = frozenset[str]().union(*SYSCALLS.values())
    for capabilities in (frozenset[str](), DEFAULT_CAPABILITIES, frozenset({"CAP_SYS_ADMIN"})):
        profile = default_profile(capabilities)
        assert {name for rule in profile.syscalls for name in rule.names} <= known
        free = [name for rule in profile.syscalls if not rule.args for name in rule.names]
        assert len(free) == len(set(free))


def test_profile_default_applies_below_the_highest_named_call_and_enosys_above() -> None:
    profile = Seccomp("SCMP_ACT_ERRNO", 13, syscalls=(SyscallRule(("exit",), "SCMP_ACT_ALLOW"),))
    program = compile_profile(profile, machine="x86_64")
    assert simulate(program, X86_64, 0) == errno(13)
    assert simulate(program, X86_64, 60) == ALLOW
    assert simulate(program, X86_64, 61) == errno(ENOSYS)
    log = compile_profile(Seccomp("SCMP_ACT_LOG"), machine="x86_64")
    assert simulate(log, X86_64, 10_000) == LOG


def test_same_profile_gives_the_same_program() -> None:
    one = compile_profile(default_profile(DEFAULT_CAPABILITIES), machine="x86_64")
    assert one == compile_profile(default_profile(DEFAULT_CAPABILITIES), machine="x86_64")
    assert len(one) % 8 == 0
    assert len(one) // 8 < 700


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (Seccomp("SCMP_ACT_NOTIFY"), "unknown or unsupported seccomp action: SCMP_ACT_NOTIFY"),
        (
            Seccomp(
                "SCMP_ACT_ALLOW",
                syscalls=(
                    SyscallRule(("read",), "SCMP_ACT_ERRNO", args=(SeccompArg(0, 1, "LIKE"),)),
                ),
            ),
            "unknown seccomp comparison: LIKE",
        ),
        (
            Seccomp(
                "SCMP_ACT_ALLOW",
                syscalls=(
                    SyscallRule(
                        ("read",), "SCMP_ACT_ERRNO", args=(SeccompArg(6, 1, "SCMP_CMP_EQ"),)
                    ),
                ),
            ),
            "a system call has no argument 6",
        ),
    ],
)
def test_what_cannot_be_compiled_is_said(profile: Seccomp, message: str) -> None:
    with pytest.raises(ContainerError, match=re.escape(message)):
        compile_profile(profile, machine="x86_64")


def test_program_that_is_too_long_is_refused() -> None:
    many = tuple(SeccompArg(0, value, "SCMP_CMP_EQ") for value in range(2000))
    profile = Seccomp(
        "SCMP_ACT_ERRNO", syscalls=(SyscallRule(("read",), "SCMP_ACT_ALLOW", None, many),)
    )
    with pytest.raises(ContainerError, match="instructions, the kernel takes 4096"):
        compile_profile(profile, machine="x86_64")


def test_unknown_machine_is_said() -> None:
    with pytest.raises(UnsupportedHostError, match="s390x"):
        compile_profile(Seccomp("SCMP_ACT_ALLOW"), machine="s390x")


def test_flags() -> None:
    flags = ("SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW")
    assert filter_flags(Seccomp("SCMP_ACT_ALLOW", flags=flags)) == 6
    with pytest.raises(ContainerError, match="unknown seccomp flag: FAST"):
        filter_flags(Seccomp("SCMP_ACT_ALLOW", flags=("FAST",)))


def test_numbers_are_those_of_the_kernel_headers_if_there_are_any() -> None:
    folder = Path("/usr/include/x86_64-linux-gnu/asm")
    for table, header in (("x86_64", "unistd_64.h"), ("x86", "unistd_32.h")):
        if (folder / header).exists():
            text = (folder / header).read_text()
            defined = dict(re.findall(r"#define __NR_(\w+) (\d+)", text))
            ours = {name: str(number) for name, number in SYSCALLS[table].items()}
            # Either may be newer than the other.
            assert {n: ours[n] for n in defined if n in ours} == {
                n: v for n, v in defined.items() if n in ours
            }
            assert all(int(v) > 469 for n, v in defined.items() if n not in ours)


def test_numbers_are_unique_and_newer_calls_are_the_same_everywhere() -> None:
    for numbers in SYSCALLS.values():
        assert len(set(numbers.values())) == len(numbers)
    new = [{n: v for n, v in table.items() if v >= 424} for table in SYSCALLS.values()]
    assert new[0] == new[1] == new[2]
