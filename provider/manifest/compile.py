"""Documents to resources: the middle of ``load``, between reading and secrets.

One pass finds everything that is wrong. What is wrong in a document is a gap in its draft
(provider.manifest.gap); what cannot be understood at all is `Lost`: nothing follows from either, so
that one mistake is one problem.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import schemas
from provider.errors import Origin, Problem
from provider.manifest import checks, identity, implied, references
from provider.manifest.addresses import address_problems
from provider.manifest.assemble import Assembly
from provider.manifest.compiled import Compiled
from provider.manifest.content import Read
from provider.manifest.document import Document, TreePath
from provider.manifest.draft import CONTAINER_KINDS, Catalog, Draft, Lost
from provider.manifest.gap import sound
from provider.manifest.hosts import select_hosts
from provider.manifest.normalise import normalise
from provider.manifest.order import dependency_order
from provider.manifest.rendering import LateRenderer
from provider.manifest.shape import spec_shape
from provider.manifest.suggest import did_you_mean
from provider.manifest.validate import Verdict, judge
from provider.model.ids import Kind, ResourceId
from provider.model.resource import Dependency, Desired
from provider.model.tree import Tree, item, join

_EVERYWHERE = frozenset({Kind.IMAGE, Kind.CONFIG, Kind.SECRET})
"""Kinds that select no hosts and are wanted where their dependents are."""


def compile_documents(
    documents: Sequence[Document],
    *,
    project: str | None,
    folders: Mapping[str, str],
    read: Read,
    renderer: LateRenderer,
    unread: Sequence[str | None] = (),
) -> tuple[Compiled, tuple[Problem, ...]]:
    """Return the project *documents* describe, and everything wrong with it, by place.

    *folders* maps the path of each document to the absolute folder its relative paths start at;
    *read* returns the bytes of a file beside the manifests. *unread* is what could not be parsed
    (``Reading.unread``). With problems, the project holds what could be understood.
    """
    distinct, problems = identity.without_duplicates(documents)
    found = [*problems]
    verdicts = [(document, judge(document)) for document in distinct]
    lost = Lost(frozenset(_lost_names(verdicts)), tuple(unread))
    named = identity.find_project(documents, project, may_be_lost=lost.may_hold(Kind.PROJECT))
    found += named.problems
    found += identity.strangers(distinct, named.name)
    drafts = []
    for document, verdict in verdicts:
        found += verdict.problems
        if not _is_lost(document, verdict):
            # A name that is not allowed is one to go by all the same.
            gaps = [path for path in verdict.unknown if path != _NAME]
            draft, more = normalise(
                document, project=named.name, folder=folders[document.path], gaps=gaps
            )
            drafts.append(draft)
            found += more
    drafts = implied.lift_secret_variables(drafts)
    drafts = implied.join_default_network(drafts, Catalog(named.name, drafts, lost))
    catalog = Catalog(named.name, drafts, lost)
    hosts, unselected = select_hosts(catalog)
    found += unselected
    edges: dict[ResourceId, tuple[Dependency, ...]] = {}
    for draft in catalog:
        edges[draft.id], missing = references.edges(draft, catalog)
        found += missing
        found += sound(_ignored_paths(draft))
    found += checks.check(catalog, hosts)
    found += address_problems(catalog, hosts)
    _follow_dependents(hosts, edges)
    assembly = Assembly(hosts=hosts, edges=edges)
    for draft in catalog:
        found += assembly.add(draft, read, renderer)
    found += assembly.unusable_variables(catalog)
    ordered, rest = dependency_order(assembly.resources)
    if rest:
        from provider.manifest.graph import cycle_problems  # networkx takes a third of a second.

        found += cycle_problems(rest)
    project_draft = catalog.get(Kind.PROJECT, named.name)
    desired = Desired(
        project=named.name,
        resources=ordered + rest,
        prune=project_draft.spec["prune"] if project_draft and project_draft.complete else True,
        sources=tuple(dict.fromkeys(document.path for document in documents)),
    )
    return Compiled(desired, assembly.sources, assembly.values), tuple(found)


_NAME: TreePath = ("metadata", "name")
_NEEDED: tuple[TreePath, ...] = ((), ("kind",), ("metadata",), ("spec",))
"""Without one of these, or its name, nothing can be said of a document."""


def _is_lost(document: Document, verdict: Verdict) -> bool:
    return not document.name or any(path in _NEEDED for path in verdict.unknown)


def _lost_names(verdicts: Iterable[tuple[Document, Verdict]]) -> Iterator[tuple[str, str]]:
    for document, verdict in verdicts:
        # Who refers to something not named rightly means this, or what it should have been.
        if not _is_lost(document, verdict) and _NAME not in verdict.unknown:
            continue
        has_kind = document.kind in schemas.KINDS and ("kind",) not in verdict.unknown
        # What has neither kind nor metadata is something else that lies in the folder.
        if has_kind or "metadata" in document.tree or document.is_sensitive(()):
            yield document.kind if has_kind else "", document.name


def _ignored_paths(draft: Draft) -> Iterator[Problem]:
    shape = spec_shape(draft.id.kind)
    for path in draft.lifecycle["ignore"]:
        if not path.startswith("metadata.") and shape.find(path) is None:
            yield draft.problem(
                item("lifecycle.ignore", path),
                f"no field {path} in {draft.id.kind}.spec",
                suggestion=did_you_mean(path, _field_paths(draft)),
            )


def _field_paths(draft: Draft) -> list[str]:
    def walk(tree: Tree, path: str) -> Iterator[str]:
        for key, value in sound(tree.items()):
            yield join(path, key)
            if isinstance(value, dict):
                yield from walk(value, join(path, key))

    return list(walk(draft.spec, ""))


def _follow_dependents(
    hosts: dict[ResourceId, Sequence[str]], edges: Mapping[ResourceId, tuple[Dependency, ...]]
) -> None:
    """Narrow what selects no hosts itself to the hosts of those who need it, if anybody does."""
    users: dict[ResourceId, set[str]] = {}
    for dependent, needs in edges.items():
        for edge in needs:
            if edge.target.kind in _EVERYWHERE and dependent.kind in CONTAINER_KINDS:
                users.setdefault(edge.target, set()).update(sound(hosts[dependent]))
    for target, wanted in users.items():
        if target in hosts:
            hosts[target] = tuple(host for host in sound(hosts[target]) if host in wanted)


def sorted_problems(problems: Iterable[Problem], files: Sequence[str]) -> tuple[Problem, ...]:
    """Return each problem once, in the order of *files* and of lines in them.

    What has no place comes first, other files last.
    """
    rank = {path: position for position, path in enumerate(files)}

    def key(problem: Problem) -> tuple[int, str, int, int]:
        origin = problem.origin or Origin("")
        position = -1 if problem.origin is None else rank.get(origin.path, len(rank))
        return position, origin.path, origin.line, origin.column

    # Texts tell apart what equal problems do not: the items of a loop.
    return tuple(sorted({str(problem): problem for problem in problems}.values(), key=key))
