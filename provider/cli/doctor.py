"""`bayplan doctor`: everything of ours on this host has an owner, and nothing is missing."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provider.cli.output import Output, show
from provider.cli.session import Session, projects
from provider.errors import DamagedError, ProviderError

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
    Data is never touched: of a volume it says what is wrong with it, and what to do.

    \b
    Examples:
      bayplan doctor
      bayplan doctor --mend
    """
    from runtime.container import doctor as runtime_doctor
    from runtime.errors import ContainerError

    session: Session = context.obj
    session.require_root("doctor --mend" if mend else "doctor")
    if mend:
        session.make_root()
    try:
        found = _mend(session) if mend else ()
        known = projects(session)
        findings = (
            *_damages(session, known),
            *_unrecorded(session, known),
            *runtime_doctor.examine(session.root),
        )
    except ContainerError as error:
        raise ProviderError(str(error)) from error
    mended = [finding for finding in found if finding.mendable and finding not in findings]
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
    elif not mend and any(finding.mendable for finding in findings):
        these = "these" if all(finding.mendable for finding in findings) else "what can be mended"
        print(f"`bayplan doctor --mend` mends {these}")
    return 1 if findings else 0


def _mend(session: Session) -> "tuple[Finding, ...]":
    """Mend while no project is being applied: what is half made is not an orphan.

    Raises:
        LockBusyError: an apply is at work.
    """
    from provider.cli.planning import who
    from provider.engine.lock import project_lock
    from runtime.container.doctor import mend

    known = projects(session)
    with ExitStack() as locks:
        for project in known:
            locks.enter_context(
                project_lock(session.root.state, project, owner=who(), reason="doctor")
            )
        damages = _damages(session, known)
        for finding in damages:
            # What it recorded is found by its mark, and made anew.
            Path(finding.object).unlink(missing_ok=True)
        return (*damages, *mend(session.root))


def _damages(session: Session, known: Sequence[str]) -> "tuple[Finding, ...]":
    """Return the damaged files of the projects."""
    from provider.engine.storage import damaged_files
    from runtime.container.doctor import Finding

    return tuple(
        Finding("record", error.path, f"is damaged ({error.how})")
        for project in known
        for error in damaged_files(session.root.state, project)
    )


def _unrecorded(session: Session, known: Sequence[str]) -> "Iterator[Finding]":
    """Yield where ledgers and volumes or containers do not know of each other; data is kept."""
    from provider.drivers.mark import instance_of
    from provider.engine.observe import read_entries
    from provider.model.ids import Kind
    from runtime.container.config import list_configs
    from runtime.container.doctor import Finding
    from runtime.container.folders import config_file
    from runtime.container.volume import data_folder, list_volumes

    # Before the ledgers: what is made meanwhile is in a journal already.
    found = {volume.id: instance_of(volume.mark) for volume in list_volumes(session.root)}
    containers = {
        config.id: (config.name, instance_of(config.mark))
        for config in list_configs(session.root, skip_damaged=True)
        if config.mark
    }
    recorded: dict[str, set[str]] = {}
    owners = {owner.resource.project for owner in found.values() if owner}
    owners |= {owner.resource.project for _, owner in containers.values() if owner}
    for project in sorted({*known, *owners}):
        try:
            entries = read_entries(session.root.state, project).values()
        except DamagedError:
            continue  # a finding of its own
        recorded[project] = {i for entry in entries for i in (entry.object_id, *entry.leftovers)}
        for entry in entries:
            folder = data_folder(session.root, entry.object_id).parent
            lasts = entry.id.resource.kind is Kind.VOLUME and entry.effective is not None
            if lasts and not folder.is_dir():
                problem = (
                    f"is gone, and with it the data of {entry.id} of project {project}; put it"
                    " back, or begin with an empty one: bayplan apply --accept-data-loss"
                )
                yield Finding("volume", str(folder), problem, mendable=False)
    for volume_id, owner in found.items():
        if owner and volume_id not in recorded.get(owner.resource.project, (volume_id,)):
            problem = (
                "is in no ledger; it is kept, and the next apply of project"
                f" {owner.resource.project} that has {owner} adopts it"
            )
            folder = data_folder(session.root, volume_id).parent
            yield Finding("volume", str(folder), problem, mendable=False)
    for container_id, (name, owner) in containers.items():
        if not owner or not config_file(session.root, container_id).exists():
            continue  # replaced meanwhile
        if container_id not in recorded.get(owner.resource.project, (container_id,)):
            problem = (
                f"({name}) is in no ledger; the next apply of project {owner.resource.project}"
                " removes it"
            )
            yield Finding("container", container_id, problem, mendable=False)
