"""What carrying out an action involves: pure questions the apply asks."""

from collections.abc import Collection

from provider.errors import ProviderError
from provider.model.ids import InstanceId, Kind
from provider.model.plan import Action, Consequence, Verb
from provider.model.resource import World
from provider.planning.effective import CONTAINER_KINDS, unknown_paths
from provider.planning.expand import is_ports
from provider.planning.facts import Facts


def error_code(error: ProviderError) -> str:
    """Return the word a report has for an error: ``applyFailed``, ``unsettled`` ..."""
    name = type(error).__name__.removesuffix("Error")
    return "applyFailed" if name == "Apply" else name[:1].lower() + name[1:]


def initial_facts(world: World, going: Collection[InstanceId]) -> Facts:
    """Return what an apply knows to begin with: all that is there and stays."""
    staying = (found for found in world.observed if not found.is_stray and found.id not in going)
    return Facts((*world.foreign, *staying))


def makes_object(action: Action) -> bool:
    """Return whether the action brings a new object into being, which needs a name."""
    anew = action.consequence.rank >= Consequence.REPLACE.rank
    return action.verb in (Verb.CREATE, Verb.RUN) or (action.verb is Verb.UPDATE and anew)


def settles(action: Action) -> bool:
    """Return whether the action starts a process that has to prove itself."""
    if action.id.resource.kind not in CONTAINER_KINDS or is_ports(action.id):
        return False
    if action.verb is Verb.DELETE or (action.after or {}).get("state") == "stopped":
        return False
    if action.takes_over and action.verb is Verb.UPDATE:
        return True  # ready for the traffic it takes, before it takes it
    return makes_object(action) or action.consequence is Consequence.RESTART


def missing(action: Action) -> str:
    """Return what keeps a container from being performed: something nobody told."""
    if action.id.resource.kind not in CONTAINER_KINDS or action.verb is Verb.DELETE:
        return ""
    unknown = unknown_paths(action.after)
    return f"{action.id}: not known when it was needed: {', '.join(unknown)}" if unknown else ""


def settle_time(action: Action, margin_s: float) -> float:
    """Return how long what runs may take to prove itself, in seconds."""
    tree = action.after or {}
    if action.id.resource.kind is Kind.JOB:
        return float(tree["timeout"] * (1 + tree["retries"])) + margin_s
    health = tree["container"]["health"]
    if health is None:
        return float(tree["update"]["healthyFor"]) + margin_s
    probing = health["retries"] * (health["interval"] + health["timeout"])
    return float(health["startPeriod"] + probing) + margin_s
