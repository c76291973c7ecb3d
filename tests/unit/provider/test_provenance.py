"""Who says what a tree holds: people's words are told from what follows from other resources."""

import pytest

from provider.errors import Origin
from provider.planning.change import Sources, is_derived
from tests.support import builders as b

WORDS = [
    *("container.env.id", "container.env.digest", "container.env.fingerprint"),
    *("container.env.restartWith", "container.env[a.fingerprint]", "metadata.labels.id"),
    *("metadata.annotations.digest", "data.fingerprint", "data.id", "config.labels.id"),
    *("container.volumes[/a.id].readOnly", "container.configs[/etc/app.fingerprint]"),
    "container.extraHosts.id",
]
DERIVED = [
    *("container.image.digest", "container.networks[front].id", "container.volumes[/a.b].id"),
    *("container.env.PASSWORD.fingerprint", "container.env[a.b].fingerprint"),
    *("container.configs[/a.conf].fingerprint", "container.secrets[/run/s].fingerprint"),
    *("dependsOn[Container/db].restartWith", "dependsOn[Job/x].recreateWith"),
    *("backends[0]", "backends[0].id", "inputs.key", "inputs[a b]"),
]


@pytest.mark.parametrize("path", WORDS)
def test_a_name_people_chose_is_theirs(path):
    assert not is_derived(path)
    origin = Origin("shop.yaml", 7, 3)
    sources = Sources(b.container(provenance={path: origin}))
    assert sources.of(path) == (origin, "manifest")


@pytest.mark.parametrize("path", DERIVED)
def test_what_follows_from_others_nobody_says(path):
    assert is_derived(path)
    assert Sources(b.container()).of(path)[1] == ""
