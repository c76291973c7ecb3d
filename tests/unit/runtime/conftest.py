"""What several tests of the runtime's parts begin with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.image.store import ImageStore
from runtime.root import Root
from runtime.supervisor.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    made = ImageStore(Root.at(tmp_path))
    made.prepare()
    return made
