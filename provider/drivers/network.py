"""Networks of this host, and the state of links and firewall as a whole."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Network

from provider.drivers.failing import failing
from provider.drivers.passive import PassiveDriver, PassiveObserver
from provider.drivers.usage import in_use
from provider.engine.ledger import Entry
from provider.engine.ports import Context, Finding, Outcome
from provider.engine.step import makes_object
from provider.errors import ApplyError
from provider.model.ids import InstanceId, Kind, ResourceId
from provider.model.plan import UNKNOWN, Action, Consequence, Verb
from provider.model.resource import Deviation, Observed
from provider.model.tree import Tree
from runtime.container.connect import delete_network
from runtime.errors import ContainerError
from runtime.network import attachment, network, observe, sysctl
from runtime.network.obstacles import foreign_obstacles, hindrances
from runtime.root import Root


def network_id(instance: InstanceId, object_id: str) -> str:
    """Return the runtime's id of a network: its owner is in it, so that none is ever lost."""
    return f"{instance.resource.project}.{instance.resource.name}.{object_id}"


class NetworkObserver(PassiveObserver):
    """Finds networks, and what is wrong with bridges and the nft table."""

    kinds = frozenset({Kind.NETWORK})

    def __init__(self, root: Root) -> None:
        self._root = root

    def observe(self, project: str, entries: Mapping[InstanceId, Entry]) -> Iterable[Observed]:
        """Yield every recorded network with its root causes, then strays of the project.

        What is wrong with the table as a whole stands at the project's first network.
        """
        snapshot = observe.observe(self._root)
        records = {record.network.id: record.network for record in snapshot.records}
        own = [e.object_id for e in entries.values() if e.object_id in records]
        first = min(own, default="")
        known: set[str] = set()
        for entry in entries.values():
            known |= {entry.object_id, *entry.leftovers}
            found = records.get(entry.object_id)
            if entry.effective is None:
                yield entry.observed()
            elif found is None:
                yield entry.observed(deviations=(_gone(entry.object_id),))
            else:
                deviations = tuple(
                    to_deviation(d)
                    for d in snapshot.deviations
                    if not d.container
                    and not d.owner
                    and (d.network == found.id or (not d.network and found.id == first))
                )
                status: Tree = {
                    "bridge": found.bridge,
                    "subnet": found.subnet,
                    "gateway": found.gateway,
                }
                yield entry.observed(deviations=deviations, status=status)
        for stray in records:
            owner, _, rest = stray.partition(".")
            name, _, number = rest.partition(".")
            if number and owner == project and not {stray, number} & known:
                resource = ResourceId(project, Kind.NETWORK, name)
                yield Observed(InstanceId(resource), stray, None)

    def preflight(self, actions: Sequence[Action]) -> Iterable[Finding]:
        """Look for other people's firewall rules that drop our traffic, or would.

        Also where nothing is to be done: they may have come since. What changes for the whole
        host is said, too.
        """
        # One that was replaced is kept as long as somebody is on it, and keeps nobody from work.
        yield from in_use(self._root, [a for a in actions if a.before is not None])
        if all(action.verb is Verb.DELETE for action in actions):
            try:
                yield from (Finding(str(obstacle)) for obstacle in hindrances(self._root))
            except ContainerError as error:
                yield Finding(str(error))
            return
        yield from self._subnets(actions)
        for action in actions:
            if _needs_its_own_subnet(action):
                yield Finding(
                    "the new network needs the subnet of the old one: its containers are cut off"
                    " until they are replaced",
                    action.id,
                )
        try:
            obstacles = foreign_obstacles(self._root)
        except ContainerError as error:
            yield Finding(str(error), refusal=True)
            return
        for name, now in sysctl.deviations(sysctl.HOST).items():
            yield Finding(
                f"{name} of this host is {now} and will be {sysctl.HOST[name]}: from then on it"
                " passes packets on between its links"
            )
        yield from (Finding(str(obstacle)) for obstacle in obstacles)

    def _subnets(self, actions: Sequence[Action]) -> Iterable[Finding]:
        """Look for subnets of new networks that somebody has who keeps them."""
        going = {action.object_id for action in actions if action.verb is Verb.DELETE}
        for action in actions:
            subnet = (action.after or {}).get("subnet", UNKNOWN)
            if subnet == UNKNOWN or not makes_object(action):
                continue
            same = (n.id for n in network.networks(self._root) if _makes_room(action, n.id))
            try:
                network.check_subnet(self._root, subnet, leaving={*going, *same})
            except ContainerError as error:
                yield Finding(str(error), action.id, refusal=True)


