"""`bayplan push`, `tag`: images under names, and at registries."""

from typing import Annotated

import typer

from provider.cli.images import stored
from provider.cli.options import TlsVerify
from provider.cli.output import Output, readable_size, show
from provider.cli.session import Session
from provider.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(push)
    app.command()(tag)


def push(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="IMAGE", help="Its name, or its digest.")],
    target: Annotated[
        str | None,
        typer.Argument(metavar="[TARGET]", help="[REGISTRY/]REPOSITORY[:TAG]; else its name."),
    ] = None,
    tls_verify: TlsVerify = True,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print the digest only.")] = False,
    output: Annotated[Output, typer.Option("-o", "--output", help="Format.")] = Output.TEXT,
) -> None:
    """Put an image of this host at a registry; only what is not there yet moves.

    \b
    Examples:
      bayplan push ghcr.io/org/app:1
      bayplan push shop/web registry.example.com/shop/web:2
    """
    from provider.cli.transfers import Transfers
    from runtime.image.reference import parse_reference
    from runtime.image.store import ImageStore
    from runtime.registry.access import Access
    from runtime.registry.push import push as push_image

    session: Session = context.obj
    session.require_root("push")
    store = ImageStore(session.root)
    digest = stored(store, name)
    reference = parse_reference(target or name)
    access = Access(insecure=not tls_verify)
    with Transfers(str(reference), quiet=quiet or output is not Output.TEXT) as transfers:
        pushed = push_image(store, digest, access.target(reference), reference, transfers=transfers)
    if output is not Output.TEXT:
        show(
            {
                "name": str(reference),
                "digest": pushed.digest,
                "sent": pushed.sent,
                "present": pushed.present,
                "mounted": pushed.mounted,
            },
            output,
        )
    elif quiet:
        print(pushed.digest)
    else:
        said = [f"sent {readable_size(pushed.sent)}" if pushed.sent else "nothing to send"]
        if pushed.present:
            said.append(f"{readable_size(pushed.present)} were there")
        if pushed.mounted:
            said.append(f"{readable_size(pushed.mounted)} were in another repository there")
        print(f"{reference}: {pushed.digest}, {', '.join(said)}")


def tag(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="IMAGE", help="A name, or a digest.")],
    new: Annotated[str, typer.Argument(metavar="NAME", help="[REGISTRY/]REPOSITORY[:TAG].")],
) -> None:
    """Give an image one more name.

    \b
    Examples:
      bayplan tag shop/web registry.example.com/shop/web:2
    """
    from runtime.image.reference import parse_reference
    from runtime.image.store import ImageStore

    session: Session = context.obj
    session.require_root("tag")
    store = ImageStore(session.root)
    digest = stored(store, name)
    reference = parse_reference(new)
    if reference.digest is not None:
        raise UsageError(f"{new}: a digest is not given, an image has it")
    store.tag(str(reference), digest)
