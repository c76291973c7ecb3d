"""The way in: options, secrets, the cache."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from provider.errors import ManifestError, UsageError
from provider.manifest.load import load
from provider.model.ids import Kind, ResourceId
from provider.model.resource import Desired
from tests.support.documents import API, HEADER, IMAGE, shop, write

KEY = b"k" * 32
CANARY = "canary-77d0"
SECRET = f"""\
apiVersion: {API}
kind: Secret
metadata: {{name: db}}
spec: {{data: {{password: {{fromEnv: PASSWORD}}}}}}
"""
SITE = f"""\
apiVersion: {API}
kind: Config
metadata: {{name: site}}
spec: {{data: {{page: {{file: page.html}}}}}}
"""
WEB = f"""\
apiVersion: {API}
kind: Container
metadata: {{name: web}}
spec: {{container: {{image: app, env: {{PASSWORD: {{secret: db, key: password}}}}}}}}
"""
DB = ResourceId("shop", Kind.SECRET, "db")


def problems(*args: Any, **options: Any) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        load(*args, **options)
    return [str(problem) for problem in caught.value.problems]


def spec(desired: Desired, kind: Kind, name: str) -> Any:
    found = desired.get(ResourceId("shop", kind, name))
    assert found is not None
    return found.spec


def test_standard_input(tmp_path: Path) -> None:
    desired = load(["-"], stdin=(HEADER + "---\n" + IMAGE).encode())
    assert [str(r.id) for r in desired.resources] == ["Image/app"]
    assert str(desired.resources[0].origin) == "-:5:1"


def test_standard_input_as_a_template() -> None:
    text = HEADER + "---\n" + IMAGE.replace("app", "{{ name }}")
    desired = load(["-"], stdin=text.encode(), template_stdin=True, sets=["name=web"])
    assert [str(r.id) for r in desired.resources] == ["Image/web"]


def test_standard_input_is_read_for_one_thing() -> None:
    with pytest.raises(UsageError, match="for one thing only"):
        load(["-"], secret_values=["-"], stdin=b"")


def test_all_files_of_a_folder_and_all_problems_of_all(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "b.yaml": IMAGE.replace("name: app", "name: B"),
            "a/project.yaml": HEADER,
            "c.yaml": "a: [",
            "d.yaml": WEB.replace("app", "nothing"),
        },
    )

    def files(found: list[str]) -> list[str]:
        return [line.replace(str(tmp_path), "").split(":")[0] for line in found]

    assert files(problems([tmp_path])) == ["/b.yaml", "/c.yaml", "/d.yaml", "/d.yaml"]
    # What d.yaml refers to may be in a file that is not there.
    missing = problems([tmp_path, tmp_path / "missing.yaml"])
    assert files(missing) == ["/b.yaml", "/c.yaml", "/missing.yaml"]


def test_project_option(tmp_path: Path) -> None:
    write(tmp_path, {"a.yaml": IMAGE})
    assert load([tmp_path], project="shop").project == "shop"
    assert problems([tmp_path], project="No Name") == [
        "--project `No Name` is not a name; "
        "expected a name of a-z, 0-9 and -, at most 63 characters"
    ]


def test_resources_are_in_dependency_order(tmp_path: Path) -> None:
    found = shop(tmp_path, WEB, SECRET, env={"PASSWORD": CANARY})
    assert [str(r.id) for r in found.resources] == [
        "Network/default",
        "Image/app",
        "Secret/db",
        "Container/web",
    ]
    position = {r.id: at for at, r in enumerate(found.resources)}
    for resource in found.resources:
        assert all(position[e.target] < position[resource.id] for e in resource.dependencies)


def test_implied_and_written_default_network_are_the_same(tmp_path: Path) -> None:
    network = f"apiVersion: {API}\nkind: Network\nmetadata: {{name: default}}\n"
    one = f"apiVersion: {API}\nkind: Container\nmetadata: {{name: web}}\n"
    implied = shop(tmp_path, one + "spec: {container: {image: app}}")
    written = shop(tmp_path, network, one + "spec: {container: {image: app, networks: [default]}}")
    assert implied.fingerprint == written.fingerprint


def test_secrets_are_fingerprints_in_the_tree_and_values_beside_it(tmp_path: Path) -> None:
    found = shop(tmp_path, WEB, SECRET, env={"PASSWORD": CANARY}, hmac_key=KEY)
    value = found.secrets[DB]["password"]
    assert value.reveal() == CANARY.encode()
    assert spec(found, Kind.SECRET, "db")["data"] == {"password": value.fingerprint(KEY)}
    assert CANARY not in repr(found)


def test_a_changed_secret_is_another_revision(tmp_path: Path) -> None:
    def fingerprint(password: str) -> str:
        return shop(tmp_path, SECRET, env={"PASSWORD": password}, hmac_key=KEY).fingerprint

    assert fingerprint("a") == fingerprint("a") != fingerprint("b")


def test_without_a_key_values_are_read_but_not_fingerprinted(tmp_path: Path) -> None:
    found = shop(tmp_path, SECRET, env={"PASSWORD": CANARY})
    assert spec(found, Kind.SECRET, "db")["data"] == {"password": "(unresolved)"}
    assert found.secrets[DB]["password"].reveal() == CANARY.encode()


def test_secrets_are_left_alone_where_they_may_not_be_read(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    command = SECRET.replace("{fromEnv: PASSWORD}", f"{{command: [touch, {marker}]}}")
    found = shop(tmp_path, command, hmac_key=KEY, resolve_secrets=False)
    assert spec(found, Kind.SECRET, "db")["data"] == {"password": "(unresolved)"}
    assert found.secrets == {}
    assert not marker.exists()


def test_secrets_that_cannot_be_read_are_problems_with_a_place(tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        shop(tmp_path, WEB.replace("app", "ap"), SECRET)
    assert [str(problem).replace(str(tmp_path), "") for problem in caught.value.problems] == [
        "/shop.yaml:13:20: spec.container.image: unknown Image ap; did you mean `app`?",
        "/shop.yaml:18:15: spec.data.password: environment variable PASSWORD is not set",
    ]


def test_a_variable_cannot_hold_a_nul(tmp_path: Path) -> None:
    (tmp_path / "nul").write_bytes(b"a\0b")
    with pytest.raises(ManifestError, match="holds a NUL"):
        shop(tmp_path, WEB, SECRET.replace("fromEnv: PASSWORD", "file: nul"))


def test_secret_values_leave_no_trace_but_in_secrets(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "shop.yaml.j2": HEADER
            + "---\n"
            + IMAGE
            + "---\n"
            + f"""\
