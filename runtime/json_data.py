"""The dataclasses of `runtime.spec` as JSON data, and back.

Keys are the specification's: camelCase, with its exceptions.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable

from runtime.record import is_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")

# Spellings that are not plain camelCase.
_SPELLING = {
    "block_io": "blockIO",
    "oci_version": "ociVersion",
    "throttle_read_iops_device": "throttleReadIOPSDevice",
    "throttle_write_iops_device": "throttleWriteIOPSDevice",
    "additional_gids": "additionalGids",
    "container_id": "containerID",
    "host_id": "hostID",
    "class_id": "classID",
    "cls": "class",
    "disable_oom_killer": "disableOOMKiller",
    "exec_cpu_affinity": "execCPUAffinity",
}


_SCALARS = frozenset((str, int, bool, float, type(None)))


def json_key(name: str) -> str:
    """Return how a member is spelled in JSON."""
    if name in _SPELLING:
        return _SPELLING[name]
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def to_json(value: Any) -> Any:
    """Return *value* as JSON data; members that are None or empty are left out."""
    kind: Any = type(value)
    if kind in _SCALARS:
        return value
    if kind is tuple:
        return [to_json(v) for v in value]
    if kind is dict:
        return {k: to_json(v) for k, v in value.items()}
    tree = {}
    for name, key in _keys(kind):
        member = to_json(getattr(value, name))
        if member is not None and member != [] and member != {}:
            tree[key] = member
    return tree


@functools.cache
def _keys(cls: Any) -> tuple[tuple[str, str], ...]:
    """Return the members of a dataclass, each with its key in JSON."""
    return tuple((name, json_key(name)) for name in cls.__annotations__)


def from_json(cls: type[T], data: dict[str, Any]) -> T:
    """Return *data* as a *cls*; members this version does not know are ignored (spec: config.md).

    Raises:
        TypeError: a required member is missing.
    """
    kind: Any = cls
    decode = _decoder(kind)
    if decode is None:
        raise TypeError(f"{cls.__name__} has no members")
    made: T = decode(data)
    return made


@functools.cache
def _decoder(hint: Any) -> Callable[[Any], Any] | None:
    """Return what makes a value of the type *hint* from JSON, or None if it is the same there.

    The annotations here are types, never their names, so nobody has to look those up: typing and
    dataclasses take longer to import than a container to start.
    """
    if is_record(hint):
        hints = hint.__annotations__
        names = {key: name for name, key in _keys(hint)}
        # Filled as they are met: most of a spec's types are in no container at hand.
        members: dict[str, Callable[[Any], Any] | None] = {}

        def decoder(data: dict[str, Any]) -> Any:
            found = {}
            for key, value in data.items():
                if (name := names.get(key)) is None:
                    continue
                if key not in members:
                    members[key] = _decoder(hints[name])
                decode = members[key]
                found[name] = value if decode is None else decode(value)
            return hint(**found)

        return decoder
    arguments: tuple[Any, ...] = getattr(hint, "__args__", ())
    if isinstance(hint, types.UnionType):
        (inner,) = (_decoder(a) for a in arguments if a is not types.NoneType)
        return inner and (lambda value: None if value is None else inner(value))
    if getattr(hint, "__origin__", None) is tuple:
        element = _decoder(arguments[0])
        if element is None:
            return lambda value: tuple(value or ())
        return lambda value: tuple([element(v) for v in value or ()])
    if getattr(hint, "__origin__", None) is dict and (member := _decoder(arguments[1])):
        return lambda value: {key: member(v) for key, v in value.items()}
    return None
