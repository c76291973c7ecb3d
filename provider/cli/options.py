"""Options that several verbs share, spelled once."""

from typing import Annotated

import typer

Files = Annotated[
    list[str] | None,
    typer.Option(
        "-f",
        "--file",
        metavar="PATH",
        help="Manifest file or folder, or - for standard input. May be repeated.",
    ),
]
ProjectName = Annotated[
    str | None,
    typer.Option("-p", "--project", metavar="NAME", help="Project, where no document names it."),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A value for templates; a.b=1 nests."),
]
Values = Annotated[
    list[str] | None,
    typer.Option("--values", metavar="FILE", help="YAML file with values for templates."),
]
SecretValues = Annotated[
    list[str] | None,
    typer.Option(
        "--secret-values",
        metavar="FILE",
        help="As --values, for secrets: what they are rendered into is never shown. - is stdin.",
    ),
]
Overlays = Annotated[
    list[str] | None,
    typer.Option("--overlay", metavar="DIR", help="Folder of partial documents merged on top."),
]
Template = Annotated[
    bool, typer.Option("--template", help="Render standard input as a Jinja2 template.")
]
Selector = Annotated[
    str | None,
    typer.Option("-l", "--selector", metavar="SELECTOR", help="Only resources with these labels."),
]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="KIND/NAME", help="Only this resource. May be repeated."),
]
LockTimeout = Annotated[
    str,
    typer.Option("--lock-timeout", metavar="DURATION", help="Wait that long for another run."),
]
Partial = Annotated[
    bool, typer.Option("--partial", help="The input is not the whole project: prune nothing.")
]
AllowEmpty = Annotated[
    bool, typer.Option("--allow-empty", help="Let an empty set remove the whole project.")
]
AllowPrune = Annotated[
    bool, typer.Option("--allow-prune", help="Let more than half of a project be removed.")
]
AcceptDataLoss = Annotated[
    bool, typer.Option("--accept-data-loss", help="Let a lost volume be made anew, empty.")
]
RefreshImages = Annotated[
    bool, typer.Option("--refresh-images", help="Look at the sources of all images again.")
]
RerunJob = Annotated[
    list[str] | None,
    typer.Option("--rerun-job", metavar="NAME", help="Run this Job again. May be repeated."),
]
DeleteVolumes = Annotated[
    bool, typer.Option("--delete-volumes", help="Remove volumes too, with all their data.")
]
