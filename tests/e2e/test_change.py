"""Content that changed under the same name: configs, secrets, the image behind a tag."""

import pytest

from tests.support.archives import write_archive
from tests.support.drift import container
from tests.support.manifests import HEAD, document, sleeper

pytestmark = pytest.mark.e2e


def pending(plan) -> dict[str, str]:
    return {
        f"{r['kind']}/{r['name']}": f"{r['action']} {r['consequence']}"
        for r in plan["resources"]
        if r["action"] != "noop"
    }


def check_change(bayplan, manifest: str, expected: dict[str, str], *words: str):
    """Exactly *expected* is planned and done, and the bystander not touched; returns the plan."""
    bystander = container(bayplan, "test.bystander")
    plan = bayplan.plan(manifest, *words)
    assert pending(plan) == expected
    report = bayplan.apply(manifest, *words)
    assert pending(report) == expected
    assert pending(bayplan.plan(manifest)) == {}
    assert container(bayplan, "test.bystander")["pid"] == bystander["pid"]
    assert "canary" not in f"{plan}{report}"
    return plan


def test_changed_config_content_replaces_who_uses_it(bayplan):
    def site(word: str) -> str:
        return (
            HEAD
            + document("Config", "conf", f"{{data: {{motto: {word}, same: always}}}}")
            + sleeper("file", "configs: [{name: conf, target: /conf}]")
            + sleeper("variable", "env: {MOTTO: {config: conf, key: motto}}")
            + sleeper("bystander", "env: {SAME: {config: conf, key: same}}")
        )

    expected = {
        "Config/conf": "update live",
        "Container/file": "update replace",
        "Container/variable": "update replace",
    }
    bayplan.apply(site("old"))
    plan = check_change(bayplan, site("new"), expected)
    (config,) = [r for r in plan["resources"] if r["kind"] == "Config"]
    assert [(d["before"], d["after"]) for d in config["diff"]] == [("old", "new")]
    assert bayplan("exec", "test.file", "cat", "/conf/motto").stdout == "new"
    assert bayplan("exec", "test.variable", "sh", "-c", "echo $MOTTO").stdout == "new\n"
    bayplan.delete("test")


def test_changed_secret_content_replaces_who_uses_it(bayplan, tmp_path):
    manifest = (
        HEAD
        + document("Secret", "key", f"{{data: {{word: {{file: {tmp_path}/word}}}}}}")
        + sleeper("file", "secrets: [key]")
        + sleeper("variable", "env: {WORD: {secret: key, key: word}}")
        + sleeper("bystander")
    )
    (tmp_path / "word").write_text("canary-old")
    bayplan.apply(manifest)
    (tmp_path / "word").write_text("canary-new")
    expected = {
        "Secret/key": "update live",
        "Container/file": "update replace",
        "Container/variable": "update replace",
    }
    check_change(bayplan, manifest, expected)
    assert bayplan("exec", "test.file", "cat", "/run/secrets/key/word").stdout == "canary-new"
    assert bayplan("exec", "test.variable", "sh", "-c", "echo $WORD").stdout == "canary-new\n"
    bayplan.delete("test")


def test_an_archive_whose_tag_moved_is_another_image(bayplan, tmp_path):
    archive = tmp_path / "box.tar"
    manifest = (
        HEAD
        + document("Image", "moving", f"{{archive: {{path: {archive}, reference: 'box:1'}}}}")
        + sleeper("one").replace("image: box", "image: moving")
        + sleeper("bystander")
    )
    write_saying(archive, tmp_path / "old", says="old")
    bayplan.apply(manifest)
    assert bayplan("exec", "test.one", "cat", "/says").stdout == "old"

    write_saying(archive, tmp_path / "new", says="new")
    expected = {"Image/moving": "update replace", "Container/one": "update replace"}
    check_change(bayplan, manifest, expected)
    assert bayplan("exec", "test.one", "cat", "/says").stdout == "new"
    bayplan.delete("test")


def test_a_refresh_takes_newer_files_of_the_host_and_only_then(bayplan, tmp_path):
    """What a host image was made from is its request; newer files come with a refresh."""
    (tmp_path / "says").write_text("old")
    manifest = (
        HEAD
        + document(
            "Image", "mine", f"{{host: {{programs: [/bin/busybox], files: [{tmp_path}/says]}}}}"
        )
        + sleeper("one").replace("image: box", "image: mine")
        + sleeper("bystander")
    )
    bayplan.apply(manifest)
    bystander = container(bayplan, "test.bystander")
    (tmp_path / "says").write_text("new")
    assert pending(bayplan.plan(manifest)) == {}

    plan = bayplan.plan(manifest, "--refresh-images")
    assert pending(plan)["Image/mine"] == "update replace"
    report = bayplan.apply(manifest, "--refresh-images")
    assert pending(report)["Container/one"] == "update replace"
    assert "Container/bystander" not in pending(report)
    assert pending(bayplan.plan(manifest)) == {}
    assert bayplan("exec", "test.one", "cat", f"{tmp_path}/says").stdout == "new"
    assert container(bayplan, "test.bystander")["pid"] == bystander["pid"]
    bayplan.delete("test")


def write_saying(archive, folder, *, says: str) -> None:
    """Write the archive of an image with a file that tells which one it is."""
    (folder / "root").mkdir(parents=True)
    (folder / "root" / "says").write_text(says)
    write_archive(archive, folder, "box:1")


@pytest.mark.parametrize("way", ["prune", "delete", "start-first", "stop-first"])
def test_what_is_removed_may_end_in_order(bayplan, way):
    """Its stop signal comes first, whoever takes it away; SIGKILL only after its grace."""
    script = "trap 'sleep 0.3; echo saved > /db/data; exit' TERM; while :; do sleep 0.05; done"
    order = way if way.endswith("first") else "stop-first"

    def site(*containers: str) -> str:
        return HEAD + document("Volume", "db", "{sharedWriters: true}") + "".join(containers)

    def database(word: str) -> str:
        container = (
            f'image: box, command: [sh, -c, "{script}"], env: {{WORD: {word}}}, '
            "volumes: [{volume: db, target: /db}]"
        )
        return document(
            "Container",
            "db",
            f"{{container: {{{container}}}, update: {{order: {order}, healthyFor: 0s}}}}",
        )

    bayplan.apply(site(database("one")))
    if way == "delete":
        bayplan("delete", "-p", "test")
    elif way == "prune":
        bayplan.apply(site(), "--allow-prune")
    else:
        bayplan.apply(site(database("two")))
    reader = sleeper("reader", "volumes: [{volume: db, target: /db}]")
    bayplan.apply(site(reader), "--allow-prune")
    assert bayplan("exec", "test.reader", "cat", "/db/data").stdout == "saved\n"
    bayplan.delete("test")


def test_what_images_are_made_of_is_looked_for_before_anything_is_touched(bayplan):
    manifest = (
        HEAD.replace("/bin/busybox", "/bin/busybox, /bin/gone")
        + document("Image", "file", "{host: {programs: [/bin/busybox], files: [/no/such]}}")
        + document("Image", "archive", "{archive: {path: /no/such.tar}}")
        + document("Container", "other", "{container: {image: box, command: [sleep, '1']}}")
    )
    for told in (
        "\n".join(bayplan.plan(manifest, code=1)["refusals"]),
        bayplan("apply", "-f", "-", stdin=manifest, code=1).stderr,
    ):
        assert "program /bin/gone is not on this host" in told
        assert "file /no/such is not on this host" in told
        assert "no archive at /no/such.tar" in told
    assert bayplan.json("images") == []
