"""`bayplan revision`: what was applied when, by whom."""

from typing import Annotated

import typer

from provider.cli import options
from provider.cli.output import Output, show, table
from provider.cli.session import Session, check_project
from provider.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    group = typer.Typer(
        help="What was applied when, by whom, with what result.\n\n"
        "\b\nExamples:\n  bayplan revision list -p shop\n",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    group.command("list")(list_revisions)
    app.add_typer(group, name="revision")


def list_revisions(
    context: typer.Context,
    project: options.ProjectName = None,
    output: Annotated[Output, typer.Option("-o", "--output", help="Format.")] = Output.TEXT,
) -> None:
    """List the revisions of a project, oldest first.

    \b
    Examples:
      bayplan revision list -p shop
    """
    from provider.engine.revision import Revisions

    session: Session = context.obj
    session.require_root("revision list")
    if not project:
        raise UsageError("no project given", hint="name one with -p")
    found = Revisions(session.root.state, check_project(project)).list()
    if output is not Output.TEXT:
        show(
            [
                {
                    "revision": r.number,
                    "when": r.when,
                    "who": r.who,
                    "result": r.result,
                    "sources": list(r.sources),
                    "desired": r.desired,
                    "summary": r.summary,
                }
                for r in found
            ],
            output,
        )
        return
    rows = [
        [
            str(r.number),
            r.when,
            r.who,
            r.result,
            ", ".join(f"{count} {what}" for what, count in r.summary.items() if count),
        ]
        for r in found
    ]
    print(table(rows, ["REVISION", "WHEN", "WHO", "RESULT", "SUMMARY"]))
