"""`bayplan stats`: what containers use."""

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from provider.cli.containers import find, open_containers
from provider.cli.output import Output, complain, readable_size, show, table
from provider.cli.session import Session
from runtime.record import dataclass

if TYPE_CHECKING:
    from runtime.cgroup.stats import Stats
    from runtime.container.containers import Containers
    from runtime.container.summary import Summary

_WINDOW_S = 0.5


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(stats)


@dataclass(frozen=True, slots=True)
class _Row:
    """What one container uses; None is unknown, or of one that does not run."""

    id: str
    name: str
    cpu_percent: float | None
    memory_used_bytes: int | None
    """Without what the kernel can take back at once, as in Docker."""
    memory_percent: float | None
    """Of the limit, or of the host's memory where there is none."""
    net_received_bytes: int | None
    net_sent_bytes: int | None
    stats: "Stats"


def stats(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[CONTAINER...]", help="All that run by default.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("-a", "--all", help="Those that do not run as well.")
    ] = False,
    once: Annotated[bool, typer.Option("--no-stream", help="One reading, then end.")] = False,
    output: Annotated[Output, typer.Option("-o", "--output", help="Format.")] = Output.TEXT,
) -> None:
    """Show CPU, memory, network, I/O and tasks of containers, again and again until interrupted.

    Memory is without page cache that can be had back at once; its percentage is of the limit, or of
    what the host has. With -o json one reading, with -o jsonl one a line.

    \b
    Examples:
      bayplan stats --no-stream
      bayplan stats shop.redis
    """
    from runtime.container.summary import summaries
    from runtime.kernel.procfs import total_memory

    session: Session = context.obj
    containers = open_containers(session, "stats")
    if containers.hierarchy.is_empty:
        complain("warning: nothing is counted: no cgroup is delegated to this user")
    most = total_memory()
    while True:
        chosen = [find(session, name) for name in names or ()] or [
            each
            for each in summaries(session.root)
            if everything or containers.status(each.id).state == "running"
        ]
        first = {each.id: containers.cgroup(each.id).stats() for each in chosen}
        began = time.monotonic()
        time.sleep(_WINDOW_S)
        rows = [_row(containers, each, first[each.id], began, most) for each in chosen]
        _show([row for row in rows if row], output, clear=not once and sys.stdout.isatty())
        if once or output is Output.JSON:
            return


def _row(
    containers: "Containers", each: "Summary", first: "Stats", began: float, most: int
) -> _Row | None:
    """Return what the container uses, and has used since *first*; None if it was removed since."""
    from runtime.container.processes import network_traffic
    from runtime.errors import NotFoundError

    try:
        pid = containers.status(each.id).pid
    except NotFoundError:
        return None
    now = containers.cgroup(each.id).stats()
    used = now.memory_used_bytes
    received, sent = network_traffic(pid) or (None, None)
    return _Row(
        id=each.id,
        name=each.name,
        cpu_percent=_cpu(first, now, time.monotonic() - began),
        memory_used_bytes=used,
        memory_percent=(
            None if used is None else round(100 * used / (now.memory_limit_bytes or most), 2)
        ),
        net_received_bytes=received,
        net_sent_bytes=sent,
        stats=now,
    )


def _show(rows: list[_Row], output: Output, *, clear: bool) -> None:
    if output is not Output.TEXT:
        from runtime.json_data import to_json

        shown = [to_json(row) for row in rows]
        show([row | row.pop("stats", {}) for row in shown], output)
        return
    lines = [
        [
            row.id,
            row.name,
            _percent(row.cpu_percent, 1),
            _pair(row.memory_used_bytes, row.stats.memory_limit_bytes),
            _percent(row.memory_percent, 2),
            _pair(row.net_received_bytes, row.net_sent_bytes),
            _pair(row.stats.io_read_bytes, row.stats.io_write_bytes),
            "-" if row.stats.pids is None else str(row.stats.pids),
        ]
        for row in rows
    ]
    if clear:
        print("\033[H\033[2J", end="")
    header = [
        "ID",
        "NAME",
        "CPU",
        "MEMORY / LIMIT",
        "MEM",
        "NET IN / OUT",
        "READ / WRITTEN",
        "TASKS",
    ]
    print(table(lines, header), flush=True)


def _pair(one: int | None, other: int | None) -> str:
    return f"{readable_size(one)} / {readable_size(other)}"


def _percent(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}%"


def _cpu(before: "Stats", after: "Stats", elapsed_s: float) -> float | None:
    if before.cpu_ns is None or after.cpu_ns is None:
        return None
    return round((after.cpu_ns - before.cpu_ns) / elapsed_s / 1e7, 1)
