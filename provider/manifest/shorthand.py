"""Short forms of the manifest language, and defaults that follow from other fields.

Tables by pattern (dotted, inside ``spec``, ``*`` for a key of the user's). Every short form has an
object form; expanding an object gives it back unchanged. Pure.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from provider.model.tree import Tree

_PUBLISH = re.compile(
    r"(?:(?:(?P<ip>[0-9.]+):)?(?P<port>[0-9]+):)?(?P<target>[0-9]+)(?:/(?P<protocol>[a-z]+))?\Z"
)


def expand(pattern: str, value: Any) -> Any:
    """Return the object form of *value* where *pattern* has short forms, else *value*."""
    expander = _EXPANDERS.get(pattern)
    return value if expander is None or isinstance(value, dict) else expander(value)


def complete(pattern: str, tree: Tree) -> Tree | None:
    """Return *tree* with the members filled in that follow from others; None if it says nothing."""
    completer = _COMPLETERS.get(pattern)
    return tree if completer is None else completer(tree)


def _named(value: str) -> Tree:
    return {"name": value}


def _publish(value: int | str) -> Tree:
    if isinstance(value, int):
        return {"port": value}
    match = _PUBLISH.match(value)
    if match is None:
        raise ValueError(f"not a published port: {value!r}")
    target = int(match["target"])
    tree: Tree = {"port": int(match["port"] or target), "targetPort": target}
    if match["ip"]:
        tree["ip"] = match["ip"]
    if match["protocol"]:
        tree["protocol"] = match["protocol"]
    return tree


def _depends_on(value: str) -> Tree:
    kind, _, name = value.partition("/")
    return {"kind": kind, "name": name}


_EXPANDERS: Mapping[str, Callable[[Any], Tree]] = {
    "container.image": _named,
    "container.env.*": lambda value: {"value": value},
    "container.networks.*": _named,
    "container.configs.*": _named,
    "container.secrets.*": _named,
    "container.devices.*": lambda value: {"path": value},
    "container.ulimits.*": lambda value: {"soft": value, "hard": value},
    "container.restart": lambda value: {"policy": value},
    "publish.*": _publish,
    "dependsOn.*": _depends_on,
    "hosts": lambda value: {"names": value},
    "data.*": lambda value: {"text": value},
}


def _mounted_below(folder: str) -> Callable[[Tree], Tree]:
    def target(tree: Tree) -> Tree:
        if tree["target"] is not None:
            return tree
        end = f"/{tree['key']}" if tree["key"] is not None else ""
        return tree | {"target": f"{folder}/{tree['name']}{end}"}

    return target


def _same_target(tree: Tree) -> Tree:
    return tree if tree["target"] is not None else tree | {"target": tree["path"]}


def _same_port(tree: Tree) -> Tree:
    return tree if tree["targetPort"] is not None else tree | {"targetPort": tree["port"]}


def _resolver(tree: Tree) -> Tree | None:
    return tree if tree["servers"] or tree["search"] or tree["options"] else None


def _throttles(tree: Tree) -> Tree | None:
    limited = [
        device
        for device in tree["devices"]
        if any(device[name] is not None for name in device if name != "path")
    ]
    return tree | {"devices": limited} if limited or tree["weight"] is not None else None


_COMPLETERS: Mapping[str, Callable[[Tree], Tree | None]] = {
    "container.dns": _resolver,
    "container.resources.io": _throttles,
    "container.configs.*": _mounted_below("/run/configs"),
    "container.secrets.*": _mounted_below("/run/secrets"),
    "container.devices.*": _same_target,
    "publish.*": _same_port,
}
