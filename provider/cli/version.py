"""`bayplan version`."""

import typer


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(version)


def version() -> None:
    """Print the version of bayplan, of its manifest language, and of Python."""
    import platform
    from importlib.metadata import version as installed

    print(f"bayplan {installed('bayplan')}")
    print("manifests bayplan/v1alpha1")
    print(f"python {platform.python_version()}, linux {platform.release()}")
