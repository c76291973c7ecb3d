"""`bayplan login` and `logout`: who we are to registries."""

import sys
from typing import Annotated

import typer

from provider.cli.options import TlsVerify
from provider.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(login)
    app.command()(logout)


_Registry = Annotated[str, typer.Argument(metavar="[REGISTRY]", help="HOST[:PORT].")]


def login(
    registry: _Registry = "docker.io",
    username: Annotated[
        str | None, typer.Option("-u", "--username", help="Asked for, if it is not given.")
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="The password is what comes on standard input.")
    ] = False,
    tls_verify: TlsVerify = True,
) -> None:
    """See whether a registry knows a name and password, and keep them for pull and push.

    They are kept in Docker's config.json, or by the credential helper that it names. A password is
    no argument: whoever looks at processes would see it.

    \b
    Examples:
      bayplan login ghcr.io -u me --password-stdin < token
    """
    from runtime.registry.access import Access
    from runtime.registry.auth import Credentials
    from runtime.registry.credentials import Keyring

    _check(registry)
    if username is None:
        if password_stdin or not sys.stdin.isatty():
            raise UsageError("login: say who, by --username")
        username = typer.prompt("Username")
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True)
    else:
        raise UsageError("login: give the password on standard input, with --password-stdin")
    if not username or not password:
        raise UsageError("login: neither name nor password may be empty")
    credentials = Credentials(username, password)
    Access(insecure=not tls_verify).check(registry, credentials)
    place = Keyring().put(registry, credentials)
    print(f"{registry}: logged in as {username}, kept in {place}")


def logout(registry: _Registry = "docker.io") -> None:
    """Forget the name and password of a registry.

    \b
    Examples:
      bayplan logout ghcr.io
    """
    from runtime.registry.credentials import Keyring

    _check(registry)
    gone = Keyring().drop(registry)
    print(f"{registry}: {'logged out' if gone else 'was not logged in'}")


def _check(registry: str) -> None:
    from runtime.image.reference import is_registry

    if not is_registry(registry):
        raise UsageError(f"{registry}: not a registry, which is HOST[:PORT]")
