"""The three streams every program may count on."""

import os
import sys


def open_standard_streams() -> None:
    """Put /dev/null where the caller closed a standard stream (``>&-``).

    No file opened later may get its number: it would be written to as if it were that stream, or
    be handed to a container as one of its own.
    """
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != fd:
                os.dup2(nowhere, fd)
                os.close(nowhere)
            os.set_inheritable(fd, True)
            setattr(sys, name, os.fdopen(fd, "r" if fd == 0 else "w"))
