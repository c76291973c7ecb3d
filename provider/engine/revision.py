"""What was applied when, by whom, with what result: one numbered file per apply that changed.

``state/projects/<project>/revisions/0001.json``, 0600, never changed once written. Written while
the journal is still there, so that no crash loses it: that of an apply which was killed before is
made from its journal by the next run.
"""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from provider.engine.storage import make_folder, read_json, sync_file, write_json, writing
from provider.model.tree import Tree
from runtime.record import dataclass, field


@dataclass(frozen=True, slots=True)
class Revision:
    """One apply."""

    number: int
    """Counts from 1."""
    when: str
    """When it began: UTC, ISO 8601."""
    who: str
    sources: tuple[str, ...]
    """Manifests it was compiled from."""
    desired: str
    """Fingerprint of what was wanted."""
    result: str
    """``ok | failed | interrupted``; killed is interrupted, too."""
    summary: Tree = field(default_factory=dict)
    """Outcome -> number of resources."""


class Revisions:
    """The history of one project. Making it touches nothing on disk."""

    def __init__(self, state: Path, project: str) -> None:
        self.folder = state / "projects" / project / "revisions"

    def list(self) -> tuple[Revision, ...]:
        """Return all revisions, oldest first; empty if the project was never applied."""
        return tuple(self._read(number) for number in self._numbers())

    def has(self, number: int) -> bool:
        """Tell whether there is a revision of that number."""
        return number in self._numbers()

    def last(self) -> Revision | None:
        """Return the newest revision."""
        numbers = self._numbers()
        return self._read(numbers[-1]) if numbers else None

    @property
    def next_number(self) -> int:
        """The number of the revision an apply is about to make."""
        numbers = self._numbers()
        return numbers[-1] + 1 if numbers else 1

    def write(self, revision: Revision) -> None:
        """Add a revision; durable when this returns. The caller holds the project's lock.

        Raises:
            UnwritableError: there is no space, or the disk is broken.
        """
        path = self.folder / f"{revision.number:04}.json"
        with writing(path):
            make_folder(self.folder)
            write_json(path, encode_revision(revision), sync=True)
            sync_file(self.folder)

    def _numbers(self) -> tuple[int, ...]:
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return ()
        return tuple(sorted(int(n[:-5]) for n in names if n.endswith(".json") and n[0] != "."))

    def _read(self, number: int) -> Revision:
        return decode_revision(read_json(self.folder / f"{number:04}.json"))


def encode_revision(revision: Revision) -> Tree:
    """Return a revision as JSON."""
    return asdict(revision) | {"sources": list(revision.sources)}


def decode_revision(tree: Any) -> Revision:
    """Return the revision *tree* was made from."""
    return Revision(**{**tree, "sources": tuple(tree["sources"])})
