"""`bayplan cp`: files between the host and a container."""

import os
from typing import Annotated

import typer

from provider.cli.containers import called, find
from provider.cli.output import complain
from provider.cli.refusal import refusal
from provider.cli.session import Session
from provider.errors import ProviderError, UsageError


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(cp)


def cp(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="[CONTAINER:]SOURCE", help="What to copy.")],
    target: Annotated[str, typer.Argument(metavar="[CONTAINER:]TARGET", help="Where to.")],
    archive: Annotated[
        bool,
        typer.Option("-a", "--archive", help="Keep owners, set-user-id bits and devices."),
    ] = False,
) -> int:
    """Copy files and folders between the host and a container, as cp -r does.

    Into a target that is a folder, else to a file or folder of that name; SOURCE/. is what is in
    the folder. Links are copied as links; one that is the target of a file is replaced, not
    written through. Copies belong to root; modes and times are kept. Of a container that does not
    run there is all but what is mounted in it. As the other side, - is a tar: on standard output
    with SOURCE in it, or from standard input, gzipped perhaps, into TARGET.

    \b
    Examples:
      bayplan cp shop.web.0:/var/log - | tar -x
      bayplan cp shop.web.0:/var/log/app ./logs
      bayplan cp page.html page:/www/
    """
    from provider.cli.leaving import Interrupted, leaving_at_once
    from runtime.container.copying import copy_from, copy_to, tar_from, tar_to
    from runtime.kernel.replace import write_all
    from runtime.rootfs.transfer import How

    session: Session = context.obj
    session.require_root("cp")
    (here, inner_source), (there, inner_target) = _split(source), _split(target)
    if bool(here) == bool(there):
        raise UsageError("exactly one of SOURCE and TARGET is in a container", hint="NAME:/path")
    if here and inner_target == "-" and os.isatty(1):
        raise UsageError("a tar is nothing for a terminal", hint="such as `| tar -t`")
    how = How(
        owner=None if archive else (0, 0),
        set_id=archive,
        devices=archive,
        left_out=lambda what: complain(f"warning: left out: {what}"),
    )
    name = here or there
    container = find(session, name)
    try:
        with leaving_at_once(), called(container, name):
            if here and inner_target == "-":
                tar_from(
                    session.root, container.id, inner_source, lambda data: write_all(1, data), how
                )
            elif there and inner_source == "-":
                with open(0, "rb", buffering=0, closefd=False) as stream:
                    tar_to(session.root, container.id, stream, inner_target, how)
            elif here:
                copy_from(session.root, container.id, inner_source, inner_target, how)
            else:
                copy_to(session.root, container.id, inner_source, inner_target, how)
    except Interrupted as gone:
        return 128 + gone.number
    except BrokenPipeError:
        raise  # whoever reads the tar has gone
    except OSError as error:
        # Names and files are the user's: no refusal of them is a bug of ours.
        raise refusal(error) or ProviderError(f"{error.filename}: {error.strerror}") from error
    return 0


def _split(word: str) -> tuple[str, str]:
    """Return container and path; a word with a slash before its colon is a path of the host."""
    name, colon, path = word.partition(":")
    if not colon or "/" in name or name in ("", "."):
        return "", word
    return name, path or "/"
