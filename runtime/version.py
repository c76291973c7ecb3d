"""Versions of this code, for those who meet another."""

VERSION = "0.1.0"
"""As in pyproject.toml."""

STATE_VERSION = 1
"""Of what a supervisor keeps of its containers (request and status). It grows when a version could
not go on with what this one has written; members that can be left out or ignored need none."""


def is_older(version: str) -> bool:
    """Tell whether *version*, numbers with dots between, is before this one; "" is."""
    return _numbers(version) < _numbers(VERSION)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(word) for word in version.split(".") if word.isdecimal())
