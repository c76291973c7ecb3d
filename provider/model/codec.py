"""Canonical trees to typed views and back, driven by the dataclass's own type hints."""

import dataclasses
import functools
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

from provider.model.tree import Tree

T = TypeVar("T")


def camel(name: str) -> str:
    """Return the manifest's spelling of a field: ``read_only`` -> ``readOnly``."""
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def decode(cls: type[T], tree: Tree) -> T:
    """Return *tree* as a *cls*; absent members take the dataclass's default.

    Raises:
        TypeError: a required member is absent, or a member is unknown. Trees that passed the
            schema and the compiler never raise.
    """
    return typing.cast(T, _decoder(typing.cast(Any, cls))(tree))


@functools.cache
def _decoder(hint: Any) -> Callable[[Any], Any]:
    if dataclasses.is_dataclass(hint):
        return _dataclass_decoder(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (_decoder(a) for a in arguments if a is not types.NoneType)
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        element = _decoder(arguments[0])
        return lambda value: tuple(element(v) for v in value or ())
    if origin is dict:
        element = _decoder(arguments[1])
        return lambda value: {k: element(v) for k, v in value.items()}
    if hint is float:
        return float
    return lambda value: value


def _dataclass_decoder(cls: Any) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(cls)
    fields = {camel(f.name): (f.name, _decoder(hints[f.name])) for f in dataclasses.fields(cls)}

    def decoder(tree: Tree) -> Any:
        unknown = tree.keys() - fields.keys()
        if unknown:
            raise TypeError(f"{cls.__name__} has no {', '.join(sorted(unknown))}")
        members = {}
        for key, value in tree.items():
            name, element = fields[key]
            members[name] = element(value)
        return cls(**members)

    return decoder


def encode(value: Any) -> Any:
    """Return a typed view as a canonical tree: camelCase keys, lists for tuples."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {camel(f.name): encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [encode(v) for v in value]
    if isinstance(value, dict):
        return {k: encode(v) for k, v in value.items()}
    return value
