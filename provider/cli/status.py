"""`bayplan status` and `bayplan get`: what is there now, by the kernel's word."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from provider.cli import options
from provider.cli.output import Output, complain, show, table
from provider.cli.session import Session, check_project, projects
from provider.errors import UsageError
from provider.model.ids import Kind

if TYPE_CHECKING:
    from provider.model.resource import Observed
    from provider.model.tree import Tree


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(status)
    app.command()(get)


def status(
    context: typer.Context,
    project: options.ProjectName = None,
    output: Annotated[Output, typer.Option("-o", "--output", help="Format.")] = Output.TEXT,
) -> int:
    """Show how the projects of this host are; exit 1 if anything is not as it was applied.

    Other people's firewall rules that drop the traffic of containers are warned of.

    \b
    Examples:
      bayplan status
      bayplan status -p shop -o json
    """
    from runtime.errors import ContainerError
    from runtime.network.obstacles import hindrances

    session: Session = context.obj
    session.require_root("status")
    chosen = [check_project(project)] if project else projects(session)
    everything = {name: _observe(session, name) for name in chosen}
    findings = any(_fault(o) for found in everything.values() for o in found)
    try:
        warnings = [str(obstacle) for obstacle in hindrances(session.root)]
    except ContainerError as error:
        warnings = [str(error)]
    if output is not Output.TEXT:
        show(
            {
                "projects": [
                    {"project": name, "resources": [_document(o) for o in found]}
                    for name, found in everything.items()
                ],
                "findings": findings,
                "warnings": warnings,
            },
            output,
        )
        return 1 if findings else 0
    for warning in warnings:
        complain(f"warning: {warning}")
    if project and not everything[project]:
        print(f"project {project}: nothing applied")
    for name, found in everything.items():
        if found:
            print(f"project {name}")
            print(_table(session, found))
    return 1 if findings else 0


def get(
    context: typer.Context,
    resource: Annotated[
        str | None, typer.Argument(metavar="[KIND/NAME]", help="One resource only.")
    ] = None,
    project: options.ProjectName = None,
    output: Annotated[Output, typer.Option("-o", "--output", help="Format.")] = Output.JSON,
) -> None:
    """Print what was applied, in canonical form, with what is there now.

    \b
    Examples:
      bayplan get -p shop
      bayplan get -p shop Service/web
    """
    session: Session = context.obj
    session.require_root("get")
    if not project:
        raise UsageError("no project given", hint="name one with -p")
    found = _observe(session, check_project(project))
    if resource:
        found = [o for o in found if str(o.id.resource).lower() == resource.lower()]
        if not found:
            raise UsageError(f"project {project} has no {resource}")
    if output is Output.TEXT:
        print(_table(session, found))
        return
    show({"project": project, "resources": [_full_document(o) for o in found]}, output)


def _observe(session: Session, project: str) -> "list[Observed]":
    from provider.cli.planning import observers
    from provider.engine.observe import observe

    world = observe(session.root.state, project, observers(session))
    return sorted(world.observed, key=lambda o: o.id)


def _fault(observed: "Observed") -> str:
    """Return in words why the resource is not as it was applied; empty if it is."""
    if observed.is_stray and observed.id.resource.kind is Kind.VOLUME:
        return "in no ledger; kept, and adopted by the next apply that has it"
    if observed.is_stray:
        return "in no ledger; the next apply removes it"
    if observed.attempt:
        return observed.attempt.error or "an apply was interrupted here"
    if observed.deviations:
        return "; ".join(d.cause for d in observed.deviations)
    if observed.status.get("state") == "restarting":
        return f"ended {observed.status['restarts'] + 1} times, and waits to be started again"
    if (observed.status.get("state"), observed.status.get("health")) == ("running", "unhealthy"):
        return "unhealthy"
    return ""


def _table(session: Session, found: "list[Observed]") -> str:
    addresses = _addresses(session)
    rows = [_row(o, addresses.get(o.object_id or "", ())) for o in found]
    return table(rows, ["RESOURCE", "STATE", "ADDRESS", "NOTE"])


def _addresses(session: Session) -> dict[str, list[str]]:
    """Return what each container is reached at, by its id: on its first network first."""
    from runtime.network import store

    found: dict[str, list[tuple[tuple[int, str], str]]] = {}
    for record in store.load_all(session.root):
        for lease in record.leases:
            found.setdefault(lease.container, []).append((lease.place, lease.ip))
    return {container: [ip for _, ip in sorted(held)] for container, held in found.items()}


def _row(observed: "Observed", addresses: Sequence[str]) -> list[str]:
    facts = observed.status
    state = str(facts.get("state") or ("applied" if observed.effective is not None else "not made"))
    if "ready" in facts:
        state = f"{facts['ready']}/{facts['replicas']} ready"
    result = facts.get("result")
    if isinstance(result, dict):
        state = str(result["state"])
    elif state == "running" and facts["health"] != "none":
        state += f" ({facts['health']})"
    address = ", ".join(addresses) or facts.get("subnet") or ""
    note = _fault(observed)
    if not note and facts.get("restarts"):
        note = f"restarted {facts['restarts']} times"
    return [str(observed.id), state, str(address), note]


def _document(observed: "Observed") -> "Tree":
    resource = observed.id.resource
    return {
        "id": str(observed.id),
        "project": resource.project,
        "kind": str(resource.kind),
        "name": resource.name,
        "host": observed.id.host,
        "index": observed.id.index if observed.id.index >= 0 else None,
        "objectId": observed.object_id,
        "status": observed.status,
        "finding": _fault(observed) or None,
    }


def _full_document(observed: "Observed") -> "Tree":
    """Return what `get` prints; fingerprints of secrets are masked, as in a plan."""
    from provider.planning.change import masked

    metadata = (observed.effective or {}).get("metadata", {})
    return _document(observed) | {
        "spec": masked(observed.effective),
        "labels": metadata.get("labels", {}),
        "annotations": metadata.get("annotations", {}),
    }
