"""Where errors of the runtime become failures of one action."""

from collections.abc import Iterator
from contextlib import contextmanager

from provider.errors import ApplyError
from provider.model.ids import InstanceId
from runtime.errors import ContainerError


@contextmanager
def failing(instance: InstanceId, *, retryable: bool = False) -> Iterator[None]:
    """Raise what the runtime or the host refuses as an ApplyError about *instance*.

    Anything else that left a driver would end the whole apply as a bug of ours.
    """
    try:
        yield
    except (ContainerError, OSError) as error:
        raise ApplyError(f"{instance}: {error}", retryable=retryable) from error
