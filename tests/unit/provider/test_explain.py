"""``bayplan explain``: everything the schemas say can be asked for."""

import pytest

import schemas
from provider.errors import UsageError
from provider.manifest.explain import explain


def test_without_a_path_the_kinds() -> None:
    text = explain()
    for kind in schemas.KINDS:
        assert f"  {kind.lower()} " in text


def test_an_object() -> None:
    text = explain("service.spec.container.resources").splitlines()
    assert text[:3] == [
        "service.spec.container.resources: mapping",
        "",
        "Limits of memory, processor, processes and block I/O.",
    ]
    assert (
        "  memory             size     Memory the container may use, page cache included." in text
    )


def test_a_quantity_tells_unit_default_and_what_to_write() -> None:
    text = explain("service.spec.container.stopGrace")
    assert text.startswith("service.spec.container.stopGrace: duration\n")
    assert "Default:  10s" in text
    assert "Write:    a duration such as 2s, 1m30s or 250ms" in text
    assert "Unit:     seconds" in text


def test_allowed_words() -> None:
    assert "Allowed:  bridge, host, none" in explain("job.spec.container.networkMode")
    assert "Allowed:  no, on-failure, always, unless-stopped" in explain("job.container.restart")


def test_the_conditions_of_waiting_are_explained() -> None:
    for path in ("container.spec.dependsOn", "container.spec.dependsOn.condition"):
        for word in ("`started`: it runs", "`healthy`: its", "`completed`: it is a Job"):
            assert word in " ".join(explain(path).split())


def test_lists_say_how_they_are_merged() -> None:
    text = explain("service.spec.publish")
    assert text.startswith("service.spec.publish: list of integer, text or mapping\n")
    assert "told apart by ip, port, protocol" in text
    assert "  port        integer (required)  Port on the host." in text


def test_one_of_several() -> None:
    assert "Fields, of volume, bind, tmpfs exactly one:" in explain("job.container.volumes")


def test_derived_default() -> None:
    assert "Default:  the same as port" in explain("service.publish.targetPort")


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("service", "service"),
        ("Service.replicas", "service.spec.replicas"),
        ("service.spec.publish[0].port", "service.spec.publish.port"),
        ("service.spec.publish.port", "service.spec.publish[].port"),
        ("service.spec.container.env.DB_HOST", "service.spec.container.env.DB_HOST"),
        ("service.spec.container.env[DB].secret", "service.spec.container.env.secret"),
        ("secret.data.password.fromEnv", "secret.spec.data.password.fromEnv"),
        ("container.metadata.labels", "container.metadata.labels"),
        ("container-spec.health.http.port", "container-spec.health.http.port"),
        ("report.resources.diff.before", "report.resources[].diff[].before"),
    ],
)
def test_paths(path: str, shown: str) -> None:
    assert explain(path).splitlines()[0].startswith(f"{shown}: ")


@pytest.mark.parametrize(
    ("path", "message", "hint"),
    [
        ("servce", "no kind servce", "did you mean Service?"),
        ("?", "no kind ?", "see `bayplan explain`"),
        ("service.replica", "no field replica in service", "did you mean `replicas`?"),
        ("service.spec.replica", "no field replica in service.spec", "did you mean `replicas`?"),
        ("volume.spec.zzz", "no field zzz in volume.spec", "one of: sharedWriters, uid"),
        (
            "job.spec.container.image.name.x",
            "no field x in job.spec.container.image.name",
            "job.spec.container.image.name has no fields",
        ),
    ],
)
def test_unknown_paths(path: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        explain(path)
    assert str(caught.value) == message
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize("name", schemas.names())
def test_everything_can_be_explained(name: str) -> None:
    def walk(path: str, depth: int) -> int:
        text = explain(path)
        assert max(map(len, text.splitlines())) < 140
        _, _, fields = text.partition("\nFields")
        count = 1
        for line in fields.splitlines()[1:]:
            if line.startswith("  ") and line[2] != " " and depth:
                count += walk(f"{path}.{line.split()[0]}", depth - 1)
        return count

    assert walk(name, 6) > 1 or name == "common"
