"""What goes from one instance to another in one apply: addresses, volumes, published ports. Pure.

A fixed address is free only when its holder has let go, and so is what cannot be shared by those
whose ``update.order`` is stop-first: who takes it waits for that. A published port is taken over
in one step once the taker is ready for traffic, and only then does its holder go on: no
connection is refused in between.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from provider.model.ids import InstanceId
from provider.model.plan import Action, Consequence, Need, Verb
from provider.model.resource import Condition, Observed
from provider.model.tree import Tree
from provider.planning.expand import is_ports
from runtime.record import dataclass

_Claim = tuple[str, str, str]
"""Host, ``address``, ``network``, ``volume`` or ``device``, and which."""

_Port = tuple[str, int, str]
"""Protocol, port, address of the host."""

_ANY = "0.0.0.0"


def hand_over(actions: Sequence[Action], observed: Iterable[Observed]) -> tuple[Action, ...]:
    """Return *actions* with what they need, and take over, of one another.

    What they hold is what is *observed*; of ports, what is recorded where nothing was. Where
    needs would go in a circle (a swap) the port is closed from the one step to the other.
    """
    moving = {action.id: action for action in actions if action.verb is not Verb.NOOP}
    statuses = {found.id: found.status for found in observed}
    given = {o.object_id: o.status["address"] for o in observed if o.status.get("address")}
    waits = _Waits(actions)
    _release_first(moving, given, waits)
    taken: dict[InstanceId, list[_Transfer]] = {}
    for transfer in _transfers(moving.values(), statuses):
        taken.setdefault(transfer.taker.id, []).append(transfer)
        waits.add(transfer.giver.id, _done(transfer.taker))
    return tuple(
        _taking(replace(a, needs=(*a.needs, *waits.added.get(a.id, ()))), taken.get(a.id, ()))
        for a in actions
    )


class _Waits:
    """Who waits for whom, with what is added; never in a circle."""

    def __init__(self, actions: Iterable[Action]) -> None:
        self._targets = {a.id: [need.target for need in a.needs] for a in actions}
        self.added: dict[InstanceId, list[Need]] = {}

    def add(self, waiter: InstanceId, need: Need) -> None:
        """Let *waiter* wait, unless what it would wait for waits for it."""
        if waiter != need.target and not self._leads_to(need.target, waiter):
            self._targets[waiter].append(need.target)
            self.added.setdefault(waiter, []).append(need)

    def _leads_to(self, start: InstanceId, goal: InstanceId) -> bool:
        seen, todo = {start}, [start]
        while todo:
            current = todo.pop()
            if current == goal:
                return True
            fresh = [n for n in self._targets.get(current, ()) if n not in seen]
            seen.update(fresh)
            todo.extend(fresh)
        return False


def _release_first(
    moving: Mapping[InstanceId, Action], given: Mapping[str, str], waits: _Waits
) -> None:
    """Let those that take an address or a volume wait for those that give it up."""
    released: dict[_Claim, list[Action]] = {}
    for action in moving.values():
        for claim in _releases(action, given):
            released.setdefault(claim, []).append(action)
    for action in moving.values() if released else ():
        for claim in _claims(action.id.host, action.after):
            for holder in released.get(claim, ()):
                waits.add(action.id, _done(holder))


def _releases(action: Action, given: Mapping[str, str]) -> set[_Claim]:
    claims = set(_claims(action.id.host, action.before))
    if action.verb is Verb.DELETE or action.consequence.rank >= Consequence.REPLACE.rank:
        objects = (action.object_id, *action.leftovers)
        claims |= {(action.id.host, "address", given[o]) for o in objects if o in given}
    return claims.difference(_claims(action.id.host, action.after))


def _claims(host: str, tree: Tree | None) -> Iterable[_Claim]:
    """Yield the fixed addresses, and what those to be stopped first do not share with others."""
    container = (tree or {}).get("container", {})
    for use in container.get("networks", ()):
        if use["ip"]:
            yield host, "address", use["ip"]
    if (tree or {}).get("update", {}).get("order") == "stop-first":
        if container["networkMode"] == "host":
            yield host, "network", "host"
        for use in container["volumes"]:
            if use["volume"] and not use["readOnly"]:
                yield host, "volume", f"{use['project']}/{use['volume']}"
        for use in container["devices"]:
            yield host, "device", use["path"]


@dataclass(frozen=True, slots=True)
class _Transfer:
    """Ports that one takes and another gives up."""

    taker: Action
    giver: Action
    ports: tuple[_Port, ...]


def _transfers(
    moving: Iterable[Action], statuses: Mapping[InstanceId, Tree]
) -> Iterable[_Transfer]:
    held = {
        action.id: _ports(statuses.get(action.renamed_from or action.id), "publishes")
        for action in moving
    }
    left = {a.id: (_ports(a.before) | held[a.id]) - _ports(a.after) for a in moving}
    givers = [action for action in moving if left[action.id]]
    for taker in moving if givers else ():
        known = taker.id in statuses and "publishes" in statuses[taker.id]
        wanted = _ports(taker.after) - (held[taker.id] if known else _ports(taker.before))
        for giver in givers:
            ports = [p for p in wanted if any(_meet(p, other) for other in left[giver.id])]
            if ports and giver.id != taker.id and giver.id.host == taker.id.host:
                yield _Transfer(taker, giver, tuple(sorted(ports)))


def _ports(tree: Tree | None, member: str = "publish") -> set[_Port]:
    return {(p["protocol"], p["port"], p["ip"]) for p in (tree or {}).get(member, ())}


def _meet(one: _Port, other: _Port) -> bool:
    """Tell whether some packets are meant for both: one port, on one address or on all."""
    return one[:2] == other[:2] and (one[2] == other[2] or _ANY in (one[2], other[2]))


def _done(action: Action) -> Need:
    """Return the need of an action that is over, its old object gone."""
    proves = action.verb is not Verb.DELETE and not is_ports(action.id)
    running = (action.after or {}).get("state", "running") == "running"
    return Need(action.id, Condition.HEALTHY if proves and running else Condition.STARTED)


def _taking(action: Action, transfers: Iterable[_Transfer]) -> Action:
    """Return *action* as one that takes over ports, and says so."""
    for transfer in transfers:
        giver = transfer.giver
        ports = ", ".join(f"{port}/{protocol}" for protocol, port, _ in transfer.ports)
        names = (giver.id, giver.renamed_from) if giver.renamed_from else (giver.id,)
        action = replace(
            action,
            reason=f"{action.reason}; takes over port {ports} of {giver.id.resource}",
            takes_over=(*action.takes_over, *(name.resource for name in names)),
        )
    return action
