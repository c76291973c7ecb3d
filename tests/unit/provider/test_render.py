"""Plans and reports as people and programs read them."""

import dataclasses
import tempfile
import textwrap
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import schemas
from provider.drivers.memory import edit
from provider.errors import Origin
from provider.model import specs
from provider.model.ids import InstanceId, Kind
from provider.model.plan import Action, Change, Consequence, Plan, Verb
from provider.planning.render import plan_json, plan_text, report_json, report_text
from provider.planning.words import both, words
from tests.support import builders as b
from tests.support.memory import Host


def fits(name, document):
    jsonschema.Draft202012Validator(schemas.bundle(name)).validate(document)


def test_a_first_plan(host):
    wanted = b.desired(b.image(), b.network(), b.service(replicas=3), b.job())
    assert plan_text(host.plan(wanted)) == textwrap.dedent(
        """\
        + create Image/base: not there yet                                   shop.yaml:1
        + create Network/front: not there yet                                shop.yaml:1
        + create Service/web[0-2]: not there yet                             shop.yaml:1
        + create Service/web (published ports): not there yet                shop.yaml:1
        > run Job/seed: not there yet                                        shop.yaml:1

        shop: 6 to create, 1 to run, 0 as wanted.
        """
    )


def test_a_plan_of_changes_and_drift(host):
    host.apply(b.desired(b.image(), b.network(), b.container(), b.config(), b.volume()))
    edit(host.thing(b.iid(Kind.CONTAINER, "app")), cpus=0.25)
    spec = b.container_spec(
        command=("redis-server", "--dir", "/data", "--appendonly", "yes", "--save", ""),
        resources=specs.Resources(memory=64 << 20),
        health=specs.Health(tcp=specs.TcpProbe(6379), interval=1.5),
    )
    place = {
        "container.resources.memory": Origin("shop.yaml", 17, 9),
        "container.command": Origin("prod/shop.yaml", 3, 9, "overlay prod"),
    }
    wanted = b.desired(
        b.image(),
        b.network(),
        b.container(spec=spec, provenance=place),
        b.config(data={"index": "hello\nworld\n"}),
    )
    assert plan_text(host.plan(wanted)) == textwrap.dedent(
        """\
        ± update Container/app (replace)                                     shop.yaml:1
            cpus was edited by hand; the manifest changed
            container.command
                [sh] -> [redis-server, --dir, /data, --appendonly, yes, --save, '']
                prod/shop.yaml:3, overlay
            container.health
                (none) -> {tcp: {port: 6379}, interval: 1s500ms, timeout: 3s, retries:
                3, startPeriod: 0s, onUnhealthy: restart}  live, default
            container.resources.cpus    0.25 -> (none)  live
            container.resources.memory  (none) -> 64Mi  live, shop.yaml:17

        ~ update Config/site (live): the manifest changed                    shop.yaml:1
            data.index  line 2: (none) -> world  default

        kept: Volume/data: its data is kept unless --delete-volumes is said
        shop: 2 to update, 2 as wanted.
        """
    )


def test_effects_stand_below_their_cause():
    change = Change(
        "kernel.bridge",
        "absent",
        "bp1 up",
        Consequence.LIVE,
        provenance="kernel",
        cause="bridge bp1 was deleted",
        effects=("Container/a has no way out", "Container/b has no way out"),
    )
    action = Action(
        InstanceId(b.rid(Kind.NETWORK, "front")),
        Verb.UPDATE,
        Consequence.LIVE,
        reason="bridge bp1 was deleted",
        changes=(change,),
    )
    assert plan_text(Plan("shop", (action,))) == textwrap.dedent(
        """\
        ~ update Network/front (live): bridge bp1 was deleted
            kernel.bridge  absent -> bp1 up
                - Container/a has no way out
                - Container/b has no way out

        shop: 1 to update, 0 as wanted.
        """
    )


def test_nothing_to_do(host):
    wanted = b.desired(b.image(), b.network())
    report = host.apply(wanted)
    assert report_text(report) == "shop: 2 created, 0 unchanged (revision 1).\n"
    assert plan_text(host.plan(wanted)) == "shop: nothing to do, 2 as wanted.\n"
    again = host.apply(wanted)
    assert report_text(again) == "shop: 2 unchanged (revision 1).\n"


