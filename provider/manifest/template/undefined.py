"""Undefined names in templates.

The first one ends a rendering. To tell them all in one run, the template is rendered once more
with values that let everything be done to them, and note where that was.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

import jinja2
from jinja2.debug import get_template_locals
from jinja2.runtime import LoopContext

from provider.errors import Origin


class UndefinedNameError(jinja2.UndefinedError):
    """An undefined name was used; *choices* are those of its object, None for a variable."""

    def __init__(self, message: str | None, name: str, choices: tuple[str, ...] | None) -> None:
        super().__init__(message)
        self.name = name
        self.choices = choices


class Undefined(jinja2.StrictUndefined):
    """Whatever is done with it raises UndefinedNameError."""

    __slots__ = ()

    # Those that Jinja leaves out, and filters and Python's own functions use.
    __index__ = __round__ = __abs__ = __invert__ = jinja2.Undefined._fail_with_undefined_error
    __and__ = __rand__ = __or__ = __ror__ = jinja2.Undefined._fail_with_undefined_error
    __repr__ = jinja2.Undefined._fail_with_undefined_error

    def __init__(
        self,
        hint: str | None = None,
        obj: Any = jinja2.utils.missing,
        name: str | None = None,
        exc: type[jinja2.TemplateRuntimeError] = jinja2.UndefinedError,
    ) -> None:
        super().__init__(hint, obj, name, exc)
        if exc is jinja2.UndefinedError and name is not None:
            choices = None if obj is jinja2.utils.missing else _keys(obj)

            def error(message: str | None = None) -> UndefinedNameError:
                return UndefinedNameError(message, str(name), choices)

            # Jinja only ever calls it with the message.
            self._undefined_exception = error  # type: ignore[assignment]  # a callable will do


def _keys(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, Mapping) else ()


Note = Callable[[UndefinedNameError, Origin], None]


def noting(note: Note) -> type[Undefined]:
    """Return an Undefined that anything can be done with, and that calls *note* for it."""

    def told(result: Any = None) -> Callable[..., Any]:
        def operation(self: Undefined, *_: Any, **__: Any) -> Any:
            error = self._undefined_exception(self._undefined_message)
            if isinstance(error, UndefinedNameError):
                note(error, _place())
            return self if result is None else result

        return operation

    def no_attribute(self: Undefined, name: str) -> Any:
        if name[:2] == "__":  # Python asks for these by itself
            raise AttributeError(name)
        return told()(self)

    words = "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow"
    words += " and rand or ror round abs invert pos neg getitem call"
    operations = {f"__{word}__": told() for word in words.split()}
    operations |= {f"__{word}__": told(False) for word in ("lt", "le", "gt", "ge", "eq", "bool")}
    operations |= {
        "__getattr__": no_attribute,
        "__ne__": told(True),
        "__hash__": told(0),
        "__len__": told(0),
        "__int__": told(0),
        "__index__": told(0),
        "__float__": told(0.0),
        "__complex__": told(0j),
        "__str__": told(""),
        "__repr__": told(""),
        "__iter__": _empty(told(())),
        "__contains__": told(False),
    }
    return type("Noting", (Undefined,), {"__slots__": (), **operations})


def _empty(operation: Callable[..., Any]) -> Callable[[Undefined], Iterator[Any]]:
    return lambda self: iter(operation(self))


def _place() -> Origin:
    """Return the innermost line of a template that is being rendered."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        template = frame.f_globals.get("__jinja_template__")
        if isinstance(template, jinja2.Template):
            line = template.get_corresponding_lineno(frame.f_lineno)
            loop = get_template_locals(frame.f_locals).get("loop")
            return Origin(frame.f_code.co_filename, line, note=loop_note(loop))
        frame = frame.f_back
    return Origin("")


def loop_note(loop: object) -> str:
    """Tell which item of a loop it is, if *loop* is one."""
    return f"loop item {loop.index}" if isinstance(loop, LoopContext) else ""