apiVersion: {API}
kind: Container
metadata: {{name: web}}
spec: {{container: {{image: app, env: {{PASSWORD: "{{{{ password }}}}"}}, configs: [site]}}}}
---
apiVersion: {API}
kind: Config
metadata: {{name: site}}
spec:
  template: true
  data: {{open: "a", closed: {{file: page}}}}
""",
            "page": "password: {{ password }}\n",
        },
    )
    found = load(
        [tmp_path / "shop.yaml.j2"],
        secret_values=["-"],
        stdin=f"password: {CANARY}".encode(),
        hmac_key=KEY,
        cache_dir=tmp_path / "cache",
    )
    held = {
        str(owner): {k: v.reveal().decode() for k, v in values.items()}
        for owner, values in found.secrets.items()
    }
    assert held == {
        "Config/site": {"closed": f"password: {CANARY}\n"},
        "Secret/container-web-env": {"PASSWORD": CANARY},
    }
    data = spec(found, Kind.CONFIG, "site")["data"]
    assert data["open"] == "a"
    assert data["closed"].startswith("hmac-sha256:")
    variable = spec(found, Kind.CONTAINER, "web")["container"]["env"]["PASSWORD"]
    assert (variable["secret"], variable["key"]) == ("container-web-env", "PASSWORD")
    assert CANARY not in json.dumps([r.spec for r in found.resources])
    assert not (tmp_path / "cache").exists()


def test_an_overlay_gives_places_of_its_own(tmp_path: Path) -> None:
    overlay = tmp_path / "overlays" / "prod"
    patch = f"apiVersion: {API}\nkind: Container\nmetadata: {{name: web}}\n"
    write(overlay, {"web.yaml": patch + "spec: {container: {tty: true}}\n"})
    found = shop(tmp_path, WEB, SECRET, overlays=[overlay], env={"PASSWORD": "x"})
    web = found.get(ResourceId("shop", Kind.CONTAINER, "web"))
    assert web is not None
    assert web.spec["container"]["tty"] is True
    assert str(web.provenance["container.tty"]) == f"{overlay}/web.yaml:4:20 (overlay {overlay})"


class TestCache:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        write(
            tmp_path / "shop",
            {"a.yaml": "---\n".join([HEADER, IMAGE, SITE, SECRET, WEB]), "page.html": "<p>"},
        )
        return tmp_path / "shop"

    @pytest.fixture
    def cache(self, tmp_path: Path) -> Path:
        return tmp_path / "cache"

    def load(self, folder: Path, cache: Path, **options: Any) -> Desired:
        options = {"env": {"PASSWORD": CANARY}, "hmac_key": KEY} | options
        return load([folder], cache_dir=cache, **options)

    def test_a_hit_is_equal_in_everything(self, folder: Path, cache: Path) -> None:
        fresh = self.load(folder, cache)
        kept = self.load(folder, cache)
        assert kept == fresh
        for one, other in zip(kept.resources, fresh.resources, strict=True):
            assert one.origin == other.origin
            assert dict(one.provenance) == dict(other.provenance)
        assert kept.secrets[DB]["password"].reveal() == CANARY.encode()

    def test_it_is_used(self, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.load(folder, cache)
        monkeypatch.setattr("provider.manifest.source.read_sources", None)
        self.load(folder, cache)

    def test_it_holds_no_secret_and_is_for_the_owner_only(self, folder: Path, cache: Path) -> None:
        self.load(folder, cache)
        (entry,) = cache.iterdir()
        assert CANARY not in entry.read_text()
        assert "hmac" not in entry.read_text()
        assert entry.stat().st_mode & 0o777 == 0o600
        assert cache.stat().st_mode & 0o777 == 0o700

    def test_secrets_are_read_each_time(self, folder: Path, cache: Path) -> None:
        one = self.load(folder, cache)
        other = self.load(folder, cache, env={"PASSWORD": "another"})
        assert one.fingerprint != other.fingerprint
        assert other.secrets[DB]["password"].reveal() == b"another"
        with pytest.raises(ManifestError, match="PASSWORD is not set"):
            self.load(folder, cache, env={})

    @pytest.mark.parametrize("change", ["manifest", "content", "removed", "added", "project"])
    def test_every_change_is_seen(self, folder: Path, cache: Path, change: str) -> None:
        before = self.load(folder, cache)
        options = {}
        match change:
            case "manifest":
                write(folder, {"a.yaml": (folder / "a.yaml").read_text().replace("app", "base")})
            case "content":
                write(folder, {"page.html": "<b>"})
            case "removed":
                (folder / "page.html").unlink()
            case "added":
                write(
                    folder, {"b.yaml": f"apiVersion: {API}\nkind: Volume\nmetadata: {{name: v}}\n"}
                )
            case "project":
                options["project"] = "other"
        try:
            assert self.load(folder, cache, **options).fingerprint != before.fingerprint
        except ManifestError:
            assert change in ("removed", "project")

    def test_an_edit_taken_back_hits_again(self, folder: Path, cache: Path) -> None:
        self.load(folder, cache)
        write(folder, {"page.html": "<b>"})
        self.load(folder, cache)
        write(folder, {"page.html": "<p>"})
        assert spec(self.load(folder, cache), Kind.CONFIG, "site")["data"] == {"page": "<p>"}

    def test_included_templates_count(self, folder: Path, cache: Path) -> None:
        write(folder, {"c.yaml.j2": "{% include 'volume.txt' %}\n"})
        write(folder, {"volume.txt": f"apiVersion: {API}\nkind: Volume\nmetadata: {{name: one}}\n"})
        assert self.load(folder, cache).get(ResourceId("shop", Kind.VOLUME, "one"))
        write(folder, {"volume.txt": f"apiVersion: {API}\nkind: Volume\nmetadata: {{name: two}}\n"})
        assert self.load(folder, cache).get(ResourceId("shop", Kind.VOLUME, "two"))

    def test_inline_secrets_are_not_kept(self, folder: Path, cache: Path) -> None:
        inline = SECRET.replace("{fromEnv: PASSWORD}", f"{{text: {CANARY}}}").replace(
            "spec: {", "spec: {allowPlaintext: true, "
        )
        write(folder, {"a.yaml": "---\n".join([HEADER, IMAGE, SITE, inline, WEB])})
        assert self.load(folder, cache).secrets[DB]["password"].reveal() == CANARY.encode()
        assert not cache.exists()

    def test_what_is_wrong_is_not_kept(self, folder: Path, cache: Path) -> None:
        write(folder, {"a.yaml": IMAGE})
        for _ in range(2):
            with pytest.raises(ManifestError, match="no project is named"):
                self.load(folder, cache)

    @pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[]", b"{}"])
    def test_a_damaged_entry_is_none(self, folder: Path, cache: Path, damage: bytes) -> None:
        fresh = self.load(folder, cache)
        (entry,) = cache.iterdir()
        entry.write_bytes(damage)
        assert self.load(folder, cache) == fresh

    def test_a_world_that_does_not_exist_is_not_begun(self, folder: Path, tmp_path: Path) -> None:
        self.load(folder, tmp_path / "state" / "cache")
        assert not (tmp_path / "state").exists()

    def test_a_cache_that_cannot_be_written_is_no_reason_to_fail(
        self, folder: Path, cache: Path
    ) -> None:
        cache.write_text("in the way")
        assert len(self.load(folder, cache).resources) == 5

    def test_what_a_killed_writer_left_goes(self, folder: Path, cache: Path) -> None:
        cache.mkdir()
        half, fresh = cache / ".new-killed", cache / ".new-writing"
        for path in (half, fresh):
            path.write_text("{")
        os.utime(half, (1, 1))
        self.load(folder, cache)
        assert not half.exists()
        assert fresh.exists()

    def test_old_entries_go(self, folder: Path, cache: Path) -> None:
        for number in range(20):
            self.load(folder, cache, sets=[f"n={number}"])
        assert len(list(cache.iterdir())) == 16

    def test_a_hit_imports_nothing_heavy(self, folder: Path, cache: Path) -> None:
        program = (
            "import sys; from pathlib import Path; from provider.manifest.load import load\n"
            "d = load([sys.argv[1]], cache_dir=Path(sys.argv[2]), env={'PASSWORD': 'x'})\n"
            "assert len(d.resources) == 5, d.resources\n"
            "heavy = 'yaml jinja2 networkx jsonschema jsonschema_rs pyrage difflib'\n"
            "print(*sorted(set(heavy.split()) & sys.modules.keys()))\n"
        )
        run = [sys.executable, "-c", program, str(folder), str(cache)]
        environment = os.environ | {"PYTHONPATH": os.getcwd()}
        outputs = [
            subprocess.run(run, check=True, capture_output=True, text=True, env=environment).stdout
            for _ in range(2)
        ]
        assert "yaml" in outputs[0]
        assert outputs[1].strip() == ""
