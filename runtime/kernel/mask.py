"""Features of the kernel that are taken for missing, so that what is done without is done here too.

``BAYPLAN_KERNEL_MASK`` names them, by commas, where a command is started; a supervisor keeps to
that of the command that has started it. Only what there is another way for can be masked.
"""

import os

VARIABLE = "BAYPLAN_KERNEL_MASK"

LOWERDIR_BY_FD = "lowerdir+"
DETACHED_CLONES = "detached-clones"
CGROUP_KILL = "cgroup.kill"
MEMORY_RECLAIM = "memory.reclaim"
PIDFD_INFO_EXIT = "PIDFD_INFO_EXIT"
MFD_EXEC = "MFD_EXEC"
OVERLAY_OF_PYTHON = "overlay-of-python"
O_TMPFILE = "O_TMPFILE"
KEYRINGS = "keyctl"

FEATURES = {
    LOWERDIR_BY_FD: "layers of an overlay by descriptor (Linux 6.13); else by mount(2)",
    DETACHED_CLONES: "clones of what is mounted nowhere (6.15); else mountinfo tells of folders",
    CGROUP_KILL: "a version 2 cgroup killed at once (5.14); else its members one by one",
    MEMORY_RECLAIM: "memory had back before a version 2 limit is lowered (5.19); else not",
    PIDFD_INFO_EXIT: "the exit code of what another process has reaped (6.15); else unknown",
    MFD_EXEC: "executable memfds where others are forbidden (6.3); else plain ones",
    OVERLAY_OF_PYTHON: "a read-only view of the interpreter for commands; else a copy in memory",
    O_TMPFILE: "files without a name while they are copied; else with a temporary one",
    KEYRINGS: "a session keyring of one's own; else none",
}
"""What can be masked: what it is, since when there is it, and what is done without."""

_masked = frozenset(filter(None, os.environ.get(VARIABLE, "").split(",")))


def is_masked(feature: str) -> bool:
    """Tell whether the kernel is to be taken for one without *feature*, one of FEATURES."""
    return feature in _masked


def unknown() -> str:
    """Return what in the variable is no name of FEATURES, in words; empty if all is well."""
    wrong = sorted(_masked - FEATURES.keys())
    return f"{VARIABLE}: no {', '.join(wrong)} among {', '.join(FEATURES)}" if wrong else ""


def environment() -> dict[str, str]:
    """Return what a process of ours that outlives this one is to have of the variable."""
    return {VARIABLE: ",".join(sorted(_masked))} if _masked else {}
