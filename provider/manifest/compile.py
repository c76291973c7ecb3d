"""Documents to resources: the middle of ``load``, between reading and secrets.

One pass finds everything that is wrong. A document that fails its schema is left out of what
follows, but stays known by name, so that one mistake is one problem.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from provider.errors import Origin, Problem
from provider.manifest import checks, identity, implied, references
from provider.manifest.addresses import address_problems
from provider.manifest.compiled import Compiled, SecretSource
from provider.manifest.content import Read, read_config
from provider.manifest.document import Document
from provider.manifest.draft import CONTAINER_KINDS, Catalog, Draft
from provider.manifest.hosts import Inventory
from provider.manifest.normalise import normalise
from provider.manifest.order import dependency_order
from provider.manifest.rendering import LateRenderer
from provider.manifest.secrets import UNRESOLVED
from provider.manifest.shape import spec_shape
from provider.manifest.suggest import did_you_mean
from provider.manifest.validate import validate
from provider.model.ids import Kind, ResourceId
from provider.model.resource import Dependency, Desired, Resource
from provider.model.secret import SecretValue
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
) -> tuple[Compiled, tuple[Problem, ...]]:
    """Return the project *documents* describe, and everything wrong with it, by place.

    *folders* maps the path of each document to the absolute folder its relative paths start at;
    *read* returns the bytes of a file beside the manifests. With problems, the project holds
    what could be understood.
    """
    distinct, problems = identity.without_duplicates(documents)
    found = [*problems]
    named = identity.find_project(documents, project)
    found += named.problems
    found += identity.strangers(distinct, named.name)
    drafts, failed = _normalise(distinct, named.name, folders, found)
    drafts = implied.lift_secret_variables(drafts)
    drafts = implied.join_default_network(drafts, Catalog(named.name, drafts, failed))
    catalog = Catalog(named.name, drafts, failed)
    inventory = Inventory(
        {draft.id.name: draft.labels for draft in catalog if draft.id.kind is Kind.HOST},
        unread=[name for kind, name in failed if kind == Kind.HOST],
    )
    hosts: dict[ResourceId, tuple[str, ...]] = {}
    edges: dict[ResourceId, tuple[Dependency, ...]] = {}
    for draft in catalog:
        hosts[draft.id], unknown = inventory.select(draft)
        edges[draft.id], missing = references.edges(draft, catalog)
        found += unknown + missing
        found += _ignored_paths(draft)
    found += checks.check(catalog, hosts)
    found += address_problems(catalog, hosts)
    _follow_dependents(hosts, edges)
    builder = _Builder(hosts=hosts, edges=edges)
    for draft in catalog:
        found += builder.add(draft, read, renderer)
    found += builder.unusable_variables(catalog)
    ordered, rest = dependency_order(builder.resources)
    if rest:
        from provider.manifest.graph import cycle_problems  # networkx takes a third of a second.

        found += cycle_problems(rest)
    project_draft = catalog.get(Kind.PROJECT, named.name)
    desired = Desired(
        project=named.name,
        resources=ordered + rest,
        prune=project_draft.spec["prune"] if project_draft else True,
        sources=tuple(dict.fromkeys(document.path for document in documents)),
    )
    return Compiled(desired, builder.sources, builder.values), tuple(found)


def _normalise(
    documents: Iterable[Document],
    project: str,
    folders: Mapping[str, str],
    found: list[Problem],
) -> tuple[list[Draft], list[tuple[str, str]]]:
    drafts: list[Draft] = []
    failed: list[tuple[str, str]] = []
    for document in documents:
        problems = validate((_without_lifted_values(document),))
        found += problems
        if problems or document.faulty:
            failed.append((document.kind, document.name))
            continue
        draft, problems = normalise(document, project=project, folder=folders[document.path])
        found += problems
        drafts.append(draft)
    return drafts, failed


def _without_lifted_values(document: Document) -> Document:
    """Return *document* as its schema is to see it.

    A Secret's text that came from --secret-values does not stand in the manifest, so it needs no
    ``allowPlaintext``.
    """
    spec = document.tree.get("spec")
    if document.kind != Kind.SECRET or not document.sensitive or not isinstance(spec, dict):
        return document
    data = spec.get("data")
    items = data.items() if isinstance(data, dict) else ()
    inline = [key for key, source in items if isinstance(source, dict) and "text" in source]
    if not all(document.is_sensitive(("spec", "data", key, "text")) for key in inline):
        return document
    tree = document.tree | {"spec": spec | {"allowPlaintext": True}}
    return dataclasses.replace(document, tree=tree)


def _ignored_paths(draft: Draft) -> list[Problem]:
    shape = spec_shape(draft.id.kind)
    return [
        draft.problem(
            item("lifecycle.ignore", path),
            f"no field {path} in {draft.id.kind}.spec",
            suggestion=did_you_mean(path, _field_paths(draft)),
        )
        for path in draft.lifecycle["ignore"]
        if not path.startswith("metadata.") and shape.find(path) is None
    ]


def _field_paths(draft: Draft) -> list[str]:
    def walk(tree: Tree, path: str) -> Iterator[str]:
        for key, value in tree.items():
            yield join(path, key)
            if isinstance(value, dict):
                yield from walk(value, join(path, key))

    return list(walk(draft.spec, ""))


def _follow_dependents(
    hosts: dict[ResourceId, tuple[str, ...]], edges: Mapping[ResourceId, tuple[Dependency, ...]]
) -> None:
    """Narrow what selects no hosts itself to the hosts of those who need it, if anybody does."""
    users: dict[ResourceId, set[str]] = {}
    for dependent, needs in edges.items():
        for edge in needs:
            if edge.target.kind in _EVERYWHERE and dependent.kind in CONTAINER_KINDS:
                users.setdefault(edge.target, set()).update(hosts[dependent])
    for target, wanted in users.items():
        if target in hosts:
            hosts[target] = tuple(host for host in hosts[target] if host in wanted)


@dataclass(slots=True)
class _Builder:
    """Makes resources of drafts, one after the other."""

    hosts: Mapping[ResourceId, tuple[str, ...]]
    edges: Mapping[ResourceId, tuple[Dependency, ...]]
    resources: list[Resource] = field(default_factory=list)
    sources: dict[ResourceId, SecretSource] = field(default_factory=dict)
    values: dict[ResourceId, dict[str, SecretValue]] = field(default_factory=dict)

    def add(self, draft: Draft, read: Read, renderer: LateRenderer) -> list[Problem]:
        """Add the resource of *draft*; a Project is not a resource."""
        problems: list[Problem] = []
        spec = draft.spec
        if draft.id.kind is Kind.PROJECT:
            return problems
        if draft.id.kind is Kind.CONFIG:
            content = read_config(draft, read=read, renderer=renderer)
            problems += content.problems
            if content.secret:
                self.values[draft.id] = content.secret
            spec = spec | {"data": content.data | dict.fromkeys(content.secret, UNRESOLVED)}
        if draft.id.kind is Kind.SECRET:
            self._add_secret(draft)
            spec = spec | {"data": dict.fromkeys(spec["data"], UNRESOLVED)}
        self.resources.append(
            Resource(
                id=draft.id,
                spec=spec,
                labels=draft.labels,
                annotations=draft.annotations,
                former_name=draft.former_name,
                dependencies=self.edges[draft.id],
                hosts=self.hosts[draft.id],
                prevent_destroy=draft.lifecycle["preventDestroy"],
                prune=draft.lifecycle["prune"],
                ignore=tuple(draft.lifecycle["ignore"]),
                origin=draft.origin,
                provenance=draft.provenance,
            )
        )
        return problems

    def _add_secret(self, draft: Draft) -> None:
        items = draft.spec["data"].items()
        outside = {key: source for key, source in items if source["text"] is None}
        inside = {
            key: SecretValue(source["text"].encode())
            for key, source in items
            if source["text"] is not None
        }
        if outside:
            self.sources[draft.id] = SecretSource(draft.folder, draft.spec["identity"], outside)
        if inside:
            self.values[draft.id] = inside

    def unusable_variables(self, catalog: Catalog) -> Iterable[Problem]:
        """Yield environment variables taken from Config items that are no plain text."""
        data = {r.id: r.spec["data"] for r in self.resources if r.id.kind is Kind.CONFIG}
        for draft in catalog:
            for name, variable in (draft.container["env"] if draft.container else {}).items():
                config = ResourceId(draft.id.project, Kind.CONFIG, variable["config"] or "")
                content = data.get(config, {}).get(variable["key"], "")
                if variable["key"] in self.values.get(config, {}):
                    fault = f"{config} key {variable['key']} holds a secret"
                    hint = "make it a Secret and use {secret, key}"
                elif not isinstance(content, str) or "\0" in content:
                    fault = f"{config} key {variable['key']} is not text"
                    hint = "mount it with configs"
                else:
                    continue
                yield draft.problem(join("container.env", name), fault, suggestion=hint)


def sorted_problems(problems: Iterable[Problem], files: Sequence[str]) -> tuple[Problem, ...]:
    """Return each problem once, in the order of *files* and of lines in them.

    What has no place comes first, other files last.
    """
    rank = {path: position for position, path in enumerate(files)}

    def key(problem: Problem) -> tuple[int, str, int, int]:
        origin = problem.origin or Origin("")
        position = -1 if problem.origin is None else rank.get(origin.path, len(rank))
        return position, origin.path, origin.line, origin.column

    return tuple(sorted(dict.fromkeys(problems), key=key))
