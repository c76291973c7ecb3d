"""Where errors of the runtime become failures of one action."""

from collections.abc import Iterator
from contextlib import contextmanager

from provider.errors import ApplyError
from runtime.errors import ContainerError


@contextmanager
def failing(*, retryable: bool = False) -> Iterator[None]:
    """Raise what the runtime or the host refuses as an ApplyError.

    Anything else that left a driver would end the whole apply as a bug of ours. Which action it
    is about is not said: whoever shows the failure names it.
    """
    try:
        yield
    except (ContainerError, OSError) as error:
        raise ApplyError(str(error), retryable=retryable) from error
