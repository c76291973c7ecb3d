import dataclasses

import pytest

from provider.model import specs, units
from provider.model.codec import decode, encode
from provider.model.secret import SecretValue
from provider.model.tree import fingerprint, item, join


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        *[("64Mi", 64 << 20), ("1.5Gi", 3 << 29), ("10M", 10_000_000), (80, 80), ("80", 80)],
        ("9" * 5000, 1 << 80),
    ],
)
def test_sizes(text, size_bytes):
    assert units.parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "Mi", "1 apple", "-1", -1, "1e3"])
def test_not_sizes(text):
    with pytest.raises(ValueError, match="size"):
        units.parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("2s", 2.0), ("1m30s", 90.0), ("250ms", 0.25), (3, 3.0), ("1.5h", 5400)]
)
def test_durations(text, seconds):
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "5 s", "1x", "-1s", -1])
def test_not_durations(text):
    with pytest.raises(ValueError, match="duration"):
        units.parse_duration(text)


def test_quantities_print_as_people_write_them():
    assert units.format_size(64 << 20) == "64Mi"
    assert units.format_size(1500) == "1500"
    assert units.format_duration(90.25) == "1m30s250ms"
    assert units.format_duration(0) == "0s"


def test_a_spec_survives_its_tree():
    spec = specs.Service(
        specs.ContainerSpec(
            specs.ImageRef("web"),
            env={"A": specs.EnvVar(value="1")},
            volumes=(specs.VolumeMount("/data", volume="data"),),
            health=specs.Health(tcp=specs.TcpProbe(80)),
        ),
        publish=(specs.Publish(8080, 80),),
    )
    tree = encode(spec)
    assert decode(specs.Service, tree) == spec
    assert tree["container"]["volumes"][0]["readOnly"] is False


def test_an_unknown_member_is_not_swallowed():
    with pytest.raises(TypeError, match="Network has no colour"):
        decode(specs.Network, {"colour": "red"})


def test_paths_quote_what_is_not_a_plain_word():
    assert join(join("container", "env"), "a.b") == "container.env[a.b]"
    assert item("container.volumes", "/data") == "container.volumes[/data]"


def test_a_fingerprint_does_not_depend_on_key_order():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


def test_a_secret_never_prints():
    value = SecretValue(b"hunter2")
    assert "hunter2" not in f"{value} {value!r} {[value]}"
    assert value.fingerprint(b"k") == SecretValue(b"hunter2").fingerprint(b"k")
    assert value.fingerprint(b"k") != value.fingerprint(b"other")


def test_specs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        specs.Network().subnet = "10.0.0.0/24"
