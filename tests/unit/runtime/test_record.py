"""Our dataclasses do what the standard library's do, of which each has a twin here."""

import copy
import dataclasses
import importlib
import inspect
import pickle
import pkgutil
from functools import cache

import pytest

import provider
import runtime
from runtime.record import dataclass, field


@dataclass(frozen=True, slots=True)
class Point:
    """One of ours."""

    x: int
    y: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    note: str = field(default="", compare=False, repr=False)


@dataclass()
class Counter:
    """One that can change, and has something of its own to do."""

    step: int = field(default=1, kw_only=True)
    count: int = field(default=0, init=False)
    name: str

    def __post_init__(self) -> None:
        self.count = self.step


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """One with an order."""

    major: int
    minor: int = 0


@dataclass(frozen=True, slots=True)
class Alone:
    """One with one member."""

    member: tuple[int, ...] = ()


@cache
def ours() -> list[type]:
    """Return all classes of the product that were made by runtime.record."""
    found = []
    for package in (provider, runtime):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            members = vars(importlib.import_module(module.name)).values()
            found += [m for m in members if isinstance(m, type) and m.__module__ == module.name]
    return [c for c in dict.fromkeys(found) if "__dataclass_fields__" in vars(c)]


def twin(cls: type) -> type:
    """Return what the standard library makes of the same members."""
    members = []
    for each in dataclasses.fields(cls):
        given = {"default": each.default, "default_factory": each.default_factory}
        told = {name: value for name, value in given.items() if value is not dataclasses.MISSING}
        words = {n: getattr(each, n) for n in ("init", "repr", "compare", "kw_only")}
        members.append((each.name, each.type, dataclasses.field(**told, **words)))
    return dataclasses.make_dataclass(cls.__name__, members)


def shape(cls: type) -> list[tuple[str, object, bool]]:
    parameters = inspect.signature(cls.__init__).parameters.values()
    return [(p.name, p.kind, p.default is not p.empty) for p in parameters]


def test_there_are_many():
    assert len(ours()) > 150


@pytest.mark.parametrize("cls", [*ours(), Point, Counter, Version, Alone], ids=lambda c: c.__name__)
def test_made_in_the_same_way(cls):
    with pytest.raises(TypeError, match="__init__"):
        cls(nobody_has_this=1)
    assert shape(cls) == shape(twin(cls))


def test_members_and_defaults():
    assert repr(Point(1, y=2)) == "Point(x=1, y=2, tags={})"
    assert Point(1).tags is not Point(1).tags
    counter = Counter("a", step=3)
    assert (counter.name, counter.step, counter.count) == ("a", 3, 3)
    counter.count = 4
    assert counter == counter != Counter("a", step=3)


def test_the_first_and_the_hundredth_are_made_alike():
    @dataclass(frozen=True, slots=True)
    class Fresh:
        x: int
        tags: dict[str, str] = field(default_factory=dict)
        note: str = field(default="n", kw_only=True)

    assert len({repr(Fresh(1, note="a")) for _ in range(100)}) == 1
    with pytest.raises(TypeError, match="__init__"):
        Fresh(1, {}, "a")


@pytest.mark.parametrize(
    ("values", "named"), [((), {}), ((1, 2, {}, "", 5), {}), ((1,), {"z": 1}), ((1,), {"x": 1})]
)
def test_what_no_signature_takes(values, named):
    with pytest.raises(TypeError, match="__init__"):
        Point(*values, **named)


def test_equality_hash_and_order():
    assert Point(1, note="a") == Point(1, note="b")
    assert Point(1) != Point(2)
    assert Point(1) != (1, 0, {})
    assert hash(Version(1)) == hash(Version(1))
    assert {Alone((1,)), Alone((1,))} == {Alone((1,))}
    assert Alone((1,)) != (1,)
    with pytest.raises(TypeError, match="unhashable"):
        hash(Counter("a"))
    assert sorted([Version(2), Version(1, 5), Version(1)]) == [
        Version(1),
        Version(1, 5),
        Version(2),
    ]
    with pytest.raises(TypeError, match="not supported"):
        sorted([Version(1), Alone()])


def test_they_do_not_change():
    point = Point(1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="x"):
        point.x = 2
    with pytest.raises(dataclasses.FrozenInstanceError, match="x"):
        del point.x
    with pytest.raises(AttributeError):
        _ = point.__dict__


def test_the_standard_library_takes_them_for_dataclasses():
    assert dataclasses.is_dataclass(Point)
    assert dataclasses.is_dataclass(Point(1))
    assert [f.name for f in dataclasses.fields(Point)] == ["x", "y", "tags", "note"]
    assert dataclasses.replace(Point(1, 2), y=3) == Point(1, 3)
    assert dataclasses.asdict(Version(1)) == {"major": 1, "minor": 0}
    match Version(3, 4):
        case Version(major, minor):
            assert (major, minor) == (3, 4)


@pytest.mark.parametrize("value", [Point(1, 2), Version(1), Counter("a")], ids=repr)
def test_they_can_be_copied(value):
    assert pickle.loads(pickle.dumps(value)) == value
    assert copy.deepcopy(value) == value
