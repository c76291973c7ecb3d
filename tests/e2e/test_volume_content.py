"""What a volume begins with, whose it is, and that all its containers see the same of it."""

import os

import pytest

from tests.support.archives import write_archive
from tests.support.manifests import HEAD, document, sleeper

pytestmark = pytest.mark.e2e

OWNER = 999


@pytest.fixture
def site(bayplan):
    yield bayplan
    bayplan("delete", "-p", "test", "--delete-volumes")


@pytest.fixture
def image(tmp_path):
    """An image as that of Redis is: its folders belong to the user it runs as, and to no other."""
    for name, mode in (("data", 0o700), ("empty", 0o750)):
        folder = tmp_path / "made/root" / name
        folder.mkdir(parents=True)
        if name == "data":
            (folder / "seed").write_text("from the image")
        os.chown(folder, OWNER, OWNER)
        folder.chmod(mode)
    archive = tmp_path / "redis.tar"
    write_archive(archive, tmp_path / "made", "redis:1")
    return document("Image", "redis", f"{{archive: {{path: {archive}, reference: 'redis:1'}}}}")


def user_of(name, target, more=""):
    volume = f"{{volume: data, target: {target}{more}}}"
    container = f"user: '{OWNER}', networkMode: none, volumes: [{volume}]"
    return sleeper(name, container).replace("image: box", "image: redis")


def sh(site, name, script):
    return site("exec", f"test.{name}", "sh", "-c", script).stdout


def owner_and_mode(site):
    (data,) = (site.folder / "lib/volumes").glob("*/data")
    status = data.stat()
    return status.st_uid, status.st_gid, f"{status.st_mode & 0o7777:04o}"


def test_a_volume_that_a_container_uses_is_not_taken_away_from_it(site, image):
    """Its folder stays the one it has mounted, although another would begin with the image's."""
    volume = document("Volume", "data", f"{{uid: {OWNER}}}")
    first = user_of("first", "/data", ", copy: false")
    site.apply(HEAD + image + volume + first)
    site.apply(HEAD + image + volume + first + user_of("second", "/data"))
    sh(site, "first", "echo here > /data/word")
    assert sh(site, "second", "cat /data/word") == "here\n"
    assert sh(site, "second", "echo /data/*") == "/data/word\n"


@pytest.mark.parametrize(
    ("target", "mode", "holds"), [("/data", "0700", "/data/seed"), ("/empty", "0750", "/empty/*")]
)
def test_a_volume_keeps_owner_and_mode_of_the_image_s_folder(site, image, target, mode, holds):
    manifest = HEAD + image + document("Volume", "data", "{}") + user_of("one", target)
    site.apply(manifest)
    assert owner_and_mode(site) == (OWNER, OWNER, mode)
    assert sh(site, "one", f"echo {target}/*; touch {target}/own") == f"{holds}\n"
    assert site.apply(manifest)["changed"] is False


def test_what_the_manifest_gives_wins_over_the_image(site, image):
    volume = document("Volume", "data", "{gid: 5, mode: '0777'}")
    manifest = HEAD + image + volume + user_of("one", "/data")
    site.apply(manifest)
    assert owner_and_mode(site) == (OWNER, 5, "0777")
    assert sh(site, "one", "cat /data/seed") == "from the image"
    assert site.apply(manifest)["changed"] is False


def test_without_a_folder_in_the_image_a_volume_is_root_s(site, image):
    site.apply(HEAD + image + document("Volume", "data", "{}") + user_of("one", "/new"))
    assert owner_and_mode(site) == (0, 0, "0755")
