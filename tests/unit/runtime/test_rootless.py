"""What is decided for an ordinary user's world before anything is made."""

import errno
import os
from pathlib import Path
from typing import cast

import pytest

from runtime.errors import UnsupportedHostError
from runtime.rootless import insiders, namespaces
from runtime.rootless.folders import holder_folder, root_of
from runtime.rootless.forwards import Forward, arrives_at, extra_addresses, in_the_way
from runtime.rootless.ids import Ids, ids_of
from runtime.rootless.namespaces import Namespaces
from runtime.rootless.variable import environment, holder


@pytest.mark.parametrize(
    ("ip", "there"),
    [
        ("0.0.0.0", "10.0.2.100"),
        ("127.0.0.1", "10.0.2.101"),
        ("127.0.0.150", "10.0.2.250"),
        ("192.0.2.7", "192.0.2.7"),
    ],
)
def test_each_address_of_the_host_has_one_in_the_namespace(ip: str, there: str) -> None:
    assert arrives_at(ip) == there


@pytest.mark.parametrize("ip", ["127.0.0.151", "127.1.0.1", "127.0.0.0"])
def test_not_every_loopback_address_has_one(ip: str) -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1 to 127\.0\.0\.150"):
        arrives_at(ip)


def test_only_what_cannot_be_open_at_once_is_closed_before() -> None:
    everywhere, here = Forward("tcp", "0.0.0.0", 80), Forward("tcp", "127.0.0.1", 80)
    other = Forward("udp", "127.0.0.1", 80)
    assert in_the_way([here, other], [everywhere, other]) == {here}
    assert in_the_way([here], [here, other]) == frozenset()
    assert extra_addresses([everywhere, here]) == {"10.0.2.101"}


def test_ids_follow_each_other_whatever_they_are_outside(tmp_path: Path) -> None:
    (tmp_path / "subuid").write_text("# none\nother:1:2\n4711:100000:5\n4711:300000:7\n")
    (tmp_path / "subgid").write_text("4711:200000:65536\n4711:broken:1\n")
    found = ids_of(4711, 4712, etc=str(tmp_path))
    assert found.uids == ((0, 4711, 1), (1, 100000, 5), (6, 300000, 7))
    assert found.gids == ((0, 4712, 1), (1, 200000, 65536))


def test_a_user_without_ids_is_told_how_to_get_some(tmp_path: Path) -> None:
    (tmp_path / "subuid").write_text("4711:100000:5\n")
    (tmp_path / "subgid").write_text("4712:100000:65536\n4713:300000:5\n")
    with pytest.raises(
        UnsupportedHostError, match=r"to 4711 by [^ ]*/subgid; .* --add-subgids 300005-365540 4711"
    ):
        ids_of(4711, 4711, etc=str(tmp_path))


def test_folders_are_those_of_the_session_if_they_are_ones_own(tmp_path: Path) -> None:
    session = tmp_path / "session"
    session.mkdir(mode=0o700)
    environment = {"XDG_DATA_HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(session)}
    root = root_of(os.geteuid(), environment)
    assert (root.state, root.run) == (tmp_path / "bayplan", session / "bayplan")
    assert holder_folder(root) == f"{session}/bayplan-holder"
    session.chmod(0o755)
    nobody = 4_000_000_001
    assert root_of(nobody, environment).run == Path(f"/tmp/bayplan-{nobody}/bayplan")


def test_what_root_has_in_the_environment_makes_no_world_of_a_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BAYPLAN_HOLDER", "/somebody/holder.sock")
    assert (holder(), environment()) == (None, {})


class Here:
    """Namespaces one is in already."""

    def enter(self) -> None:
        """Be inside."""


def test_what_a_question_fails_with_inside_is_told() -> None:
    here = cast(Namespaces, Here())
    assert insiders.look(here, lambda: ["lo"]) == ["lo"]
    with pytest.raises(FileNotFoundError, match=r"^\[Errno 2\] No such file .*: '/no/such'$"):
        insiders.look(here, lambda: os.listdir("/no/such"))
    with pytest.raises(OSError, match="nobody can look"):
        insiders.look(here, lambda: os._exit(1))


def test_why_namespaces_cannot_be_made_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what is not a binding of ours, too: as ioctl(2)."""

    def refuse(_flags: int) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(namespaces, "unshare", refuse)
    with pytest.raises(UnsupportedHostError, match="Operation not permitted"):
        namespaces.make(Ids((), ()))
