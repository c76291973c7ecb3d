"""What a partial run (``--only``, ``-l``) leaves behind: users of what it changes. Pure."""

from collections.abc import Iterable, Sequence

from provider.model.ids import Kind
from provider.model.plan import Action, Consequence, Verb
from provider.model.resource import Observed
from provider.planning.options import PlanOptions

_CONTENT = frozenset({Kind.IMAGE, Kind.CONFIG, Kind.SECRET})
"""Kinds whose users have to follow each change, not only when it is made anew."""


def left_behind(
    actions: Sequence[Action], records: Iterable[Observed], options: PlanOptions
) -> tuple[str, ...]:
    """Return, in words, what uses something that *actions* change but may not be touched."""
    changed = {action.id for action in actions if _concerns_users(action)}
    found = {
        (record.id.resource, target)
        for record in records
        if not options.acts_on(record.id)
        for target in record.needs
        if target in changed
    }
    return tuple(
        f"{user} uses {target}, which is changed, but is not part of this run;"
        " the next apply of all brings it along"
        for user, target in sorted(found)
    )


def _concerns_users(action: Action) -> bool:
    if action.verb is not Verb.UPDATE:
        return False
    if action.consequence.rank >= Consequence.REPLACE.rank:
        return True
    said = any(not change.path.startswith("metadata.") for change in action.changes)
    return said and action.id.resource.kind in _CONTENT
