"""The command line: verbs, exit codes, and nothing else.

Each verb lives in a file of its own that exports ``register(app)``. Only the files of the verbs
named on the command line are imported, and each imports what it needs inside the verb: start-up
is paid on every call (design: a no-op apply in well under a second).
"""

import gc
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from click.exceptions import ClickException, NoArgsIsHelpError

from provider import errors as provider_errors
from provider.cli.output import complain, silence
from provider.cli.refusal import refusal
from provider.cli.session import Session
from provider.errors import ManifestError, ProviderError, UsageError
from runtime.errors import ContainerError, KernelError, UnsupportedHostError
from runtime.kernel.standard import open_standard_streams

EXIT_USAGE = 64
EXIT_SOFTWARE = 70
EXIT_INTERRUPTED = 130
_COMPLETION = "_BAYPLAN_COMPLETE"
"""Set by the shell that asks how a line may go on."""

VERBS = {
    verb: f"provider.cli.{module}"
    for module, verbs in {
        "validate": ("validate", "normalize"),
        "plan": ("plan",),
        "apply": ("apply",),
        "delete": ("delete",),
        "agent": ("agent",),
        "status": ("status", "get"),
        "graph": ("graph",),
        "explain": ("explain", "schema"),
        "doctor": ("doctor",),
        "revision": ("revision",),
        "version": ("version",),
        "run": ("run",),
        "ps": ("ps",),
        "top": ("top",),
        "events": ("events",),
        "attach": ("attach",),
        "cp": ("cp",),
        "lifecycle": ("start", "stop", "restart", "pause", "unpause", "kill", "rm", "wait"),
        "logs": ("logs",),
        "exec": ("exec",),
        "inspect": ("inspect",),
        "stats": ("stats",),
        "update": ("update", "rename"),
        "images": ("images", "rmi"),
        "pull": ("pull",),
        "push": ("push", "tag"),
        "login": ("login", "logout"),
    }.items()
    for verb in verbs
}


class InterruptedByUserError(ProviderError):
    """Somebody pressed ctrl-c; of an apply, twice: what it was doing is the next one's."""

    exit_code = EXIT_INTERRUPTED


def build(words: Sequence[str]) -> typer.Typer:
    """Return the application with the verbs among *words*, or with all of them if there are none.

    A word that only looks like a verb (``--root plan``) merely loads one file more.
    """
    app = typer.Typer(
        name="bayplan",
        help="Declare what should run; bayplan converges real containers to it.",
        no_args_is_help=True,
        rich_markup_mode=None,
        suggest_commands=False,  # click does so itself
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_globals)
    named = [VERBS[word] for word in words if word in VERBS]
    for module in dict.fromkeys(named or VERBS.values()):
        importlib.import_module(module).register(app)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        from provider.cli.version import own_version

        print(f"bayplan {own_version()}")
        raise typer.Exit


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
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    context.obj = Session(root)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and leave with the exit code of design.md section 8."""
    # What start-up makes stays; looking for garbage in it, again and again, takes 5 ms of 90.
    gc.set_threshold(50_000, 20, 20)
    open_standard_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    sys.exit(run(words))


def run(words: list[str]) -> int:
    """Return the exit code of one command line; errors are worded on standard error."""
    try:
        _check_mask()
        result = build(words)(args=words, standalone_mode=False)
        # Now, not at exit, where an error would be a traceback.
        sys.stdout.flush()
    except ProviderError as error:
        _report(words, error)
        return error.exit_code
    except (ContainerError, KernelError) as error:
        unsupported = isinstance(error, UnsupportedHostError)
        kind = provider_errors.UnsupportedHostError if unsupported else ProviderError
        _report(words, kind(str(error)))
        return kind.exit_code
    except (typer.Abort, KeyboardInterrupt):
        _report(words, InterruptedByUserError("interrupted"))
        return EXIT_INTERRUPTED
    except (BrokenPipeError, SystemExit) as left:
        if _COMPLETION in os.environ and isinstance(left, SystemExit):
            raise
        # The reader went away (`| head`), to which typer says SystemExit; nothing is wrong.
        silence(sys.stdout)
        return 0
    except NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return EXIT_USAGE
    except ClickException as error:
        context = getattr(error, "ctx", None)
        verbs = context.command_path.split()[1:] if context is not None else []
        hint = f"see `{' '.join(('bayplan', *verbs, '--help'))}`"
        _report(words, UsageError(error.format_message(), hint=hint))
        return EXIT_USAGE
    except OSError as error:
        worded = refusal(error)
        if worded is None:
            return _bug(words, error)
        _report(words, worded)
        return worded.exit_code
    except Exception as error:
        return _bug(words, error)
    return result if isinstance(result, int) else 0


def _check_mask() -> None:
    """See that there is all that BAYPLAN_KERNEL_MASK names.

    Raises:
        UsageError: something is not.
    """
    if "BAYPLAN_KERNEL_MASK" in os.environ:
        from runtime.kernel.mask import unknown

        if wrong := unknown():
            raise UsageError(wrong)


def _bug(words: list[str], error: Exception) -> int:
    traceback.print_exception(error)
    hint = "this is a bug in bayplan; please report it with the lines above"
    _report(words, ProviderError(f"{type(error).__name__}: {error}", hint=hint))
    return EXIT_SOFTWARE


def _report(words: list[str], error: ProviderError) -> None:
    """Word an error for people, and as the one document where JSON was asked for."""
    if isinstance(error, ManifestError):
        for problem in error.problems:
            complain(str(problem))
    else:
        complain(str(error), error.hint)
    asked = _asked_format(words)
    if asked in ("json", "jsonl"):
        from provider.cli.show import show_failure

        try:
            show_failure(error, lines=asked == "jsonl")
            sys.stdout.flush()
        except OSError:  # nobody reads it, or its disk is full; what is wrong was said above
            silence(sys.stdout)


def _asked_format(words: list[str]) -> str:
    """Return what -o says, whether or not the words could be understood."""
    if next((word for word in words if word in VERBS), "") in ("run", "exec"):
        return ""  # what follows may be a program's options; they have no -o themselves
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word in ("-o", "--output"):
            return following
        for start in ("--output=", "-o"):
            if word.startswith(start):
                return word.removeprefix(start)
    return ""
