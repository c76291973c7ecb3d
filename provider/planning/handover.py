"""What goes from one instance to another in one apply: addresses, volumes, published ports. Pure.

A fixed address is free only when its holder has let go, and so is what cannot be shared by those
whose ``update.order`` is stop-first: who takes it waits for that. A published port is taken over
in one step once the taker is ready for traffic, and its holder serves until then: no connection
is refused in between.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from provider.model.ids import InstanceId
from provider.model.plan import Action, Consequence, Need, Verb
from provider.model.resource import Observed
from provider.model.tree import Tree
from provider.planning.expand import is_ports
from provider.planning.order import done
from runtime.record import dataclass

_Claim = tuple[str, str, str]
"""Host, ``address``, ``volume`` or ``device``, and which."""

_Port = tuple[str, int, str]
"""Protocol, port, address of the host."""

_ANY = "0.0.0.0"


def hand_over(actions: Sequence[Action], observed: Collection[Observed]) -> tuple[Action, ...]:
    """Return *actions* with what they need, take over and hand over of one another.

    What they hold is what is *observed*; of ports, what is recorded where nobody has looked.
    """
    moving = {action.id: action for action in actions if action.verb is not Verb.NOOP}
    given = {o.object_id: o.status["address"] for o in observed if o.status.get("address")}
    waits = _Waits(actions)
    _release_first(moving, given, waits)
    transfers = [
        replace(transfer, gone=not _wait_until_taken(transfer, moving, waits))
        for transfer in _transfers(moving.values(), observed)
    ]
    taken, left = _by(transfers, "taker"), _by(transfers, "giver")
    return tuple(
        replace(
            _taking(action, taken.get(action.id, ())),
            needs=(*action.needs, *waits.added.get(action.id, ())),
            hands_over=tuple(
                {"protocol": protocol, "port": port, "ip": ip}
                for protocol, port, ip in sorted(
                    {port for transfer in left.get(action.id, ()) for port in transfer.former}
                )
            ),
        )
        for action in actions
    )


class _Waits:
    """Who waits for whom, with what is added; never in a circle."""

    def __init__(self, actions: Iterable[Action]) -> None:
        self._targets = {a.id: [need.target for need in a.needs] for a in actions}
        self.added: dict[InstanceId, list[Need]] = {}

    def add(self, waiter: InstanceId, need: Need) -> bool:
        """Let *waiter* wait, and return True, unless what it would wait for waits for it."""
        if waiter == need.target or self._leads_to(need.target, waiter):
            return False
        self._targets[waiter].append(need.target)
        self.added.setdefault(waiter, []).append(need)
        return True

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
        alone = (action.after or {}).get("update", {}).get("order") == "stop-first"
        for claim in _uses(action.id.host, action.after):
            if claim[1] == "address" or alone:
                for holder in released.get(claim, ()):
                    waits.add(action.id, done(holder))


def _releases(action: Action, given: Mapping[str, str]) -> set[_Claim]:
    claims = set(_uses(action.id.host, action.before))
    if action.verb is Verb.DELETE or action.consequence.rank >= Consequence.REPLACE.rank:
        objects = (action.object_id, *action.leftovers)
        claims |= {(action.id.host, "address", given[o]) for o in objects if o in given}
    return claims.difference(_uses(action.id.host, action.after))


def _uses(host: str, tree: Tree | None) -> Iterable[_Claim]:
    """Yield the fixed addresses, and what one that is stopped first does not share."""
    container = (tree or {}).get("container", {})
    for use in container.get("networks", ()):
        if use["ip"]:
            yield host, "address", use["ip"]
    for use in container.get("volumes", ()):
        if use["volume"] and not use["readOnly"]:
            yield host, "volume", f"{use['project']}/{use['volume']}"
    for use in container.get("devices", ()):
        yield host, "device", use["path"]


@dataclass(frozen=True, slots=True)
class _Transfer:
    """Ports that one takes and another gives up."""

    taker: Action
    giver: Action
    ports: tuple[_Port, ...]
    former: Mapping[_Port, str]
    """As the giver has them, and in whose name."""
    gone: bool = False
    """The giver goes first; until the taker is ready there is nobody."""


def _transfers(moving: Iterable[Action], observed: Iterable[Observed]) -> Iterable[_Transfer]:
    seen = _Seen(observed)
    left = {action.id: seen.left_by(action) for action in moving}
    givers = [action for action in moving if left[action.id]]
    for taker in moving if givers else ():
        wanted = _ports(taker.after) - seen.held_by(taker).keys()
        for giver in givers:
            former = {
                port: owner
                for port, owner in left[giver.id].items()
                if any(_meet(port, other) for other in wanted)
            }
            if former and giver.id != taker.id and giver.id.host == taker.id.host:
                ports = (p for p in wanted if any(_meet(p, other) for other in former))
                yield _Transfer(taker, giver, tuple(sorted(ports)), former)


def _wait_until_taken(
    transfer: _Transfer, moving: Mapping[InstanceId, Action], waits: _Waits
) -> bool:
    """Let the giver serve until then; return False if it cannot, being gone by then."""
    giver, taken = transfer.giver, done(transfer.taker)
    stays = waits.add(giver.id, taken) or (giver.after or {}).get("state") == "running"
    if is_ports(giver.id):
        for action in moving.values():
            stops = (action.after or {}).get("state") == "stopped"
            if action.id.resource == giver.id.resource and action.id != giver.id and stops:
                stays = waits.add(action.id, taken) and stays
    return stays


class _Seen:
    """What is published, and in whose name."""

    def __init__(self, observed: Iterable[Observed]) -> None:
        looked_at = [found for found in observed if "publishes" in found.status]
        self._recorded = {o.id: o.status["publishes"] for o in looked_at if not o.is_stray}
        self._strays = {o.object_id: o.status["publishes"] for o in looked_at if o.is_stray}

    def held_by(self, action: Action) -> Mapping[_Port, str]:
        """Return what it publishes now; as recorded, where nobody has looked."""
        found = self._recorded.get(action.renamed_from or action.id)
        if found is None:
            found = self._strays.get(action.object_id)
        if found is None:
            return self._recorded_by(action)
        return {_port(each): each["owner"] for each in found}

    def left_by(self, action: Action) -> Mapping[_Port, str]:
        """Return what it has, or should have, and will have no more."""
        kept = _ports(action.after)
        known = {**self._recorded_by(action), **self.held_by(action)}
        return {port: owner for port, owner in known.items() if port not in kept}

    @staticmethod
    def _recorded_by(action: Action) -> Mapping[_Port, str]:
        owner = (action.renamed_from or action.id).resource.owner
        return dict.fromkeys(_ports(action.before), owner)


def _by(transfers: Iterable[_Transfer], side: str) -> Mapping[InstanceId, list[_Transfer]]:
    found: dict[InstanceId, list[_Transfer]] = {}
    for transfer in transfers:
        found.setdefault(getattr(transfer, side).id, []).append(transfer)
    return found


def _ports(tree: Tree | None) -> set[_Port]:
    return set(map(_port, (tree or {}).get("publish", ())))


def _port(tree: Tree) -> _Port:
    return tree["protocol"], tree["port"], tree["ip"]


def _meet(one: _Port, other: _Port) -> bool:
    """Tell whether some packets are meant for both: one port, on one address or on all."""
    return one[:2] == other[:2] and (one[2] == other[2] or _ANY in (one[2], other[2]))


def _taking(action: Action, transfers: Iterable[_Transfer]) -> Action:
    """Return *action* as one that takes over ports, and says so."""
    for transfer in transfers:
        giver = transfer.giver.id.resource
        ports = ", ".join(map(_words, transfer.ports))
        if transfer.gone:
            when = ", which goes first: closed meanwhile"
        elif _leaves_others(transfer):
            when = ": on other addresses closed meanwhile"
        else:
            when = ""
        # Under the name it had, and by which it may go when this comes to it.
        owners = dict.fromkeys((*transfer.former.values(), giver.owner))
        action = replace(
            action,
            reason=f"{action.reason}; takes over port {ports} of {giver}{when}",
            takes_over=(*action.takes_over, *owners),
        )
    return action


def _words(port: _Port) -> str:
    protocol, number, ip = port
    return f"{number}/{protocol}" if ip == _ANY else f"{ip}:{number}/{protocol}"


def _leaves_others(transfer: _Transfer) -> bool:
    """Tell whether what was open on all addresses of the host is taken on some of them."""
    return any(former[2] == _ANY and former not in transfer.ports for former in transfer.former)
