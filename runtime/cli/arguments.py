"""Reading a command line, and which descriptors came with it.

argparse costs more to import than most commands take; so little is imported here because what
only starts again, out of containers' reach, pays for it, too.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Values = dict[str, list[str]]
"""Option, by its first name, to the values given; a flag's is the empty text."""


class UsageError(Exception):
    """The command line cannot be meant."""


class Options:
    """Which options there are: names separated by blanks, the first being the one it goes by."""

    def __init__(self, *, flags: Iterable[str] = (), values: Iterable[str] = ()) -> None:
        self.takes_value: dict[str, bool] = {}
        self.name: dict[str, str] = {}
        for takes_value, group in ((False, flags), (True, values)):
            for names in group:
                first, *others = names.split()
                for name in (first, *others):
                    self.name[name] = first
                    self.takes_value[name] = takes_value


GLOBAL = Options(
    flags=("systemd-cgroup", "debug", "version v", "help h"),
    values=("root", "log", "log-format", "cgroup-manager"),
)


def parse(
    words: Iterable[str], options: Options, *, in_order: bool = False
) -> tuple[Values, list[str]]:
    """Return the options and the other words.

    With *in_order* the first word that is no option ends the options: what follows belongs to
    somebody else. ``--`` always does.

    Raises:
        UsageError: there is no such option, or its value is missing.
    """
    found: Values = {}
    rest: list[str] = []
    waiting = list(words)[::-1]
    while waiting:
        word = waiting.pop()
        if word == "--":
            return found, rest + waiting[::-1]
        if word == "-" or not word.startswith("-"):
            rest.append(word)
            if in_order:
                return found, rest + waiting[::-1]
            continue
        _take(word, waiting, options, found)
    return found, rest


def _take(word: str, waiting: list[str], options: Options, found: Values) -> None:
    text, given, value = word.lstrip("-").partition("=")
    if text not in options.name and not word.startswith("--") and len(text) > 1:
        # -d5 or -itd
        text, tail = text[0], text[1:] + given + value
        given = value = ""
        if options.takes_value.get(text):
            given, value = "=", tail
        elif text in options.name:
            waiting.append(f"-{tail}")
    if text not in options.name:
        raise UsageError(f"unknown option {word}")
    name = options.name[text]
    if options.takes_value[text]:
        if not given:
            if not waiting:
                raise UsageError(f"option {word} needs a value")
            value = waiting.pop()
    elif given and value not in ("true", "false"):
        raise UsageError(f"option {word} takes no value")
    elif value == "false":
        return
    else:
        value = ""
    found.setdefault(name, []).append(value)


def one(values: Mapping[str, list[str]], name: str) -> str | None:
    """Return the value given last, or None."""
    return values[name][-1] if name in values else None


def only(rest: list[str], what: str = "container id") -> str:
    """Return the one word there must be.

    Raises:
        UsageError: there is none, or more.
    """
    if len(rest) != 1:
        raise UsageError(f"give one {what}, not {len(rest)}")
    return rest[0]


def given_descriptors(count: int) -> tuple[int, ...]:
    """Return those of the *count* descriptors after the standard ones that the caller handed on.

    Asked before anything is opened here, which would take their numbers.
    """
    return tuple(fd for fd in range(3, 3 + count) if _is_given(fd))


def _is_given(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False
