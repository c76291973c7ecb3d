"""The verbs, and from what they raise to exit codes."""

import sys
from collections.abc import Callable, Mapping

from runtime.cli.arguments import Options, UsageError, one, parse
from runtime.cli.context import Context
from runtime.cli.report import Report
from runtime.errors import ContainerError, LaunchError

_CREATING = Options(
    flags=("no-pivot", "no-new-keyring", "detach d", "keep"),
    values=("bundle b", "config f", "pid-file", "console-socket", "preserve-fds"),
)
_LIMITS = (
    *("blkio-weight", "cpu-burst", "cpu-idle", "cpu-period", "cpu-quota", "cpu-rt-period"),
    *("cpu-rt-runtime", "cpu-share", "cpuset-cpus", "cpuset-mems", "kernel-memory"),
    *("kernel-memory-tcp", "memory", "memory-reservation", "memory-swap", "pids-limit"),
)


class _Verb:
    """How a verb is called: ``runtime.cli.<module>.<function>(context, options, rest)``."""

    def __init__(
        self, module: str, function: str, options: Options, *, in_order: bool = False
    ) -> None:
        self.module = module
        self.function = function
        self.options = options
        self.in_order = in_order

    def load(self) -> Callable[..., int]:
        """Return the function."""
        module = __import__(f"runtime.cli.{self.module}", fromlist=[self.function])
        function: Callable[..., int] = getattr(module, self.function)
        return function


_VERBS = {
    "create": _Verb("create", "create", _CREATING),
    "run": _Verb("create", "run", _CREATING),
    "start": _Verb("start", "start", Options()),
    "state": _Verb("looking", "state", Options()),
    "list": _Verb("looking", "list_all", Options(flags=("quiet q",), values=("format f",))),
    "ps": _Verb("looking", "ps", Options(values=("format f",)), in_order=True),
    "kill": _Verb("ending", "kill", Options(flags=("all a",))),
    "delete": _Verb("ending", "delete", Options(flags=("force f", "regex"))),
    "pause": _Verb("freezing", "pause", Options()),
    "resume": _Verb("freezing", "resume", Options()),
    "update": _Verb("update", "update", Options(values=("resources r", *_LIMITS))),
    "spec": _Verb("template", "spec", Options(values=("bundle b",))),
    "features": _Verb("features", "features", Options()),
    "exec": _Verb(
        "execute",
        "execute",
        Options(
            flags=("tty t", "detach d", "no-new-privs", "ignore-paused"),
            values=(
                *("cwd", "env e", "user u", "process p", "pid-file", "console-socket"),
                *("preserve-fds", "cap c", "cgroup", "additional-gids g"),
            ),
        ),
        in_order=True,
    ),
}
_FEATURES = "+SYSTEMD +CAP +SECCOMP +EBPF"
"""As crun tells what it was built with; its tests look for the word."""
_REFUSED = ("checkpoint", "restore", "events")


def run(options: Mapping[str, list[str]], words: list[str]) -> int:
    """Run one verb and return the exit code; errors are told, not raised."""
    if "version" in options or (not words and "help" not in options):
        from runtime.version import OCI_VERSION, VERSION

        print(f"bayplan-oci version {VERSION}\nspec: {OCI_VERSION}\n{_FEATURES}")
        return 0 if "version" in options else 1
    if "help" in options or words[0] == "help":
        from runtime.cli.help import of_all

        print(of_all({name: verb.load() for name, verb in _VERBS.items()}))
        return 0
    if len(words) > 1 and words[1] in ("--help", "-h") and words[0] in _VERBS:
        from runtime.cli.help import of_verb

        verb = _VERBS[words[0]]
        print(of_verb(words[0], verb.load(), verb.options))
        return 0
    try:
        report = Report(options)
    except UsageError as error:
        print(f"bayplan-oci: {error}", file=sys.stderr)
        return 1
    # The program's own code may well be 1.
    failed = 255 if words[0] == "exec" else 1
    try:
        return _call(Context(options, report), words)
    except LaunchError as error:
        report.error(_wording(error), error)
        return failed if error.exit_code == 125 else error.exit_code
    except (ContainerError, UsageError) as error:
        report.error(str(error), error)
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        text = str(error) if not error.filename else f"{where}{error.strerror}"
        report.error(text, error)
    except KeyboardInterrupt as error:
        report.error("interrupted", error)
        return 128 + 2
    except Exception as error:
        # A bug of ours: engines show what is in the log, we want the traceback.
        report.error(f"{type(error).__name__}: {error}", error)
        raise
    return failed


def _call(context: Context, words: list[str]) -> int:
    verb = _VERBS.get(words[0])
    if words[0] in _REFUSED:
        raise UsageError(f"{words[0]} is not supported")
    if verb is None:
        raise UsageError(f"there is no command {words[0]}; one of {', '.join(_VERBS)}")
    values, rest = parse(words[1:], verb.options, in_order=verb.in_order)
    return verb.load()(context, values, rest)


def _wording(error: LaunchError) -> str:
    """Return what to say; engines look for these words to tell the causes apart."""
    text = str(error)
    if error.exit_code == 127 and "no such file" not in text.lower():
        return f"{text}: executable file not found in $PATH"
    return text


def wanted(values: Mapping[str, list[str]], name: str) -> int | None:
    """Return the number given for an option, or None.

    Raises:
        UsageError: it is no number.
    """
    text = one(values, name)
    if text is None:
        return None
    if not text.removeprefix("-").isdecimal():
        raise UsageError(f"--{name} is a number, not {text}")
    return int(text)
