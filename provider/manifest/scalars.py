"""Scalars in canonical form: plain numbers for quantities, one spelling for words. Pure."""

import ipaddress
import posixpath
import re
import signal
from collections.abc import Callable, Mapping
from typing import Any

from provider.manifest.shape import Shape
from provider.model import units
from provider.model.signals import signal_number

_QUANTITIES: Mapping[str, Callable[[Any], int | float]] = {
    "bytes": units.parse_size,
    "seconds": units.parse_duration,
    "cores": units.parse_cpus,
}


def canonical(shape: Shape, value: Any, text: Callable[[], str]) -> Any:
    """Return *value* in the form in which equal means the same.

    *text* gives a number or boolean as it was written, for fields that are text.

    Raises:
        ValueError: *value* is not what its shape says; the schema lets none through.
    """
    if shape.unit:
        return _within(shape, _QUANTITIES[shape.unit](value), str(value))
    if "string" in shape.types and not isinstance(value, str):
        value = text()
    tidy = _SPELLINGS.get(shape.definition)
    return tidy(value) if tidy and isinstance(value, str) else value


class OutOfRangeError(ValueError):
    """A quantity is smaller or larger than its schema allows; *expected* says what that is."""

    def __init__(self, message: str, expected: str) -> None:
        super().__init__(message)
        self.expected = expected


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."


def _within(shape: Shape, value: float, text: str) -> float:
    """Return *value*, which the schema could judge only if it was written as a number."""
    low = shape.minimum is not None and value < shape.minimum
    if low or (shape.above is not None and value <= shape.above):
        keyword, bound = ("minimum", shape.minimum) if low else ("exclusiveMinimum", shape.above)
        message = "too small"
    elif shape.maximum is not None and value > shape.maximum:
        keyword, bound, message = "maximum", shape.maximum, "too large"
    else:
        return value
    raise OutOfRangeError(
        f"`{_shortened(text)}` is {message}", units.bound_in_words(keyword, bound or 0, shape.unit)
    )


def capability(name: str) -> str:
    """Return a capability's name without ``CAP_``, in capitals."""
    return name.upper().removeprefix("CAP_")


def permissions(letters: str) -> str:
    """Return device permissions in the order r, w, m, each once."""
    return "".join(letter for letter in "rwm" if letter in letters)


def processors(text: str) -> str:
    """Return a list of processors in order, with ranges as long as they can be: ``0-2,5``."""
    parts = [part.partition("-") for part in text.split(",")]
    ranges = sorted((int(first), int(last or first)) for first, _, last in parts)
    if any(last < first for first, last in ranges):
        return text  # provider.manifest.limits words it.
    joined: list[tuple[int, int]] = []
    for first, last in ranges:
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(last, joined[-1][1])
        else:
            joined.append((first, last))
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in joined)


def propagation(word: str) -> str:
    """Return a kind of propagation; it is always that of all mounts below."""
    return word.removeprefix("r")


def sysctl(name: str) -> str:
    """Return a kernel parameter with dots, unless there is a dot in one of its parts."""
    parts = name.split("/") if "/" in name else name.split(".")
    return "/".join(parts) if any("." in part for part in parts) else ".".join(parts)


def _mode(text: str) -> str:
    return f"{int(text, 8):04o}"


def _mount_target(text: str) -> str:
    return "/" + posixpath.normpath(text).lstrip("/")


def path(text: str) -> str:
    """Return a path without doubled slashes and single dots."""
    # ".." stays: behind a symbolic link it is not what the text suggests.
    parts = "/".join(part for part in text.split("/") if part not in ("", "."))
    return f"/{parts}" if text.startswith("/") else parts or "."


def address(text: str) -> str:
    """Return an IP address in its shortest form; what is none is left as it is."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text  # provider.manifest.addresses words it.


def _signal(text: str) -> str:
    number = signal_number(text)
    if number in _SIGNAL_NAMES:
        return _SIGNAL_NAMES[number]
    if number < signal.SIGRTMIN:
        raise ValueError(f"signal {number} is the C library's own")
    return f"SIGRTMIN+{number - signal.SIGRTMIN}"


_SIGNAL_NAMES = {member.value: member.name for member in signal.Signals}
_LARGEST_ID = 2**32 - 2
_LARGEST_DIGITS = 10


def _number(text: str) -> str:
    if not re.fullmatch(r"[0-9]+", text):
        return text
    if len(text.lstrip("0")) > _LARGEST_DIGITS or int(text) > _LARGEST_ID:
        raise OutOfRangeError(
            f"`{_shortened(text)}` is too large", f"an id of {_LARGEST_ID} or less"
        )
    return str(int(text))


def _user(text: str) -> str:
    return ":".join(_number(part) for part in text.split(":"))


_SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "mode": _mode,
    "mountTarget": _mount_target,
    "absolutePath": path,
    "workdir": path,
    "filePath": path,
    "ip": address,
    "ipv4": address,
    "signal": _signal,
    "user": _user,
    "group": _number,
}
