"""What an apply writes down as it goes: the ledger, and the facts for the actions that follow."""

from pathlib import Path

from provider.engine.entry import failed_entry, performed_entry, settled_entry
from provider.engine.ledger import Entry, Ledger
from provider.engine.observe import read_entries
from provider.engine.ports import Outcome
from provider.model.ids import InstanceId
from provider.model.plan import Action, Verb
from provider.model.tree import Tree
from provider.planning.facts import Facts


class Books:
    """The ledger of one project during one apply, and the facts that go with it."""

    def __init__(
        self,
        state: Path,
        project: str,
        facts: Facts,
        *,
        apply_id: str,
    ) -> None:
        self._ledger = Ledger(state, project)
        self._entries = read_entries(state, project)
        self._facts = facts
        self._apply_id = apply_id
        self._touched: set[InstanceId] = set()

    def performed(self, action: Action, outcome: Outcome) -> None:
        """Write down that *action* was performed."""
        if action.verb is Verb.DELETE:
            self._forget(action.id)
            return
        former = action.renamed_from or action.id
        before = self._entries.get(former)
        entry = performed_entry(action, outcome, before, self._apply_id)
        self._write(entry, outcome.status)
        if former != action.id:
            self._forget(former)

    def settled(self, action: Action, outcome: Outcome | None) -> None:
        """Write down that what *action* started is as it should be, if that is news."""
        entry = self._entries[action.id]
        settled = settled_entry(entry, outcome)
        if settled != entry:
            self._write(settled, outcome.status if outcome else {})

    def failed(self, action: Action, *, object_id: str, stage: str, error: str) -> None:
        """Write down that *action* failed; of a stray nothing, it is found again by its mark."""
        former = action.renamed_from or action.id
        before = self._entries.get(action.id) or self._entries.get(former)
        if action.verb is Verb.DELETE and before is None:
            return
        entry = failed_entry(
            action,
            before,
            object_id=object_id,
            stage=stage,
            error=error,
            apply_id=self._apply_id,
        )
        self._write(entry, {})

    def sync(self) -> None:
        """Make all that was written survive a power loss."""
        self._ledger.sync(self._touched)

    def _write(self, entry: Entry, status: Tree) -> None:
        self._ledger.write(entry)
        self._touched.add(entry.id)
        self._entries[entry.id] = entry
        self._facts.set(entry.id, entry.observed(status=status))

    def _forget(self, instance: InstanceId) -> None:
        self._ledger.delete(instance)
        self._touched.add(instance)
        self._entries.pop(instance, None)
        self._facts.drop(instance)
