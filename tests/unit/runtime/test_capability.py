import pytest

from runtime.container.defaults import default_capabilities
from runtime.errors import ContainerError
from runtime.kernel.capability import DEFAULT, NAMES, parse, to_mask, to_names


@pytest.mark.parametrize("name", ["net_admin", "NET_ADMIN", "CAP_NET_ADMIN", "cap_net_admin"])
def test_however_people_write_it(name):
    assert parse(name) == "CAP_NET_ADMIN"


def test_unknown_ones_are_errors():
    with pytest.raises(ContainerError, match="no capability NET_ADMN"):
        parse("NET_ADMN")


def test_masks_and_back():
    assert to_mask(("CAP_CHOWN", "CAP_SYS_ADMIN", "chown")) == 1 | 1 << 21
    assert to_names(1 | 1 << 21 | 1 << 60) == ("CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_60")
    assert to_names(to_mask(NAMES)) == NAMES


def test_nothing_dangerous_is_a_default():
    dangerous = ("ADMIN", "MKNOD", "RAW", "PTRACE", "MODULE", "BPF", "PERFMON", "BOOT")
    assert not [name for name in DEFAULT if any(word in name for word in dangerous)]


def test_root_holds_what_it_is_bound_by():
    sets = default_capabilities()
    assert set(sets.bounding) == set(sets.effective) == set(sets.permitted) == set(DEFAULT)
    assert sets.inheritable == sets.ambient == ()


def test_others_hold_what_was_added_by_name():
    sets = default_capabilities(uid=1000, add=("net_bind_service",))
    assert sets.ambient == sets.effective == ("CAP_NET_BIND_SERVICE",)
    assert set(sets.bounding) == set(DEFAULT)
    assert default_capabilities(uid=1000).effective == ()


def test_adding_and_dropping():
    assert default_capabilities(drop=("ALL",), add=("chown",)).bounding == ("CAP_CHOWN",)
    everything = default_capabilities(add=("all",), drop=("sys_admin",)).bounding
    assert set(everything) == set(NAMES) - {"CAP_SYS_ADMIN"}
    assert default_capabilities(privileged=True).bounding == NAMES
    with pytest.raises(ContainerError, match="CAP_CHOWN is both added and dropped"):
        default_capabilities(add=("chown",), drop=("CAP_CHOWN",))
