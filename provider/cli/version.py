"""`bayplan version`."""

from typing import Annotated

import typer

from provider.cli.output import Output, show


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(version)


def version(
    output: Annotated[Output, typer.Option("-o", "--output", help="Format.")] = Output.TEXT,
) -> None:
    """Print the version of bayplan, of its manifest language, and of Python.

    \b
    Examples:
      bayplan version
      bayplan version -o json
    """
    import os
    import sys

    python = ".".join(map(str, sys.version_info[:3]))
    linux = os.uname().release
    if output is not Output.TEXT:
        found = {"version": own_version(), "manifests": "bayplan/v1alpha1"}
        show({**found, "python": python, "linux": linux}, output)
        return
    print(f"bayplan {own_version()}")
    print("manifests bayplan/v1alpha1")
    print(f"python {python}, linux {linux}")


def own_version() -> str:
    """Return the version that is installed."""
    from importlib.metadata import version as installed

    return installed("bayplan")
