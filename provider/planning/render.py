"""Plans and reports as text for people, and (see ``document``) as JSON. Pure: returns strings.

Each action is a block: what happens to what, where it is written, and why; below, a line for
each field, old -> new, with what it takes; below a drift, what follows from it. Replicas that
undergo the same are one block. Lines hold *width* columns.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from provider.errors import Origin
from provider.model.ids import LOCAL_HOST
from provider.model.plan import UNKNOWN, Action, Change, Consequence, Plan, Verb
from provider.planning.change import is_derived
from provider.planning.document import plan_json, report_json
from provider.planning.expand import is_ports
from provider.planning.report import Failure, Fate, Report, Result
from provider.planning.words import both
from runtime.record import dataclass

__all__ = ["ANSI", "PLAIN", "Palette", "plan_json", "plan_text", "report_json", "report_text"]


@dataclass(frozen=True, slots=True)
class Palette:
    """What to write around a piece of text; empty without colours."""

    good: str = ""
    change: str = ""
    bad: str = ""
    dim: str = ""
    bold: str = ""
    reset: str = ""

    def paint(self, colour: str, text: str) -> str:
        """Return *text* in *colour*, one of the members."""
        return f"{colour}{text}{self.reset}" if colour else text


PLAIN = Palette()
ANSI = Palette("\033[32m", "\033[33m", "\033[31m", "\033[2m", "\033[1m", "\033[0m")

_MARKS = {Verb.CREATE: "+", Verb.UPDATE: "~", Verb.DELETE: "-", Verb.RUN: ">", Verb.NOOP: "="}
_REPLACES = "±"
_PAST = {Verb.CREATE: "created", Verb.UPDATE: "updated", Verb.DELETE: "deleted", Verb.RUN: "run"}
_MARGIN = "    "
_MOST_LINES = 6
"""Of one value; what is longer is for -o json."""


def plan_text(plan: Plan, *, width: int = 80, colour: bool = False) -> str:
    """Return *plan* as text, with a line break at its end."""
    pen = _Pen(width, ANSI if colour else PLAIN)
    lines: list[str] = []
    for same in _alike(plan.pending):
        block = list(pen.action(same))
        # Blocks of one line stand close, longer ones apart.
        apart = lines and lines[-1] and (len(block) > 1 or lines[-1].startswith(" "))
        lines += ["", *block] if apart else block
    if lines:
        lines.append("")
    lines += pen.notes(plan.kept, plan.warnings, plan.refusals)
    lines.append(_plan_summary(plan))
    return "\n".join(lines) + "\n"


def report_text(report: Report, *, width: int = 80, colour: bool = False) -> str:
    """Return what is left to say of a run whose events were shown: failures, notes, summary."""
    pen = _Pen(width, ANSI if colour else PLAIN)
    lines: list[str] = []
    for result in report.results:
        if result.failure is not None:
            lines += pen.failure(result)
    for error in report.errors:
        lines += pen.error(error)
    lines += pen.notes(report.kept, report.warnings, report.refusals)
    lines.append(_report_summary(report))
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class _Pen:
    """Writes blocks of a width, in colours."""

    width: int
    palette: Palette

    def action(self, same: Sequence[Action]) -> Iterator[str]:
        """Yield the block of actions that differ in nothing but the number of the replica."""
        action = same[0]
        replaces = action.consequence.rank >= Consequence.REPLACE.rank
        mark = _REPLACES if replaces and action.verb is Verb.UPDATE else _MARKS[action.verb]
        title = f"{mark} {action.verb} {_name(same)}"
        if action.consequence is not Consequence.NONE:
            title += f" ({_said(action.consequence)}{_order(action)})"
        place, colour = _place(action.origin), self._colour(action)
        whole = f"{title}: {action.reason}"
        if len(whole) + len(place) + 2 <= self.width:
            yield self._sides(whole, place, colour)
        else:
            yield self._sides(title, place, colour)
            for line in _wrapped(action.reason, self.width - len(_MARGIN)):
                yield _MARGIN + line
        changes = [change for change in action.changes if not _goes_without_saying(change)]
        longest = max((len(change.path) for change in changes), default=0)
        for change in changes:
            yield from self._change(change, action, longest)

    def failure(self, result: Result) -> Iterator[str]:
        """Yield what went wrong at one instance."""
        if result.failure is None:
            return
        colour = self.palette.bad if result.fate is Fate.FAILED else self.palette.change
        text = f"{result.action.id} {result.fate}: {result.failure.message}"
        yield from self._said(text, result.failure.hint, colour)

    def error(self, error: Failure) -> Iterator[str]:
        """Yield what went wrong with the run itself."""
        yield from self._said(error.message, error.hint, self.palette.bad)

    def _said(self, text: str, hint: str, colour: str) -> Iterator[str]:
        for number, line in enumerate(_wrapped(text, self.width - len(_MARGIN))):
            yield self.palette.paint(colour, line if number == 0 else _MARGIN + line)
        if hint:
            yield from (f"{_MARGIN}{line}" for line in _wrapped(hint, self.width - 4))

    def notes(
        self, kept: Iterable[str], warnings: Iterable[str], refusals: Iterable[str]
    ) -> Iterator[str]:
        """Yield what else is to be known."""
        for word, texts, colour in (
            ("kept", kept, self.palette.dim),
            ("warning", warnings, self.palette.change),
            ("refused", refusals, self.palette.bad),
        ):
            for text in texts:
                for number, line in enumerate(_wrapped(f"{word}: {text}", self.width - 4)):
                    yield self.palette.paint(colour, line if number == 0 else _MARGIN + line)

    def _change(self, change: Change, action: Action, longest: int) -> Iterator[str]:
        said = [] if change.consequence is action.consequence else [_said(change.consequence)]
        if change.origin is not None and change.origin != action.origin:
            said.append(_place(change.origin))
        if change.provenance in ("image", "default", "overlay"):
            said.append(change.provenance)
        aside = f"  {', '.join(said)}" if said else ""
        values = " -> ".join(both(change.path, change.before, change.after))
        paths = (change.path.ljust(min(longest, self.width // 2)), change.path)
        whole = (f"{_MARGIN}{path}  {values}" for path in paths)
        line = next((w for w in whole if len(w) + len(aside) <= self.width), "")
        if line:
            yield line + self._dim(aside)
        else:
            yield _MARGIN + _cut(change.path, self.width - len(_MARGIN))
            room = self.width - 2 * len(_MARGIN)
            lines = list(_wrapped(values, room))
            if len(lines) > _MOST_LINES:
                lines = [*lines[: _MOST_LINES - 1], "…"]
            if len(lines[-1]) + len(aside) <= room:
                lines[-1] += self._dim(aside)
            else:
                lines.append(self._dim(_cut(aside.strip(), room)))
            yield from (2 * _MARGIN + line for line in lines)
        if change.cause and change.cause not in action.reason:
            yield 2 * _MARGIN + _cut(change.cause, self.width - 8)
        for effect in change.effects:
            for number, text in enumerate(_wrapped(effect, self.width - 10)):
                yield 2 * _MARGIN + ("- " if number == 0 else "  ") + text

    def _sides(self, left: str, right: str, colour: str) -> str:
        room = self.width - len(left) - len(right)
        if not right or room < 2:
            return self.palette.paint(colour, _cut(left, self.width))
        return self.palette.paint(colour, left) + " " * room + self._dim(right)

    def _dim(self, text: str) -> str:
        return self.palette.paint(self.palette.dim, text)

    def _colour(self, action: Action) -> str:
        if action.verb is Verb.DELETE or action.consequence is Consequence.DATA_LOSS:
            return self.palette.bad
        return self.palette.change if action.verb is Verb.UPDATE else self.palette.good


def _goes_without_saying(change: Change) -> bool:
    """Return whether a change only repeats that the image is not known yet."""
    return change.after == UNKNOWN and not is_derived(change.path)


def _alike(actions: Sequence[Action]) -> Iterator[list[Action]]:
    """Yield the actions in order, replicas with the same fate together."""
    keys = {
        action.id: (action.id.resource, action.id.host, action.verb, action.reason, action.changes)
        for action in actions
    }
    numbered = {action.id: n for n, action in enumerate(actions) if action.id.index < 0}
    for _, same in groupby(actions, lambda a: (keys[a.id], numbered.get(a.id))):
        yield list(same)


def _name(same: Sequence[Action]) -> str:
    first, last = same[0].id, same[-1].id
    if first == last:
        name = str(first)
        return f"{name} (published ports)" if is_ports(first) else name
    name = f"{first.resource}[{first.index}-{last.index}]"
    return name if first.host == LOCAL_HOST else f"{name}@{first.host}"


def _said(consequence: Consequence) -> str:
    return "data loss" if consequence is Consequence.DATA_LOSS else str(consequence)


def _order(action: Action) -> str:
    """Return what else is to be known of a replacement: whether there is nobody in between."""
    replaced = action.verb is Verb.UPDATE and action.consequence is Consequence.REPLACE
    update = (action.after or {}).get("update", {})
    return ", stop-first" if replaced and update.get("order") == "stop-first" else ""


def _place(origin: Origin | None) -> str:
    if origin is None:
        return ""
    return f"{origin.path}:{origin.line}" if origin.line else origin.path


def _plan_summary(plan: Plan) -> str:
    counts = {verb: sum(a.verb is verb for a in plan) for verb in Verb}
    unchanged = f"{counts[Verb.NOOP]} as wanted"
    if plan.is_empty:
        return f"{plan.project}: nothing to do, {unchanged}."
    todo = [f"{counts[verb]} to {verb}" for verb in _PAST if counts[verb]]
    return f"{plan.project}: {', '.join([*todo, unchanged])}."


def _report_summary(report: Report) -> str:
    counts = report.summary
    done = [f"{counts[verb]} {past}" for verb, past in _PAST.items() if counts[verb]]
    done += [f"{counts[word]} {word}" for word in ("failed", "skipped") if counts[word]]
    done.append(f"{counts['noop']} unchanged")
    text = f"{report.project}: {', '.join(done)}"
    if report.interrupted:
        text += "; interrupted"
    if report.revision is not None:
        text += f" (revision {report.revision})"
    return text + "."


def _wrapped(text: str, width: int) -> Iterator[str]:
    """Yield *text* in lines of at most *width*; words that are longer are cut to pieces."""
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            while len(word) > width:
                if line:
                    yield line
                    line = ""
                yield word[:width]
                word = word[width:]
            if line and len(line) + 1 + len(word) > width:
                yield line
                line = word
            else:
                line = f"{line} {word}" if line else word
        yield line


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"
