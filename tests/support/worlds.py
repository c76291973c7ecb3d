"""A folder for ``--root`` that must leave nothing behind."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.cli import Bayplan
from tests.support.leaks import Snapshot


@contextmanager
def fresh_world() -> Iterator[Path]:
    """Yield the folder of a new world; nothing of it may be left in the kernel at the end."""
    folder = Path(tempfile.mkdtemp(prefix="bayplan-test-"))
    yield folder
    # Nothing can have been there before: a name of its own is in the names of all it makes.
    leaks = Snapshot.take(folder).wait_settled()
    if leaks:
        Bayplan(folder).clear()
    shutil.rmtree(folder)
    assert not leaks, "left behind:\n" + "\n".join(leaks)
