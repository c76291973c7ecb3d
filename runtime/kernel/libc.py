"""The C library: how every binding in this package is made, and where errno becomes an error.

The other modules here hold one thin function per system call, named and ordered as in its man
page, grouped by subject: mount, namespaces, process, path. They are cheap to import (ctypes and
nothing else), because the supervisor does. Each call shape gets a function object of its own, so
that no prototype is ever changed under another caller.

All calls release the GIL except those bound with ``keep_gil``, which is for calls that return
twice: a child must not have to take the GIL back from a thread it does not have.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from runtime.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

c_int = ctypes.c_int
c_long = ctypes.c_long
c_uint = ctypes.c_uint
c_ulong = ctypes.c_ulong
c_uint64 = ctypes.c_uint64
c_char_p = ctypes.c_char_p
c_size_t = ctypes.c_size_t
c_void_p = ctypes.c_void_p

Binding = Callable[..., int]

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC_WITH_GIL = ctypes.PyDLL(None, use_errno=True)


def bind(name: str, *argtypes: Any) -> Binding:
    """Return the C library's *name* as a function of *argtypes* that returns an int."""
    function = _LIBC[name]
    function.argtypes = argtypes
    function.restype = c_int
    return function


def bind_number(number: int, *argtypes: Any, keep_gil: bool = False) -> Binding:
    """Return system call *number*, which the C library may have no name for, as a function.

    The arguments must be of register size (c_long, c_ulong, pointers): syscall(2) is variadic.
    """
    function = (_LIBC_WITH_GIL if keep_gil else _LIBC)["syscall"]
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
        raise KernelError(ctypes.get_errno(), syscall, detail)
    return result
