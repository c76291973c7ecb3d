"""Events of an apply as people and programs see them, on standard error or as JSON lines.

On a terminal: a line for each finished step, and below it one line that lives, with what is
being done right now. Elsewhere: plain lines. With ``-o jsonl``: one JSON object an event, on
standard output.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable
from typing import IO

from provider.cli.output import plain, silence
from provider.cli.session import is_terminal, wants_colour
from provider.model.events import ActionEvent, Phase
from provider.model.ids import InstanceId
from provider.model.plan import Verb

Emit = Callable[[ActionEvent], None]

_MARK = {Verb.CREATE: "+", Verb.UPDATE: "~", Verb.DELETE: "-", Verb.RUN: ">", Verb.NOOP: "="}
_PAST = {
    Verb.CREATE: "created",
    Verb.UPDATE: "updated",
    Verb.DELETE: "deleted",
    Verb.RUN: "ran",
    Verb.NOOP: "unchanged",
}
_SILENCE_S = 10.0
_GREEN, _RED, _YELLOW, _DIM, _RESET = "\033[32m", "\033[31m", "\033[33m", "\033[2m", "\033[0m"


def make_progress(output: str, total: int) -> Emit:
    """Return what shows events in the way *output* and the terminal ask for."""
    if output == "jsonl":
        return _heard(JsonLines(sys.stdout), sys.stdout)
    return _heard(Live(sys.stderr, total) if is_terminal() else Lines(sys.stderr), sys.stderr)


def _heard(show: Emit, stream: IO[str]) -> Emit:
    """Return *show*, which says no more once *stream* cannot be written.

    A reader that went away, or a full disk, must not end the apply half-way.
    """

    def emit(event: ActionEvent) -> None:
        try:
            show(event)
        except OSError:
            silence(stream)

    return emit


class JsonLines:
    """One JSON object an event."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __call__(self, event: ActionEvent) -> None:
        """Show one event."""
        line = json.dumps(
            {
                "event": "action",
                "id": str(event.id),
                "action": str(event.verb),
                "phase": str(event.phase),
                "message": event.message,
                "durationMs": round(event.duration_s * 1000),
                "logTail": list(event.log_tail),
            }
        )
        print(line, file=self._stream, flush=True)


class Lines:
    """A plain line for each step that ends, and now and then for one that takes long."""

    def __init__(self, stream: IO[str], *, colour: bool = False) -> None:
        self._stream = stream
        self._colour = colour
        self._heard_of: dict[InstanceId, float] = {}

    def __call__(self, event: ActionEvent) -> None:
        """Show one event."""
        if event.phase in (Phase.OK, Phase.FAILED, Phase.SKIPPED):
            self._show(event)
            return
        now = time.monotonic()
        if event.phase is not Phase.PROGRESS:
            self._heard_of[event.id] = now
        elif now - self._heard_of.get(event.id, now) >= _SILENCE_S:
            self._heard_of[event.id] = now
            self._write(f"  {event.id}: {event.message}", _DIM)

    def _show(self, event: ActionEvent) -> None:
        mark, colour, word = {
            Phase.OK: (_MARK[event.verb], _GREEN, _PAST[event.verb]),
            Phase.FAILED: ("x", _RED, "failed"),
            Phase.SKIPPED: (".", _YELLOW, "skipped"),
        }[event.phase]
        text = f"{mark} {event.id} {word}"
        if event.phase is Phase.OK and event.duration_s >= 0.1:
            text += f" in {event.duration_s:.1f} s"
        if event.message and event.phase is not Phase.OK:
            text += f": {event.message}"
        self._write(text, colour)
        for line in event.log_tail:
            self._write(f"    | {line}", _DIM)

    def _write(self, text: str, colour: str) -> None:
        text = plain(text)
        if self._colour:
            text = f"{colour}{text}{_RESET}"
        print(text, file=self._stream, flush=True)


class Live(Lines):
    """As Lines, with one more line below that is drawn anew at each event."""

    def __init__(self, stream: IO[str], total: int) -> None:
        super().__init__(stream, colour=wants_colour(True))
        self._total = total
        self._done = 0
        self._active: dict[InstanceId, str] = {}

    def __call__(self, event: ActionEvent) -> None:
        """Show one event."""
        self._stream.write("\r\033[K")
        if event.phase in (Phase.OK, Phase.FAILED, Phase.SKIPPED):
            self._done += 1
            self._active.pop(event.id, None)
            self._show(event)
        elif event.phase is not Phase.WAITING:
            self._active[event.id] = event.message
        if self._done < self._total and self._active:
            self._stream.write(self._status())
        self._stream.flush()

    def _status(self) -> str:
        active = ", ".join(
            f"{instance} ({message})" if message else str(instance)
            for instance, message in self._active.items()
        )
        width = shutil.get_terminal_size().columns - 1
        text = plain(f"{self._done}/{self._total} {active}")
        return text if len(text) <= width else text[: max(width - 1, 0)] + "…"
