"""Whether JSON data have the types the specification gives them. Pure.

`from_json` trusts its data: those of our own engine were looked at long before.
"""

from __future__ import annotations

import types

from runtime.json_data import json_key
from runtime.record import is_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def misfit(hint: Any, value: Any) -> str | None:
    """Return the path of the first member of JSON *value* that is not of the type *hint*.

    It is empty for *value* itself. Members that are null or in no *hint* are left to others.
    """
    if isinstance(hint, types.UnionType):
        (hint,) = (each for each in hint.__args__ if each is not types.NoneType)
    if value is None:
        return None
    members: list[tuple[object, Any, Any]]
    origin = getattr(hint, "__origin__", None)
    if is_record(hint) and isinstance(value, dict):
        hints = {json_key(name): each for name, each in hint.__annotations__.items()}
        members = [(key, hints[key], value[key]) for key in value if key in hints]
    elif origin is dict and isinstance(value, dict):
        members = [(key, hint.__args__[1], each) for key, each in value.items()]
    elif origin is tuple and isinstance(value, list):
        members = [(index, hint.__args__[0], each) for index, each in enumerate(value)]
        if None in value:
            return str(value.index(None))
    else:
        # A bool is an int for Python, not for JSON.
        return None if type(value) is hint else ""
    for key, each, found in members:
        if (path := misfit(each, found)) is not None:
            return f"{key}.{path}" if path else str(key)
    return None
