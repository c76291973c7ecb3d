"""Options that several verbs share, spelled once, and the groups they come in.

A verb that takes ``inputs: Inputs`` and is registered with ``spread`` has all options of the
group on its command line.
"""

import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provider.cli.session import Session
from provider.errors import UsageError
from runtime.record import dataclass

if TYPE_CHECKING:
    from provider.manifest.select import Selection
    from provider.model.resource import Desired
    from provider.planning.options import PlanOptions

ProjectName = Annotated[
    str | None,
    typer.Option(
        "-p", "--project", metavar="NAME", help="Name of the project, unless manifests say it."
    ),
]
LockTimeout = Annotated[
    str,
    typer.Option("--lock-timeout", metavar="DURATION", help="Wait that long for another run."),
]
DeleteVolumes = Annotated[
    bool, typer.Option("--delete-volumes", help="Remove volumes too, with all their data.")
]
TlsVerify = Annotated[
    bool,
    typer.Option(
        "--tls-verify/--no-tls-verify",
        help="Without, plain HTTP and certificates nobody vouches for are taken.",
    ),
]
Selector = Annotated[
    str | None,
    typer.Option("-l", "--selector", metavar="SELECTOR", help="Only resources with these labels."),
]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="KIND/NAME", help="Only this resource. May be repeated."),
]


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where manifests come from, and what goes into them."""

    file: Annotated[
        list[str] | None,
        typer.Option(
            "-f",
            "--file",
            metavar="PATH",
            help="Manifest file or folder, or - for standard input. May be repeated.",
        ),
    ] = None
    project: ProjectName = None
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A value for templates; a.b=1 nests."),
    ] = None
    values: Annotated[
        list[str] | None,
        typer.Option("--values", metavar="FILE", help="YAML file with values for templates."),
    ] = None
    secret_values: Annotated[
        list[str] | None,
        typer.Option(
            "--secret-values",
            metavar="FILE",
            help="As --values, for secrets: what they are rendered into is never shown."
            " - is stdin.",
        ),
    ] = None
    overlay: Annotated[
        list[str] | None,
        typer.Option("--overlay", metavar="DIR", help="Folder of partial documents merged on top."),
    ] = None
    template: Annotated[
        bool, typer.Option("--template", help="Render standard input as a Jinja2 template.")
    ] = False

    def load(self, session: Session, *, hmac_key: bytes | None = None) -> "Desired":
        """Return what is desired; without a key secrets are not read.

        Raises:
            UsageError: no manifest is named.
            ManifestError: with every problem of the input.
        """
        from provider.cli.inputs import load_desired

        return load_desired(session, self, hmac_key=hmac_key)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which part of a project is meant, and what may be lost."""

    selector: Selector = None
    only: Only = None
    partial: Annotated[
        bool, typer.Option("--partial", help="The input is not the whole project: prune nothing.")
    ] = False
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Let an empty set remove the whole project.")
    ] = False
    allow_prune: Annotated[
        bool, typer.Option("--allow-prune", help="Let more than half of a project be removed.")
    ] = False
    accept_data_loss: Annotated[
        bool,
        typer.Option("--accept-data-loss", help="Let a lost volume be made anew, empty."),
    ] = False
    delete_volumes: DeleteVolumes = False
    refresh_images: Annotated[
        bool,
        typer.Option("--refresh-images", help="Make all images anew from their sources."),
    ] = False
    rerun_job: Annotated[
        list[str] | None,
        typer.Option("--rerun-job", metavar="NAME", help="Run this Job again. May be repeated."),
    ] = None

    def choose(self, desired: "Desired") -> "tuple[Selection, PlanOptions]":
        """Return the part of *desired* that is meant, and how to plan it.

        What was named brings with it all that it needs.

        Raises:
            UsageError: a selector cannot be read, or a name matches nothing.
        """
        from provider.manifest.select import jobs, select
        from provider.planning.options import PlanOptions

        chosen = select(desired, selector=self.selector or "", only=tuple(self.only or ()))
        needed = frozenset(resource.id for resource in chosen.desired.resources)
        return chosen, PlanOptions(
            partial=self.partial or chosen.partial,
            selected=needed if chosen.partial else None,
            allow_empty=self.allow_empty,
            allow_prune=self.allow_prune,
            accept_data_loss=self.accept_data_loss,
            delete_volumes=self.delete_volumes,
            refresh_images=self.refresh_images,
            rerun_jobs=jobs(desired, chosen.desired, self.rerun_job or ()),
        )


def spread(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Return *verb* as typer should see it: with the options of each group it takes."""
    hints = typing.get_type_hints(verb, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[Any, list[str]]] = {}
    for name, parameter in inspect.signature(verb).parameters.items():
        kind = hints[name]
        if not dataclasses.is_dataclass(kind):
            parameters.append(parameter.replace(annotation=kind, kind=parameter.KEYWORD_ONLY))
            continue
        members = typing.get_type_hints(kind, include_extras=True)
        groups[name] = (kind, list(members))
        parameters += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=members[field.name],
            )
            for field in dataclasses.fields(kind)
        ]

    def command(**words: Any) -> Any:
        for name, (kind, members) in groups.items():
            words[name] = kind(**{member: words.pop(member) for member in members})
        return verb(**words)

    command.__name__, command.__doc__ = verb.__name__, verb.__doc__
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # PEP 362
    return command


def duration(text: str, *, option: str = "") -> float:
    """Return seconds; a bare number is seconds, as in Docker.

    Raises:
        UsageError: it is not a duration.
    """
    import re

    from provider.model.units import parse_duration

    try:
        return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}".lstrip(": "), hint="such as 10s or 1m30s") from None
