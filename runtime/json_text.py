"""JSON by the C half of `json`, for what starts anew at each command.

The Python half is there for what the other does not do, and imports regular expressions for it,
which takes longer than to start many a container. It is asked where anything is wrong, too, so
what is raised, and how it is worded, are the same.
"""

from _json import encode_basestring_ascii, make_encoder, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BLANK = " \t\n\r"


class _Context:
    """How the scanner reads: as ``json.loads`` without arguments."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


def _no_json(value: object) -> object:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


_scan = make_scanner(_Context)  # type: ignore[arg-type] # whatever has these members


def _encoder(colon: str, comma: str) -> make_encoder:
    return make_encoder(
        None, _no_json, encode_basestring_ascii, None, colon, comma, False, False, True
    )


_encode = _encoder(": ", ", ")
_encode_compact = _encoder(":", ",")


def loads(data: "bytes | str") -> "Any":
    """Return what ``json.loads`` does.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested too deeply.
    """
    try:
        text = data if isinstance(data, str) else data.decode()
        start = len(text) - len(text.lstrip(_BLANK))
        value, end = _scan(text, start)
    except (ValueError, StopIteration, SystemError):
        pass  # the last where it looks for the error's class, and `json` is not loaded
    else:
        if not text[end:].strip(_BLANK):
            return value
    import json

    return json.loads(data)


def dumps(value: object, *, compact: bool = False) -> str:
    """Return what ``json.dumps`` does; *compact* without a blank anywhere."""
    return "".join((_encode_compact if compact else _encode)(value, 0))


def dumps_indented(value: object, margin: str = "") -> str:
    """Return what ``json.dumps`` does with an indent of 2; all keys are strings."""
    inner = f"{margin}  "
    if isinstance(value, dict) and value:
        lines = [f"{dumps(k)}: {dumps_indented(v, inner)}" for k, v in value.items()]
    elif isinstance(value, (list, tuple)) and value:
        lines = [dumps_indented(each, inner) for each in value]
    else:
        return dumps(value)
    begin, end = "{}" if isinstance(value, dict) else "[]"
    body = f",\n{inner}".join(lines)
    return f"{begin}\n{inner}{body}\n{margin}{end}"
