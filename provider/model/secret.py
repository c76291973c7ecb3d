"""Values that must never be shown, stored or compared in the clear."""

import hashlib
import hmac


class SecretValue:
    """Bytes of a secret; prints as ``***``. Compare fingerprints, not values."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """Return the bytes; only for handing them to a container."""
        return self._value

    def fingerprint(self, key: bytes) -> str:
        """Return ``hmac-sha256:...`` under the per-root *key*."""
        return "hmac-sha256:" + hmac.new(key, self._value, hashlib.sha256).hexdigest()

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__
