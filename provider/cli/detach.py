"""Keys by which the user leaves a container's terminal without ending what runs there."""

from provider.errors import UsageError

DEFAULT_KEYS = "ctrl-p,ctrl-q"


class Detached(Exception):
    """The user has typed the keys."""


class DetachKeys:
    """Looks for them in what is typed; what may be their beginning is held back until it is not."""

    def __init__(self, words: str) -> None:
        """*words* are keys with commas between, each a character or ``ctrl-`` and one; none: never.

        Raises:
            UsageError: one is no key.
        """
        self._keys = bytes(map(_key, words.split(","))) if words else b""
        self._held = b""

    def passed(self, typed: bytes) -> bytes:
        """Return what of *typed*, and of what was held back, is for the container.

        Raises:
            Detached: they are complete; what was typed together with them is lost.
        """
        if not self._keys:
            return typed
        out = bytearray()
        for byte in typed:
            self._held += bytes([byte])
            if self._held == self._keys:
                raise Detached
            while not self._keys.startswith(self._held):
                out.append(self._held[0])
                self._held = self._held[1:]
        return bytes(out)


def _key(word: str) -> int:
    control = word.lower().removeprefix("ctrl-").upper()
    if word.lower().startswith("ctrl-") and len(control) == 1 and "@" <= control <= "_":
        return ord(control) - ord("@")
    if len(word) == 1 and word.isascii():
        return ord(word)
    hint = "such as ctrl-p,ctrl-q; an empty text: never"
    raise UsageError(f"--detach-keys: {word!r} is no key", hint=hint)
