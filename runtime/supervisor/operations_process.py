"""Operations that shape the process itself, up to exec; see `runtime.kernel.program`."""

import errno
import os
import resource
from collections.abc import Callable
from contextlib import suppress

from runtime.errors import ContainerError, KernelError, LaunchError
from runtime.kernel import process
from runtime.kernel.bare import signal
from runtime.kernel.capability import host_bounding, to_names
from runtime.kernel.interface import set_loopback_up
from runtime.kernel.namespaces import CLONE_NEWPID, CLONE_PARENT, clone3, unshare
from runtime.kernel.namespaces import setns as kernel_setns
from runtime.kernel.procfs import start_ticks
from runtime.kernel.program import RLIMITS
from runtime.kernel.terminal import take_terminal
from runtime.rootfs.resolve import open_folder, open_in_root
from runtime.supervisor import child_init
from runtime.supervisor.child import Child, environment
from runtime.supervisor.executable import execution_error, find_program, foreign_machine


def join(child: Child, path: str) -> None:
    """Move this thread into a cgroup."""
    _write(path, b"0")


def setns(child: Child, path: str, flag: int) -> None:
    """Enter the namespace pinned at *path*."""
    fd = os.open(path, os.O_RDONLY)
    try:
        kernel_setns(fd, flag)
    except KernelError as error:
        error.detail = path
        raise
    finally:
        os.close(fd)


def enter(child: Child, flags: int) -> None:
    """Enter the target's namespaces; its root is in view from here on."""
    kernel_setns(child.target, flags)
    child.root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY)


def read_environment(child: Child, path: str) -> None:
    """Read variables that must not stand in a program, which is stored: ``NAME=value``, NUL."""
    with open(path, "rb") as file:
        items = file.read().split(b"\0")
    child.more_environment = environment(tuple(os.fsdecode(item) for item in items))


def unshare_namespaces(child: Child, flags: int) -> None:
    """Leave namespaces for new ones."""
    unshare(flags)


