"""`bayplan stats`: what containers use."""

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from provider.cli.containers import find, open_containers
from provider.cli.output import Output, complain, show, table
from provider.cli.session import Session

if TYPE_CHECKING:
    from runtime.cgroup import Stats

_WINDOW_S = 0.5


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(stats)


def stats(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[CONTAINER...]", help="All that run by default.")
    ] = None,
    once: Annotated[bool, typer.Option("--no-stream", help="One reading, then end.")] = False,
    output: Annotated[Output, typer.Option("-o", "--output", help="Format.")] = Output.TEXT,
) -> None:
    """Show CPU, memory, tasks and I/O of containers, again and again until interrupted.

    With -o json one reading, with -o jsonl one a line.

    \b
    Examples:
      bayplan stats --no-stream
      bayplan stats shop.redis
    """
    from runtime.container.summary import summaries

    session: Session = context.obj
    containers = open_containers(session, "stats")
    if containers.hierarchy.is_empty:
        complain("warning: nothing is counted: no cgroup is delegated to this user")
    while True:
        configs = (
            [find(session, name) for name in names]
            if names
            else [
                config
                for config in summaries(session.root)
                if containers.status(config.id).state == "running"
            ]
        )
        first = {config.id: containers.cgroup(config.id).stats() for config in configs}
        began = time.monotonic()
        time.sleep(_WINDOW_S)
        second = {config.id: containers.cgroup(config.id).stats() for config in configs}
        elapsed = time.monotonic() - began
        rows = [
            (config.name, _cpu(first[config.id], second[config.id], elapsed), second[config.id])
            for config in configs
        ]
        _show(rows, output, clear=not once and sys.stdout.isatty())
        if once or output is Output.JSON:
            return


def _show(rows: "list[tuple[str, float | None, Stats]]", output: Output, *, clear: bool) -> None:
    if output is not Output.TEXT:
        from runtime.spec import to_json

        show([{"name": n, "cpuPercent": c, **to_json(s)} for n, c, s in rows], output)
        return
    lines = [
        [
            name,
            "-" if cpu is None else f"{cpu:.1f}%",
            f"{_size(stats.memory_bytes)} / {_size(stats.memory_limit_bytes)}",
            "-" if stats.pids is None else str(stats.pids),
            f"{_size(stats.io_read_bytes)} / {_size(stats.io_write_bytes)}",
        ]
        for name, cpu, stats in rows
    ]
    if clear:
        print("\033[H\033[2J", end="")
    print(table(lines, ["NAME", "CPU", "MEMORY / LIMIT", "TASKS", "READ / WRITTEN"]), flush=True)


def _cpu(before: "Stats", after: "Stats", elapsed_s: float) -> float | None:
    if before.cpu_ns is None or after.cpu_ns is None:
        return None
    return round((after.cpu_ns - before.cpu_ns) / elapsed_s / 1e7, 1)


def _size(size_bytes: int | None) -> str:
    if size_bytes is None:
        return "-"
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("the last unit takes everything")
