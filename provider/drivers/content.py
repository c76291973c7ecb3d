"""Configs and Secrets: they live in the ledger alone.

What containers see of them is made by the container driver, a copy for each container. So there
is nothing in the kernel to observe here, and nothing to perform beyond being recorded.
"""

from collections.abc import Iterable, Mapping

from provider.drivers.passive import PassiveDriver, PassiveObserver
from provider.engine.ledger import Entry
from provider.engine.ports import Context, Outcome
from provider.model.ids import InstanceId, Kind
from provider.model.plan import Action
from provider.model.resource import Observed


class ContentObserver(PassiveObserver):
    """What is recorded is what is there."""

    kinds = frozenset({Kind.CONFIG, Kind.SECRET})

    def observe(self, project: str, entries: Mapping[InstanceId, Entry]) -> Iterable[Observed]:
        """Yield the entries as they are."""
        return [entry.observed() for entry in entries.values()]


class ContentDriver(ContentObserver, PassiveDriver):
    """Records Configs, and the fingerprints of Secrets."""

    def perform(self, action: Action, context: Context) -> Outcome:
        """Return what is to be recorded."""
        return Outcome(str(action.id.resource), action.after or {})