def test_failures_and_refusals_are_said(host):
    host.world.unhealthy.add(b.iid(Kind.CONTAINER, "db"))
    waits = (b.wait_for(Kind.CONTAINER, "db"),)
    wanted = b.desired(b.image(), b.network(), b.container("db"), b.container(dependencies=waits))
    text = report_text(host.apply(wanted))
    assert "Container/db failed: Container/db was not healthy: last probe: connection" in text
    refused = host.plan(b.desired(b.config("c")), partial=False)
    host.apply(b.desired(*(b.config(f"c{n}") for n in range(9))), allow_prune=True)
    refused = host.plan(b.desired(b.config("c")))
    assert "refused: " in plan_text(refused)
    assert "--allow-prune" in plan_text(refused)


def test_colours_only_where_asked_for(host):
    plan = host.plan(b.desired(b.image()))
    assert "\033" not in plan_text(plan)
    coloured = plan_text(plan, colour=True)
    assert "\033[32m+ create Image/base: not there yet\033[0m" in coloured


def test_documents_fit_their_schemas(host):
    mounts = {"volumes": (specs.VolumeMount("/data", volume="data"),)}
    ground = (b.image(), b.network(), b.volume(), b.secret(values={"p": "x"}))
    one = b.desired(
        *ground,
        b.container(spec=b.container_spec(**mounts)),
        b.service(),
        b.job(),
        b.container("o"),
    )
    fits("plan", plan_json(host.plan(one)))
    fits("report", report_json(host.apply(one)))
    fits("report", report_json(host.apply(one)))
    host.world.unhealthy.add(b.iid(Kind.SERVICE, "web", 0))
    edit(host.thing(b.iid(Kind.CONTAINER, "app")), pids=1)
    two = b.desired(
        *ground[:3],
        b.secret(values={"p": "y"}),
        b.container(spec=b.container_spec(user="me", **mounts)),
        b.service(
            spec=b.container_spec(user="me"), dependencies=(b.wait_for(Kind.VOLUME, "data"),)
        ),
        b.container("n", former_name="o"),
    )
    plan = plan_json(host.plan(two), revision=1)
    fits("plan", plan)
    assert (plan["changed"], plan["revision"]) == (True, 1)
    renamed = next(r for r in plan["resources"] if r["id"] == "Container/n")
    assert renamed["renamedFrom"] == "Container/o"
    report = report_json(host.apply(two))
    fits("report", report)
    failed = next(r for r in report["resources"] if r["outcome"] == "failed")
    assert failed["error"]["code"] == "unsettled"
    assert failed["error"]["logTail"] == ["starting", "out of luck"]
    fits("report", report_json(host.delete(delete_volumes=True)))


def test_plan_and_report_say_the_same(host):
    wanted = b.desired(b.image(), b.network(), b.container())
    host.apply(wanted)
    edited = b.desired(b.image(), b.network(), b.container(spec=b.container_spec(user="me")))
    planned = {r["id"]: r["diff"] for r in plan_json(host.plan(edited))["resources"]}
    done = {r["id"]: r["diff"] for r in report_json(host.apply(edited))["resources"]}
    assert planned == done


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("container.resources.memory", 64 << 20, "64Mi"),
        ("container.stopGrace", 90.0, "1m30s"),
        ("container.logs.maxSize", 1500, "1500"),
        ("container.resources.cpus", 0.5, "0.5"),
        ("container.tty", True, "true"),
        ("container.user", None, "(none)"),
        ("container.user", "", "''"),
        ("container.user", "a\tb", "'a\\tb'"),
        ("container.env.A", "x\ny", "(2 lines)"),
        ("container.command", ["sh", "-c"], "[sh, -c]"),
        ("container.image.digest", "sha256:" + "a" * 64, "sha256:" + "a" * 12),
        ("container.health", {"interval": 2.0, "http": None}, "{interval: 2s}"),
    ],
)
def test_values_are_written_as_people_do(path, value, text):
    assert words(path, value) == text


def test_of_long_texts_the_first_difference_is_shown():
    assert both("data.x", "a\nb\nc\n", "a\nB\nc\n") == ("line 2: b", "B")


relaxed = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@relaxed
@given(
    width=st.integers(40, 120),
    text=st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=200),
    name=st.text("abc", min_size=1, max_size=60),
)
def test_no_line_is_wider_than_asked_for(width, text, name):
    with tempfile.TemporaryDirectory() as folder:
        host = Host(Path(folder))
        ground = (b.image(), b.network())
        host.apply(b.desired(*ground, b.container(name)))
        origin = Origin(f"{name * 2}.yaml", 12345)
        edited = b.container(
            name,
            b.container_spec(command=(text,), env={name.upper(): specs.EnvVar(text)}),
            provenance={"container.command": origin},
        )
        plan = host.plan(b.desired(*ground, dataclasses.replace(edited, origin=origin)))
        assert max(map(len, plan_text(plan, width=width).splitlines())) <= width
