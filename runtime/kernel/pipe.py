"""Pipes: look at what is in one without taking it out.

Source: tee(2). splice(2) is os.splice.
"""

from runtime.kernel.libc import bind, c_int, c_size_t, c_uint, check

SPLICE_F_MOVE = 1
SPLICE_F_NONBLOCK = 2

_tee = bind("tee", c_int, c_int, c_size_t, c_uint)


def tee(fd_in: int, fd_out: int, length: int, flags: int = 0) -> int:
    """Duplicate up to *length* bytes from one pipe into another and return how many.

    Raises:
        KernelError: with EAGAIN, *fd_in* is empty or *fd_out* full (SPLICE_F_NONBLOCK).
    """
    return check(_tee(fd_in, fd_out, length, flags), "tee")
