"""Saying what went wrong: in words on standard error, and a line in ``--log``."""

import os
import sys
import time
from collections.abc import Callable, Mapping

from runtime import json_text
from runtime.cli.arguments import UsageError, one
from runtime.errors import ContainerError


class Report:
    """Where errors and warnings go. Made from the global options."""

    def __init__(self, options: Mapping[str, list[str]]) -> None:
        """Raise UsageError for a log or format we do not have."""
        log = one(options, "log")
        if log is not None and log.split(":")[0] in ("journald", "syslog"):
            raise UsageError(f"--log {log} is not supported; give a file")
        path = None if log is None else log.removeprefix("file:")
        self._format = one(options, "log-format") or "text"
        if self._format not in ("text", "json"):
            raise UsageError(f"--log-format is text or json, not {self._format}")
        self._path = path
        try:
            self._append(b"")
        except OSError as error:
            raise UsageError(f"--log {path}: {error.strerror}") from error

    def error(self, text: str, error: BaseException) -> None:
        """Tell of a failure by *error*, in *text*, and of what `clear_up` could not do after it."""
        print(f"bayplan-oci: {text}", file=sys.stderr)
        self._log("error", text)
        for note in getattr(error, "__notes__", ()):
            self.warning(note)

    def warning(self, text: str) -> None:
        """Tell of something that does not keep the command from being done.

        In the log only, if there is one: an engine gives a container's own output for the command's
        standard error, and nobody wants to read this there.
        """
        if self._path is None:
            print(f"bayplan-oci: warning: {text}", file=sys.stderr)
        self._log("warning", text)

    def _log(self, level: str, text: str) -> None:
        if self._path is None:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = f"{now} {level}: {text}"
        if self._format == "json":
            line = json_text.dumps({"msg": text, "level": level, "time": now})
        try:
            self._append(line.encode(errors="backslashreplace") + b"\n")
        except OSError as error:
            print(f"bayplan-oci: --log {self._path}: {error.strerror}", file=sys.stderr)

    def _append(self, data: bytes) -> None:
        """Write to the log; not open for longer, lest it is among descriptors a caller hands on."""
        if self._path is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            fd = os.open(self._path, flags, 0o600)
            try:
                os.write(fd, data)
            finally:
                os.close(fd)


def clear_up(cause: BaseException, *steps: Callable[[], object]) -> None:
    """Take each of *steps*, whatever becomes of the others; what fails is told beside *cause*."""
    for step in steps:
        try:
            step()
        except (ContainerError, OSError) as error:
            cause.add_note(f"clearing up: {error}")
