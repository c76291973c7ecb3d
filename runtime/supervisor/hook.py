"""Running one hook of an OCI spec.

Source: OCI runtime-spec config.md (POSIX-platform hooks). What it writes goes nowhere, but its
last words are in the error if it fails.
"""

import os
from collections.abc import Callable, Mapping, Sequence

from runtime.errors import LaunchError
from runtime.kernel.bare import signal
from runtime.kernel.readable import Wait, wait_readable

_SHOWN_BYTES = 400


def run_hook(
    path: str,
    args: Sequence[str],
    env: Mapping[str, str],
    state: bytes,
    *,
    timeout_s: float | None = None,
    began: Callable[[int], None] | None = None,
    wait: Wait | None = None,
) -> None:
    """Run the program at *path* with the container's *state* on its standard input.

    *began* is told its pid while it runs; should that raise, or the *wait* for its end, it is
    killed.

    Raises:
        LaunchError: it does not exist, fails, or is killed after *timeout_s*.
    """
    # Files rather than pipes: it need not read its state, and nobody has to read along.
    given, said = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("state", "output"))
    try:
        os.write(given, state)
        os.lseek(given, 0, os.SEEK_SET)
        pid = os.posix_spawn(
            path,
            tuple(args) or (path,),
            env,
            file_actions=(
                (os.POSIX_SPAWN_DUP2, given, 0),
                (os.POSIX_SPAWN_DUP2, said, 1),
                (os.POSIX_SPAWN_DUP2, said, 2),
            ),
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # which Python ignores
        )
        try:
            if began is not None:
                began(pid)
            status = _wait(pid, timeout_s, wait)
        except BaseException:
            _kill(pid)
            raise
        if status is None:
            raise LaunchError(f"hook {path} did not end within {timeout_s:g} s")
        if status:
            code = os.waitstatus_to_exitcode(status)
            how = f"failed with {code}" if code > 0 else f"was killed by signal {-code}"
            raise LaunchError(f"hook {path} {how}{_last_words(said)}")
    except OSError as error:
        raise LaunchError(f"hook {path}: {error.strerror}") from error
    finally:
        os.close(given)
        os.close(said)


def _wait(pid: int, timeout_s: float | None, wait: Wait | None) -> int | None:
    """Return the wait status, or None if it had to be killed."""
    # No call more than needed: the system call filter of a container may be in force already.
    if timeout_s is not None or wait is not None:
        pidfd = os.pidfd_open(pid)
        try:
            if not (wait or wait_readable)(pidfd, timeout_s):
                _kill(pid)
                return None
        finally:
            os.close(pidfd)
    return os.waitpid(pid, 0)[1]


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _last_words(output: int) -> str:
    size = os.fstat(output).st_size
    text = os.pread(output, _SHOWN_BYTES, max(0, size - _SHOWN_BYTES)).decode(errors="replace")
    return f": {text.strip()}" if text.strip() else ""
