"""What the user allows and asks of a plan."""

from provider.model.ids import InstanceId, ResourceId
from runtime.record import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """Flags of ``plan``, ``apply`` and ``delete``."""

    partial: bool = False
    """The input is not the whole project: nothing is pruned."""
    selected: frozenset[ResourceId] | None = None
    """Act on these only (``--only``, ``-l``); implies *partial*. None: on all."""
    hosts: frozenset[str] | None = None
    """Act on these hosts only (``--host``); implies *partial*. None: on all."""
    allow_empty: bool = False
    allow_prune: bool = False
    accept_data_loss: bool = False
    delete_volumes: bool = False
    refresh_images: bool = False
    rerun_jobs: frozenset[str] = field(default_factory=frozenset)
    """Names of Jobs to run whatever the record says (``--rerun-job``)."""

    @property
    def prunes(self) -> bool:
        """True if what is recorded and not wanted is to go."""
        return not self.partial and self.selected is None and self.hosts is None

    def acts_on(self, instance: InstanceId) -> bool:
        """Return whether the plan may touch *instance*."""
        if self.selected is not None and instance.resource not in self.selected:
            return False
        return self.hosts is None or instance.host in self.hosts
