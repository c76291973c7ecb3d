"""Compiled profiles, loaded into a real kernel, judged by the errno of real calls."""

import json
import os
import platform
import signal
import subprocess
import sys
from errno import EBADF, EINVAL, ENOSYS, EPERM
from pathlib import Path

import pytest

from runtime.kernel.seccomp import compile_profile
from runtime.kernel.seccomp_default import default_profile
from runtime.kernel.syscalls import SYSCALLS
from runtime.spec import Seccomp, SeccompArg, SyscallRule
from tests.support.bpf import simulate
from tests.support.elf import X32_BIT, results, write_calls
from tests.support.host import CANNOT, cannot

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        platform.machine() != "x86_64", reason=CANNOT + "calls are made by x86-64 numbers"
    ),
]

ROOT = Path(__file__).parents[2]
ALLOW = 0x7FFF0000

# Loads the program of argv[1], makes the calls of argv[2], tells the errno of each.
LOADED = """
import ctypes, json, sys
from runtime.kernel.process import PR_SET_NO_NEW_PRIVS, SECCOMP_SET_MODE_FILTER, prctl, seccomp

syscall = ctypes.CDLL(None, use_errno=True).syscall
syscall.restype = ctypes.c_long
prctl(PR_SET_NO_NEW_PRIVS, 1)
seccomp(SECCOMP_SET_MODE_FILTER, 0, bytes.fromhex(sys.argv[1]))
"""

CALLS = """
found = []
for call in json.loads(sys.argv[2]):
    ctypes.set_errno(0)
    result = syscall(*map(ctypes.c_ulong, call))
    found.append(ctypes.get_errno() if result == -1 else 0)
print(json.dumps(found))
"""

# push rbx; mov eax, edi; mov ebx, esi; int 0x80; pop rbx; ret
I386 = """
import mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex("5389f889f3cd805bc3"))
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
int80 = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int)(address)
print(json.dumps([int80(*call) for call in json.loads(sys.argv[2])]))
"""

EXECUTE = "import os; os.execv(sys.argv[2], sys.argv[2:])"

PROGRAMS = """
import subprocess, threading
thread = threading.Thread(target=lambda: print("thread"))
thread.start()
thread.join()
print(subprocess.run(["uname", "-s"], capture_output=True, check=True).stdout.decode())
"""


