"""Names of things."""

from enum import StrEnum

from runtime.record import dataclass


class Kind(StrEnum):
    """Kind of a document; the value is the word used in manifests and reports."""

    PROJECT = "Project"
    HOST = "Host"
    NETWORK = "Network"
    VOLUME = "Volume"
    IMAGE = "Image"
    CONFIG = "Config"
    SECRET = "Secret"
    CONTAINER = "Container"
    SERVICE = "Service"
    JOB = "Job"


LOCAL_HOST = "local"
"""The implicit host where no inventory is given."""


@dataclass(frozen=True, slots=True, order=True)
class ResourceId:
    """Identity of a resource; stable across edits of its spec. Text: ``Service/web``."""

    project: str
    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"

    @property
    def owner(self) -> str:
        """Name under which its ports are published: ``shop/Service/web``."""
        return f"{self.project}/{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class InstanceId:
    """One thing on one host: what a plan acts on.

    *index* counts the replicas of a Service from 0; it is -1 where a resource has one instance
    on a host. The published ports of a Service are the instance with index -1.
    Text: ``Service/web[2]``, with ``@host`` unless the host is ``local``.
    """

    resource: ResourceId
    host: str = LOCAL_HOST
    index: int = -1

    def __str__(self) -> str:
        text = str(self.resource)
        if self.index >= 0:
            text += f"[{self.index}]"
        return text if self.host == LOCAL_HOST else f"{text}@{self.host}"
