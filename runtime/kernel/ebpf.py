"""Programs that decide on device access in a version 2 cgroup: bpf(2), BPF_PROG_TYPE_CGROUP_DEVICE.

Source: bpf(2), linux/bpf.h, Documentation/bpf/standardization/instruction-set.rst; kernel/cgroup.c
for what several programs on one group come to (each must allow).
"""

import os
import struct
from errno import ENOENT

from runtime.errors import KernelError, UnsupportedHostError
from runtime.kernel.libc import addressof, bind_number, c_long, c_uint, c_void_p, check, room

LDX_W = 0x61
"""Load a word: *dst* = the 32 bits at *src* + *off*."""
MOV_X = 0xBF
MOV_K = 0xB7
AND_K = 0x57
RSH_K = 0x77
JNE_K = 0x55
JEQ_K = 0x15
EXIT = 0x95

_PROG_LOAD = 5
_PROG_ATTACH = 8
_PROG_DETACH = 9
_PROG_GET_FD_BY_ID = 13
_OBJ_GET_INFO_BY_FD = 15
_PROG_QUERY = 16
_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
_ALLOW_MULTI = 1 << 1
_REPLACE = 1 << 2

_NUMBER = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
_ATTRIBUTE_BYTES = 144
_INFO_BYTES = 96
_NAME_AT, _NAME_BYTES = 64, 16  # in struct bpf_prog_info
_COUNT_AT = 24  # of programs, in the attributes of a query
_MOST = 64  # the kernel attaches no more to one group


def instruction(code: int, *, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    """Return one struct bpf_insn."""
    return struct.pack("=BBhi", code, src << 4 | dst, off, imm)


def load(code: bytes, name: str) -> int:
    """Load a device program and return its descriptor, close-on-exec; the caller's.

    *name* is of at most 15 letters, digits, ``_`` and ``.``.

    Raises:
        KernelError: EPERM (CAP_BPF or CAP_SYS_ADMIN), EINVAL or EACCES: the verifier refuses it.
    """
    instructions, no_license = room(len(code), code), room(1)
    attributes = struct.pack(
        "=IIQQIIQII16s",
        _TYPE_CGROUP_DEVICE,
        len(code) // 8,
        addressof(instructions),
        addressof(no_license),
        *(0, 0, 0, 0, 0),
        name.encode(),
    )
    return _bpf(_PROG_LOAD, attributes, name)[0]


def attach(group: int, program: int, *, instead_of: int = -1) -> None:
    """Have *program* decide for the v2 cgroup *group* as well, or *instead_of* another, at once."""
    flags = _ALLOW_MULTI | (_REPLACE if instead_of >= 0 else 0)
    attributes = (group, program, _ATTACH_CGROUP_DEVICE, flags, max(instead_of, 0))
    _bpf(_PROG_ATTACH, struct.pack("=5I", *attributes), "a device program")


def detach(group: int, program: int) -> None:
    """Have *program* decide no more for *group*; ENOENT if it does not."""
    attributes = struct.pack("=3I", group, program, _ATTACH_CGROUP_DEVICE)
    _bpf(_PROG_DETACH, attributes, "a device program")


def attached(group: int) -> dict[int, str]:
    """Return the programs of *group* itself, not those it inherits: id -> name, in order."""
    ids = (c_uint * _MOST)()
    attributes = struct.pack("=IIIIQI", group, _ATTACH_CGROUP_DEVICE, 0, 0, addressof(ids), _MOST)
    _, raw = _bpf(_PROG_QUERY, attributes, "device programs")
    (count,) = struct.unpack_from("=I", raw, _COUNT_AT)
    found = {}
    for number in ids[:count]:
        program = open_program(number)
        if program >= 0:
            try:
                found[number] = _name(program)
            finally:
                os.close(program)
    return found


def open_program(number: int) -> int:
    """Return a descriptor of the program with that id, the caller's; -1 if it is gone."""
    try:
        return _bpf(_PROG_GET_FD_BY_ID, struct.pack("=I", number), f"program {number}")[0]
    except KernelError as error:
        if error.errno != ENOENT:
            raise
        return -1


def _name(program: int) -> str:
    info = room(_INFO_BYTES)
    attributes = struct.pack("=IIQ", program, _INFO_BYTES, addressof(info))
    _bpf(_OBJ_GET_INFO_BY_FD, attributes, "a device program")
    return info.raw[_NAME_AT : _NAME_AT + _NAME_BYTES].rstrip(b"\0").decode()


def _bpf(command: int, attributes: bytes, what: str) -> tuple[int, bytes]:
    """Make the call; return its result and the attributes as the kernel left them."""
    machine = os.uname().machine
    if machine not in _NUMBER:
        raise UnsupportedHostError(f"the number of bpf(2) on {machine} is not known")
    buffer = room(_ATTRIBUTE_BYTES, attributes)
    call = bind_number(_NUMBER[machine], c_long, c_void_p, c_long)
    result = check(call(command, addressof(buffer), _ATTRIBUTE_BYTES), "bpf", what)
    return result, buffer.raw
