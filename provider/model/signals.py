"""Signals as people write them."""

import re
import signal

_FORM = re.compile(r"(?:(?P<number>\d+)|(?:SIG)?(?P<name>[A-Z]\w*))(?P<offset>[+-]\d+)?", re.ASCII)


def signal_number(word: str) -> int:
    """Return the number of ``TERM``, ``SIGTERM``, ``15``, ``SIGRTMIN+3`` or ``RTMAX-1``.

    Raises:
        ValueError: there is no such signal.
    """
    match, number = _FORM.fullmatch(word.upper()), 0
    if match:
        named = signal.Signals.__members__.get(f"SIG{match['name']}", 0)
        base = int(match["number"] or named)
        number = base and base + int(match["offset"] or 0)
    if not 0 < number < signal.NSIG:
        raise ValueError(f"there is no signal {word}")
    return number
