"""`bayplan doctor`: everything of ours on this host has an owner, and nothing is missing."""

from contextlib import ExitStack
from pathlib import Path
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
        findings = (*_damages(session), *runtime_doctor.examine(session.root))
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
        damages = _damages(session)
        for finding in damages:
            # What it recorded is found by its mark, and made anew.
            Path(finding.object).unlink(missing_ok=True)
        return (*damages, *mend(session.root))


def _damages(session: Session) -> "tuple[Finding, ...]":
    """Return the damaged files of all projects."""
    from provider.engine.storage import damaged_files
    from runtime.container.doctor import Finding

    return tuple(
        Finding("record", error.path, f"is damaged ({error.how})")
        for project in projects(session)
        for error in damaged_files(session.root.state, project)
    )
