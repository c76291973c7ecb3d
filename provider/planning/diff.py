"""Compare two trees, member by member. Pure.

Lists compare by their marks (provider.planning.marks). A thing that appears or vanishes as a
whole (a list item, an entry of a free map, an object that was None) is one difference.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from provider.model.plan import UNKNOWN
from provider.model.tree import Tree, item, join
from provider.planning.marks import FREE_MAPS, LIST_MARKS, key_of

REST = UNKNOWN
"""As a key of a free map: there may be more entries than can be known before the apply."""


class Difference(NamedTuple):
    """One place where two trees differ; None stands for absent."""

    path: str
    """Dotted, with the keys: ``container.volumes[/data].readOnly``."""
    pattern: str
    """Dotted, with ``*`` for keys: ``container.volumes.*.readOnly``; finds the rule."""
    before: Any
    after: Any


def differences(before: Tree, after: Tree) -> Iterator[Difference]:
    """Yield where *after* differs from *before*, in the order of *after*'s members."""
    if before != after:
        yield from _objects(before, after, "", "")


def _compare(before: Any, after: Any, path: str, pattern: str) -> Iterator[Difference]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _objects(before, after, path, pattern)
    elif isinstance(before, list) and isinstance(after, list) and pattern in LIST_MARKS:
        yield from _lists(before, after, path, pattern)
    else:
        yield Difference(path, pattern, before, after)


def _objects(before: Tree, after: Tree, path: str, pattern: str) -> Iterator[Difference]:
    free = pattern in FREE_MAPS
    keys = [*after, *(key for key in before if key not in after)]
    if REST in after:
        keys = [key for key in after if key != REST]
    for key in keys:
        below = f"{pattern}.*" if free else f"{pattern}.{key}" if pattern else key
        yield from _compare(before.get(key), after.get(key), join(path, key), below)


def _lists(before: list[Any], after: list[Any], path: str, pattern: str) -> Iterator[Difference]:
    mark = LIST_MARKS[pattern]
    old = {key_of(element, mark): element for element in before}
    new = {key_of(element, mark): element for element in after}
    for key in [*new, *(key for key in old if key not in new)]:
        yield from _compare(old.get(key), new.get(key), item(path, key), f"{pattern}.*")


def keep(before: Tree, after: Tree, paths: tuple[str, ...]) -> Tree:
    """Return *after* with what lies at or below *paths* as it is in *before*.

    This is how ``lifecycle.ignore`` works: what is there is wanted as it is.
    """
    kept: Tree = _keep(before, after, paths, "", "")
    return kept


def covers(paths: tuple[str, ...], path: str) -> bool:
    """Return whether *path* is one of *paths*, or below one."""
    return any(
        path == wide or (path.startswith(wide) and path[len(wide)] in ".[") for wide in paths
    )


def _keep(before: Any, after: Any, paths: tuple[str, ...], path: str, pattern: str) -> Any:
    if path and covers(paths, path):
        return before
    if isinstance(before, dict) and isinstance(after, dict):
        below = {
            key: _keep(
                before.get(key),
                after.get(key),
                paths,
                join(path, key),
                f"{pattern}.*" if pattern in FREE_MAPS else f"{pattern}.{key}" if pattern else key,
            )
            for key in [*after, *(key for key in before if key not in after)]
        }
        # In a free map an entry that came out as None is absent.
        free = pattern in FREE_MAPS
        return {key: value for key, value in below.items() if not free or value is not None}
    if isinstance(before, list) and isinstance(after, list) and pattern in LIST_MARKS:
        mark = LIST_MARKS[pattern]
        old = {key_of(element, mark): element for element in before}
        new = {key_of(element, mark): element for element in after}
        merged = (
            _keep(old.get(key), new.get(key), paths, item(path, key), f"{pattern}.*")
            for key in [*new, *(key for key in old if key not in new)]
        )
        return [element for element in merged if element is not None]
    return after
