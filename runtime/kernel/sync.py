"""What was written to a file system is made to survive a loss of power.

Source: syncfs(2). Of one file or folder see runtime.kernel.replace.
"""

from runtime.kernel.libc import bind, c_int, check

_syncfs = bind("syncfs", c_int)


def syncfs(fd: int) -> None:
    """Write out all that waits to be written to the file system *fd* is on.

    Raises:
        KernelError: something could not be written (Linux 5.8); before, nobody says so.
    """
    check(_syncfs(fd), "syncfs", f"fd {fd}")
