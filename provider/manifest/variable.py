"""How long an environment variable may be."""

LONGEST_STRING = 131072
"""With its NUL: MAX_ARG_STRLEN of execve(2)."""


def is_too_long(name: str, value: bytes) -> bool:
    """Return whether no program can be started with this variable."""
    return len(name.encode()) + len(value) + 2 > LONGEST_STRING
