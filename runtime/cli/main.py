"""Entry of ``bayplan-oci``."""

import gc
import os
import sys

from runtime.cli.arguments import GLOBAL, UsageError, parse

_ENTERING = frozenset(("create", "run", "exec"))
"""Verbs whose process, or a child of it, comes into the container's reach."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line, and exit with its code."""
    # Nothing here lives long enough to be worth collecting.
    gc.disable()
    words = sys.argv[1:] if arguments is None else arguments
    try:
        options, rest = parse(words, GLOBAL, in_order=True)
    except UsageError as error:
        print(f"bayplan-oci: {error}", file=sys.stderr)
        sys.exit(1)
    if "BAYPLAN_KERNEL_MASK" in os.environ:
        from runtime.kernel.mask import unknown

        if wrong := unknown():
            print(f"bayplan-oci: {wrong}", file=sys.stderr)
            sys.exit(1)
    if rest and rest[0] in _ENTERING:
        _out_of_reach(words)
    from runtime.cli.commands import run

    code = run(options, rest)
    sys.stdout.flush()
    # What Python does at its end takes longer than some commands, and nothing here needs it.
    os._exit(code)


def _out_of_reach(words: list[str]) -> None:
    """Start again from a Python that nobody can write to, unless this is one."""
    from runtime.kernel.selfexe import command, is_out_of_reach, read_only_interpreter

    if not is_out_of_reach():
        os.execve(read_only_interpreter(), command(__name__, *words), os.environ)
