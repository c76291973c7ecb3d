"""Linux security modules: whether they are there, and what a process asks of them for itself.

A thread writes into files of its own in /proc/self/attr; what is written to ``exec`` holds from
the next exec on.

Source: proc_pid_attr(5); security/apparmor/procattr.c, security/selinux/hooks.c.
"""

import os

APPARMOR = "apparmor"
SELINUX = "selinux"


def is_enabled(module: str) -> bool:
    """Tell whether the running kernel has *module*, and has it switched on."""
    if module == SELINUX:
        return os.path.exists("/sys/fs/selinux/enforce")
    try:
        with open("/sys/module/apparmor/parameters/enabled", encoding="ascii") as file:
            return file.read().strip() == "Y"
    except FileNotFoundError:
        return False


def set_exec(proc: int, module: str, label: str) -> None:
    """Have the next exec of this thread change to *label*; *proc* is a folder of procfs.

    Raises:
        OSError: there is no such profile (ENOENT), or no way to it from here (EACCES, EPERM).
    """
    # Each module has files of its own where several are stacked; else the first owns the file.
    own = f"thread-self/attr/{module}/exec"
    flags = os.O_WRONLY | os.O_CLOEXEC
    try:
        fd = os.open(own, flags, dir_fd=proc)
    except FileNotFoundError:
        fd = os.open("thread-self/attr/exec", flags, dir_fd=proc)
    try:
        os.write(fd, (f"exec {label}" if module == APPARMOR else label).encode())
    finally:
        os.close(fd)
