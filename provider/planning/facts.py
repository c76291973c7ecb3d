"""What is known of instances while a plan is made or applied, by identity and by resource."""

from collections.abc import Iterable

from provider.model.ids import InstanceId, ResourceId
from provider.model.plan import UNKNOWN
from provider.model.resource import Observed


class Facts:
    """Instances as they are, or will be; None for one that only the apply will bring.

    Planning goes through the resources in dependency order and writes down for each what its
    dependents may count on; an apply does the same with real outcomes.
    """

    def __init__(self, known: Iterable[Observed] = ()) -> None:
        self._instances: dict[ResourceId, dict[InstanceId, Observed | None]] = {}
        for observed in known:
            self.set(observed.id, observed)

    def set(self, instance: InstanceId, observed: Observed | None) -> None:
        """Write down what *instance* is; None: not known before the apply."""
        self._instances.setdefault(instance.resource, {})[instance] = observed

    def drop(self, instance: InstanceId) -> None:
        """Forget an instance that is not wanted any more."""
        self._instances.get(instance.resource, {}).pop(instance, None)

    def get(self, instance: InstanceId) -> Observed | None:
        """Return what is known of one instance."""
        return self._instances.get(instance.resource, {}).get(instance)

    def instances(self, resource: ResourceId) -> tuple[InstanceId, ...]:
        """Return the instances of a resource, known or not: replicas by index, ports last."""
        found = self._instances.get(resource, {})
        # Copied first: while a plan is applied, another thread may add to it.
        return tuple(sorted(tuple(found), key=lambda i: (i.index < 0, i.index, i.host)))

    def seen_from(self, host: str, resource: ResourceId) -> tuple[InstanceId, ...]:
        """Return the instances a dependent on *host* depends on: that host's, else all."""
        found = self.instances(resource)
        return tuple(i for i in found if i.host == host) or found

    def on(self, host: str, resource: ResourceId) -> Observed | None:
        """Return the one instance of a per-host resource that *host* uses, if it is known."""
        for instance in self.seen_from(host, resource):
            if instance.index < 0:
                return self.get(instance)
        return None

    def object_id(self, host: str, resource: ResourceId) -> str:
        """Return the object id a dependent on *host* is bound to, or UNKNOWN."""
        observed = self.on(host, resource)
        return observed.object_id or UNKNOWN if observed else UNKNOWN

    def generation(self, host: str, resource: ResourceId) -> str:
        """Return the generations of all a dependent on *host* depends on, or UNKNOWN."""
        generations = set()
        for instance in self.seen_from(host, resource):
            observed = self.get(instance)
            if observed is None or observed.generation == UNKNOWN:
                return UNKNOWN
            generations.add(observed.generation)
        return " ".join(sorted(generations)) if generations else UNKNOWN
