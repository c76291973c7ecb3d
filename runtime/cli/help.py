"""What ``--help`` prints, in the form runc's has."""

import inspect
from collections.abc import Callable, Mapping

from runtime.cli.arguments import GLOBAL, Options
from runtime.version import VERSION

_WIDTH = 28


def of_all(verbs: Mapping[str, Callable[..., int]]) -> str:
    """Return the text for the command itself; *verbs* are told by their docstrings."""
    return "\n".join(
        (
            "NAME:\n   bayplan-oci - runs containers as the OCI runtime-spec describes them\n",
            "USAGE:\n   bayplan-oci [global options] command [options] ID\n",
            f"VERSION:\n   {VERSION}\n",
            "COMMANDS:",
            *(f"   {name:{_WIDTH}}{_first_line(function)}" for name, function in verbs.items()),
            f"\nGLOBAL OPTIONS:\n{_options(GLOBAL)}",
        )
    )


def of_verb(name: str, function: Callable[..., int], options: Options) -> str:
    """Return the text for one verb."""
    lines = [
        f"NAME:\n   bayplan-oci {name} - {_first_line(function)}\n",
        f"USAGE:\n   bayplan-oci {name} [options] {_OPERANDS.get(name, 'ID')}".rstrip(),
    ]
    if options.name:
        lines.append(f"\nOPTIONS:\n{_options(options)}")
    return "\n".join(lines)


_OPERANDS = {
    "list": "",
    "spec": "",
    "features": "",
    "kill": "ID [SIGNAL]",
    "ps": "ID [options of ps(1)]",
    "exec": "ID COMMAND [ARGUMENT]...",
}


def _first_line(function: Callable[..., int]) -> str:
    text = (inspect.getdoc(function) or "").partition("\n")[0].rstrip(".")
    return text[:1].lower() + text[1:]


def _options(options: Options) -> str:
    names: dict[str, list[str]] = {}
    for name, first in options.name.items():
        names.setdefault(first, []).append(f"--{name}" if len(name) > 1 else f"-{name}")
    rows = (", ".join(each) for each in names.values())
    takes_value = (options.takes_value[first] for first in names)
    return "\n".join(
        f"   {row}{' VALUE' if takes else ''}" for row, takes in zip(rows, takes_value, strict=True)
    )
