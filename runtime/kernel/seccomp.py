"""Seccomp profiles to BPF programs. Loading one is ``process.seccomp``.

The rules for one call are tried in the order they are written; the first whose conditions all
hold decides, else the default. A program looks at the architecture, then searches the call's
number in a balanced tree over ranges of calls with the same verdict, and only then, for the few
calls with conditions, at arguments. All but the last is free of arguments, so the kernel (5.11)
runs it once per call number when it is loaded and keeps the verdicts in a bitmap.

Calls that none of the profile's authors can have meant:

- another architecture the profile does not list, x32 always: ENOSYS, under any default. A list of
  denials would otherwise be open to the same calls by their other numbers;
- a number above all those the profile names, where the default is no kind of yes: ENOSYS, so that
  programs fall back from calls newer than the profile (runc does the same).

Source: OCI runtime-spec config-linux.md (seccomp), seccomp(2), linux/audit.h.
"""

import functools
import os
from errno import ENOSYS, EPERM

from runtime.errors import ContainerError, UnsupportedHostError
from runtime.kernel import bpf
from runtime.kernel.syscalls import SYSCALLS
from runtime.spec import Seccomp, SeccompArg, SyscallRule

_ALLOW = 0x7FFF0000
_LOG = 0x7FFC0000
_ERRNO = 0x00050000

_NOTIFY = "SCMP_ACT_NOTIFY"
ACTIONS = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": _ERRNO,
    "SCMP_ACT_TRACE": 0x7FF00000,
    _NOTIFY: 0x7FC00000,
    "SCMP_ACT_LOG": _LOG,
    "SCMP_ACT_ALLOW": _ALLOW,
}

FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}
_NEW_LISTENER = 8

OPERATORS = tuple(f"SCMP_CMP_{word}" for word in ("EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"))

_NOT_HERE = bpf.ret(_ERRNO | ENOSYS)

# Architecture of the profile -> (table of numbers, AUDIT_ARCH of struct seccomp_data).
ARCHITECTURES = {
    "SCMP_ARCH_X86_64": ("x86_64", 0xC000003E),
    "SCMP_ARCH_X86": ("x86", 0x40000003),
    "SCMP_ARCH_AARCH64": ("aarch64", 0xC00000B7),
}

# What a profile may name beside them: it is for whatever machine it comes to.
_ELSEWHERE = frozenset(
    f"SCMP_ARCH_{name}"
    for name in (
        *("X32", "ARM", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32"),
        *("PPC", "PPC64", "PPC64LE", "S390", "S390X", "PARISC", "PARISC64", "RISCV64"),
        *("LOONGARCH64", "M68K", "SH", "SHEB"),
    )
)

# What a machine can run, its own first.
_MACHINES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86"),
    "aarch64": ("SCMP_ARCH_AARCH64",),
}

# x32 calls come with x86-64's architecture and this bit.
_X32_BIT = 0x40000000

# Conditions and what they lead to, in order; the last has no conditions.
_Verdict = tuple[tuple[tuple[bpf.Test, ...], int], ...]


def compile_profile(profile: Seccomp, *, machine: str | None = None) -> bytes:
    """Return *profile* as a program for seccomp(2), 8 bytes an instruction.

    *machine* is as in uname(2), this one by default. Names it does not have are left out. A
    profile is for the machine's own architecture, and for those it lists. If one rule tests an
    argument twice, its conditions are alternatives (as in runc), because no value can be two.

    Raises:
        ContainerError: an action, comparison or architecture is not known, or the program would
            be longer than the kernel takes (4096 instructions).
        UnsupportedHostError: we do not know the calls of *machine*.
    """
    return _compile(profile, machine or os.uname().machine)