def among(_child: Child, folder: str) -> None:
    """Have children from now on in the pid namespace of the container with that run *folder*.

    Looked up at each launch, as it is another one whenever that container is started anew.

    Raises:
        ContainerError: it does not run.
    """
    from runtime.supervisor.status import read_recorded  # the supervisor has it; it is big

    known = read_recorded(folder)
    if known is not None and known.state == "running":
        with suppress(FileNotFoundError):
            fd = os.open(f"/proc/{known.pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            # Asked afterwards: then that pid was not somebody else's by now before.
            if start_ticks(known.pid) == known.start_time:
                kernel_setns(fd, CLONE_NEWPID)
                os.close(fd)
                return
    name = os.path.basename(folder)
    raise ContainerError(f"container {name}, among whose processes it is to be, does not run")


def oom_score_adj(child: Child, score: int) -> None:
    """Make this process a likelier or unlikelier victim of the OOM killer."""
    try:
        _write("/proc/self/oom_score_adj", str(score).encode())
    except PermissionError:
        child.warn(f"oomScoreAdj {score} needs CAP_SYS_RESOURCE, which this host's root lacks")


def loopback(child: Child) -> None:
    """Set the loopback interface of a fresh network namespace up."""
    set_loopback_up()


def hostname(child: Child, name: str) -> None:
    """Name the UTS namespace."""
    process.sethostname(name)


def rlimit(child: Child, number: int, soft: int, hard: int) -> None:
    """Set a resource limit, as far as this host's root may."""
    wanted = (_limit(soft), _limit(hard))
    try:
        resource.setrlimit(number, wanted)
    except (ValueError, PermissionError):
        # CPython turns EPERM into ValueError. No CAP_SYS_RESOURCE: our own hard limit is the most.
        most = resource.getrlimit(number)[1]
        lowered = (_lower(wanted[0], most), _lower(wanted[1], most))
        resource.setrlimit(number, lowered)
        child.warn(f"{RLIMITS[number]} {soft}:{hard} is more than this host's root may set, {most}")


def _limit(value: int) -> int:
    return resource.RLIM_INFINITY if value >= 2**64 - 1 or value < 0 else value


def _lower(value: int, most: int) -> int:
    if resource.RLIM_INFINITY in (value, most):
        return most if value == resource.RLIM_INFINITY else value
    return min(value, most)


def workdir(child: Child, path: str, make: bool) -> None:
    """Change to *path*, never through a magic link (CVE-2024-21626)."""
    try:
        if make:
            fd = open_folder(child.root_fd, path)
        else:
            fd = open_in_root(child.root_fd, path, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        text = f"working directory {path}: {os.strerror(error.errno or 0).lower()}"
        raise LaunchError(text, exit_code=126) from error
    os.fchdir(fd)
    os.close(fd)


def personality(child: Child, persona: int) -> None:
    """Set the execution domain, which system calls the program takes itself to have."""
    process.personality(persona)


def umask(child: Child, mode: int) -> None:
    """Set the file mode creation mask."""
    os.umask(mode)


def bounding(child: Child, mask: int) -> None:
    """Drop what no program started from here may ever have."""
    host = host_bounding()
    for number in range(host.bit_length()):
        if host >> number & 1 and not mask >> number & 1:
            process.prctl(process.PR_CAPBSET_DROP, number)
    if mask & ~host:
        names = ", ".join(to_names(mask & ~host))
        child.warn(f"this host's root does not have, and so cannot give: {names}")


def user(child: Child, uid: int, gid: int, gids: tuple[int, ...]) -> None:
    """Become the user, keeping for a moment what `capabilities` is to choose from."""
    process.prctl(process.PR_SET_KEEPCAPS, 1)
    os.setgroups(gids)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    process.prctl(process.PR_SET_KEEPCAPS, 0)
    # The kernel has set it to fs.suid_dumpable.
    process.prctl(process.PR_SET_DUMPABLE, 0)


def capabilities(
    child: Child, effective: int, permitted: int, inheritable: int, ambient: int
) -> None:
    """Keep these capabilities only, as far as there are any to keep."""
    host = host_bounding()
    process.prctl(process.PR_CAP_AMBIENT, process.PR_CAP_AMBIENT_CLEAR_ALL)
    process.capset(effective & permitted & host, permitted & host, inheritable & host)
    raised = ambient & permitted & inheritable & host
    for number in range(raised.bit_length()):
        if raised >> number & 1:
            process.prctl(process.PR_CAP_AMBIENT, process.PR_CAP_AMBIENT_RAISE, number)


def no_new_privs(child: Child) -> None:
    """Make set-user-id programs and file capabilities ineffective from here on."""
    process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)


def fork(child: Child) -> None:
    """Go on in a sibling, which is the parent's child too, and in the new pid namespace.

    It announces itself, by the credentials of its message: had the one that dies here to do it,
    the parent might kill that one just before, and never hear of the other. That one tells too: the
    end of its pid namespace may kill the sibling before it has said anything, and waits until the
    parent has collected it.
    """
    pid, _ = clone3(CLONE_PARENT)
    if pid:
        child.send({"sibling": pid})
        os._exit(0)
    child.send({"forked": True})
    child.await_parent()


def session(child: Child, take: bool) -> None:
    """Leave the supervisor's session and process group: kill(0, ...) must not reach it."""
    os.setsid()
    if take:
        take_terminal(0)


def find(child: Child, name: str, folders: tuple[str, ...]) -> None:
    """Find the program while errors can still be explained; report that we are through."""
    child.program = find_program(name, folders)
    child.send({"ready": child.program})


def seccomp(child: Child, program: str, flags: int) -> None:
    """Load the system call filter."""
    process.seccomp(process.SECCOMP_SET_MODE_FILTER, flags, bytes.fromhex(program))


def execute(child: Child, arguments: tuple[str, ...], env: tuple[str, ...]) -> None:
    """Become the program."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _execute(child.program, arguments, environment(env) | child.more_environment)


def execute_below_init(child: Child, arguments: tuple[str, ...], env: tuple[str, ...]) -> None:
    """Become the init, whose child is the program."""
    if child.init_fd < 0:
        child_init.fork_below_init(child.channel)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _execute(child.program, arguments, environment(env) | child.more_environment)
    # Descriptor 3 is the init's report channel, see runtime.kernel.init_elf.
    os.dup2(child.channel.fileno(), 3)
    variables = environment(env) | child.more_environment
    os.execve(child.init_fd, ("init", child.program, *arguments), variables)


def _execute(program: str, arguments: tuple[str, ...], env: dict[str, str]) -> None:
    try:
        os.execve(program, arguments, env)
    except OSError as error:
        machine = foreign_machine(program) if error.errno == errno.ENOEXEC else None
        raise execution_error(program, error.errno or errno.EIO, machine=machine) from error


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


OPERATIONS: dict[str, Callable[..., None]] = {
    "join": join,
    "setns": setns,
    "enter": enter,
    "among": among,
    "environment": read_environment,
    "unshare": unshare_namespaces,
    "oom_score_adj": oom_score_adj,
    "loopback": loopback,
    "hostname": hostname,
    "rlimit": rlimit,
    "workdir": workdir,
    "personality": personality,
    "umask": umask,
    "bounding": bounding,
    "user": user,
    "capabilities": capabilities,
    "no_new_privs": no_new_privs,
    "fork": fork,
    "session": session,
    "find": find,
    "seccomp": seccomp,
    "exec": execute,
    "init": execute_below_init,
}
