"""What several tests of the planner and the engine begin with."""

from pathlib import Path

import pytest

from tests.support.memory import Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)
