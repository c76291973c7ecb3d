"""A project as its manifests say, before any secret was read: what the cache may keep."""

from collections.abc import Mapping

from provider.model.ids import ResourceId
from provider.model.resource import Desired
from provider.model.secret import SecretValue
from provider.model.tree import Tree
from runtime.record import dataclass, field


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where the values of one Secret come from."""

    folder: str
    identity: str | None
    items: Mapping[str, Tree]
    """Key -> normalised item: ``file``, ``fromEnv``, ``command`` or ``encrypted``."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A project and what its secrets are made from."""

    desired: Desired
    """With UNRESOLVED for fingerprints of secrets, and without a fingerprint of its own."""
    sources: Mapping[ResourceId, SecretSource] = field(default_factory=dict)
    values: Mapping[ResourceId, Mapping[str, SecretValue]] = field(default_factory=dict, repr=False)
    """Secret values that stood in the input itself; never written anywhere."""
