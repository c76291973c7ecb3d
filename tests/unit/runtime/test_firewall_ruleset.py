from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from runtime.network.firewall import Change
from runtime.network.model import Publication
from runtime.network.ruleset import (
    Wanted,
    Zone,
    build,
    chain_name,
    delta_script,
    full_script,
    plain,
)

ZONES = {
    "a": Zone("bpn1", "10.9.0.0/24", "10.9.0.1", internal=False),
    "i": Zone("bpn2", "10.9.1.0/24", "10.9.1.1", internal=True),
}
WEB = Publication(8080, "tcp", (("10.9.0.2", 80),))


def _delta(before: Wanted, after: Wanted) -> list[str]:
    return delta_script(build("t", before), build("t", after)).splitlines()


def test_a_new_publication_is_a_chain_and_an_element() -> None:
    assert _delta(Wanted(ZONES), Wanted(ZONES, {"shop/web": (WEB,)})) == [
        "add chain inet t pub/shop/web/tcp/8080",
        "flush chain inet t pub/shop/web/tcp/8080",
        "add rule inet t pub/shop/web/tcp/8080 "
        'meta l4proto tcp dnat ip to 10.9.0.2:80 comment "shop/web"',
        "add element inet t published { tcp . 8080 : goto pub/shop/web/tcp/8080 }",
    ]


def test_new_backends_change_one_chain_and_nothing_else() -> None:
    two = Publication(8080, "tcp", (("10.9.0.2", 80), ("10.9.0.3", 81)))
    assert _delta(Wanted(ZONES, {"shop/web": (WEB,)}), Wanted(ZONES, {"shop/web": (two,)})) == [
        "flush chain inet t pub/shop/web/tcp/8080",
        "add rule inet t pub/shop/web/tcp/8080 meta l4proto tcp dnat ip to numgen inc mod 2 map "
        '{ 0 : 10.9.0.2 . 80, 1 : 10.9.0.3 . 81 } comment "shop/web"',
    ]


def test_a_withdrawn_publication_loses_its_element_before_its_chain() -> None:
    assert _delta(Wanted(ZONES, {"shop/web": (WEB,)}), Wanted(ZONES)) == [
        "delete element inet t published { tcp . 8080 }",
        "flush chain inet t pub/shop/web/tcp/8080",
        "delete chain inet t pub/shop/web/tcp/8080",
    ]


def test_a_port_that_moves_to_another_owner_moves_in_one_step() -> None:
    lines = _delta(Wanted(ZONES, {"a": (WEB,)}), Wanted(ZONES, {"b": (WEB,)}))
    assert lines.index("delete element inet t published { tcp . 8080 }") < lines.index(
        "add element inet t published { tcp . 8080 : goto pub/b/tcp/8080 }"
    )


def test_backends_that_rest_get_nothing_while_another_is_awake() -> None:
    two = Publication(8080, "tcp", (("10.9.0.2", 80), ("10.9.0.3", 81)))
    both = Wanted(ZONES, {"shop/web": (two,)})
    assert _delta(both, replace(both, resting=frozenset({"10.9.0.2"}))) == [
        "flush chain inet t pub/shop/web/tcp/8080",
        "add rule inet t pub/shop/web/tcp/8080 "
        'meta l4proto tcp dnat ip to 10.9.0.3:81 comment "shop/web"',
    ]
    assert _delta(both, replace(both, resting=frozenset({"10.9.0.2", "10.9.0.3"}))) == []


def test_an_address_that_is_behind_no_port_any_more_does_not_rest() -> None:
    two = Publication(8080, "tcp", (("10.9.0.2", 80), ("10.9.0.3", 81)))
    change = Change(Wanted(ZONES, {"shop/web": (two,)}))
    change.rest({"10.9.0.2", "10.9.0.3"})
    change.publish("shop/web", (WEB,))
    assert change.wanted.resting == {"10.9.0.2"}
    change.unpublish("shop/web")
    assert change.wanted.resting == frozenset()


def test_a_publication_without_backends_is_closed() -> None:
    closed = Publication(8080, "tcp")
    assert build("t", Wanted(ZONES, {"o": (closed,)})) == build("t", Wanted(ZONES))


def test_equal_wants_give_equal_scripts_in_any_order() -> None:
    other = Publication(81, "tcp", (("10.9.0.2", 80),))
    one = Wanted(dict(ZONES), {"x": (WEB,), "y": (other,)})
    two = Wanted(dict(reversed(ZONES.items())), {"y": (other,), "x": (WEB,)})
    assert full_script(build("t", one)) == full_script(build("t", two))
    assert _delta(one, two) == []


def test_an_internal_network_is_not_let_out() -> None:
    sets = build("t", Wanted(ZONES)).sets
    assert list(sets["subnets"].elements) == ["10.9.0.0/24"]
    assert list(sets["internal"].elements) == ['"bpn2"']


def test_an_owner_nft_could_not_spell_still_has_a_chain_of_its_own() -> None:
    names = {plain(owner) for owner in ('a"; flush ruleset', "a_; flush ruleset", "ü", "x" * 300)}
    assert len(names) == 4
    assert all(name.isascii() and '"' not in name and ";" not in name for name in names)
    assert all(len(chain_name(name, WEB)) < 128 for name in names)


@given(st.text(min_size=1))
def test_no_owner_can_break_out_of_the_script(owner: str) -> None:
    script = full_script(build("t", Wanted(ZONES, {owner: (WEB,)})))
    lines = script.splitlines()
    assert len(lines) == len(full_script(build("t", Wanted(ZONES, {"o": (WEB,)}))).splitlines())
    assert script.isascii()
