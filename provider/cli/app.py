"""The command line: verbs, exit codes, and nothing else.

Each verb lives in a file of its own that exports ``register(app)``. Only the files of the verbs
named on the command line are imported, and each imports what it needs inside the verb: start-up
is paid on every call (design: a no-op apply in well under a second).
"""

import errno
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from click.exceptions import ClickException

from provider import errors as provider_errors
from provider.cli.session import Session
from provider.errors import ManifestError, ProviderError, UsageError
from runtime.errors import ContainerError, KernelError, UnsupportedHostError

EXIT_USAGE = 64
EXIT_SOFTWARE = 70
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

_HOST_SAYS_NO = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
        *(errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    }
)
"""What an operator can mend; any other error of the operating system is a bug of ours."""

VERBS = {
    verb: f"provider.cli.{module}"
    for module, verbs in {
        "validate": ("validate", "normalize"),
        "plan": ("plan",),
        "apply": ("apply",),
        "delete": ("delete",),
        "status": ("status", "get"),
        "graph": ("graph",),
        "explain": ("explain", "schema"),
        "doctor": ("doctor",),
        "revision": ("revision",),
        "version": ("version",),
        "run": ("run",),
        "ps": ("ps",),
        "lifecycle": ("start", "stop", "restart", "kill", "rm", "wait"),
        "logs": ("logs",),
        "exec": ("exec",),
        "inspect": ("inspect",),
        "stats": ("stats",),
        "images": ("images", "rmi"),
    }.items()
    for verb in verbs
}


def build(words: Sequence[str]) -> typer.Typer:
    """Return the application with the verbs among *words*, or with all of them if there are none.

    A word that only looks like a verb (``--root plan``) merely loads one file more.
    """
    app = typer.Typer(
        name="bayplan",
        help="Declare what should run; bayplan converges real containers to it.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_globals)
    named = [VERBS[word] for word in words if word in VERBS]
    for module in dict.fromkeys(named or VERBS.values()):
        importlib.import_module(module).register(app)
    return app


def _globals(
    context: typer.Context,
    root: Annotated[
        str | None,
        typer.Option(
            "--root",
            envvar="BAYPLAN_ROOT",
            metavar="DIR",
            help="Keep state and sockets below DIR instead of /var/lib and /run.",
        ),
    ] = None,
) -> None:
    context.obj = Session(root)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and leave with the exit code of design.md section 8."""
    words = list(sys.argv[1:] if argv is None else argv)
    sys.exit(run(words))


def run(words: list[str]) -> int:
    """Return the exit code of one command line; errors are worded on standard error."""
    try:
        result = build(words)(args=words, standalone_mode=False)
    except ProviderError as error:
        _report(words, error)
        return error.exit_code
    except (ContainerError, KernelError) as error:
        unsupported = isinstance(error, UnsupportedHostError)
        kind = provider_errors.UnsupportedHostError if unsupported else ProviderError
        _report(words, kind(str(error)))
        return kind.exit_code
    except typer.Abort:
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        _say("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`| head`); nothing is wrong, but the interpreter must not
        # complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ClickException as error:
        _report(words, UsageError(error.format_message(), hint="see `bayplan --help`"))
        return EXIT_USAGE
    except OSError as error:
        if error.errno not in _HOST_SAYS_NO:
            return _bug(words, error)
        _report(words, ProviderError(str(error)))
        return 1
    except Exception as error:
        return _bug(words, error)
    return result if isinstance(result, int) else 0


def _bug(words: list[str], error: Exception) -> int:
    traceback.print_exception(error)
    hint = "this is a bug in bayplan; please report it with the lines above"
    _report(words, ProviderError(f"{type(error).__name__}: {error}", hint=hint))
    return EXIT_SOFTWARE


def _report(words: list[str], error: ProviderError) -> None:
    """Word an error for people, and as the one document where JSON was asked for."""
    if isinstance(error, ManifestError):
        for problem in error.problems:
            _say(str(problem))
    else:
        _say(str(error), error.hint)
    asked = {"json", "jsonl"} & {word.rpartition("=")[2].removeprefix("-o") for word in words}
    if asked and any(verb in words for verb in ("plan", "apply", "delete")):
        from provider.cli.show import show_failure

        show_failure(error, lines="jsonl" in asked)


def _say(text: str, hint: str = "") -> None:
    print(f"bayplan: {text}", file=sys.stderr)
    if hint:
        print(f"  {hint}", file=sys.stderr)
