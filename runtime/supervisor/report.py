"""What a launch's child may say, one packet at a time.

Who may trace what enters his container may speak for it, too: nothing here is taken on trust.
"""

import sys

from runtime import json_text
from runtime.errors import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MOST_PID = 1 << 22  # PID_MAX_LIMIT, proc(5)
_MOST_ERRNO = 4095  # MAX_ERRNO, linux/err.h
_ERRNO_BYTES = 4
_TEXTS = ("warning", "ready", "stop")
_MARKS = ("forked", "waiting", "started", "terminal", "listener")
_WITH_DESCRIPTOR = ("terminal", "listener")
_SHOWN_BYTES = 100


def parse(data: bytes, descriptors: int = 0) -> "dict[str, Any]":
    """Return the message in a packet that came with so many *descriptors*.

    Its key says what it is: ``error`` (a text, and ``exitCode``), ``warning``, ``ready`` or
    ``stop`` (a text), ``sibling`` (a pid), ``errno`` (of the built-in init's exec, which says
    nothing else), or a mark that is true. A ``terminal`` and a ``listener`` are one descriptor.

    Raises:
        LaunchError: it is none of these, in whatever way.
    """
    if len(data) == _ERRNO_BYTES:
        message: Any = {"errno": int.from_bytes(data, sys.byteorder)}
        is_known = 0 < message["errno"] <= _MOST_ERRNO
    else:
        try:
            message = json_text.loads(data)
        except (ValueError, RecursionError, OverflowError) as error:
            raise _strange(data, f": {type(error).__name__}") from error
        is_known = isinstance(message, dict) and _is_known(message)
    if not is_known:
        raise _strange(data)
    if descriptors != int(not message.keys().isdisjoint(_WITH_DESCRIPTOR)):
        raise _strange(data, f" with {descriptors} descriptors")
    return message  # type: ignore[no-any-return] # checked above


def _is_known(message: "dict[str, Any]") -> bool:
    if message.keys() == {"error", "exitCode"}:
        code = message["exitCode"]
        return isinstance(message["error"], str) and type(code) is int and 0 < code < 256
    if len(message) != 1:
        return False
    ((key, value),) = message.items()
    if key in _TEXTS:
        return isinstance(value, str)
    if key == "sibling":
        return type(value) is int and 0 < value <= _MOST_PID
    return key in _MARKS and value is True


def _strange(data: bytes, how: str = "") -> LaunchError:
    return LaunchError(f"the child does not speak our language{how}: {data[:_SHOWN_BYTES]!r}")
