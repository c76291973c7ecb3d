"""Pseudo-terminals of a devpts instance that is not the host's.

Source: ioctl_tty(2), pts(4); numbers from asm-generic/ioctls.h (x86, arm, riscv).
"""

import errno
import fcntl
import os
import stat
import struct

from runtime.errors import KernelError
from runtime.kernel.path import RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS, openat2

TIOCSCTTY = 0x540E
TIOCSWINSZ = 0x5414
TIOCSPTLCK = 0x40045431
TIOCGPTPEER = 0x5441
PTMX = os.makedev(5, 2)


def open_terminal(root_fd: int) -> tuple[int, int]:
    """Return (master, slave) of a new terminal of the devpts at dev/pts below *root_fd*.

    Both close on exec; the caller closes them. Nothing is looked up by a name that somebody in
    the container may change in between.

    Raises:
        KernelError: ENODEV: what is there is no devpts.
    """
    flags = os.O_RDWR | os.O_NOCTTY
    inside = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS
    probe = openat2(root_fd, "dev/pts/ptmx", os.O_PATH | os.O_NOFOLLOW, resolve=inside)
    try:
        status = os.fstat(probe)
    finally:
        os.close(probe)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != PTMX:
        raise KernelError(errno.ENODEV, "openat2", "/dev/pts/ptmx")
    master = openat2(root_fd, "dev/pts/ptmx", flags, resolve=inside)
    try:
        fcntl.ioctl(master, TIOCSPTLCK, struct.pack("=i", 0))
        return master, fcntl.ioctl(master, TIOCGPTPEER, flags | os.O_CLOEXEC)
    except BaseException:
        os.close(master)
        raise


def take_terminal(fd: int) -> None:
    """Make *fd* the controlling terminal of this session, whose leader calls this."""
    fcntl.ioctl(fd, TIOCSCTTY, 0)


def resize_terminal(fd: int, *, rows: int, columns: int) -> None:
    """Set the window size; the foreground process group gets SIGWINCH."""
    fcntl.ioctl(fd, TIOCSWINSZ, struct.pack("=4H", rows, columns, 0, 0))


def is_master(fd: int) -> bool:
    """Tell whether *fd* is a terminal's master, without asking whoever serves it if it is not.

    An ioctl(2), and fstat(2) too, wait for the process behind a file of FUSE; proc(5), fdinfo.
    """
    with open(f"/proc/self/fdinfo/{fd}", "rb", buffering=0) as file:
        return b"\ntty-index:" in file.read()
