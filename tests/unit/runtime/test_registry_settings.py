"""registries.conf and certs.d, as podman has them."""

import pytest

from runtime.errors import ImageError
from runtime.image.reference import parse_reference
from runtime.registry.settings import Settings, Trust, read_settings


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.delenv("CONTAINERS_REGISTRIES_CONF", raising=False)

    def read(text, **more):
        (tmp_path / "registries.conf").write_text(text)
        (tmp_path / "registries.conf.d").mkdir(exist_ok=True)
        for name, content in more.items():
            (tmp_path / "registries.conf.d" / f"{name}.conf").write_text(content)
        return read_settings([tmp_path])

    return read


def asked(settings, name, **options):
    found = settings.endpoints(parse_reference(name), **options)
    return [f"{each}{' insecure' if each.insecure else ''}" for each in found]


def test_without_a_word_a_registry_is_what_it_is_called(settings):
    found = settings("")
    assert asked(found, "ghcr.io/a/b:1") == ["ghcr.io/a/b"]
    assert asked(found, "redis") == ["registry-1.docker.io/library/redis"]
    assert asked(found, "h:5000/a", insecure=True) == ["h:5000/a insecure"]


def test_the_longest_prefix_counts_and_is_put_elsewhere(settings):
    found = settings(
        """
        [[registry]]
        prefix = "example.com/team"
        location = "inner:5000/copies"
        [[registry]]
        location = "example.com"
        insecure = true
        """
    )
    assert asked(found, "example.com/team/app:1") == ["inner:5000/copies/app"]
    assert asked(found, "example.com/teams/app:1") == ["example.com/teams/app insecure"]


def test_wildcards_are_for_hosts(settings):
    found = settings('[[registry]]\nprefix = "*.example.com"\ninsecure = true\n')
    assert asked(found, "a.b.example.com:5000/x") == ["a.b.example.com:5000/x insecure"]
    assert asked(found, "example.com/x") == ["example.com/x"]


def test_mirrors_come_first_and_some_are_for_digests_only(settings):
    digest = f"sha256:{'0' * 64}"
    found = settings(
        """
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "near:5000"
        insecure = true
        [[registry.mirror]]
        location = "pinned/hub"
        pull-from-mirror = "digest-only"
        """
    )
    hub = "registry-1.docker.io/library/redis"
    assert asked(found, "redis") == ["near:5000/library/redis insecure", hub]
    assert asked(found, f"redis@{digest}") == [
        *("near:5000/library/redis insecure", "pinned/hub/library/redis"),
        hub,
    ]
    assert str(found.endpoint(parse_reference("redis"))) == hub


def test_what_is_blocked_is_not_asked(settings):
    found = settings('[[registry]]\nlocation = "bad.io"\nblocked = true\n')
    with pytest.raises(ImageError, match=r"blocks bad\.io"):
        asked(found, "bad.io/x")


def test_files_of_the_folder_win_over_the_main_one(settings):
    found = settings(
        '[[registry]]\nlocation = "a.io"\n', x='[[registry]]\nlocation = "a.io"\ninsecure = true\n'
    )
    assert asked(found, "a.io/x") == ["a.io/x insecure"]


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[registries.search]\nregistries = []\n",
        "[[registry]]\ninsecure = true\n",
        '[[registry]]\nlocation = "a"\n[[registry.mirror]]\n',
        '[[registry]]\nlocation = "a"\nmirror = [{location = "b", pull-from-mirror = "x"}]\n',
        "registry = 5\n",
    ],
)
def test_what_is_no_such_file_is_named(settings, text):
    with pytest.raises(ImageError, match=r"registries\.conf: "):
        settings(text)


def test_certificates_lie_in_a_folder_of_the_host(tmp_path):
    folder = tmp_path / "h:5000"
    folder.mkdir()
    for name in ("ca.crt", "client.cert", "client.key"):
        (folder / name).write_text("")
    settings = Settings(certificates=[tmp_path])
    assert settings.trust("h:5000") == Trust(
        (str(folder / "ca.crt"),), str(folder / "client.cert"), str(folder / "client.key")
    )
    assert settings.trust("other", insecure=True) == Trust(insecure=True)
    (folder / "client.key").unlink()
    with pytest.raises(ImageError, match=r"client\.key"):
        settings.trust("h:5000")
