"""Parts of the driver protocol that most kinds fill in the same way: by doing nothing."""

from collections.abc import Iterable, Mapping, Sequence

from provider.engine.ports import Context, Finding, Outcome
from provider.errors import ApplyError
from provider.model.ids import InstanceId
from provider.model.plan import Action
from provider.model.resource import Condition, Resource
from provider.model.tree import Tree


class PassiveObserver:
    """An observer whose resources have no host facts in them and need no preflight."""

    def inputs(self, resource: Resource) -> Tree:
        """Return nothing: the spec says it all."""
        return {}

    def preflight(self, actions: Sequence[Action]) -> Iterable[Finding]:
        """Find nothing."""
        return ()


class PassiveDriver(PassiveObserver):
    """A driver whose things are ready as soon as they are there."""

    def prepare(self, context: Context) -> None:
        """Nothing is shared between actions."""

    def settle(self, action: Action, context: Context, deadline: float) -> Outcome | None:
        """Return at once: what is there is ready."""
        return None

    def await_condition(
        self, instance: InstanceId, condition: Condition, context: Context, deadline: float
    ) -> None:
        """Return at once: what is there is ready."""

    def finish(self, context: Context) -> Mapping[InstanceId, ApplyError]:
        """Nothing was put off."""
        return {}
