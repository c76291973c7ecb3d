"""What somebody probably meant, by spelling."""

import difflib
from collections.abc import Iterable


def closest(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice that looks most like *word*; upper and lower case are alike."""
    folded = {choice.casefold(): choice for choice in reversed(list(choices))}
    found = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def same_word(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice that is *word* but for case, ``_`` and ``-``."""
    plain = _plain(word)
    return next((choice for choice in choices if _plain(choice) == plain), None)


def misspelt(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice somebody meant who wrote *word*, which is none of them, if it is plain."""
    names = tuple(choices)
    return same_word(word, names) or closest(word, names)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return ``did you mean `replicas`?``, or nothing where nothing looks like *word*."""
    choice = closest(word, choices)
    return f"did you mean `{choice}`?" if choice else ""


def _plain(word: str) -> str:
    return word.replace("_", "").replace("-", "").casefold()
