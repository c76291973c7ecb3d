"""What the kernel makes of a classic BPF program, in Python."""

import struct

from runtime.kernel import bpf


def simulate(program: bytes, arch: int, nr: int, args: tuple[int, ...] = ()) -> int:
    """Run a classic BPF program as the kernel does and return its verdict."""
    args = (*args, *(0,) * (6 - len(args)))
    data = struct.pack("<IIQ6Q", nr & 0xFFFFFFFF, arch, 0, *args)
    code = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    accumulator = at = 0
    while True:
        operation, jt, jf, k = code[at]
        at += 1
        match operation:
            case bpf.LD_W_ABS:
                (accumulator,) = struct.unpack_from("<I", data, k)
            case bpf.ALU_AND_K:
                accumulator &= k
            case bpf.JMP_JA:
                at += k
            case bpf.JMP_JEQ_K:
                at += jt if accumulator == k else jf
            case bpf.JMP_JGT_K:
                at += jt if accumulator > k else jf
            case bpf.JMP_JGE_K:
                at += jt if accumulator >= k else jf
            case bpf.RET_K:
                return int(k)
            case _:
                raise AssertionError(f"unknown instruction {operation:#x}")
