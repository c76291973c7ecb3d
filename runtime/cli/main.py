"""Entry of ``bayplan-oci``."""

import gc
import os
import sys

from runtime.cli.arguments import GLOBAL, UsageError, parse
from runtime.kernel.standard import open_standard_streams

_ENTERING = frozenset(("create", "run", "exec"))
"""Verbs whose process, or a child of it, comes into the container's reach."""
_KEPT = ("BAYPLAN_KERNEL_MASK", "LD_LIBRARY_PATH", "XDG_RUNTIME_DIR")
"""Variables that an exec needs: what is in it, those inside may be able to read."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line, and exit with its code."""
    # Nothing here lives long enough to be worth collecting.
    gc.disable()
    open_standard_streams()
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
        # Hooks, which only a container that is made has, may want all of them.
        kept = _KEPT if rest[0] == "exec" else os.environ
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        try:
            _out_of_reach(words, environment)
        except OSError as error:
            from runtime.cli.report import Report

            Report(options).error(f"cannot start again out of containers' reach: {error}", error)
            sys.exit(255 if rest[0] == "exec" else 1)
    from runtime.cli.commands import run

    code = run(options, rest)
    sys.stdout.flush()
    # What Python does at its end takes longer than some commands, and nothing here needs it.
    os._exit(code)


def _out_of_reach(words: list[str], environment: dict[str, str]) -> None:
    """Start again from a Python that nobody can write to, unless this is one."""
    from runtime.kernel.selfexe import command, is_out_of_reach, read_only_interpreter

    if not is_out_of_reach():
        os.execve(read_only_interpreter(), command(__name__, *words), environment)
