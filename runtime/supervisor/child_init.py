"""Process 1 of a container in Python, for machines the built-in init has no code for.

Costs some megabytes per container, shared with the supervisor they were forked from. Does the
same as `runtime.kernel.init_elf`, whose docstring describes it.
"""

import contextlib
import os

from runtime.kernel.bare import signal, socket
from runtime.kernel.process import close_range
from runtime.kernel.terminal import take_terminal


def fork_below_init(channel: socket.socket) -> None:
    """Fork; the caller goes on in the child, while the parent is the init and never returns."""
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    pid = os.fork()  # not clone3: the filter is in place already
    if pid == 0:
        os.setsid()
        if os.isatty(0):
            with contextlib.suppress(OSError):
                take_terminal(0)
        return
    close_range(3)
    _reap_and_forward(pid)


def _reap_and_forward(pid: int) -> None:
    everything = signal.valid_signals()
    while True:
        number = signal.sigwaitinfo(everything).si_signo
        if number != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            continue
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == pid:
                    code = os.waitstatus_to_exitcode(ended[1])
                    os._exit(code if code >= 0 else 128 - code)
