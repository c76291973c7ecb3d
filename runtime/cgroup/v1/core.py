"""What is done to v1 groups that sets no limit: freezing, and giving back what is charged.

Source: Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst, memory.rst.
"""

from errno import EBUSY

from runtime.cgroup import files
from runtime.errors import KernelError


def freeze(folder: str) -> None:
    """Ask for the group to be frozen; ask again until ``is_frozen``."""
    files.write(f"{folder}/freezer.state", "FROZEN")


def thaw(folder: str) -> None:
    """Let the members go on."""
    files.write(f"{folder}/freezer.state", "THAWED")


def is_frozen(folder: str) -> bool:
    """Tell whether all members stand still; ``FREEZING`` means that some do not yet."""
    return files.read_if_there(f"{folder}/freezer.state") == "FROZEN"


def drop_cache(folder: str) -> None:
    """Give back the pages of a group without members, so that removing it leaves no zombie.

    Without it the kernel keeps the group's structures until the last page cache page charged to
    it is gone. Does nothing where there are members or no such group (any more).
    """
    try:
        files.write(f"{folder}/memory.force_empty", "0")
    except KernelError as error:
        if error.errno != EBUSY and not files.is_gone(error):
            raise
