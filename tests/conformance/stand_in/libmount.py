"""The part of util-linux's module libmount that crun's tests use; Debian does not pack it."""

from pathlib import Path


class Filesystem:
    """One mount: options of the mount point, and of what is mounted."""

    def __init__(self, vfs_options: str, fs_options: str) -> None:
        self.vfs_options = vfs_options
        self.fs_options = fs_options


class Table:
    """The mounts in a file of the form of /proc/self/mountinfo, proc_pid_mountinfo(5)."""

    def __init__(self, path: str) -> None:
        self._lines = Path(path).read_text().splitlines()

    def find_target(self, target: str) -> Filesystem:
        """Return what was mounted last at *target*; KeyError if nothing is."""
        for line in reversed(self._lines):
            before, _, after = line.partition(" - ")
            fields = before.split()
            if fields[4] == target:
                return Filesystem(fields[5], after.split()[2])
        raise KeyError(target)
