"""The C library: how every binding in this package is made, and where errno becomes an error.

The other modules here hold one thin function per system call, named and ordered as in its man
page, grouped by subject: mount, namespaces, process, path. Each call shape gets a function object
of its own, so that no prototype is ever changed under another caller.

ctypes is here without its Python half, which takes longer to import than all of them, for what
starts anew at each command (as in `runtime.kernel.bare`).

All calls release the GIL except those bound with ``keep_gil``, which is for calls that return
twice: a child must not have to take the GIL back from a thread it does not have.
"""

from __future__ import annotations

from _ctypes import (
    FUNCFLAG_CDECL,
    FUNCFLAG_PYTHONAPI,
    FUNCFLAG_USE_ERRNO,
    CFuncPtr,
    Structure,
    addressof,
    dlopen,
    dlsym,
    get_errno,
    set_errno,
    sizeof,
)

from runtime.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from ctypes import (
        Array,
        c_char,
        c_char_p,
        c_int,
        c_long,
        c_size_t,
        c_uint,
        c_uint64,
        c_ulong,
        c_ushort,
        c_void_p,
    )
    from typing import Any

    Binding = Callable[..., int]
else:
    from _ctypes import _SimpleCData

    c_char, c_char_p, c_int, c_long, c_uint, c_uint64, c_ulong, c_ushort, c_void_p = (
        type(f"c_{code}", (_SimpleCData,), {"_type_": code}) for code in "czilIQLHP"
    )
    c_size_t = c_ulong

__all__ = [
    "Structure",
    "addressof",
    "bind",
    "bind_number",
    "c_char",
    "c_char_p",
    "c_int",
    "c_long",
    "c_size_t",
    "c_uint",
    "c_uint64",
    "c_ulong",
    "c_ushort",
    "c_void_p",
    "check",
    "get_errno",
    "room",
    "set_errno",
    "sizeof",
]

_LIBC = dlopen(None, 0)  # type: ignore[arg-type] # dlopen(3) takes NULL: this program itself


class _Function(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO


class _FunctionWithGil(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO | FUNCFLAG_PYTHONAPI


def bind(name: str, *argtypes: Any) -> Binding:
    """Return the C library's *name* as a function of *argtypes* that returns an int."""
    function = _Function(dlsym(_LIBC, name))
    function.argtypes = argtypes
    function.restype = c_int
    return function


def bind_number(number: int, *argtypes: Any, keep_gil: bool = False) -> Binding:
    """Return system call *number*, which the C library may have no name for, as a function.

    The arguments must be of register size (c_long, c_ulong, pointers): syscall(2) is variadic.
    """
    function = (_FunctionWithGil if keep_gil else _Function)(dlsym(_LIBC, "syscall"))
    function.argtypes = (c_long, *argtypes)
    function.restype = c_long

    def call(*arguments: Any) -> int:
        result: int = function(number, *arguments)
        return result

    return call


def check(result: int, syscall: str, detail: str = "") -> int:
    """Return *result*, or raise the error that the last call of this thread left behind.

    Raises:
        KernelError: *result* is -1.
    """
    if result == -1:
        raise KernelError(get_errno(), syscall, detail)
    return result


def room(size: int, content: bytes = b"") -> Array[c_char]:
    """Return *size* bytes of memory, the first of which are *content*; an array of c_char."""
    memory = (c_char * size)()
    memory.raw = content.ljust(size, b"\0")
    return memory
