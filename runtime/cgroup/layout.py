"""Which files of which groups a set of resources comes to on one host. Pure.

Everything the host could enforce is listed, also what was not asked for: a limit taken out of
the resources goes back to its default, and one set by hand is found.
"""

from __future__ import annotations

from runtime.cgroup.controller import Controller
from runtime.cgroup.hierarchy import Hierarchy
from runtime.cgroup.setting import Setting, parse_size, same_size, same_words
from runtime.cgroup.v1.controllers import CONTROLLERS as V1
from runtime.cgroup.v2.controllers import CONTROLLERS as V2
from runtime.errors import ContainerError, UnsupportedHostError
from runtime.record import dataclass, replace
from runtime.spec import Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

# The same subject under its two names.
_V1_NAMES = {"io": "blkio"}
_ON_V1_TOO = {"cpu.weight": "cpu", "io.weight": "blkio"}
"""Weights are the one thing of v2's own words that v1 can do as well: file -> v1 controller."""
DEFAULT_PIDS = 4096
"""What every container is limited to without anybody asking for it, and may go without."""
_NOT_DELEGATED = "no cgroup that could limit this is delegated to this user"
_NOTHING_IS = "systemd does so on a host with cgroup v2 only"
_OTHERS_ARE = (
    "controllers there: {names}; systemd gives more with Delegate=cpu cpuset io memory pids in"
    " /etc/systemd/system/user@.service.d/delegate.conf, from the next session on"
)


@dataclass(frozen=True, slots=True)
class Work:
    """One controller of a part, and what its files should hold."""

    controller: Controller
    settings: tuple[Setting, ...]
    needed: bool
    """False: not asked for and not one that every group has; only reset where it is there."""


@dataclass(frozen=True, slots=True)
class Part:
    """The group in one hierarchy."""

    version: Literal[1, 2]
    mount: str
    works: tuple[Work, ...]

    @property
    def needed(self) -> bool:
        """Tell whether the group must be there in this hierarchy.

        On version 2 also without controllers, to be frozen and killed by.
        """
        return self.version == 2 or any(work.needed for work in self.works)


@dataclass(frozen=True, slots=True)
class Layout:
    """All parts, and what no part can do."""

    parts: tuple[Part, ...]
    warnings: tuple[str, ...]
    refused: tuple[str, ...] = ()
    """Fields that were asked for and that nothing of what is delegated can do."""
    why_refused: str = ""


def lay_out(hierarchy: Hierarchy, resources: Resources) -> Layout:
    """Return what *resources* come to on a host with *hierarchy*.

    Raises:
        ContainerError: the resources contradict each other.
    """
    unified, warnings = _by_controller(hierarchy, resources)
    mounts: dict[str, list[Work]] = {}
    for name, controller in V1.items():
        place = hierarchy.places.get(name)
        if place is not None and place.version == 1:
            needed = name in hierarchy.always or controller.wanted(resources)
            work = Work(controller, controller.settings(resources), needed)
            mounts.setdefault(place.folder, []).append(work)
    parts = [Part(1, folder, tuple(works)) for folder, works in mounts.items()]
    if hierarchy.unified is not None:
        works_2 = _unified_works(hierarchy, resources, unified)
        if hierarchy.uses_unified or any(work.needed for work in works_2):
            parts.append(Part(2, hierarchy.unified, works_2))
    warnings += _not_enforced(hierarchy, resources)
    if hierarchy.confined:
        fields = dict.fromkeys(warning.partition(":")[0] for warning in warnings)
        why = _NOTHING_IS
        if hierarchy.unified is not None:
            why = _OTHERS_ARE.format(names=", ".join(sorted(hierarchy.on(2))) or "none")
        is_default = resources.pids is not None and resources.pids.limit == DEFAULT_PIDS
        by_default = {"pids.limit"} if is_default else set()
        kept = tuple(f"{field}: {_NOT_DELEGATED}" for field in fields if field in by_default)
        return Layout(tuple(parts), kept, tuple(f for f in fields if f not in by_default), why)
    return Layout(tuple(parts), tuple(warnings))


def refuse(layout: Layout) -> None:
    """Refuse limits that cannot be had; root's, which a host's kernel lacks, are warnings.

    Raises:
        UnsupportedHostError: names them.
    """
    if layout.refused:
        fields = ", ".join(layout.refused)
        raise UnsupportedHostError(f"{fields}: {_NOT_DELEGATED} ({layout.why_refused})")


def _unified_works(
    hierarchy: Hierarchy, resources: Resources, unified: dict[str, dict[str, str]]
) -> tuple[Work, ...]:
    works = []
    on_v2 = hierarchy.on(2)
    for name in (*V2, *sorted(unified.keys() - V2)):
        if name not in on_v2 and name not in unified:
            continue
        controller = V2.get(name) or _foreign(name)
        needed = name in hierarchy.always or controller.wanted(resources) or name in unified
        settings = _override(controller.settings(resources), unified.get(name, {}))
        works.append(Work(controller, settings, needed))
    return tuple(works)


def _foreign(name: str) -> Controller:
    """Return a controller we know nothing of but its name: misc, dmem, cgroup itself."""
    return Controller(name=name, settings=lambda _: (), wanted=lambda _: False)


def _override(settings: tuple[Setting, ...], values: dict[str, str]) -> tuple[Setting, ...]:
    known = {setting.file for setting in settings}
    replaced = tuple(
        replace(s, field=f"unified.{s.file}", value=values[s.file]) if s.file in values else s
        for s in settings
    )
    added = tuple(
        Setting(f"unified.{file}", file, value, default="", same=_same_value)
        for file, value in values.items()
        if file not in known
    )
    return replaced + added


def _same_value(expected: str, actual: str) -> bool:
    """Compare values of a file whose meaning we do not know: as words, else as sizes."""
    if same_words(expected, actual):
        return True
    try:
        return parse_size(expected) is not None and same_size(expected, actual)
    except ContainerError:
        return False


def _by_controller(
    hierarchy: Hierarchy, resources: Resources
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Sort ``unified`` by controller; those this host does not have on v2 become warnings."""
    found: dict[str, dict[str, str]] = {}
    warnings = []
    for file, value in sorted(resources.unified.items()):
        name, dot, _ = file.partition(".")
        if not dot or "/" in file:
            # crun's words, which its tests look for; those below, too.
            text = f"unified: the specified key has not the form CONTROLLER.VALUE `{file}`"
            raise ContainerError(text)
        if name in hierarchy.on(2) or (name == "cgroup" and hierarchy.uses_unified):
            found.setdefault(name, {})[file] = value
        elif _ON_V1_TOO.get(file) not in hierarchy.places:
            text = f"the requested cgroup controller `{name}` is not available on cgroup v2 here"
            warnings.append(f"unified.{file}: {text}")
    return found, warnings


def _not_enforced(hierarchy: Hierarchy, resources: Resources) -> list[str]:
    """Return words for settings whose controller this host has in no version."""
    all_of_them = {**V1, **V2}
    warnings = [
        f"{setting.field}: this host has no {name} controller"
        for name, controller in all_of_them.items()
        if name not in _V1_NAMES.values()
        and not (name == "devices" and hierarchy.confined)
        and hierarchy.places.keys().isdisjoint((name, _V1_NAMES.get(name, name)))
        for setting in controller.settings(resources)
        # What is asked for in v2's own words has its warning already.
        if not setting.is_default and not setting.field.startswith("unified.")
    ]
    return list(dict.fromkeys(warnings))
