import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import ConflictError, NetworkError
from runtime.network import ipam


def test_the_first_free_subnet_is_taken() -> None:
    assert ipam.choose_subnet([]) == "10.72.0.0/24"
    assert ipam.choose_subnet(["10.72.0.0/24", "10.72.1.128/25"]) == "10.72.2.0/24"


def test_a_start_in_the_pool_goes_round_at_its_end() -> None:
    assert ipam.choose_subnet([], start=2047) == "10.79.255.0/24"
    assert ipam.choose_subnet(["10.79.255.0/24"], start=2047) == "10.72.0.0/24"
    assert ipam.choose_subnet([], start=0xFFFF) == "10.79.255.0/24"


def test_the_default_route_takes_no_room_but_a_route_over_all_does() -> None:
    assert ipam.choose_subnet(["0.0.0.0/0"]) == "10.72.0.0/24"
    with pytest.raises(NetworkError, match="no free /24"):
        ipam.choose_subnet(["10.0.0.0/8"])


@pytest.mark.parametrize(
    ("subnet", "words"),
    [
        ("10.1.2.3/24", "host bits set"),
        ("nonsense", "nonsense"),
        ("10.0.0.0/31", "no room"),
        ("127.0.0.0/24", "not for networks"),
        ("224.0.0.0/24", "not for networks"),
    ],
)
def test_a_subnet_that_cannot_be_used_is_refused(subnet: str, words: str) -> None:
    with pytest.raises(NetworkError, match=words):
        ipam.check_subnet(subnet, ())


def test_an_overlap_names_whose_it_is() -> None:
    taken = [("0.0.0.0/0", "a route of this host"), ("10.9.0.0/16", "network shop")]
    assert ipam.check_subnet("10.8.0.0/24", taken) == "10.8.0.0/24"
    with pytest.raises(ConflictError, match=r"10\.9\.1\.0/24 overlaps 10\.9\.0\.0/16 of network"):
        ipam.check_subnet("10.9.1.0/24", taken)


def test_a_gateway_is_a_host_of_the_subnet() -> None:
    assert ipam.check_gateway("10.9.0.0/24", None) == "10.9.0.1"
    assert ipam.check_gateway("10.9.0.0/24", "10.9.0.254") == "10.9.0.254"
    for wrong in ("10.9.0.0", "10.9.0.255", "10.9.1.1", "x"):
        with pytest.raises(NetworkError):
            ipam.check_gateway("10.9.0.0/24", wrong)


def test_an_address_given_back_is_reused_last() -> None:
    choose = ipam.choose_address
    assert choose("10.9.0.0/29", (), gateway="10.9.0.1") == "10.9.0.2"
    assert choose("10.9.0.0/29", (), gateway="10.9.0.1", after="10.9.0.2") == "10.9.0.3"
    assert choose("10.9.0.0/29", (), gateway="10.9.0.1", after="10.9.0.6") == "10.9.0.2"


def test_a_wanted_address_is_given_or_refused_with_the_reason() -> None:
    def choose(wanted: str) -> str:
        return ipam.choose_address("10.9.0.0/24", ("10.9.0.7",), gateway="10.9.0.1", wanted=wanted)

    assert choose("10.9.0.8") == "10.9.0.8"
    with pytest.raises(ConflictError, match=r"10\.9\.0\.7 is taken"):
        choose("10.9.0.7")
    with pytest.raises(ConflictError, match="is the gateway"):
        choose("10.9.0.1")
    with pytest.raises(NetworkError, match="is not one of subnet"):
        choose("10.8.0.7")


@given(st.integers(24, 30), st.lists(st.integers(0, 255)), st.integers(0, 255))
def test_every_address_is_given_once_until_the_subnet_is_full(
    prefix: int, freed: list[int], gateway: int
) -> None:
    size = 1 << (32 - prefix)
    gateway_ip = f"10.9.0.{1 + gateway % (size - 2)}"
    taken: set[str] = set()
    last = ""
    for _ in range(size - 3):
        last = ipam.choose_address(f"10.9.0.0/{prefix}", taken, gateway=gateway_ip, after=last)
        assert last not in taken
        assert last != gateway_ip
        taken.add(last)
    with pytest.raises(NetworkError, match="is full"):
        ipam.choose_address(f"10.9.0.0/{prefix}", taken, gateway=gateway_ip, after=last)
    for number in freed:
        ip = f"10.9.0.{number}"
        if ip in taken:
            taken.remove(ip)
            chosen = ipam.choose_address(
                f"10.9.0.0/{prefix}", taken, gateway=gateway_ip, after=last
            )
            assert chosen == ip
            taken.add(ip)


def test_the_hardware_address_follows_the_address() -> None:
    assert ipam.mac_of("10.72.0.5") == "02:62:0a:48:00:05"