@functools.lru_cache(maxsize=16)
def _compile(profile: Seccomp, machine: str) -> bytes:
    known = _MACHINES.get(machine)
    if known is None:
        raise UnsupportedHostError(f"no table of system calls for seccomp on {machine}")
    if profile.listener_path is None and _NOTIFY in _action_names(profile):
        raise ContainerError(f"unknown or unsupported seccomp action: {_NOTIFY} (no listenerPath)")
    for name in profile.architectures:
        if name not in ARCHITECTURES and name not in _ELSEWHERE:
            raise ContainerError(f"unknown seccomp architecture: {name}")
    default = _action(profile.default_action, profile.default_errno_ret)
    code = _NOT_HERE
    for name in reversed(known):
        if name == known[0] or name in profile.architectures:
            table, audit_arch = ARCHITECTURES[name]
            section = _section(profile, SYSCALLS[table], default)
            if name == "SCMP_ARCH_X86_64":
                section = bpf.at_least(_X32_BIT, _NOT_HERE, section)
            code = bpf.equal(audit_arch, [*bpf.load(bpf.NR), *section], code)
    code = [*bpf.load(bpf.ARCH), *code]
    if len(code) > bpf.MAX_INSTRUCTIONS:
        raise ContainerError(
            f"the seccomp profile comes to {len(code)} instructions, "
            f"the kernel takes {bpf.MAX_INSTRUCTIONS}"
        )
    return bpf.pack(code)


def filter_flags(profile: Seccomp) -> int:
    """Return the flags of *profile* for seccomp(2).

    Raises:
        ContainerError: a flag is not known.
    """
    flags = 0
    for name in profile.flags:
        if name not in FLAGS:
            raise ContainerError(f"unknown seccomp flag: {name}")
        flags |= FLAGS[name]
    return flags | (_NEW_LISTENER if profile.listener_path else 0)


def _section(profile: Seccomp, numbers: dict[str, int], default: int) -> bpf.Code:
    # By position: most calls share a rule, and a rule of 400 names is slow to hash.
    rules: dict[int, tuple[int, ...]] = {}
    for position, rule in enumerate(profile.syscalls):
        for name in rule.names:
            if (number := numbers.get(name)) is not None:
                rules[number] = (*rules.get(number, ()), position)
    beyond = default if default in (_ALLOW, _LOG) else _ERRNO | ENOSYS
    end = max(rules, default=-1) + 1
    verdicts = {
        positions: _verdict([profile.syscalls[p] for p in positions], default)
        for positions in {(), *rules.values()}
    }
    pieces: list[tuple[int, _Verdict]] = []
    for number in range(end):
        verdict = verdicts[rules.get(number, ())]
        if not pieces or pieces[-1][1] != verdict:
            pieces.append((number, verdict))
    pieces.append((end, (((), beyond),)))
    return bpf.search([(first, _code(verdict)) for first, verdict in pieces])


def _verdict(rules: list[SyscallRule], default: int) -> _Verdict:
    cases: list[tuple[tuple[bpf.Test, ...], int]] = []
    for rule in rules:
        action = _action(rule.action, rule.errno_ret)
        tests = tuple(_test(argument) for argument in rule.args)
        if len({test.index for test in tests}) < len(tests):
            cases += (((test,), action) for test in tests)
        else:
            cases.append((tests, action))
        if not tests:
            return tuple(cases)
    return (*cases, ((), default))


def _code(verdict: _Verdict) -> bpf.Code:
    *cases, (_, last) = verdict
    code = bpf.ret(last)
    for tests, action in reversed(cases):
        code = bpf.when(tests, bpf.ret(action), code)
    return code


def _test(argument: SeccompArg) -> bpf.Test:
    comparison = argument.op.removeprefix("SCMP_CMP_")
    if argument.op not in OPERATORS:
        raise ContainerError(f"unknown seccomp comparison: {argument.op}")
    if not 0 <= argument.index <= 5:
        raise ContainerError(f"a system call has no argument {argument.index}")
    if comparison == "MASKED_EQ":
        # The specification keeps the mask in `value` and what it is compared with in `valueTwo`.
        return bpf.Test(argument.index, "MASKED_EQ", argument.value_two, argument.value)
    return bpf.Test(argument.index, comparison, argument.value)  # type: ignore[arg-type] # as above


def _action_names(profile: Seccomp) -> set[str]:
    return {profile.default_action, *(rule.action for rule in profile.syscalls)}


def _action(name: str, errno_ret: int | None) -> int:
    if name not in ACTIONS:
        raise ContainerError(f"unknown or unsupported seccomp action: {name}")
    action = ACTIONS[name]
    if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        action |= (EPERM if errno_ret is None else errno_ret) & 0xFFFF
    elif errno_ret is not None:  # which runtimes must refuse, by the specification
        raise ContainerError(f"seccomp action {name} takes no errno, and {errno_ret} is given")
    return action
