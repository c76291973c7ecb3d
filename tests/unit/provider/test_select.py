"""Selectors and --only."""

import pytest

from provider.errors import UsageError
from provider.manifest.select import jobs, parse_selector, select
from provider.model.ids import Kind, ResourceId
from provider.model.resource import Dependency, Desired, Resource
from provider.model.secret import SecretValue


def named(text: str) -> ResourceId:
    kind, name = text.split("/")
    return ResourceId("shop", Kind(kind), name)


def resource(text: str, *needs: str, **labels: str) -> Resource:
    return Resource(
        named(text), {}, labels=labels, dependencies=tuple(Dependency(named(n)) for n in needs)
    )


@pytest.fixture
def desired() -> Desired:
    return Desired(
        "shop",
        (
            resource("Network/back"),
            resource("Secret/db"),
            resource("Secret/other"),
            resource("Container/db", "Network/back", "Secret/db", tier="data"),
            resource("Service/web", "Container/db", tier="front", zone="a"),
            resource("Service/api", "Network/back", tier="front", zone="b"),
        ),
        secrets={
            named("Secret/db"): {"k": SecretValue(b"1")},
            named("Secret/other"): {"k": SecretValue(b"2")},
        },
    )


LABELS = {"tier": "front", "app.io/zone": "a"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("tier=front", True),
        ("tier==front", True),
        ("tier = back", False),
        ("tier!=back", True),
        ("missing!=x", True),
        ("tier", True),
        ("!tier", False),
        ("! missing", True),
        ("app.io/zone in (a, b)", True),
        ("app.io/zone in (b,c)", False),
        ("app.io/zone notin (b,c)", True),
        ("missing in (a)", False),
        ("missing notin (a)", True),
        ("tier=front,app.io/zone in (a,b),!x", True),
        ("tier=front,app.io/zone in (c,b)", False),
        ("tier=", False),
    ],
)
def test_selector(text: str, expected: bool) -> None:
    assert parse_selector(text)(LABELS) is expected


@pytest.mark.parametrize("text", ["=x", "a b", "a in b", "a in (b", "a,,b", "a=b c", "a>1", ","])
def test_a_bad_selector_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="cannot read selector"):
        parse_selector(text)


def names(resources: tuple[Resource, ...]) -> list[str]:
    return [str(r.id) for r in resources]


def test_nothing_selected_is_the_whole(desired: Desired) -> None:
    selection = select(desired)
    assert selection.desired is desired
    assert not selection.partial
    assert len(selection.chosen) == 6


def test_what_is_chosen_comes_with_its_dependencies_in_order(desired: Desired) -> None:
    selection = select(desired, only=["service/web"])
    assert names(selection.desired.resources) == [
        "Network/back",
        "Secret/db",
        "Container/db",
        "Service/web",
    ]
    assert selection.chosen == {named("Service/web")}
    assert list(selection.desired.secrets) == [named("Secret/db")]


def test_a_part_never_prunes_and_is_not_the_same_revision(desired: Desired) -> None:
    selection = select(desired, selector="tier=front")
    assert selection.partial
    assert not selection.desired.prune
    assert selection.desired.fingerprint.startswith("sha256:")


def test_selector_and_only_must_both_hold(desired: Desired) -> None:
    selection = select(desired, selector="zone=b", only=["Service/*"])
    assert selection.chosen == {named("Service/api")}


def test_a_selector_may_match_nothing(desired: Desired) -> None:
    assert select(desired, selector="tier=none").desired.resources == ()


def test_several_only_add_up(desired: Desired) -> None:
    chosen = select(desired, only=["Container/d?", "Secret/oth*"]).chosen
    assert chosen == {named("Container/db"), named("Secret/other")}


@pytest.mark.parametrize(
    ("pattern", "message", "hint"),
    [
        ("Service/wbe", "nothing in the manifests is Service/wbe", "did you mean `Service/web`?"),
        ("Servce/web", "not KIND/NAME", "did you mean `Service`?"),
        ("web", "not KIND/NAME", "did you mean Service/web?"),
        ("wbe", "not KIND/NAME", ""),
    ],
)
def test_a_pattern_without_match_is_a_usage_error(
    desired: Desired, pattern: str, message: str, hint: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        select(desired, only=[pattern])
    assert caught.value.hint == hint


JOBS = Desired("shop", (resource("Job/init"), resource("Job/seed"), resource("Service/web")))


def test_jobs_are_named_with_or_without_their_kind() -> None:
    assert jobs(JOBS, JOBS, ()) == frozenset()
    assert jobs(JOBS, JOBS, ["init", "job/seed"]) == {"init", "seed"}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("inti", "did you mean `init`?"),
        ("web", "there are init, seed"),
        ("Service/init", "did you mean `init`?"),
    ],
)
def test_what_is_no_job_cannot_be_run_again(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match="no Job is called") as refused:
        jobs(JOBS, JOBS, [name])
    assert refused.value.hint == hint


def test_a_job_that_was_left_out_cannot_be_run_again() -> None:
    with pytest.raises(UsageError, match="Job/seed is no part of this run"):
        jobs(JOBS, select(JOBS, only=["Job/init"]).desired, ["seed"])
