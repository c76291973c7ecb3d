"""What every verb needs: which world, which user, which terminal."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from provider.errors import NotPermittedError

if TYPE_CHECKING:
    from runtime.root import Root


@dataclass(frozen=True, slots=True)
class Session:
    """One call of the command line."""

    root_folder: str | None = None

    @property
    def root(self) -> "Root":
        """The world chosen with ``--root`` or BAYPLAN_ROOT."""
        from runtime.root import Root

        return Root.at(self.root_folder)

    @property
    def cache(self) -> Path | None:
        """Where compiled manifests are kept; only root has such a place."""
        folder = self.root.state / "cache"
        return folder if os.geteuid() == 0 else None

    def require_root(self, verb: str) -> None:
        """Refuse *verb* unless the caller is root.

        Raises:
            NotPermittedError: with what may be done without.
        """
        if os.geteuid() != 0:
            raise NotPermittedError(
                f"{verb} needs root",
                hint="without root these work: validate, graph, explain, schema, normalize",
            )


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