def run(script: str, profile: Seccomp, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = compile_profile(profile).hex()
    return subprocess.run(
        [sys.executable, "-c", LOADED + script, program, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def errnos(profile: Seccomp, *calls: tuple[int, ...]) -> list[int]:
    done = run(CALLS, profile, json.dumps(calls))
    assert done.returncode == 0, done.stderr
    found: list[int] = json.loads(done.stdout)
    return found


def numbers(*names: str) -> list[tuple[int, ...]]:
    return [(SYSCALLS["x86_64"][name],) for name in names]


def test_default_profile_refuses_what_a_container_must_not_do() -> None:
    """The callers are root with all of the machine's capabilities: only the filter says no."""
    calls = numbers("unshare", "setns", "mount", "keyctl", "bpf", "vmsplice", "userfaultfd")
    assert errnos(default_profile(frozenset()), *calls) == [EPERM] * len(calls)


def test_default_profile_lets_a_capability_through_to_the_kernel() -> None:
    profile = default_profile(frozenset({"CAP_SYS_ADMIN"}))
    unshare, setns = numbers("unshare", "setns")
    assert errnos(profile, (*unshare, 0), (*setns, -1, 0)) == [0, EBADF]


def test_new_unknown_and_x32_calls_are_not_implemented() -> None:
    clone3, io_uring, mseal = numbers("clone3", "io_uring_setup", "mseal")
    x32_getpid = (0x40000000 | SYSCALLS["x86_64"]["getpid"],)
    new = (clone3, io_uring, mseal)
    found = errnos(default_profile(frozenset()), *new, (600,), x32_getpid, (2**32 - 1,))
    assert found == [ENOSYS] * 6


def test_arguments_decide() -> None:
    socket, personality = SYSCALLS["x86_64"]["socket"], SYSCALLS["x86_64"]["personality"]
    stream = 1
    found = errnos(
        default_profile(frozenset()),
        (socket, 40, stream, 0),
        (socket, 2**32 + 40, stream, 0),
        (socket, 38, 5, 0),
        (socket, 1, 99, 0),
        (personality, 0xFFFFFFFF),
        (personality, 0x0040000),
    )
    assert found == [EPERM, EPERM, EPERM, EINVAL, 0, EPERM]


def test_ordinary_programs_start_threads_and_children() -> None:
    done = run(PROGRAMS, default_profile(frozenset()))
    assert (done.returncode, done.stdout.split()) == (0, ["thread", "Linux"]), done.stderr


def test_every_comparison_agrees_with_the_kernel_on_64_bits() -> None:
    """getpid ignores its arguments, so only the filter looks at them."""
    getpid = SYSCALLS["x86_64"]["getpid"]
    pivot = 2**32 + 5
    values = (0, 4, 5, 6, 2**32 + 4, pivot, 2**32 + 6, 2**33 + 4, 2**64 - 1)
    for operation, holds in (
        ("EQ", lambda v: v == pivot),
        ("NE", lambda v: v != pivot),
        ("LT", lambda v: v < pivot),
        ("LE", lambda v: v <= pivot),
        ("GT", lambda v: v > pivot),
        ("GE", lambda v: v >= pivot),
    ):
        argument = SeccompArg(0, pivot, f"SCMP_CMP_{operation}")
        rule = SyscallRule(("getpid",), "SCMP_ACT_ERRNO", EINVAL, (argument,))
        found = errnos(Seccomp("SCMP_ACT_ALLOW", syscalls=(rule,)), *((getpid, v) for v in values))
        assert found == [EINVAL if holds(v) else 0 for v in values], operation


def test_kill_kills() -> None:
    profile = Seccomp(
        "SCMP_ACT_ALLOW", syscalls=(SyscallRule(("getpgrp",), "SCMP_ACT_KILL_PROCESS"),)
    )
    done = run(CALLS, profile, json.dumps(numbers("getpgrp")))
    assert done.returncode == -signal.SIGSYS


def has_i386() -> bool:
    script = "import ctypes, json, sys" + I386
    done = subprocess.run([sys.executable, "-c", script, "", "[[20, 0]]"], capture_output=True)
    return done.returncode == 0 and json.loads(done.stdout)[0] > 0


def test_32_bit_calls_have_their_own_numbers() -> None:
    if not has_i386():
        cannot("this kernel runs no 32-bit calls")
    numbers_32 = SYSCALLS["x86"]
    calls = [[numbers_32[name], 0] for name in ("getpid", "unshare", "clone3")]
    with_32 = run(I386, default_profile(frozenset()), json.dumps(calls))
    pid, unshare, clone3 = json.loads(with_32.stdout)
    assert (pid > 0, unshare, clone3) == (True, -EPERM, -ENOSYS)
    without = run(I386, default_profile(frozenset(), compat=False), json.dumps(calls))
    assert json.loads(without.stdout) == [-ENOSYS] * 3


@pytest.mark.parametrize("abi", ["x86_64", "x86", "x32"])
def test_every_call_that_is_refused_is_refused_to_root_by_the_kernel(
    tmp_path: Path, abi: str
) -> None:
    """Made for real, by root with all capabilities: only the filter says no."""
    if abi == "x86" and not has_i386():
        cannot("this kernel runs no 32-bit calls")
    profile = default_profile(frozenset())
    program = compile_profile(profile)
    table = {**SYSCALLS["x86" if abi == "x86" else "x86_64"]}
    # The kernel's own trampolines, which Linux lets past every filter, and kills others for.
    table.pop("uretprobe", None)
    table.pop("uprobe", None)
    bit = X32_BIT if abi == "x32" else 0
    arch = 0x40000003 if abi == "x86" else 0xC000003E
    ones = (2**32 - 1 if abi == "x86" else 2**64 - 1,) * 6
    refused = [n for n in table.values() if simulate(program, arch, n | bit, ones) != ALLOW]
    path = write_calls(tmp_path / abi, refused, abi=abi)
    done = subprocess.run(
        [sys.executable, "-c", LOADED + EXECUTE, program.hex(), str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=30,
        check=True,
    )
    names = {number: name for name, number in table.items()}
    found = dict(zip((names[n] for n in refused), results(done.stdout), strict=True))
    assert len(found) > 60
    assert {name: code for name, code in found.items() if code not in (-EPERM, -ENOSYS)} == {}


def test_binding_reports_a_program_the_kernel_does_not_take() -> None:
    done = run("", Seccomp("SCMP_ACT_ALLOW"))
    assert done.returncode == 0, done.stderr
    broken = subprocess.run(
        [sys.executable, "-c", LOADED, "00" * 8],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "seccomp(2): Invalid argument [EINVAL]" in broken.stderr
