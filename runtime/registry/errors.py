"""What goes wrong with a registry, in words that say what to do.

::

    RegistryError(ImageError)      it refused, or answered outside the specification
    ├── UnreachableError           no answer: another try may get one
    ├── DeniedError                who we are is not enough, or not known
    └── RateLimitError             too many requests for now
"""

from runtime.errors import ImageError


class RegistryError(ImageError):
    """A registry refused, or answered outside the specification; *status* is HTTP's, 0 if none.

    *codes* are those of the distribution-spec, as ``MANIFEST_UNKNOWN``.
    """

    def __init__(self, message: str, *, status: int = 0, codes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.codes = codes


class UnreachableError(RegistryError):
    """No whole answer came, however often it was asked for."""


class DeniedError(RegistryError):
    """The registry does not let us do that."""


class RateLimitError(RegistryError):
    """The registry wants no more requests of ours for a while."""
