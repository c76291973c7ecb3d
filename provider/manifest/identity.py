"""Whose resources these are: the project of a run, and names that stand twice. Pure."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from provider.errors import Origin, Problem
from provider.manifest.document import Document
from provider.model.ids import Kind

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")


class ProjectName(NamedTuple):
    """The project, "" where it is not known."""

    name: str
    problems: tuple[Problem, ...]


def find_project(
    documents: Iterable[Document], given: str | None, *, may_be_lost: bool = False
) -> ProjectName:
    """Return the project that documents and ``--project`` agree on.

    With *may_be_lost*, what names it may be among what could not be understood.
    """
    problems: list[Problem] = []
    if given is not None and not _NAME.match(given):
        problems.append(
            Problem(
                f"--project `{given}` is not a name",
                expected="a name of a-z, 0-9 and -, at most 63 characters",
            )
        )
        given = ""  # Nothing else is compared with it.
    declared = [d for d in documents if d.kind == Kind.PROJECT and _NAME.match(d.name)]
    name = given or (declared[0].name if declared else "")
    if not name and given is None and not may_be_lost:
        problems.append(
            Problem(
                "no project is named",
                suggestion="add a document {kind: Project, metadata: {name: NAME}} with its "
                "apiVersion, or pass --project NAME",
            )
        )
    for document in declared if given else ():
        if document.name != given:
            problems.append(
                Problem(
                    f"the project is {document.name} here, but --project says {given}",
                    _name_place(document),
                    "metadata.name",
                )
            )
    for document in declared[1:]:
        if document.name != declared[0].name:
            problems.append(
                Problem(
                    f"a run is about one project, and {declared[0].name} is defined"
                    f" ({_name_place(declared[0])})",
                    _name_place(document),
                    "metadata.name",
                )
            )
    return ProjectName(name, tuple(problems))


def strangers(documents: Iterable[Document], project: str) -> tuple[Problem, ...]:
    """Return a problem for each document that says it belongs to another project."""
    path = ("metadata", "project")
    return tuple(
        Problem(
            f"belongs to project {said}, but this run is about {project}",
            document.positions.nearest(path),
            "metadata.project",
        )
        for document in documents
        if isinstance(metadata := document.tree.get("metadata"), dict)
        and isinstance(said := metadata.get("project"), str)
        and project
        and said != project
    )


def without_duplicates(
    documents: Sequence[Document],
) -> tuple[tuple[Document, ...], tuple[Problem, ...]]:
    """Return the first document of each identity, and a problem for each further one."""
    first: dict[tuple[str, str], Document] = {}
    kept: list[Document] = []
    problems: list[Problem] = []
    for document in documents:
        identity = document.kind, document.name
        if not all(identity) or identity not in first:
            first[identity] = document
            kept.append(document)
        else:
            problems.append(
                Problem(
                    f"{document.kind}/{document.name} is defined twice; "
                    f"first at {_name_place(first[identity])}",
                    _name_place(document),
                    "metadata.name",
                )
            )
    return tuple(kept), tuple(problems)


def _name_place(document: Document) -> Origin:
    return document.positions.nearest(("metadata", "name"))
