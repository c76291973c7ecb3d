"""Drafts to resources: the last step of compiling, where content is read.

A draft with gaps becomes a resource that holds nothing but its edges, for finding cycles; nobody
ever gets it, as something is wrong with the run.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from provider.errors import Problem
from provider.manifest.compiled import SecretSource
from provider.manifest.content import Read, read_config
from provider.manifest.draft import Catalog, Draft
from provider.manifest.gap import sound
from provider.manifest.rendering import LateRenderer
from provider.manifest.secrets import UNRESOLVED
from provider.manifest.variable import is_too_long
from provider.model.ids import Kind, ResourceId
from provider.model.resource import Dependency, Resource
from provider.model.secret import SecretValue
from provider.model.tree import Tree, join
from runtime.record import dataclass, field


@dataclass(slots=True)
class Assembly:
    """Makes resources of drafts, one after the other."""

    hosts: Mapping[ResourceId, Sequence[str]]
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
        if draft.id.kind is Kind.SECRET and draft.complete:
            spec = spec | {"data": dict.fromkeys(self._secret(draft), UNRESOLVED)}
        self.resources.append(self._resource(draft, spec) if draft.complete else self._edges(draft))
        return problems

    def _resource(self, draft: Draft, spec: Tree) -> Resource:
        return Resource(
            id=draft.id,
            spec=spec,
            labels=draft.labels,
            annotations=draft.annotations,
            former_name=draft.former_name,
            dependencies=self.edges[draft.id],
            hosts=tuple(sound(self.hosts[draft.id])),
            prevent_destroy=draft.lifecycle["preventDestroy"],
            prune=draft.lifecycle["prune"],
            ignore=tuple(draft.lifecycle["ignore"]),
            origin=draft.origin,
            provenance=draft.provenance,
        )

    def _edges(self, draft: Draft) -> Resource:
        return Resource(
            id=draft.id,
            spec={"data": {}},
            dependencies=self.edges[draft.id],
            origin=draft.origin,
            provenance=draft.provenance,
        )

    def _secret(self, draft: Draft) -> list[str]:
        """Note where the values of a Secret come from, and return its keys."""
        outside: dict[str, Tree] = {}
        inside: dict[str, SecretValue] = {}
        for key, source in draft.spec["data"].items():
            text = source["text"]
            if text is None:
                outside[key] = source
            else:
                inside[key] = text if isinstance(text, SecretValue) else SecretValue(text.encode())
        if outside:
            self.sources[draft.id] = SecretSource(draft.folder, draft.spec["identity"], outside)
        if inside:
            self.values[draft.id] = inside
        return [*outside, *inside]

    def unusable_variables(self, catalog: Catalog) -> Iterable[Problem]:
        """Yield environment variables taken from Config items that are no plain text."""
        data = {r.id: r.spec["data"] for r in self.resources if r.id.kind is Kind.CONFIG}
        for draft in catalog:
            if draft.container is not None:
                yield from sound(self._unusable(draft, draft.container, data))

    def _unusable(
        self, draft: Draft, container: Tree, data: Mapping[ResourceId, Tree]
    ) -> Iterator[Problem]:
        for name, variable in container["env"].items():
            config = ResourceId(draft.id.project, Kind.CONFIG, variable["config"] or "")
            content = data.get(config, {}).get(variable["key"], "")
            if variable["key"] in self.values.get(config, {}):
                fault = f"{config} key {variable['key']} holds a secret"
                hint = "make it a Secret and use {secret, key}"
            elif not isinstance(content, str) or "\0" in content:
                fault = f"{config} key {variable['key']} is not text"
                hint = "mount it with configs"
            elif is_too_long(name, content.encode()):
                fault = f"{config} key {variable['key']} is longer than 128 KiB"
                hint = "mount it with configs"
            else:
                continue
            yield draft.problem(join("container.env", name), fault, suggestion=hint)
