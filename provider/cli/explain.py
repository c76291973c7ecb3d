"""`bayplan explain` and `bayplan schema`: the manifest language, from its schemas."""

import json
from typing import Annotated

import typer

from provider.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(explain)
    app.command()(schema)


def explain(
    path: Annotated[
        str | None, typer.Argument(metavar="[PATH]", help="Kind and field, dotted.")
    ] = None,
) -> None:
    """Explain a kind or a field of it; without PATH list the kinds. Needs no root.

    \b
    Examples:
      bayplan explain
      bayplan explain service.spec.container.resources
    """
    from provider.manifest.explain import explain as explain_path

    print(explain_path(path or ""))


def schema(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="A kind, or manifest, plan, report."),
    ] = None,
) -> None:
    """Print a JSON Schema (2020-12), for editors and adapters; without NAME list them.

    \b
    Examples:
      bayplan schema manifest > manifest.schema.json
    """
    import schemas

    if name is None:
        print("\n".join(schemas.names()))
        return
    try:
        document = schemas.bundle(name.lower())
    except KeyError:
        raise UsageError(
            f"no schema {name}", hint="one of: " + ", ".join(schemas.names())
        ) from None
    print(json.dumps(document, indent=2))
