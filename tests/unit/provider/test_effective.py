import pytest

from provider.errors import ManifestError
from provider.model import specs
from provider.model.ids import Kind
from provider.model.plan import UNKNOWN
from provider.model.resource import Effect, Observed
from provider.planning.effective import (
    Contents,
    bind,
    inherit_addresses,
    outline,
    unknown_paths,
)
from provider.planning.facts import Facts
from runtime.spec import DEFAULT_PATH
from tests.support import builders as b


def effective(resource, *known):
    contents = Contents(lambda r: {"index": "hello", "password": "hmac-sha256:1"})
    tree = outline(resource, contents)
    return bind(tree, b.iid(resource.id.kind, resource.id.name), Facts(known))


def built(**config):
    tree = {"digest": "sha256:1", "config": config}
    return Observed(b.iid(Kind.IMAGE, "base"), "sha256:1", {}, record=tree)


@pytest.mark.parametrize(
    ("own", "given", "expected"),
    [
        ((None, None), (["e"], ["c"]), (["e"], ["c"])),
        ((("E",), None), (["e"], ["c"]), (["E"], [])),
        (((), None), (["e"], ["c"]), ([], [])),
        ((None, ("C",)), (["e"], ["c"]), (["e"], ["C"])),
        ((("E",), ("C",)), (["e"], ["c"]), (["E"], ["C"])),
        ((None, None), (None, None), ([], [])),
    ],
)
def test_entrypoint_and_command_merge_as_in_docker(own, given, expected):
    app = b.container(spec=b.container_spec(entrypoint=own[0], command=own[1]))
    tree, _ = effective(app, built(entrypoint=given[0], command=given[1]))
    assert (tree["container"]["entrypoint"], tree["container"]["command"]) == expected


def test_the_image_gives_what_the_manifest_leaves_open():
    app = b.container(spec=b.container_spec(env={"A": specs.EnvVar("mine")}, user="me"))
    tree, from_image = effective(
        app, built(env={"A": "its", "B": "its"}, workdir="/srv", user="redis", stopSignal="SIGINT")
    )
    got = tree["container"]
    assert got["env"] == {"PATH": DEFAULT_PATH, "A": "mine", "B": "its"}
    assert (got["workdir"], got["user"], got["stopSignal"]) == ("/srv", "me", "SIGINT")
    assert got["image"]["digest"] == "sha256:1"
    assert from_image == {"container.env.B", "container.workdir", "container.stopSignal"}


def test_what_the_image_does_not_say_has_a_default():
    tree, from_image = effective(b.container(), built())
    got = tree["container"]
    assert (got["workdir"], got["user"], got["stopSignal"]) == ("/", "0", "SIGTERM")
    assert got["env"] == {"PATH": DEFAULT_PATH}
    assert not from_image


def test_before_the_image_is_built_its_part_is_unknown():
    app = b.container(spec=b.container_spec(command=("run",), env={"A": specs.EnvVar("1")}))
    tree, _ = effective(app)
    assert unknown_paths(tree) == [
        "container.image.digest",
        "container.entrypoint",
        f"container.env[{UNKNOWN}]",
        "container.workdir",
        "container.user",
        "container.networks[0].id",
        "container.stopSignal",
    ]


def test_binding_again_changes_nothing():
    network = Observed(b.iid(Kind.NETWORK, "front"), "n1", {})
    app = b.container()
    once, _ = effective(app, built(), network)
    assert once["container"]["networks"][0]["id"] == "n1"
    again, _ = bind(once, b.iid(Kind.CONTAINER, "app"), Facts())
    assert again == once


def test_a_later_bind_fills_the_rest():
    app = b.container()
    partly, _ = effective(app, built())
    network = Observed(b.iid(Kind.NETWORK, "front"), "n1", {})
    fully, _ = bind(partly, b.iid(Kind.CONTAINER, "app"), Facts([network]))
    assert fully == effective(app, built(), network)[0]


def test_variables_from_configs_are_text_and_from_secrets_fingerprints():
    app = b.container(
        spec=b.container_spec(
            env={
                "TEXT": specs.EnvVar(config="site", key="index"),
                "PASSWORD": specs.EnvVar(secret="db", key="password"),
            }
        )
    )
    env = effective(app, built())[0]["container"]["env"]
    assert env["TEXT"] == "hello"
    assert env["PASSWORD"] == {
        "secret": "db",
        "key": "password",
        "fingerprint": "hmac-sha256:1",
    }


@pytest.mark.parametrize("use", [{"config": "site"}, {"secret": "db"}])
def test_a_key_that_is_not_there_is_a_mistake_in_the_manifest(use):
    app = b.container(spec=b.container_spec(env={"A": specs.EnvVar(key="nope", **use)}))
    with pytest.raises(ManifestError, match="has no key nope"):
        effective(app)


@pytest.mark.parametrize(
    ("fields", "order"),
    [
        ({}, "start-first"),
        ({"volumes": (specs.VolumeMount("/d", volume="data"),)}, "stop-first"),
        ({"volumes": (specs.VolumeMount("/d", volume="data", read_only=True),)}, "start-first"),
        ({"volumes": (specs.VolumeMount("/d", tmpfs=specs.TmpfsOptions()),)}, "start-first"),
        ({"volumes": (specs.VolumeMount("/d", bind="/d"),)}, "stop-first"),
        ({"network_mode": "host", "networks": ()}, "stop-first"),
        ({"devices": (specs.Device("/dev/null", "/dev/null"),)}, "stop-first"),
    ],
)
def test_update_order_follows_from_what_cannot_be_shared(fields, order):
    tree, _ = effective(b.container(spec=b.container_spec(**fields)))
    assert tree["update"]["order"] == order
    asked = b.container(spec=b.container_spec(**fields), update=specs.Update(order="start-first"))
    assert effective(asked)[0]["update"]["order"] == "start-first"


def test_dependencies_with_an_effect_are_told_by_their_generation():
    waits = (
        b.wait_for(Kind.CONTAINER, "db", effect=Effect.RESTART),
        b.wait_for(Kind.CONTAINER, "cache", effect=Effect.RECREATE),
        b.wait_for(Kind.CONTAINER, "other"),
    )
    db = Observed(b.iid(Kind.CONTAINER, "db"), "x", {}, generation="g1")
    tree, _ = effective(b.container(dependencies=waits), db)
    told = {e["name"]: (e["restartWith"], e["recreateWith"]) for e in tree["dependsOn"]}
    assert told == {"db": ("g1", None), "cache": (None, UNKNOWN), "other": (None, None)}


def test_a_network_keeps_the_addresses_it_was_given():
    given = {"subnet": "10.88.3.0/24", "gateway": "10.88.3.1"}
    open_ = {"subnet": UNKNOWN, "gateway": UNKNOWN}
    assert inherit_addresses(open_, given) == given
    moved = inherit_addresses({"subnet": "10.9.0.0/24", "gateway": UNKNOWN}, given)
    assert moved == {"subnet": "10.9.0.0/24", "gateway": UNKNOWN}
