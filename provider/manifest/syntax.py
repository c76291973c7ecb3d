"""YAML errors in words people can act on. Knows libyaml's texts, not the library."""

import re

from provider.manifest.document import TOO_DEEP, Place
from runtime.record import dataclass


@dataclass(frozen=True, slots=True)
class SyntaxFault:
    """What the parser says: *problem* at *place* while it did *context* since *start*."""

    problem: str
    place: Place
    context: str = ""
    start: Place | None = None


@dataclass(frozen=True, slots=True)
class Wording:
    """The same for people; *place* is where they should look."""

    message: str
    place: Place
    suggestion: str = ""


_INVALID = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SURROGATES = re.compile(
    r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9A-Fa-f]{2})\\u([dD][c-fC-F][0-9A-Fa-f]{2})"
)
_TEMPLATE = re.compile(r"\{\{|\{%|\{#")


def decode(content: bytes) -> str | Wording:
    """Return *content* as text without a byte order mark, or what is wrong with it."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return Wording("the file is UTF-16", (1, 1), "save it as UTF-8")
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        place = _place(content[: error.start].decode())
        return Wording(
            f"byte 0x{content[error.start]:02x} is not UTF-8", place, "save the file as UTF-8"
        )
    invalid = _INVALID.search(text)
    if invalid:
        code = ord(invalid[0])
        return Wording(
            f"control character U+{code:04X}",
            _place(text[: invalid.start()]),
            f'write it as "\\x{code:02x}" in double quotes' if code < 0x100 else "",
        )
    return text


def join_surrogates(text: str) -> str:
    r"""Return JSON *text* with ``\ud83d\ude00`` as the one character YAML wants it to be."""
    if text.lstrip()[:1] not in ("{", "[") or "\\u" not in text:
        return text

    def one(match: re.Match[str]) -> str:
        high, low = int(match[2], 16), int(match[3], 16)
        return f"{match[1]}\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08x}"

    return _SURROGATES.sub(one, text)


def word(
    fault: SyntaxFault, text: str, *, template: bool, confidential: bool = False, skipped: int = 0
) -> Wording:
    """Return *fault* of *text* in words, without quoting it if it is *confidential*.

    *template* is true for the output of one. *skipped* lines are before *text* in its file: places
    do not count them, lines named in the words do.
    """
    line, column = fault.place
    lines = text.split("\n")
    source = lines[line - 1] if line <= len(lines) else ""
    if not template and _TEMPLATE.search(source):
        return Wording(
            "template syntax in a file that is not a template",
            fault.place,
            "only files named *.yaml.j2 are rendered (standard input with --template)",
        )
    character = _character(fault, source[column - 1 : column], confidential=confidential)
    return character or _structure(fault, skipped)


def _character(fault: SyntaxFault, character: str, *, confidential: bool) -> Wording | None:
    if fault.problem.startswith("found character that cannot start any token") or (
        character == "\t" and "found a tab" in fault.problem
    ):
        if character == "\t":
            return Wording("a tab cannot indent yaml", fault.place, "use spaces")
        shown = "what stands here" if confidential else f"`{character}`"
        return Wording(f"a plain value cannot start with {shown}", fault.place, "quote the value")
    if fault.problem == "found unknown escape character":
        return Wording(
            "unknown escape in double quotes",
            fault.place,
            "write the backslash twice, or use single quotes",
        )
    return None


def _structure(fault: SyntaxFault, skipped: int) -> Wording:
    problem, place, start = fault.problem, fault.place, fault.start or fault.place
    unclosed = f"opened here is not closed, or a comma is missing before line {place[0] + skipped}"
    began = f"starts at line {start[0] + skipped}, column {start[1]}: check the indentation"
    match problem:
        case "mapping values are not allowed in this context":
            return Wording(
                "a `:` where no key can be",
                place,
                "check the indentation; quote a text that holds `: `",
            )
        case "found unexpected end of stream" | "found unexpected document indicator":
            return Wording("the quote opened here is never closed", start)
        case "did not find expected ',' or ']'":
            return Wording(f"the `[` {unclosed}", start)
        case "did not find expected ',' or '}'":
            return Wording(f"the `{{` {unclosed}", start)
        case "did not find expected key":
            return Wording(
                "this does not go with the keys above it", place, f"their mapping {began}"
            )
        case "did not find expected '-' indicator":
            return Wording(
                "this does not go with the list items above it", place, f"their list {began}"
            )
        case "could not find expected ':'":
            return Wording("a key without a `:` after it", start, "write `key: value`")
        case "did not find expected node content":
            return Wording("a value is missing here, inside of `[ ]` or `{ }`", place)
        case "did not find expected alphabetic or numeric character":
            return Wording("`*` and `&` begin an alias and an anchor", place, "quote the value")
        case "did not find expected <document start>":
            return Wording(
                "text after the end of the document", place, "separate documents by a line `---`"
            )
        case "exceeded maximum nesting depth":  # since libyaml 0.2.6, where it looks ahead
            return Wording(TOO_DEEP, place)
    return Wording(f"{fault.context}: {problem}" if fault.context else problem, place)


def _place(before: str) -> Place:
    line = before.count("\n") + 1
    return line, len(before) - before.rfind("\n")
