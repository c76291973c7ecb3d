"""Which hosts a resource is for. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from provider.errors import Problem
from provider.manifest.draft import Catalog, Draft, Lost
from provider.manifest.gap import GapError, GappedList, sound
from provider.manifest.suggest import did_you_mean
from provider.model.ids import LOCAL_HOST, Kind, ResourceId
from provider.model.tree import item

_NOTHING = Lost()


def select_hosts(catalog: Catalog) -> tuple[dict[ResourceId, Sequence[str]], list[Problem]]:
    """Return the hosts each resource is for, lists with gaps where that is not all known."""
    inventory = Inventory(
        {draft.id.name: draft.labels for draft in catalog if draft.id.kind is Kind.HOST},
        lost=catalog.lost,
    )
    hosts = {draft.id: inventory.select(draft) for draft in catalog}
    problems = [problem for draft in catalog for problem in sound(inventory.problems(draft))]
    return hosts, problems


class Inventory:
    """The hosts of a project, in the order of their names; without Host documents, ``local``."""

    def __init__(self, hosts: Mapping[str, Mapping[str, str]], *, lost: Lost = _NOTHING) -> None:
        """*hosts* maps names to labels; *lost* may hold more of them."""
        self._lost = lost
        self._is_complete = not lost.may_hold(Kind.HOST)
        self.is_implicit = not hosts and self._is_complete
        self._hosts = dict(sorted(hosts.items())) or {LOCAL_HOST: {}}

    @property
    def names(self) -> Sequence[str]:
        """All hosts."""
        return tuple(self._hosts) if self._is_complete else GappedList(self._hosts)

    def select(self, draft: Draft) -> Sequence[str]:
        """Return the hosts *draft* selects: in its own order by name, sorted by label."""
        wanted = draft.hosts
        try:
            if wanted is None:
                return self.names
            if wanted["names"] is not None:
                return tuple(dict.fromkeys(n for n in wanted["names"] if n in self._hosts))
            found = tuple(name for name in self.names if self._has(name, wanted["matchLabels"]))
        except GapError:
            return GappedList()
        return found

    def problems(self, draft: Draft) -> Iterator[Problem]:
        """Yield what *draft* selects and nobody is."""
        wanted = draft.hosts
        if wanted is None:
            return
        if wanted["names"] is not None:
            for name in wanted["names"]:
                if name not in self._hosts and not self._lost.may_hold(Kind.HOST, name):
                    yield draft.problem(
                        item("hosts.names", name),
                        f"unknown host {name}",
                        suggestion=did_you_mean(name, self._hosts) or self._known(),
                    )
            return
        labels = wanted["matchLabels"]
        if not any(self._has(name, labels) for name in self.names):
            text = ", ".join(f"{key}={value}" for key, value in labels.items())
            yield draft.problem(
                "hosts.matchLabels", f"no host has {text}", suggestion=self._known()
            )

    def _has(self, name: str, labels: Mapping[str, str]) -> bool:
        has = self._hosts[name]
        return all(key in has and has[key] == value for key, value in labels.items())

    def _known(self) -> str:
        if self.is_implicit:
            return f"without Host documents there is one host, {LOCAL_HOST}, without labels"
        described = (
            name + "".join(f" {key}={value}" for key, value in sorted(sound(labels.items())))
            for name, labels in self._hosts.items()
        )
        return f"hosts: {'; '.join(described)}"
