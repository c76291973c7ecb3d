"""``state``, ``list`` and ``ps``."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping

from runtime import json_text
from runtime.cli import group as cgroups
from runtime.cli.arguments import Options, UsageError, one, only, parse
from runtime.cli.context import Context
from runtime.cli.folder import Folder, Status, condition, list_ids, state_of
from runtime.errors import ContainerError, DamagedError, NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Values = Mapping[str, list[str]]


def state(context: Context, values: Values, rest: list[str]) -> int:
    """Print the container's state, as the specification has it and a little more."""
    folder = context.folder(only(rest))
    status = folder.read()
    more = {
        "rootfs": _rootfs(folder, status),
        "created": status.created,
        "cgroup": status.cgroup,
    }
    if status.scope is not None:
        more["systemd-scope"] = status.scope
    word = _condition(folder, status)
    print(json_text.dumps_indented({**state_of(status, word), **more}))
    return 0


def list_all(context: Context, values: Values, rest: list[str]) -> int:
    """Print the containers below the root."""
    if rest:
        raise UsageError("list takes no container id")
    if "quiet" in values:
        print("".join(f"{each}\n" for each in list_ids(context.root)), end="")
        return 0
    rows = []
    for each in list_ids(context.root):
        folder = context.folder(each)
        try:
            rows.append(_row(folder))
        except (NotFoundError, FileNotFoundError):  # being made, or deleted in between
            continue
        except DamagedError as error:
            context.report.warning(str(error))
    if _format(values) == "json":
        # Some read it with patterns: as runc writes it.
        print(json_text.dumps(rows, compact=True))
        return 0
    columns = ("id", "pid", "status", "bundle", "created", "owner")
    table = [[c.upper() for c in columns], *([str(row[c]) for c in columns] for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(columns))]
    for line in table:
        print(
            "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
        )
    return 0


def _row(folder: Folder) -> dict[str, Any]:
    status = folder.read()
    row = state_of(status, _condition(folder, status))
    del row["annotations"]  # after what runc has first
    return {
        **row,
        "rootfs": _rootfs(folder, status),
        "created": status.created,
        "annotations": status.annotations,
        "owner": _user_name(os.stat(folder.path).st_uid),
    }


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # no account: as runc shows it
        return f"#{uid}"


def ps(context: Context, values: Values, rest: list[str]) -> int:
    """Print the pids of the container's processes, or what is asked of the program of that name."""
    if not rest:
        raise UsageError("give a container id")
    words = rest[1:]
    try:
        more, others = parse(words, Options(values=("format f",)))
    except UsageError:
        more, others = {}, words
    folder = context.folder(rest[0])
    status = folder.read()
    found = list(cgroups.members(status))
    if others:
        _run_ps(words, found)
    elif _format({**values, **more}) == "json":
        print(json_text.dumps(found))
    else:
        print("\n".join(("PID", *map(str, found))))
    return 0


def _run_ps(options: list[str], pids: list[int]) -> None:
    """Print what ps says with these *options*, of *pids* only.

    Raises:
        ContainerError: it fails, or shows no pids.
    """
    import subprocess

    done = subprocess.run(["ps", *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ContainerError(f"ps {' '.join(options)}: {done.stderr.strip()}")
    head, *lines = done.stdout.splitlines()
    if "PID" not in head.split():
        raise ContainerError(f"ps {' '.join(options)} shows no PID")
    column = head.split().index("PID")
    wanted = {str(pid) for pid in pids}
    print("\n".join((head, *(line for line in lines if line.split()[column] in wanted))))


def _condition(folder: Folder, status: Status) -> str:
    return condition(folder, status, frozen=cgroups.is_frozen(status))


def _rootfs(folder: Folder, status: Status) -> str:
    root = folder.read_config().get("root") or {}
    return os.path.join(status.bundle, root.get("path") or "rootfs")


def _format(values: Values) -> str:
    word = one(values, "format") or "table"
    if word not in ("table", "json"):
        raise UsageError(f"--format is table or json, not {word}")
    return word
