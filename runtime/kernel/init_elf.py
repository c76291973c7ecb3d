"""A program for process 1 of a container: starts one child, reaps all, forwards signals.

It is 317 bytes of x86-64 machine code with an ELF header before it, because starting any program
of a C library costs a millisecond and a megabyte, per container. The listing below is both its
source and its code: the first column is what the assembler makes of the second, and a test
assembles it anew where there is an assembler.

How it is called: argv is its own name, the path of the program to run, then that program's argv.
Descriptor 3 is the launch's report channel: it is closed by a successful exec of the program, and
gets the errno, four bytes in host order, if that fails. The child leads a session of its own and
takes descriptor 0 as controlling terminal if it is one. When the child ends, init ends with its
exit code, or with 128 plus its signal, and the kernel ends the rest of the namespace.
"""

import os
import struct

from runtime.errors import UnsupportedHostError

NAME = "init"
_LISTING = """
4c8b2424          mov r12, [rsp]              # argc
488b5c2410        mov rbx, [rsp+16]           # argv[1]: path of the program
4c8d6c2418        lea r13, [rsp+24]           # argv + 2: the program's own argv
4e8d74e410        lea r14, [rsp+r12*8+16]     # envp
4883ec20          sub rsp, 32                 # [rsp] signal set, [rsp+8] wait status
b89d000000        mov eax, 157                # prctl(PR_SET_NAME, "init")
bf0f000000        mov edi, 15
488d3510010000    lea rsi, [rip+name]
0f05              syscall
48830c24ff        or qword ptr [rsp], -1      # block every signal, to be told of each by
e8ea000000        call set_mask
b839000000        mov eax, 57                 # fork()
0f05              syscall
85c0              test eax, eax
0f88bb000000      js failed
7472              jz child
89c5              mov ebp, eax
b803000000        mov eax, 3                  # close(3): only the child reports
bf03000000        mov edi, 3
0f05              syscall
await:
b880000000        mov eax, 128                # rt_sigtimedwait(set, NULL, NULL, 8)
4889e7            mov rdi, rsp
31f6              xor esi, esi
31d2              xor edx, edx
41ba08000000      mov r10d, 8
0f05              syscall
83f811            cmp eax, 17                 # SIGCHLD
7411              je reap
85c0              test eax, eax
7ee3              jle await
89c6              mov esi, eax
89ef              mov edi, ebp
b83e000000        mov eax, 62                 # kill(child, signal)
0f05              syscall
ebd6              jmp await
reap:
b83d000000        mov eax, 61                 # wait4(-1, &status, WNOHANG, NULL)
83cfff            or edi, -1
488d742408        lea rsi, [rsp+8]
ba01000000        mov edx, 1
4531d2            xor r10d, r10d
0f05              syscall
85c0              test eax, eax
7ebb              jle await
39e8              cmp eax, ebp
75e1              jne reap
8b7c2408          mov edi, [rsp+8]
89f8              mov eax, edi
c1ef08            shr edi, 8
83e07f            and eax, 127                # ended by a signal: exit with 128 + signal
7406              jz exit
8db880000000      lea edi, [rax+128]
exit:
b8e7000000        mov eax, 231                # exit_group
0f05              syscall
child:
b870000000        mov eax, 112                # setsid()
0f05              syscall
b810000000        mov eax, 16                 # ioctl(0, TIOCSCTTY, 0), in vain without a terminal
31ff              xor edi, edi
be0e540000        mov esi, 0x540e
31d2              xor edx, edx
0f05              syscall
4883242400        and qword ptr [rsp], 0      # every signal gets through again
e846000000        call set_mask
b848000000        mov eax, 72                 # fcntl(3, F_SETFD, FD_CLOEXEC)
bf03000000        mov edi, 3
be02000000        mov esi, 2
ba01000000        mov edx, 1
0f05              syscall
b83b000000        mov eax, 59                 # execve(path, argv + 2, envp)
4889df            mov rdi, rbx
4c89ee            mov rsi, r13
4c89f2            mov rdx, r14
0f05              syscall
failed:
f7d8              neg eax
890424            mov [rsp], eax              # the errno, four bytes,
b801000000        mov eax, 1                  # write(3, ...)
bf03000000        mov edi, 3
4889e6            mov rsi, rsp
ba04000000        mov edx, 4
0f05              syscall
bf7f000000        mov edi, 127
eb92              jmp exit
set_mask:
b80e000000        mov eax, 14                 # rt_sigprocmask(SIG_SETMASK, set, NULL, 8)
bf02000000        mov edi, 2
488d742408        lea rsi, [rsp+8]
31d2              xor edx, edx
41ba08000000      mov r10d, 8
0f05              syscall
c3                ret
name:
696e697400        .asciz "init"
"""
_EM_X86_64 = 62
_ADDRESS = 0x10000
_HEADERS = struct.Struct("<16sHHIQQQIHHHHHH IIQQQQQQ")


def has_init() -> bool:
    """Return whether there is such a program for this machine."""
    return os.uname().machine == "x86_64"


def init_program() -> bytes:
    """Return the program as an ELF file.

    Raises:
        UnsupportedHostError: there is none for this machine.
    """
    if not has_init():
        raise UnsupportedHostError(f"there is no built-in init for {os.uname().machine}")
    code = machine_code()
    size = _HEADERS.size + len(code)
    headers = _HEADERS.pack(
        # ELF header: 64 bit, little endian, static executable; entry; one program header
        *(b"\x7fELF\2\1\1", 2, _EM_X86_64, 1, _ADDRESS + _HEADERS.size, 64, 0),
        *(0, 64, 56, 1, 0, 0, 0),
        # program header: PT_LOAD, read and execute
        *(1, 5, 0, _ADDRESS, _ADDRESS, size, size, 0x1000),
    )
    return headers + code


def machine_code() -> bytes:
    """Return the first column of the listing."""
    return bytes.fromhex("".join(line[:16].rstrip() for line in _instructions()))


def assembly() -> str:
    """Return the second column of the listing, for GNU as."""
    lines = (line if line.endswith(":") else line[18:] for line in _lines())
    return "\n".join((".intel_syntax noprefix", *lines, ""))


def _lines() -> list[str]:
    return _LISTING.strip().splitlines()


def _instructions() -> list[str]:
    return [line for line in _lines() if not line.endswith(":")]
