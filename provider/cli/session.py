"""What every verb needs: which world, which user, which terminal."""

import os
import re
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from provider.errors import NotPermittedError, UsageError
from runtime.record import dataclass, field

if TYPE_CHECKING:
    from runtime.root import Root

_LOOKING = frozenset(
    {
        *("plan", "status", "get", "ps", "top", "events", "logs", "inspect", "stats", "images"),
        *("revision list", "wait", "doctor"),
    }
)
"""Verbs that leave no trace where nothing of the user runs: they start nothing to be root in."""
_ROOT_HINT = "name a folder, with --root or BAYPLAN_ROOT; one that is not there is made"


@dataclass(frozen=True, slots=True)
class Session:
    """One call of the command line."""

    root_folder: str | None = None
    uid: int = field(default_factory=os.geteuid)
    """Who called: an ordinary user has become root of namespaces of their own meanwhile."""

    @property
    def root(self) -> "Root":
        """The world chosen with ``--root`` or BAYPLAN_ROOT.

        Raises:
            UsageError: there is something that is no folder.
        """
        from runtime.root import Root

        if self.root_folder is not None:
            try:
                is_folder = stat.S_ISDIR(os.stat(self.root_folder).st_mode)
            except NotADirectoryError:
                is_folder = False
            except FileNotFoundError:
                is_folder = True  # it will be
            if not is_folder:
                raise UsageError(f"--root {self.root_folder}: not a folder", hint=_ROOT_HINT)
        elif self.uid:
            return self._home()
        return Root.at(self.root_folder)

    def _home(self) -> "Root":
        from runtime.rootless.folders import root_of

        return root_of(self.uid, os.environ)

    def make_root(self) -> None:
        """Make the state folder of the world. Idempotent.

        Raises:
            UsageError: the folder chosen with ``--root`` cannot be made.
        """
        from provider.engine.storage import make_folder

        try:
            make_folder(self.root.state)
        except OSError as error:
            if self.root_folder is None or os.path.isdir(self.root_folder):
                raise
            raise UsageError(
                f"--root {self.root_folder}: cannot be made: {error.strerror}", hint=_ROOT_HINT
            ) from error

    @property
    def cache(self) -> Path | None:
        """Where compiled manifests are kept; only root has such a place."""
        folder = self.root.state / "cache"
        return folder if os.geteuid() == 0 else None

    def require_root(self, verb: str) -> None:
        """Be root: an ordinary user in namespaces of their own, which this process then enters.

        Raises:
            NotPermittedError: this user can have none; with what may be done without.
        """
        if os.geteuid() == 0:
            return
        from runtime.errors import UnsupportedHostError
        from runtime.rootless.client import enter
        from runtime.rootless.folders import holder_folder

        try:
            enter(holder_folder(self._home()), start=verb not in _LOOKING)
        except UnsupportedHostError as error:
            raise NotPermittedError(
                f"{verb} needs root, or what lets ordinary users have containers: {error}",
                hint="without either these work: validate, graph, explain, schema, normalize",
            ) from error


def is_terminal() -> bool:
    """Tell whether people read standard error as it happens."""
    return sys.stderr.isatty()


def wants_colour(stream_is_terminal: bool) -> bool:
    """Tell whether to colour, see https://no-color.org."""
    return (
        stream_is_terminal
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM", "dumb") != "dumb"
    )


def projects(session: Session) -> list[str]:
    """Return the projects that were ever applied in this world."""
    from provider.engine.ledger import project_names

    return project_names(session.root.state)


def check_project(name: str) -> str:
    """Return *name* if it can be one of a project.

    Raises:
        UsageError: it is not a DNS label.
    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name):
        raise UsageError(
            f"{name!r} is not a project name", hint="lower case letters, digits and inner hyphens"
        )
    return name
