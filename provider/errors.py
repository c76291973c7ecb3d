"""Errors the provider raises; the command line turns the class into an exit code.

::

    ProviderError                       exit
    ├── UsageError                      64   wrong words on the command line
    ├── ManifestError                   65   one or more Problems in the input, all of them shown
    ├── UnsupportedHostError            69   the host lacks something, or cannot be reached
    ├── LockBusyError                   75   somebody else is at work; try again
    ├── NotPermittedError               77   needs root
    ├── DamagedError                     1   a state file cannot be read back
    ├── RefusedError                     1   a guard said no (prune, empty set, data loss)
    ├── ApplyError                       1   a step failed
    └── RunError                  125 to 127  run and exec could not start a program

Anything else that reaches the top is a bug of ours: traceback, exit 70.
Texts are lower case, without a full stop, name the object and, in *hint*, say what to do.
"""

from runtime.record import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """A place in the input; line and column count from 1, 0 where there is none."""

    path: str
    line: int = 0
    column: int = 0
    note: str = field(default="", compare=False)
    """What the place does not say: ``loop item 3``, ``overlay prod``, ``--set replicas``."""

    def __str__(self) -> str:
        where = self.path
        if self.line:
            where += f":{self.line}"
            if self.column:
                where += f":{self.column}"
        return f"{where} ({self.note})" if self.note else where


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the input."""

    message: str
    origin: Origin | None = None
    path: str = ""
    """Dotted path inside the document: ``spec.container.resources.memory``."""
    expected: str = ""
    suggestion: str = ""

    def __str__(self) -> str:
        text = f"{self.origin}: " if self.origin else ""
        text += f"{self.path}: {self.message}" if self.path else self.message
        if self.expected:
            text += f"; expected {self.expected}"
        if self.suggestion:
            text += f"; {self.suggestion}"
        return text


class ProviderError(Exception):
    """Base class; shown without a traceback."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(ProviderError):
    """The command line does not make sense."""

    exit_code = 64


class ManifestError(ProviderError):
    """The input is wrong; carries every problem found in one run, in input order."""

    exit_code = 65

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class UnsupportedHostError(ProviderError):
    """The host lacks what is asked for, or cannot be reached."""

    exit_code = 69


class LockBusyError(ProviderError):
    """Another run holds the lock; the text names its owner and reason."""

    exit_code = 75


class NotPermittedError(ProviderError):
    """The caller may not do this."""

    exit_code = 77


class DamagedError(ProviderError):
    """A state file is not what was written, as after a loss of power; *how* says in what way."""

    def __init__(self, path: str, how: str) -> None:
        super().__init__(
            f"{path} is damaged ({how}); `bayplan doctor --mend` takes it away, and the next"
            " apply makes anew what it was about"
        )
        self.path = path
        self.how = how


class RefusedError(ProviderError):
    """A guard stands between the request and something that cannot be undone."""


class ApplyError(ProviderError):
    """A step of an apply failed."""

    def __init__(self, message: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable


EXIT_OURS = 125
"""Of ``run`` and ``exec``, whose other exit codes are the program's."""


class RunError(ProviderError):
    """``run`` or ``exec`` did not get as far as running the program; codes as in a shell."""

    def __init__(self, message: str, *, hint: str = "", exit_code: int = EXIT_OURS) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code
