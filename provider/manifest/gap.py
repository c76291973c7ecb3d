"""Values that are not known, because what was written for them is wrong.

The rest of such a document is checked all the same. A check that comes to a gap ends there, so
that nothing is ever concluded from what a wrong value might have been: lists and mappings with a
gap yield what they hold and then raise, and `sound` keeps what was found until then.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

from provider.manifest.document import TreePath
from provider.manifest.suggest import misspelt
from provider.manifest.wording import Failure
from provider.model.tree import Tree

T = TypeVar("T")
U = TypeVar("U")


class GapError(Exception):
    """A value was asked for that is not known."""


class _Gap:
    def __repr__(self) -> str:
        return "GAP"


GAP: Any = _Gap()
"""Stands for one value in a tree on its way through normalising."""


class GappedTree(dict[Any, Any]):
    """An object some members of which, *gaps*, are not known."""

    def __init__(self, known: Tree, gaps: Iterable[str]) -> None:
        super().__init__(known)
        self.gaps = frozenset(gaps)

    def __missing__(self, key: object) -> Any:
        raise GapError(key)

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the member *key*."""
        if key in self.gaps:
            raise GapError(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or _raise()

    def __iter__(self) -> Iterator[Any]:
        yield from super().keys()
        _raise()

    def items(self) -> Any:
        """Yield the members, and raise."""
        yield from super().items()
        _raise()

    def __bool__(self) -> bool:
        return super().__len__() > 0 or _raise()

    def __or__(self, other: Tree) -> "GappedTree":  # type: ignore[override]  # a gap stays one
        return GappedTree(dict(super().items()) | other, self.gaps - other.keys())

    def without(self, names: frozenset[str]) -> "GappedTree":
        """Return the same without the members *names*."""
        known = {name: value for name, value in super().items() if name not in names}
        return GappedTree(known, self.gaps - names)


class GappedList(list[Any]):
    """A list that lacks items."""

    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()
        _raise()

    def __len__(self) -> int:
        raise GapError

    def __contains__(self, element: object) -> bool:
        return super().__contains__(element) or _raise()

    def __bool__(self) -> bool:
        return super().__len__() > 0 or _raise()


def _raise() -> NoReturn:
    raise GapError


def sound(found: Iterable[T]) -> Iterator[T]:
    """Yield what is *found* up to the first gap."""
    try:
        yield from found
    except GapError:
        return


def each(items: Iterable[T], function: Callable[[T], Iterable[U]]) -> Iterator[U]:
    """Yield what *function* finds in each of *items*, a gap in one of them aside."""
    for element in sound(items):
        try:
            yield from function(element)
        except GapError:
            continue


def share(one: Sequence[T], other: Sequence[T]) -> bool:
    """Return whether the two have anything in common.

    Raises:
        GapError: nothing is known to be, but not all is known.
    """
    if not set(sound(one)).isdisjoint(sound(other)):
        return True
    if isinstance(one, GappedList) or isinstance(other, GappedList):
        raise GapError
    return False


def seal_tree(tree: Tree) -> Tree:
    """Return *tree* as one with gaps, if a member is one."""
    if GAP not in tree.values():
        return tree
    gaps = [name for name, value in tree.items() if value is GAP]
    return GappedTree({name: value for name, value in tree.items() if value is not GAP}, gaps)


def seal_list(elements: list[Any]) -> list[Any]:
    """Return *elements* as a list with gaps, if one of them is one."""
    if GAP not in elements:
        return elements
    return GappedList([element for element in elements if element is not GAP])


def without(tree: Tree, names: frozenset[str]) -> Tree:
    """Return *tree* without the members *names*."""
    if isinstance(tree, GappedTree):
        return tree.without(names)
    return {name: value for name, value in tree.items() if name not in names}


def unknown_paths(failure: Failure) -> Iterator[TreePath]:
    """Yield what is not known because of *failure*: the value, what it lacks or may have meant."""
    got, path = failure.got, failure.path
    match failure.keyword:
        case "additionalProperties":
            assert isinstance(got, dict)
            allowed = failure.schema.get("properties", {})
            for name in got.keys() - allowed.keys():
                meant = misspelt(name, allowed)
                for member in [meant] if meant else allowed:
                    if member not in got:
                        yield (*path, member)
        case "required":
            assert isinstance(got, dict)
            yield from ((*path, name) for name in failure.asked if name not in got)
        case "uniqueItems":
            return
        case _:
            yield (*path, str(got)) if failure.of_name else path


def with_gaps(tree: Tree, paths: Iterable[TreePath]) -> Tree:
    """Return *tree* with GAP at each of *paths*; what it shares with *tree* is not changed."""
    result: Any = tree
    for path in paths:
        result = _put(result, path)
    return result if isinstance(result, dict) else {}


def _put(node: Any, path: TreePath) -> Any:
    if not path or node is GAP:
        return GAP
    step, rest = path[0], path[1:]
    if isinstance(node, dict):
        return {**node, step: _put(node.get(step, GAP), rest)}
    if isinstance(node, list) and isinstance(step, int) and step < len(node):
        return [*node[:step], _put(node[step], rest), *node[step + 1 :]]
    return GAP
