"""What was applied when, by whom, with what result: one numbered file per apply that changed.

``state/projects/<project>/revisions/0001.json``, 0600, never changed once written.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from provider.engine.storage import make_folder, read_json, sync_file, write_json
from provider.model.tree import Tree


@dataclass(frozen=True, slots=True)
class Revision:
    """One apply."""

    number: int
    """Counts from 1."""
    when: str
    """UTC, ISO 8601."""
    who: str
    sources: tuple[str, ...]
    """Manifests it was compiled from."""
    desired: str
    """Fingerprint of what was wanted."""
    result: str
    """``ok | failed | interrupted``"""
    summary: Tree = field(default_factory=dict)
    """Outcome -> number of resources."""


class Revisions:
    """The history of one project. Making it touches nothing on disk."""

    def __init__(self, state: Path, project: str) -> None:
        self.folder = state / "projects" / project / "revisions"

    def list(self) -> tuple[Revision, ...]:
        """Return all revisions, oldest first; empty if the project was never applied."""
        return tuple(self._read(number) for number in self._numbers())

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
        """Add a revision; durable when this returns. The caller holds the project's lock."""
        make_folder(self.folder)
        path = self.folder / f"{revision.number:04}.json"
        write_json(
            path,
            {
                "number": revision.number,
                "when": revision.when,
                "who": revision.who,
                "sources": list(revision.sources),
                "desired": revision.desired,
                "result": revision.result,
                "summary": revision.summary,
            },
        )
        sync_file(path)
        sync_file(self.folder)

    def _numbers(self) -> tuple[int, ...]:
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return ()
        return tuple(sorted(int(n[:-5]) for n in names if n.endswith(".json") and n[0] != "."))

    def _read(self, number: int) -> Revision:
        tree = read_json(self.folder / f"{number:04}.json")
        return Revision(**{**tree, "sources": tuple(tree["sources"])})