class NetworkDriver(NetworkObserver, PassiveDriver):
    """Makes, mends and deletes networks."""

    def __init__(self, root: Root) -> None:
        super().__init__(root)
        self._replaced: list[str] = []
        self._strays: dict[InstanceId, str] = {}

    def finish(self, context: Context) -> Mapping[InstanceId, ApplyError]:
        """Delete replaced networks whose containers have moved; the others are found as strays."""
        for replaced in self._replaced:
            with suppress(ContainerError, OSError):
                delete_network(self._root, replaced)
        failed: dict[InstanceId, ApplyError] = {}
        for instance, stray in self._strays.items():
            try:
                with failing():
                    delete_network(self._root, stray)
            except ApplyError as error:
                failed[instance] = error
        self._replaced.clear()
        self._strays.clear()
        return failed

    def perform(self, action: Action, context: Context) -> Outcome:
        """Bring one network to what is wanted, and mend what is wrong with it."""
        with failing():
            return self._perform(action, context)

    def _perform(self, action: Action, context: Context) -> Outcome:
        for leftover in action.leftovers:
            self._delete_made(action.id, leftover)
        if action.verb is Verb.DELETE and action.before is None and action.object_id:
            # Replaced by an apply that did not get to the end: this one moves its containers.
            self._strays[action.id] = action.object_id
            return Outcome("", {})
        if action.verb is Verb.DELETE:
            self._delete_made(action.id, action.object_id)
            return Outcome("", {})
        after = dict(action.after or {})
        fresh = context.object_id
        object_id = network_id(action.id, fresh) if fresh else action.object_id
        if after["subnet"] != UNKNOWN:
            self._make_room(action, object_id, after["subnet"])
        made = network.ensure_network(
            self._root,
            object_id,
            subnet=None if after["subnet"] == UNKNOWN else after["subnet"],
            gateway=None if after["gateway"] == UNKNOWN else after["gateway"],
            internal=after["internal"],
            mtu=_mtu(action.before or {}, after),
            avoid=context.subnets(),
        )
        # Only now: without the new one, the old one has to stay.
        if fresh and action.object_id:
            self._replaced.append(action.object_id)
        if action.verb is Verb.UPDATE:
            observe.repair(self._root)
        after |= {"subnet": made.subnet, "gateway": made.gateway}
        status: Tree = {"bridge": made.bridge, "subnet": made.subnet, "gateway": made.gateway}
        return Outcome(object_id, after, status=status)

    def _make_room(self, action: Action, object_id: str, subnet: str) -> None:
        """Delete networks on their way out that have addresses of *subnet*.

        They are those of the same name, and the one replaced: its id tells the name it was made
        under. Their containers are replaced too, since they know their network by its id.
        """
        wanted = IPv4Network(subnet)
        for found in network.networks(self._root):
            same = _makes_room(action, found.id)
            if found.id == object_id or not same or not wanted.overlaps(IPv4Network(found.subnet)):
                continue
            for holder, lease in attachment.leases(self._root):
                if holder == found.id:
                    attachment.detach(self._root, found.id, lease.container)
            delete_network(self._root, found.id)

    def _delete_made(self, instance: InstanceId, object_id: str) -> None:
        """Delete a network by its id, or by the name an interrupted apply had for it."""
        for made in (object_id, network_id(instance, object_id)):
            if object_id:
                delete_network(self._root, made)


def to_deviation(found: observe.Deviation) -> Deviation:
    """Return what the runtime found, in the words of a plan."""
    wanted, actual = _WORDS.get(found.code, ("as recorded", "changed"))
    return Deviation(
        f"kernel.{found.code}",
        recorded=wanted,
        actual=actual,
        cause=found.text,
        effects=found.consequences,
        consequence="restart" if found.code == "netns-gone" else "live",
    )


def _makes_room(action: Action, found: str) -> bool:
    """Tell whether the network *found* goes where the one of *action* needs its addresses."""
    return found.startswith(network_id(action.id, "")) or found == action.object_id


def _mtu(before: Tree, after: Tree) -> int | None:
    """Return the MTU to ask for; to leave what the host gave when the network was made: None."""
    if after["mtu"] is None and before.get("mtu") is not None:
        return network.uplink_mtu()
    wanted: int | None = after["mtu"]
    return wanted


def _needs_its_own_subnet(action: Action) -> bool:
    before, after = action.before or {}, action.after or {}
    replaced = action.consequence.rank >= Consequence.REPLACE.rank
    return replaced and action.verb is Verb.UPDATE and before.get("subnet") == after["subnet"]


_WORDS = {
    "bridge-address": ("present", "missing"),
    "inside-down": ("up", "down"),
    "lo-down": ("up", "down"),
    "bridge-gone": ("present", "missing"),
    "bridge-down": ("up", "down"),
    "link-gone": ("present", "missing"),
    "link-down": ("up", "down"),
    "link-detached": ("on its bridge", "detached"),
    "netns-gone": ("present", "missing"),
    "address-missing": ("present", "missing"),
    "route-missing": ("present", "missing"),
    "table-gone": ("present", "missing"),
    "chain-gone": ("present", "missing"),
    "rule-removed": ("present", "missing"),
    "element-removed": ("present", "missing"),
    "address-extra": ("absent", "present"),
    "chain-added": ("absent", "present"),
    "rule-added": ("absent", "present"),
    "element-added": ("absent", "present"),
    "table-left": ("absent", "present"),
}


def _gone(object_id: str) -> Deviation:
    return Deviation(
        "kernel.network",
        recorded="present",
        actual="missing",
        cause=f"the record of network {object_id} is gone",
        consequence="replace",
    )
