"""Values of one container that the kernel would refuse, alone or together. Pure."""

from collections.abc import Callable, Iterator

from provider.errors import Problem
from provider.manifest.draft import Draft
from provider.manifest.gap import each
from provider.manifest.variable import is_too_long
from provider.model.tree import Tree, join
from provider.model.units import format_duration, format_size

_MOST_PROCESSORS = 8192
"""The kernel's own NR_CPUS is never larger."""


def limit_problems(draft: Draft, container: Tree) -> Iterator[Problem]:
    """Yield every problem with the resources, ulimits, variables and waits of *container*."""
    return each(_CHECKS, lambda check: check(draft, container))


def _memory(draft: Draft, container: Tree) -> Iterator[Problem]:
    resources = container["resources"]
    memory = resources["memory"]
    if resources["memorySwap"] is not None and memory is None:
        yield draft.problem(
            "container.resources.memorySwap",
            "swap comes on top of memory, which has no limit",
            expected="`memory` beside it",
        )
    reservation = resources["memoryReservation"]
    if memory is not None and reservation is not None and reservation > memory:
        yield draft.problem(
            "container.resources.memoryReservation",
            f"reserves {format_size(reservation)} of a limit of {format_size(memory)}",
            expected=f"at most {format_size(memory)}",
        )


def _cpuset(draft: Draft, container: Tree) -> Iterator[Problem]:
    for part in (container["resources"]["cpuset"] or "").split(","):
        first, _, last = part.partition("-")
        path = "container.resources.cpuset"
        if last and int(last) < int(first):
            yield draft.problem(path, f"{part} goes backwards", expected=f"{last}-{first}")
        elif first and int(last or first) >= _MOST_PROCESSORS:
            yield draft.problem(
                path, f"there is no processor {last or first}", expected="numbers from 0"
            )


def _ulimits(draft: Draft, container: Tree) -> Iterator[Problem]:
    def one(member: tuple[str, Tree]) -> Iterator[Problem]:
        name, limit = member
        soft, hard = limit["soft"], limit["hard"]
        if hard != -1 and (soft == -1 or soft > hard):
            yield draft.problem(
                join("container.ulimits", name), f"soft limit {soft} is above the hard limit {hard}"
            )

    return each(container["ulimits"].items(), one)


def _capabilities(draft: Draft, container: Tree) -> Iterator[Problem]:
    changes = container["capabilities"]
    for name in changes["add"]:
        if name in changes["drop"] and name != "ALL":
            yield draft.problem("container.capabilities.drop", f"{name} is added and dropped")


def _variables(draft: Draft, container: Tree) -> Iterator[Problem]:
    def one(member: tuple[str, Tree]) -> Iterator[Problem]:
        name, variable = member
        value = variable["value"]
        # A hidden one is looked at when it is a Secret's.
        if isinstance(value, str) and is_too_long(name, value.encode()):
            yield draft.problem(
                join("container.env", name),
                "longer than 128 KiB, which no program can be given",
                suggestion="put it into a Config, and mount that with configs",
            )

    return each(container["env"].items(), one)


def _backoff(draft: Draft, container: Tree) -> Iterator[Problem]:
    restart = container["restart"]
    first, longest = restart["backoff"], restart["maxBackoff"]
    if first > longest:
        yield draft.problem(
            "container.restart.backoff",
            f"a first wait of {format_duration(first)} is above maxBackoff",
            expected=f"at most {format_duration(longest)}",
        )


_CHECKS: tuple[Callable[[Draft, Tree], Iterator[Problem]], ...] = (
    _memory,
    _cpuset,
    _ulimits,
    _capabilities,
    _variables,
    _backoff,
)
