"""Dataclasses that cost nothing until they are used.

The standard library generates and compiles five functions a class when its module is imported; we
have two hundred classes, and that took a third of every command. Here ``__init__`` is compiled
once so many instances were made that it pays, and the rest are closures that need no compiling.
Same words, same behaviour for what is used of them, and to `dataclasses.fields`, ``replace``,
``is_dataclass`` and type checkers they are dataclasses; there is no inheritance between them.
"""

from operator import attrgetter, eq, ge, gt, le, lt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass, field, replace
else:

    def replace(value, /, **changes):
        """Return *value* with other members; see ``dataclasses.replace``."""
        kept = {name: getattr(value, name) for name in type(value).__match_args__}
        return type(value)(**{**kept, **changes})

    _SELDOM = 16
    """So many instances are made without compiling, which costs as much as fifty of them."""

    _MISSING = type("Missing", (), {"__repr__": lambda self: "<made anew>"})()

    class _Field:
        """What is known of a member; the standard library's words for it."""

        __slots__ = ("compare", "default", "default_factory", "init", "kw_only", "repr")

        def __init__(self, default, default_factory, init, repr, compare, kw_only):
            self.default, self.default_factory = default, default_factory
            self.init, self.repr, self.compare, self.kw_only = init, repr, compare, kw_only

    def field(
        *,
        default=_MISSING,
        default_factory=_MISSING,
        init=True,
        repr=True,
        compare=True,
        kw_only=None,
    ):
        """Return what a member has besides its name and type; see ``dataclasses.field``."""
        return _Field(default, default_factory, init, repr, compare, kw_only)

    def dataclass(*, frozen=False, slots=False, order=False, kw_only=False):
        """Return what makes a class with annotated members a dataclass; see the standard's."""

        def build(cls):
            fields = {name: _field(cls, name, kw_only) for name in cls.__annotations__}
            made = _with_slots(cls, fields) if slots else _with_defaults(cls, fields)
            made.__dataclass_fields__ = _StandardFields(fields)
            made.__match_args__ = tuple(n for n, f in fields.items() if f.init and not f.kw_only)
            _add_methods(made, fields, frozen=frozen, order=order)
            return made

        return build

    def _field(cls, name, kw_only):
        found = cls.__dict__.get(name, _MISSING)
        if not isinstance(found, _Field):
            found = field(default=found)
        if found.kw_only is None:
            found.kw_only = kw_only
        return found

    def _with_defaults(cls, fields):
        for name, each in fields.items():
            if each.default is not _MISSING:
                setattr(cls, name, each.default)
            elif name in cls.__dict__:
                delattr(cls, name)
        return cls

    def _with_slots(cls, fields):
        """Return the class anew: slots can be had only from the beginning."""
        left_out = {*fields, "__dict__", "__weakref__"}
        members = {name: value for name, value in cls.__dict__.items() if name not in left_out}
        members["__slots__"] = tuple(fields)
        members.setdefault("__getstate__", _getstate)
        members.setdefault("__setstate__", _setstate)
        made = type(cls)(cls.__name__, cls.__bases__, members)
        made.__qualname__ = cls.__qualname__
        return made

    def _add_methods(cls, fields, *, frozen, order):
        seldom = iter(range(_SELDOM))

        def __init__(self, *values, **named):  # the compiled one takes its place
            if next(seldom, None) is not None and _fill(self, fields, values, named):
                return
            cls.__init__ = _compile_init(cls, fields, frozen)
            cls.__init__(self, *values, **named)

        key = _key([name for name, each in fields.items() if each.compare])
        shown = tuple(name for name, each in fields.items() if each.repr)

        def __repr__(self):
            members = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
            return f"{type(self).__qualname__}({members})"

        own = [__init__, __repr__, _comparison(eq, key)]
        if frozen:
            own += [_hash(key), __setattr__, __delattr__]
        if order:
            own += [_comparison(compare, key) for compare in (lt, le, gt, ge)]
        for method in own:
            if method.__name__ not in cls.__dict__:
                setattr(cls, method.__name__, method)
        if not frozen:
            cls.__hash__ = None

    def _fill(made, fields, values, named):
        """Give *made* its members; False where that cannot be, for the real one to say why."""
        names = type(made).__match_args__
        given = {**dict(zip(names, values, strict=False)), **named}
        if len(given) < len(values) + len(named):
            return False
        for name, each in fields.items():
            if each.init and name in given:
                value = given.pop(name)
            elif each.default_factory is not _MISSING:
                value = each.default_factory()
            elif each.default is not _MISSING:
                value = each.default
            elif each.init:
                return False
            else:
                continue
            object.__setattr__(made, name, value)
        if given:
            return False
        if hasattr(made, "__post_init__"):
            made.__post_init__()
        return True

    def _key(names):
        if len(names) > 1:
            return attrgetter(*names)
        return lambda self: tuple(getattr(self, name) for name in names)

    def _comparison(compare, key):
        def method(self, other):
            if other.__class__ is not self.__class__:
                return NotImplemented
            return compare(key(self), key(other))

        method.__name__ = f"__{compare.__name__}__"
        return method

    def _hash(key):
        def __hash__(self):
            return hash(key(self))

        return __hash__

    def __setattr__(self, name, value):
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name):
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def _getstate(self):
        return [getattr(self, name) for name in self.__slots__]

    def _setstate(self, state):
        for name, value in zip(self.__slots__, state, strict=True):
            object.__setattr__(self, name, value)

    def _compile_init(cls, fields, frozen):
        """Return the ``__init__`` the standard library would have generated."""
        known = {"_set": object.__setattr__, "_MISSING": _MISSING}
        positional, named, body = [], [], []
        for name, each in fields.items():
            value = name
            if each.default_factory is not _MISSING:
                known[f"_make_{name}"] = each.default_factory
                default = "=_MISSING"
                value = f"_make_{name}() if {name} is _MISSING else {name}"
                if not each.init:
                    value = f"_make_{name}()"
            elif each.default is not _MISSING:
                known[f"_default_{name}"] = each.default
                default = f"=_default_{name}"
                if not each.init:
                    value = f"_default_{name}"
            else:
                default = ""
            if each.init:
                (named if each.kw_only else positional).append(name + default)
            elif not default:
                continue
            assign = f"_set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}"
            body.append(assign)
        if hasattr(cls, "__post_init__"):
            body.append("self.__post_init__()")
        words = ["self", *positional, *(["*", *named] if named else [])]
        lines = [f"def __init__({', '.join(words)}):", *(f" {each}" for each in body or ["pass"])]
        exec("\n".join(lines), known)
        made = known["__init__"]
        made.__qualname__ = f"{cls.__qualname__}.__init__"
        return made

    class _StandardFields:
        """The fields as the standard library knows them, made when somebody asks."""

        __slots__ = ("_fields",)

        def __init__(self, fields):
            self._fields = fields

        def __get__(self, instance, owner):
            import dataclasses

            def standard(each):
                given = {"default": each.default, "default_factory": each.default_factory}
                told = {name: value for name, value in given.items() if value is not _MISSING}
                return dataclasses.field(
                    init=each.init,
                    repr=each.repr,
                    compare=each.compare,
                    kw_only=each.kw_only,
                    **told,
                )

            owner.__dataclass_fields__ = dataclasses.make_dataclass(
                owner.__name__,
                [(n, owner.__annotations__[n], standard(f)) for n, f in self._fields.items()],
                init=False,
                repr=False,
                eq=False,
            ).__dataclass_fields__
            return owner.__dataclass_fields__


def is_record(kind: object) -> bool:
    """Tell whether *kind* is one of our dataclasses, without asking the standard library."""
    return isinstance(kind, type) and "__dataclass_fields__" in vars(kind)


__all__ = ["dataclass", "field", "is_record", "replace"]
