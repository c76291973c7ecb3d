"""What an apply says while it works, where there is no terminal."""

import io

import pytest

from provider.cli import progress
from provider.cli.progress import Lines
from provider.model.events import ActionEvent, Phase
from provider.model.ids import InstanceId, Kind, ResourceId
from provider.model.plan import Verb

IMAGE = InstanceId(ResourceId("shop", Kind.IMAGE, "web"))


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_step_that_takes_long_is_heard_of_now_and_then(clock):
    said = io.StringIO()
    lines = Lines(said)
    lines(ActionEvent(IMAGE, Verb.CREATE, Phase.STARTED))
    for second in range(25):
        clock[0] = 100.0 + second
        lines(ActionEvent(IMAGE, Verb.CREATE, Phase.PROGRESS, f"unpacking {second}"))
    lines(ActionEvent(IMAGE, Verb.CREATE, Phase.OK, duration_s=25.0))
    assert said.getvalue().splitlines() == [
        "  Image/web: unpacking 10",
        "  Image/web: unpacking 20",
        "+ Image/web created in 25.0 s",
    ]
