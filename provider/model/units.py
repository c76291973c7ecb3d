"""Quantities and durations as people write them, and back.

Sizes follow Kubernetes: ``64Mi`` is 64 * 2**20, ``64M`` is 64 * 10**6. Durations are
``1h30m``, ``2s``, ``250ms``. A bare number is bytes, respectively seconds.
"""

import re

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(Ki|Mi|Gi|Ti|Pi|k|K|M|G|T|P)?B?\Z")
_FACTOR = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_FACTOR |= {f"{unit}i": 1 << (10 * power) for power, unit in enumerate("KMGTP", 1)}
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)(ms|us|s|m|h|d))")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(text: str | int) -> int:
    """Return bytes.

    Raises:
        ValueError: *text* is not a size.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        if text < 0:
            raise ValueError(f"negative size {text}")
        return text
    match = _SIZE.match(str(text).strip())
    if not match:
        raise ValueError(f"not a size: {text!r}")
    # More than any field allows, and still a whole number.
    return round(min(float(match[1]) * _FACTOR[match[2] or ""], 2.0**80))


def parse_duration(text: str | int | float) -> float:
    """Return seconds.

    Raises:
        ValueError: *text* is not a duration.
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        if text < 0:
            raise ValueError(f"negative duration {text}")
        return round(float(text), 6)
    value = str(text).strip()
    parts = _DURATION.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise ValueError(f"not a duration: {text!r}")
    return round(sum(float(number) * _SECONDS[unit] for number, unit in parts), 6)


def parse_cpus(text: str | int | float) -> float:
    """Return cores; ``500m`` is half a core.

    Raises:
        ValueError: *text* is not a number of cores.
    """
    if isinstance(text, str) and re.fullmatch(r"\d+m", text):
        return int(text[:-1]) / 1000
    return round(float(text), 3)


def bound_in_words(keyword: str, value: float, unit: str) -> str:
    """Return what a JSON Schema *keyword* asks of a quantity: ``at least 1Mi``, ``at most 14d``."""
    words = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than"}
    if unit == "bytes":
        text = format_size(int(value))
    elif unit == "seconds" and value >= 86400:
        text = f"{value / 86400:g}d"
    elif unit == "seconds":
        text = format_duration(value)
    else:
        text = f"{value:g} cores" if unit == "cores" else f"{value}"
    return f"{words[keyword]} {text}"


def format_size(size_bytes: int) -> str:
    """Return the shortest exact text: ``64Mi``, ``1500``."""
    for power, unit in reversed(list(enumerate("KMGTP", 1))):
        factor = 1 << (10 * power)
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}i"
    return str(size_bytes)


def format_duration(seconds: float) -> str:
    """Return the shortest exact text down to microseconds: ``1m30s``, ``250ms``."""
    rest = round(seconds * 1_000_000)
    if rest == 0:
        return "0s"
    text = ""
    units = (("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000), ("us", 1))
    for unit, size in units:
        count, rest = divmod(rest, size)
        if count:
            text += f"{count}{unit}"
    return text
