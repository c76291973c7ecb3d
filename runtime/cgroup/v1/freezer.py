"""The v1 freezer: stops all members of a group where they are.

Source: Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst.
"""

from runtime.cgroup import files
from runtime.cgroup.controller import Controller

FREEZER = Controller(name="freezer", settings=lambda _: (), wanted=lambda _: False)


def freeze(folder: str) -> None:
    """Ask for the group to be frozen; ask again while ``is_settled`` says no."""
    files.write(f"{folder}/freezer.state", "FROZEN")


def thaw(folder: str) -> None:
    """Let the members go on."""
    files.write(f"{folder}/freezer.state", "THAWED")


def is_frozen(folder: str) -> bool:
    """Tell whether all members stand still; ``FREEZING`` means that some do not yet."""
    return files.read_if_there(f"{folder}/freezer.state") == "FROZEN"
