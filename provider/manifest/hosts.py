"""Which hosts a resource is for. Pure."""

from collections.abc import Mapping, Sequence

from provider.errors import Problem
from provider.manifest.draft import Draft
from provider.manifest.suggest import did_you_mean
from provider.model.ids import LOCAL_HOST
from provider.model.tree import item


class Inventory:
    """The hosts of a project, in the order of their names; without Host documents, ``local``."""

    def __init__(
        self, hosts: Mapping[str, Mapping[str, str]], *, unread: Sequence[str] = ()
    ) -> None:
        """*hosts* maps names to labels; *unread* are Hosts whose documents have problems."""
        self.is_implicit = not hosts and not unread
        self._hosts = dict(sorted(hosts.items())) or {LOCAL_HOST: {}}
        self._unread = frozenset(unread)

    @property
    def names(self) -> tuple[str, ...]:
        """All hosts."""
        return tuple(self._hosts)

    def select(self, draft: Draft) -> tuple[tuple[str, ...], tuple[Problem, ...]]:
        """Return the hosts *draft* selects: in its own order by name, sorted by label."""
        wanted = draft.hosts
        if wanted is None:
            return self.names, ()
        if wanted["names"] is not None:
            return self._by_name(draft, wanted["names"])
        return self._by_label(draft, wanted["matchLabels"])

    def _by_name(
        self, draft: Draft, names: Sequence[str]
    ) -> tuple[tuple[str, ...], tuple[Problem, ...]]:
        if not names:
            return (), (draft.problem("hosts", "selects no host", expected="one name or more"),)
        problems = tuple(
            draft.problem(
                item("hosts.names", name),
                f"unknown host {name}",
                suggestion=did_you_mean(name, self.names) or self._known(),
            )
            for name in names
            if name not in self._hosts and name not in self._unread
        )
        return tuple(dict.fromkeys(n for n in names if n in self._hosts)), problems

    def _by_label(
        self, draft: Draft, labels: Mapping[str, str]
    ) -> tuple[tuple[str, ...], tuple[Problem, ...]]:
        found = tuple(
            name
            for name, has in self._hosts.items()
            if all(has.get(key) == value for key, value in labels.items())
        )
        if found or self._unread:
            return found, ()
        text = ", ".join(f"{key}={value}" for key, value in labels.items())
        return (), (
            draft.problem("hosts.matchLabels", f"no host has {text}", suggestion=self._known()),
        )

    def _known(self) -> str:
        if self.is_implicit:
            return f"without Host documents there is one host, {LOCAL_HOST}, without labels"
        described = (
            name + "".join(f" {key}={value}" for key, value in sorted(labels.items()))
            for name, labels in self._hosts.items()
        )
        return f"hosts: {'; '.join(described)}"
