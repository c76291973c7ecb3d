"""`bayplan pull`: images from registries."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from provider.cli.images import stored
from provider.cli.options import TlsVerify
from provider.cli.output import Output, readable_size, show
from provider.cli.session import Session
from provider.errors import UsageError

if TYPE_CHECKING:
    from runtime.image.model import Platform


class Policy(StrEnum):
    """When the registry is asked."""

    ALWAYS = "always"
    MISSING = "missing"
    NEWER = "newer"
    NEVER = "never"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(pull)


def pull(
    context: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", help="[REGISTRY/]REPOSITORY[:TAG][@DIGEST]."),
    ],
    platform: Annotated[
        str | None,
        typer.Option(metavar="OS/ARCH[/VARIANT]", help="Instead of this machine's."),
    ] = None,
    policy: Annotated[
        Policy,
        typer.Option(
            help="always asks the registry; missing if the image is not here; newer always, but "
            "what is here will do if nobody answers; never sees that it is here."
        ),
    ] = Policy.ALWAYS,
    tls_verify: TlsVerify = True,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print digests only.")] = False,
    output: Annotated[Output, typer.Option("-o", "--output", help="Format.")] = Output.TEXT,
) -> None:
    """Bring images from a registry to this host; only what is not here yet moves.

    A name without a registry is one of docker.io. Registries, mirrors and certificates are
    configured as for podman, in /etc/containers; `bayplan login` is not needed for what is public.

    \b
    Examples:
      bayplan pull redis:7
      bayplan pull ghcr.io/org/app@sha256:...
      bayplan pull --platform linux/arm64 alpine
    """
    from provider.cli.transfers import Transfers
    from runtime.image.reference import parse_reference
    from runtime.image.store import ImageStore
    from runtime.registry.access import Access
    from runtime.registry.errors import UnreachableError
    from runtime.registry.pull import pull as pull_image

    session: Session = context.obj
    session.require_root("pull")
    references = [parse_reference(name) for name in names]
    wanted = None if platform is None else _platform(platform)
    store = ImageStore(session.root)
    access = Access(insecure=not tls_verify)
    rows = []
    for reference in references:
        name = str(reference)
        here = stored(store, name) if policy is Policy.NEVER else store.resolve(name)
        fetched = present = 0
        if here is None or policy in (Policy.ALWAYS, Policy.NEWER):
            with Transfers(name, quiet=quiet or output is not Output.TEXT) as transfers:
                try:
                    pulled = pull_image(
                        store,
                        access.sources(reference),
                        reference,
                        name,
                        platform=wanted,
                        transfers=transfers,
                    )
                    here, fetched, present = pulled.digest, pulled.fetched, pulled.present
                except UnreachableError as error:
                    if here is None or policy is not Policy.NEWER:
                        raise
                    transfers.said(f"{error}; what is here will do")
        rows.append({"name": name, "digest": here, "fetched": fetched, "present": present})
        if output is Output.TEXT:
            print(here if quiet else _line(name, str(here), fetched, present))
    if output is not Output.TEXT:
        show(rows, output)


def _line(name: str, digest: str, fetched: int, present: int) -> str:
    moved = f"fetched {readable_size(fetched)}" if fetched else "nothing to fetch"
    here = f", {readable_size(present)} were here" if present else ""
    return f"{name}: {digest}, {moved}{here}"


def _platform(text: str) -> "Platform":
    from runtime.image.model import Platform

    parts = text.split("/")
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise UsageError(f"--platform {text}: not OS/ARCH[/VARIANT], as linux/arm64")
    return Platform(parts[1], parts[0], parts[2] if len(parts) == 3 else None)
