"""`bayplan doctor`: everything of ours on this host has an owner, and nothing is missing."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from provider.cli.output import Output, show
from provider.cli.session import Session, projects
from provider.errors import ProviderError

if TYPE_CHECKING:
    from runtime.container.doctor import Finding


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(doctor)


def doctor(
    context: typer.Context,
    mend: Annotated[
        bool, typer.Option("--mend", help="Remove what nobody owns, put back what is missing.")
    ] = False,
    output: Annotated[Output, typer.Option("-o", "--output", help="Format.")] = Output.TEXT,
) -> int:
    """Look for orphans and losses among cgroups, namespaces, links, leases, mounts and files.

    Exit 1 if there are findings (with --mend: if any are left). Changes nothing without --mend.

    \b
    Examples:
      bayplan doctor
      bayplan doctor --mend
    """
    from runtime.container import doctor as runtime_doctor
    from runtime.errors import ContainerError

    session: Session = context.obj
    session.require_root("doctor")
    try:
        mended = _mend(session) if mend else ()
        findings = runtime_doctor.examine(session.root)
    except ContainerError as error:
        raise ProviderError(str(error)) from error
    if output is not Output.TEXT:
        show(
            {
                name: [{"kind": f.kind, "object": f.object, "problem": f.problem} for f in listed]
                for name, listed in (("mended", mended), ("findings", findings))
            },
            output,
        )
        return 1 if findings else 0
    for finding in mended:
        print(f"mended: {finding.kind} {finding.object}: {finding.problem}")
    for finding in findings:
        print(f"{finding.kind} {finding.object}: {finding.problem}")
    if not findings:
        print("all is well")
    elif not mend:
        print("`bayplan doctor --mend` mends these")
    return 1 if findings else 0


def _mend(session: Session) -> "tuple[Finding, ...]":
    """Mend while no project is being applied: what is half made is not an orphan.

    Raises:
        LockBusyError: an apply is at work.
    """
    from provider.cli.planning import who
    from provider.engine.lock import project_lock
    from runtime.container.doctor import mend

    with ExitStack() as locks:
        for project in projects(session):
            locks.enter_context(
                project_lock(session.root.state, project, owner=who(), reason="doctor")
            )
        return mend(session.root)
