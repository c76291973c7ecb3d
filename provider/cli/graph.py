"""`bayplan graph`: what depends on what."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provider.cli import options
from provider.cli.output import as_json
from provider.cli.session import Session
from provider.errors import UsageError

if TYPE_CHECKING:
    from provider.model.resource import Desired


class Format(StrEnum):
    """Pictures that can be drawn."""

    TREE = "tree"
    DOT = "dot"
    MERMAID = "mermaid"
    JSON = "json"
    SVG = "svg"
    PNG = "png"


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(options.spread(graph))


def graph(
    context: typer.Context,
    inputs: options.Inputs,
    output: Annotated[
        Format, typer.Option("-o", "--output", help="SVG and PNG need graphviz.")
    ] = Format.TREE,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="Write there, not to stdout.")
    ] = None,
) -> None:
    """Draw the dependency graph of the manifests. Needs no root, changes nothing.

    \b
    Examples:
      bayplan graph -f site/
      bayplan graph -f site/ -o svg --out site.svg
    """
    from provider.manifest import picture

    session: Session = context.obj
    desired = inputs.load(session)
    if output is Format.PNG and out is None and sys.stdout.isatty():
        raise UsageError("a PNG does not belong on a terminal", hint="name a file with --out")
    if output is Format.JSON:
        data = as_json(_document(desired)).encode() + b"\n"
    else:
        data = picture.render(desired.resources, fmt=output.value)
    if out is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        Path(out).write_bytes(data)


def _document(desired: "Desired") -> dict[str, Any]:
    return {
        "project": desired.project,
        "nodes": [
            {"id": str(r.id), "kind": str(r.id.kind), "name": r.id.name} for r in desired.resources
        ],
        "edges": [
            {
                "from": str(resource.id),
                "to": str(edge.target),
                "field": edge.field,
                "condition": str(edge.condition),
                "effect": str(edge.effect),
            }
            for resource in desired.resources
            for edge in resource.dependencies
        ],
    }
