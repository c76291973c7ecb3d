"""What the actions of one apply know of it; see ``ports.Context``."""

import base64
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from provider.errors import ApplyError
from provider.model.ids import InstanceId, Kind, ResourceId
from provider.model.resource import Desired, Observed, World
from provider.model.secret import SecretValue
from provider.model.tree import Json, Tree
from provider.planning.change import is_fingerprint
from provider.planning.facts import Facts
from runtime.record import dataclass, field


@dataclass(frozen=True, slots=True)
class ApplyContext:
    """The context of an apply, and through ``of`` of each action.

    *facts* are written by the thread that runs the apply and read by all: one dictionary
    assignment at a time, so that a reader sees the old or the new.
    """

    apply_id: str
    desired: Desired
    facts: Facts
    tell: Callable[[InstanceId, str], None]
    addresses: Mapping[tuple[str, str], Collection[str]] = field(default_factory=dict)
    """Fixed ones, by project and name of the network."""
    stopping: threading.Event = field(default_factory=threading.Event)
    object_id: str = ""
    instance: InstanceId | None = None

    def of(self, instance: InstanceId, object_id: str) -> "ApplyContext":
        """Return the context for the action on *instance*."""
        return replace(self, instance=instance, object_id=object_id)

    def find(self, instance: InstanceId) -> Observed | None:
        """Return an instance as this apply has left it, or as it was observed before."""
        return self.facts.get(instance)

    def instances(self, resource: ResourceId) -> tuple[Observed, ...]:
        """Return all instances of a resource."""
        found = (self.facts.get(instance) for instance in self.facts.instances(resource))
        return tuple(observed for observed in found if observed is not None)

    def subnets(self) -> Collection[str]:
        """Return the subnets that wanted networks ask for."""
        networks = (r.spec for r in self.desired.resources if r.id.kind is Kind.NETWORK)
        return [spec["subnet"] for spec in networks if spec["subnet"]]

    def asked_for(self, project: str | None, network: str) -> Collection[str]:
        """Return the fixed addresses of a network, of what is wanted and of what stays."""
        return self.addresses.get((project or self.desired.project, network), ())

    def config(self, name: str) -> Mapping[str, bytes]:
        """Return the content of a Config of this project, by key.

        Raises:
            ApplyError: it is in neither the input of this run nor the ledger.
        """
        target = ResourceId(self.desired.project, Kind.CONFIG, name)
        resource = self.desired.get(target)
        recorded = (o.effective["data"] for o in self.instances(target) if o.effective)
        data = resource.spec["data"] if resource else next(recorded, None)
        # Items rendered from secret values are held like those of a Secret.
        values = self.desired.secrets.get(target, {})
        if data is None or any(is_fingerprint(data[key]) for key in data.keys() - values.keys()):
            raise ApplyError(
                f"content of {target} is not at hand: it is not in the input",
                hint="give the manifest of the Config as well",
            )
        return {
            key: values[key].reveal() if key in values else _decoded(item)
            for key, item in data.items()
        }

    def is_secret(self, name: str) -> bool:
        """Tell whether secret values were rendered into that Config."""
        return bool(self.desired.secrets.get(ResourceId(self.desired.project, Kind.CONFIG, name)))

    def secret(self, name: str) -> Mapping[str, SecretValue]:
        """Return the values of a Secret of this project, by key.

        Raises:
            ApplyError: it is not in the input of this run; values are kept nowhere else.
        """
        target = ResourceId(self.desired.project, Kind.SECRET, name)
        try:
            return self.desired.secrets[target]
        except KeyError as error:
            raise ApplyError(
                f"values of {target} are not at hand: it is not in the input",
                hint="give the manifest of the Secret as well",
            ) from error

    def progress(self, message: str) -> None:
        """Tell the user what is going on inside the action."""
        if self.instance is not None:
            self.tell(self.instance, message)


def _decoded(item: Json) -> bytes:
    return base64.b64decode(item["base64"]) if isinstance(item, dict) else str(item).encode()


def fixed_addresses(
    desired: Desired, world: World, going: Collection[InstanceId]
) -> dict[tuple[str, str], set[str]]:
    """Return ``ApplyContext.addresses``: of what is wanted, and of what is not and stays."""
    wanted = {resource.id for resource in desired.resources}
    stay = (found for found in world.observed if found.id.resource not in wanted)
    trees: Iterable[Tree] = (
        *(resource.spec for resource in desired.resources),
        *(found.effective for found in stay if found.effective and found.id not in going),
    )
    fixed: dict[tuple[str, str], set[str]] = {}
    for tree in trees:
        for use in tree.get("container", {}).get("networks", ()):
            if use["ip"]:
                network = (use["project"] or desired.project, use["name"])
                fixed.setdefault(network, set()).add(use["ip"])
    return fixed
