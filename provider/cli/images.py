"""`bayplan images` and `bayplan rmi`: the store of this host."""

from typing import TYPE_CHECKING, Annotated

import typer

from provider.cli.output import Output, show, table
from provider.cli.session import Session
from provider.errors import ProviderError, RefusedError

if TYPE_CHECKING:
    from runtime.image.store import ImageStore


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(images)
    app.command()(rmi)


def images(
    context: typer.Context,
    output: Annotated[Output, typer.Option("-o", "--output", help="Format.")] = Output.TEXT,
) -> None:
    """List the images of this host by name. Those of a project are called PROJECT/NAME.

    \b
    Examples:
      bayplan images
      bayplan images -o json | jq -r '.[].name'
    """
    from provider.model.units import format_size
    from runtime.image.store import ImageStore

    session: Session = context.obj
    session.require_root("images")
    found = ImageStore(session.root).list()
    if output is not Output.TEXT:
        show(
            [
                {"name": i.name, "digest": i.digest, "taggedAt": i.tagged_at, "size": i.size}
                for i in found
            ],
            output,
        )
        return
    rows = [[i.name, i.digest[7:19], i.tagged_at, format_size(i.size)] for i in found]
    print(table(rows, ["NAME", "DIGEST", "TAGGED", "SIZE"]))


def rmi(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Names.")],
) -> None:
    """Forget images by name, and what only they needed.

    \b
    Examples:
      bayplan rmi quickstart/python
    """
    from runtime.container.config import list_configs
    from runtime.image.store import ImageStore

    session: Session = context.obj
    session.require_root("rmi")
    store = ImageStore(session.root)
    used = {config.image: config.name for config in list_configs(session.root)}
    for name in names:
        digest = stored(store, name)
        if digest in used:
            raise RefusedError(f"image {name} is in use by container {used[digest]}")
        store.untag(store.full_name(name))
        print(name)
    store.gc(used)


def stored(store: "ImageStore", name: str) -> str:
    """Return the digest of the image *name*.

    Raises:
        ProviderError: it is not here.
    """
    digest = store.resolve(name)
    if digest is None:
        raise ProviderError(f"no image {name}", hint="`bayplan images` lists them")
    return digest
