"""Device rules on v2: no file, but a program attached to the group. Made on demand.

A program's name tells what it does (a checksum of its code), so that what is attached can be
compared with what should be, and one is exchanged for another in one step. Programs others have
attached (systemd, for ``DevicePolicy=``) are left alone: each that is there must allow.

Source: Documentation/admin-guide/cgroup-v2.rst, "Device controller"; struct bpf_cgroup_dev_ctx in
linux/bpf.h.
"""

import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from runtime.cgroup.controller import Controller, refusal
from runtime.cgroup.devices import Device, Verdict, entry, verdict
from runtime.cgroup.setting import Setting
from runtime.errors import KernelError
from runtime.kernel import ebpf
from runtime.kernel.ebpf import instruction
from runtime.spec import Resources

_ALL, _NONE = "all allowed", "none allowed"
_PREFIX = "bayplan"
_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_RESULT, _CONTEXT, _TYPE, _WANTED, _MAJOR, _MINOR, _SCRATCH = range(7)
"""Registers; r1 comes with the context, r0 goes with the result."""


def settings(resources: Resources) -> tuple[Setting, ...]:
    """Return the one setting; without rules everything is allowed."""
    value = _text(verdict(resources.devices))
    return (Setting("devices", "(device program)", value, default=_ALL, same=_same),)


def _text(found: Verdict) -> str:
    exceptions = sorted(entry(*each) for each in found.exceptions.items())
    return "\n".join([_ALL if found.allow else _NONE, *exceptions])


def _parsed(text: str) -> Verdict:
    head, *exceptions = text.split("\n")
    found = {}
    for each in exceptions:
        kind, numbers, access = each.split(" ")
        major, _, minor = numbers.partition(":")
        found[kind, major, minor] = access
    return Verdict(head == _ALL, found)


def _same(expected: str, actual: str) -> bool:
    return actual == (
        expected if expected == _ALL else program_name(compile_program(_parsed(expected)))
    )


def program_name(code: bytes) -> str:
    """Return what a program of ours is called."""
    return f"{_PREFIX}{zlib.crc32(code):08x}"  # fills the 15 bytes a name may have


def compile_program(found: Verdict) -> bytes:
    """Return a program that returns 1 where *found* allows an access, else 0."""
    code = [
        instruction(ebpf.LDX_W, dst=_TYPE, src=_CONTEXT, off=0),
        instruction(ebpf.MOV_X, dst=_WANTED, src=_TYPE),
        instruction(ebpf.AND_K, dst=_TYPE, imm=0xFFFF),
        instruction(ebpf.RSH_K, dst=_WANTED, imm=16),
        instruction(ebpf.LDX_W, dst=_MAJOR, src=_CONTEXT, off=4),
        instruction(ebpf.LDX_W, dst=_MINOR, src=_CONTEXT, off=8),
    ]
    for device, access in sorted(found.exceptions.items()):
        code += _exception(device, access, allow=not found.allow)
    return b"".join([*code, *_return(allow=found.allow)])


def _exception(device: Device, access: str, *, allow: bool) -> list[bytes]:
    """Return code that returns if it is about *device*, and falls through if it is not."""
    kind, major, minor = device
    mask = sum(_ACCESS[letter] for letter in access)
    # Allowed is what asks for nothing else; denied what asks for any of it.
    rest = 7 & ~mask if allow else mask
    unless = ebpf.JNE_K if allow else ebpf.JEQ_K
    tests = [(ebpf.JNE_K, _TYPE, _TYPES[kind])]
    tests += [(ebpf.JNE_K, _MAJOR, int(major))] if major != "*" else []
    tests += [(ebpf.JNE_K, _MINOR, int(minor))] if minor != "*" else []
    body = [
        instruction(ebpf.MOV_X, dst=_SCRATCH, src=_WANTED),
        instruction(ebpf.AND_K, dst=_SCRATCH, imm=rest),
        instruction(unless, dst=_SCRATCH, off=2, imm=0),
        *_return(allow=allow),
    ]
    code: list[bytes] = []
    for jump, register, value in reversed(tests):
        code.insert(0, instruction(jump, dst=register, off=len(code) + len(body), imm=value))
    return [*code, *body]


def _return(*, allow: bool) -> list[bytes]:
    return [instruction(ebpf.MOV_K, dst=_RESULT, imm=int(allow)), instruction(ebpf.EXIT)]


def read(folder: str, _setting: Setting) -> str | None:
    """Return the names of our programs on a group; None if there is no group."""
    try:
        with _opened(folder) as group:
            return ", ".join(_ours(group).values()) or _ALL
    except FileNotFoundError:
        return None


def apply(folder: str, wanted: tuple[Setting, ...], *, fresh: bool) -> list[Setting]:
    """Have the wanted program decide, in place of ours that is there."""
    (setting,) = wanted
    if fresh and setting.is_default:
        return []
    with _opened(folder) as group:
        try:
            _exchange(group, _ours(group), setting.value)
        except KernelError as error:
            raise refusal(setting, error) from error
    return []


def _exchange(group: int, present: dict[int, str], wanted: str) -> None:
    if _same(wanted, ", ".join(present.values()) or _ALL):
        return
    with ExitStack() as opened:
        former = [fd for fd in map(ebpf.open_program, present) if fd >= 0]
        for fd in former:
            opened.callback(os.close, fd)
        if wanted != _ALL:
            code = compile_program(_parsed(wanted))
            program = ebpf.load(code, program_name(code))
            opened.callback(os.close, program)
            ebpf.attach(group, program, instead_of=former.pop() if former else -1)
        for fd in former:
            ebpf.detach(group, fd)


def _ours(group: int) -> dict[int, str]:
    found = ebpf.attached(group)
    return {number: name for number, name in found.items() if name.startswith(_PREFIX)}


@contextmanager
def _opened(folder: str) -> Iterator[int]:
    group = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield group
    finally:
        os.close(group)


DEVICES = Controller(
    name="devices",
    settings=settings,
    wanted=lambda resources: bool(resources.devices),
    apply=apply,
    read=read,
    built_in=True,
)
