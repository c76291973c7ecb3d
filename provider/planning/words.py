"""Values of spec fields as people write them: ``64Mi``, ``1m30s``, ``[sh, -c]``. Pure."""

from typing import Any

from provider.model.units import format_duration, format_size

_SIZES = frozenset(
    {
        "memory",
        "memorySwap",
        "memoryReservation",
        "shmSize",
        "maxSize",
        "size",
        "readBps",
        "writeBps",
    }
)
_DURATIONS = frozenset(
    {
        "interval",
        "timeout",
        "startPeriod",
        "stopGrace",
        "backoff",
        "maxBackoff",
        "healthyFor",
    }
)
_DIGEST_LENGTH = len("sha256:") + 12

ABSENT = "(none)"


def words(path: str, value: Any) -> str:
    """Return *value* of the field at *path* in one line."""
    member = path.rsplit(".", 1)[-1]
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)) and member in _SIZES:
        return format_size(int(value))
    if isinstance(value, (int, float)) and member in _DURATIONS:
        return format_duration(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return "[" + ", ".join(words(path, element) for element in value) + "]"
    if isinstance(value, dict):
        members = ((k, v) for k, v in value.items() if v is not None and v != [] and v != {})
        return "{" + ", ".join(f"{k}: {words(k, v)}" for k, v in members) + "}"
    return str(value)


def both(path: str, before: Any, after: Any) -> tuple[str, str]:
    """Return both values in one line each; of long texts, the first line that differs."""
    if isinstance(before, str) and isinstance(after, str) and "\n" in before + after:
        old, new = before.splitlines(), after.splitlines()
        common = zip(old, new, strict=False)
        at = next((n for n, (x, y) in enumerate(common) if x != y), min(len(old), len(new)))
        return f"line {at + 1}: {_line(old, at)}", _line(new, at)
    return words(path, before), words(path, after)


def _text(value: str) -> str:
    if value.startswith("sha256:") and len(value) > _DIGEST_LENGTH:
        return value[:_DIGEST_LENGTH]
    if "\n" in value:
        return f"({len(value.splitlines())} lines)"
    plain = value and value == value.strip() and value.isprintable()
    return value if plain else repr(value)


def _line(lines: list[str], number: int) -> str:
    return lines[number].strip() if number < len(lines) else ABSENT
