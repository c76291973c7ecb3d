"""Archives made by hand: every layout as a tar, a compressed tar and a folder."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.errors import ImageError, LayerError
from runtime.image.inputkey import archive_key
from runtime.image.model import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    REF_NAME,
    Configuration,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Platform,
)
from runtime.image.mutate import Overrides
from runtime.image.store import ImageStore
from runtime.root import Root
from tests.support.tarball import END, digest, file, symlink

Members = dict[str, bytes]
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
LOWER = file(b"who", b"lower") + file(b"kept", b"yes") + END
UPPER = file(b"who", b"upper") + END


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(Root.at(tmp_path / "world"))


def config_of(
    *layers: bytes, command: str = "/bin/serve", platform: Platform | None = None
) -> bytes:
    config = ImageConfig(command=(command,), env={"A": "1"}, labels={"made": "by hand"})
    return Configuration(
        platform or Platform.host(), config, tuple(digest(layer) for layer in layers)
    ).to_bytes()


def docker(*tags: str, layers: tuple[bytes, ...] = (LOWER, UPPER)) -> Members:
    config = config_of(*layers)
    name = hashlib.sha256(config).hexdigest() + ".json"
    members = {f"layer{n}/layer.tar": layer for n, layer in enumerate(layers)}
    item = {"Config": name, "RepoTags": list(tags) or None, "Layers": list(members)}
    return {name: config, **members, "manifest.json": json.dumps([item]).encode()}


def oci(*names: str, media_type: str = OCI_MANIFEST, packed: bool = False) -> Members:
    members: Members = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    items = []
    for name in names or ("",):
        config = config_of(LOWER, UPPER, command=f"/bin/{name or 'serve'}")
        layers = []
        for layer in (LOWER, UPPER):
            data = gzip.compress(layer, mtime=0) if packed else layer
            layers.append(Descriptor.of(OCI_LAYER + ("+gzip" if packed else ""), data))
            members[blob(data)] = data
        manifest = Manifest(
            Descriptor.of(OCI_CONFIG, config), tuple(layers), media_type=media_type
        ).to_bytes()
        members |= {blob(config): config, blob(manifest): manifest}
        annotations = {REF_NAME: name} if name else {}
        items.append(
            Descriptor(media_type, digest(manifest), len(manifest), annotations=annotations)
        )
    return members | {"index.json": Index(tuple(items)).to_bytes()}


def legacy() -> Members:
    top = {"id": "b" * 64, "parent": "a" * 64, "config": {"Cmd": ["/bin/serve"]}, "os": "linux"}
    return {
        "repositories": json.dumps({"old/app": {"1.0": "b" * 64}}).encode(),
        f"{'a' * 64}/json": json.dumps({"id": "a" * 64}).encode(),
        f"{'a' * 64}/layer.tar": LOWER,
        f"{'b' * 64}/json": json.dumps(top).encode(),
        f"{'b' * 64}/layer.tar": UPPER,
    }


def blob(data: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"


def as_tar(top: Path, members: Members) -> Path:
    tar = b"".join(file(f"./{name}".encode()[:100], data) for name, data in members.items())
    (top / "a.tar").write_bytes(tar + END)
    return top / "a.tar"


def as_tgz(top: Path, members: Members) -> Path:
    (top / "a.tgz").write_bytes(gzip.compress(as_tar(top, members).read_bytes()))
    return top / "a.tgz"


def as_folder(top: Path, members: Members) -> Path:
    for name, data in members.items():
        path = top / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return top / "folder"


FORMS = [as_tar, as_tgz, as_folder]
LAYOUTS: dict[str, Callable[[], Members]] = {
    "docker": lambda: docker("app:1"),
    "oci": lambda: oci("app:1"),
    "oci-packed": lambda: oci("app:1", packed=True),
    "oci-with-docker-types": lambda: oci("app:1", media_type=DOCKER_MANIFEST),
    "both": lambda: docker("app:1") | oci("app:1"),
    "legacy": legacy,
}


def content(store: ImageStore, image: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for folder in store.layers(image):
        found |= {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_image_arrives_whole(
    layout: str, form: Callable, store: ImageStore, tmp_path: Path
) -> None:
    archive = form(tmp_path, LAYOUTS[layout]())
    image = store.load_archive(archive, name="shop/app")
    assert content(store, image) == {"who": b"upper", "kept": b"yes"}
    assert store.config(image).command[0].startswith("/bin/")
    assert store.resolve("shop/app") == image
    assert store.load_archive(archive) == image
    assert store.verify() == ()
    assert list((store.folder / "tmp").iterdir()) == []


def test_digest_of_an_oci_archive_is_the_original(store: ImageStore, tmp_path: Path) -> None:
    members = oci("app:1")
    manifest = Index.from_bytes(members["index.json"]).manifests[0]
    assert store.load_archive(as_tar(tmp_path, members)) == manifest.digest


def test_configuration_of_a_docker_archive_is_the_original(
    store: ImageStore, tmp_path: Path
) -> None:
    members = docker()
    image = store.load_archive(as_tar(tmp_path, members))
    assert store.manifest(image).config.digest == digest(config_of(LOWER, UPPER))


def test_overrides_give_another_image_of_the_same_layers(store: ImageStore, tmp_path: Path) -> None:
    archive = as_tar(tmp_path, docker())
    plain = store.load_archive(archive)
    changed = store.load_archive(archive, config=Overrides(env={"A": "2"}, user="nobody"))
    assert store.config(changed).env == {"A": "2"}
    assert store.config(changed).user == "nobody"
    assert store.config(changed).command == ("/bin/serve",)
    assert store.manifest(changed).layers == store.manifest(plain).layers
    assert store.load_archive(archive, config=Overrides()) == plain


@pytest.mark.parametrize("wanted", ["app:2", "docker.io/library/app:2", "library/app:2"])
def test_one_of_several_is_chosen_by_name(wanted: str, store: ImageStore, tmp_path: Path) -> None:
    image = store.load_archive(as_tar(tmp_path, oci("app:1", "app:2")), wanted)
    assert store.config(image).command == ("/bin/app:2",)


def test_one_of_several_is_chosen_by_digest(store: ImageStore, tmp_path: Path) -> None:
    members = oci("app:1", "app:2")
    wanted = Index.from_bytes(members["index.json"]).manifests[1].digest
    assert store.load_archive(as_tar(tmp_path, members), wanted) == wanted


def test_it_must_be_clear_which_image_is_meant(store: ImageStore, tmp_path: Path) -> None:
    archive = as_tar(tmp_path, oci("app:1", "db:1"))
    with pytest.raises(ImageError, match=r"holds app:1, db:1; say which one"):
        store.load_archive(archive)
    with pytest.raises(ImageError, match=r"not ap:1; did you mean app:1\?"):
        store.load_archive(archive, "ap:1")


def test_manifest_for_this_machine_is_taken_from_an_index(
    store: ImageStore, tmp_path: Path
) -> None:
    members = oci("app:1")
    (mine,) = Index.from_bytes(members["index.json"]).manifests
    here = Descriptor(OCI_MANIFEST, mine.digest, mine.size, platform=Platform.host())
    away = Descriptor(OCI_MANIFEST, digest(b"not in the archive"), 1, platform=Platform("z80"))
    inner = Index((away, here)).to_bytes()
    members |= {
        blob(inner): inner,
        "index.json": Index((Descriptor.of(OCI_INDEX, inner),)).to_bytes(),
    }
    assert store.load_archive(as_tar(tmp_path, members)) == mine.digest
    only = Index((away,)).to_bytes()
    members |= {blob(only): only, "index.json": Index((Descriptor.of(OCI_INDEX, only),)).to_bytes()}
    with pytest.raises(ImageError, match="has no image for"):
        store.load_archive(as_tar(tmp_path, members))


def test_an_index_cannot_lead_to_itself(store: ImageStore, tmp_path: Path) -> None:
    # Nobody can write content that holds its own digest, only say that this is it.
    claimed = "sha512:" + "ab" * 64
    again = Descriptor(OCI_INDEX, claimed, 1, platform=Platform.host())
    members: Members = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        f"blobs/sha512/{'ab' * 64}": Index((again,)).to_bytes(),
        "index.json": Index((Descriptor(OCI_INDEX, claimed, 1),)).to_bytes(),
    }
    with pytest.raises(ImageError, match="damaged in the archive"):
        store.load_archive(as_folder(tmp_path, members))


def test_layers_linked_inside_the_archive_are_found(store: ImageStore, tmp_path: Path) -> None:
    members = docker(layers=(LOWER, LOWER))
    del members["layer1/layer.tar"]
    as_tar(tmp_path, members)
    tar = (tmp_path / "a.tar").read_bytes()[: -len(END)]
    tar += symlink(b"layer1/layer.tar", b"../layer0/layer.tar") + END
    (tmp_path / "a.tar").write_bytes(tar)
    image = store.load_archive(tmp_path / "a.tar")
    assert len(store.manifest(image).layers) == 2
    top = as_folder(tmp_path, members)
    (top / "layer1").mkdir()
    (top / "layer1/layer.tar").symlink_to("../layer0/layer.tar")
    assert store.load_archive(top) == image


@pytest.mark.parametrize("part", ["layer", "manifest", "config"])
def test_damage_is_found(part: str, store: ImageStore, tmp_path: Path) -> None:
    members = oci("app:1")
    manifest = Index.from_bytes(members["index.json"]).manifests[0].digest
    inner = Manifest.from_bytes(members[f"blobs/sha256/{manifest[7:]}"])
    wrong = {"layer": inner.layers[0].digest, "manifest": manifest, "config": inner.config.digest}
    name = f"blobs/sha256/{wrong[part][7:]}"
    members[name] = members[name][:-1] + bytes([members[name][-1] ^ 1])
    with pytest.raises(ImageError, match=r"damaged"):
        store.load_archive(as_tar(tmp_path, members))
    assert store.list() == ()


def test_layer_that_is_not_the_one_in_the_configuration(store: ImageStore, tmp_path: Path) -> None:
    members = docker()
    members["layer0/layer.tar"] = UPPER
    with pytest.raises(ImageError, match="damaged"):
        store.load_archive(as_tar(tmp_path, members))


def test_compressed_layer_that_unpacks_to_something_else(store: ImageStore, tmp_path: Path) -> None:
    members = docker()
    members["layer0/layer.tar"] = gzip.compress(UPPER)
    with pytest.raises(ImageError, match="damaged"):
        store.load_archive(as_tar(tmp_path, members))
    members["layer0/layer.tar"] = gzip.compress(LOWER)
    image = store.load_archive(as_tar(tmp_path, members))
    assert store.manifest(image).layers[0].media_type.endswith("+gzip")
    assert content(store, image)["who"] == b"upper"


def test_wrong_diff_id_is_found_when_unpacking(store: ImageStore, tmp_path: Path) -> None:
    members = oci("app:1", packed=True)
    manifest = Index.from_bytes(members["index.json"]).manifests[0]
    inner = Manifest.from_bytes(members[f"blobs/sha256/{manifest.digest[7:]}"])
    config = config_of(UPPER, UPPER)
    changed = Manifest(Descriptor.of(OCI_CONFIG, config), inner.layers).to_bytes()
    index = Index((Descriptor.of(OCI_MANIFEST, changed),)).to_bytes()
    members |= {blob(config): config, blob(changed): changed, "index.json": index}
    image = store.load_archive(as_tar(tmp_path, members))
    with pytest.raises(LayerError, match="unpacks to"):
        store.layers(image)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({}, "not an image archive"),
        ({"manifest.json": b"{}"}, "malformed"),
        ({"manifest.json": b"[5]"}, "malformed"),
        ({"manifest.json": b'[{"Config":"../../etc/passwd"}]'}, "no member|outside"),
        ({"manifest.json": b'[{"Config":"a\\u0000b"}]'}, "no member|no name of"),
        ({"manifest.json": b"["}, "not JSON"),
        ({"manifest.json": b'[{"RepoTags":["\\udc00"]}]'}, r"holds '\\udc00', which is no char"),
        ({"repositories": b'{"a":{"\xed\xa0\x80":"x"}}'}, r"holds '\\ud800', which is no char"),
        ({"manifest.json": b"[]"}, "holds no image"),
        ({"oci-layout": b"{}"}, "no member index.json|index.json: No such file"),
        ({"oci-layout": b"{}", "index.json": b'{"manifests":[{}]}'}, "size"),
        ({"repositories": b'{"a":5}'}, "malformed"),
        ({"repositories": b'{"a":{"1":"x"}}'}, "x/json"),
        ({"repositories": b'{"a":{"1":"x"}}', "x/json": b'{"parent":"x"}'}, "circles"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_malformed_archives_are_image_errors(
    members: Members, reason: str, form: Callable, store: ImageStore, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ImageError, match=reason):
        store.load_archive(form(tmp_path, members))


def test_an_image_whose_words_cannot_be_written_is_refused(
    store: ImageStore, tmp_path: Path
) -> None:
    members = docker("app:1")
    name = next(iter(members))
    members[name] = members[name].replace(b"by hand", b"by hand \\ud800")
    with pytest.raises(ImageError, match=r"image configuration holds '\\ud800'"):
        store.load_archive(as_tar(tmp_path, members), name="shop/app")
    assert store.catalog.tags() == ()


def test_folder_cannot_lead_outside(store: ImageStore, tmp_path: Path) -> None:
    members = docker()
    layer = members.pop("layer0/layer.tar")
    (tmp_path / "outside.tar").write_bytes(layer)
    top = as_folder(tmp_path, members)
    (top / "layer0").mkdir()
    (top / "layer0/layer.tar").symlink_to("../../outside.tar")
    with pytest.raises(ImageError, match="leads outside"):
        store.load_archive(top)
    (top / "layer0/layer.tar").unlink()
    (top / "layer0").rmdir()
    (top / "layer0").symlink_to(tmp_path)
    with pytest.raises(ImageError, match="layer0"):
        store.load_archive(top)


def test_missing_and_strange_files(store: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"nothing.tar: No such file"):
        store.load_archive(tmp_path / "nothing.tar")
    (tmp_path / "text").write_text("just text")
    with pytest.raises(ImageError):
        store.load_archive(tmp_path / "text")
    (tmp_path / "xz").write_bytes(b"\xfd7zXZ\0" + bytes(100))
    with pytest.raises(ImageError, match="compressed with xz"):
        store.load_archive(tmp_path / "xz")


def test_a_pipe_is_no_archive(store: ImageStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (archive_key, store.load_archive):
        with pytest.raises(ImageError, match="pipe: neither a file nor a folder"):
            read(tmp_path / "pipe")


def test_key_of_an_archive_is_its_content(tmp_path: Path) -> None:
    archive = as_tar(tmp_path, docker("app:1"))
    key = archive_key(archive)
    assert archive_key(archive) == key
    assert archive_key(archive, "app:1") != key
    assert archive_key(archive, config=Overrides(user="x")) != key
    (tmp_path / "cache").mkdir()
    assert archive_key(archive, cache=tmp_path / "cache") == key
    assert len(os.listdir(tmp_path / "cache")) == 1
    # The cache answers as long as the file is the same one.
    (remembered,) = (tmp_path / "cache").iterdir()
    remembered.write_text(digest(b"other"))
    assert archive_key(archive, cache=tmp_path / "cache") != key
    archive.rename(tmp_path / "elsewhere")
    assert archive_key(tmp_path / "elsewhere") == key
    (tmp_path / "elsewhere").write_bytes(b"new")
    assert archive_key(tmp_path / "elsewhere") != key
    assert archive_key(tmp_path / "elsewhere", cache=tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_key_of_a_folder_changes_with_what_it_lists(tmp_path: Path) -> None:
    folder = as_folder(tmp_path, oci("app:1"))
    key = archive_key(folder)
    assert archive_key(folder) == key
    as_folder(tmp_path, oci("app:2"))
    assert archive_key(folder) != key
