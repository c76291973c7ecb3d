"""When did we last see the nft table to be right? A shortcut, kept in the run folder.

The kernel counts committed transactions over all tables of a network namespace. Unchanged since
our table was last verified, it still is as it was, and need not be listed.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime.documents import read_note
from runtime.kernel.netlink import Netlink
from runtime.kernel.nfnetlink import ruleset_generation
from runtime.kernel.procfs import boot_id
from runtime.network.files import write_note
from runtime.network.ruleset import Wanted, build, full_script
from runtime.root import Root


def is_verified(root: Root, target: Wanted, generation: int) -> bool:
    """Return whether the table was seen to be as *target* wants at *generation*."""
    return bool(read_note(_path(root)) == _mark(root, target, generation))


def verified(root: Root, target: Wanted, generation: int) -> None:
    """Note that the table is as *target* wants at *generation*; without a run folder do not."""
    write_note(_path(root), _mark(root, target, generation))


@contextmanager
def following(root: Root, netlink: Netlink, before: Wanted | None, after: Wanted) -> Iterator[None]:
    """Carry the mark over one transaction of ours made inside the block.

    The transaction makes *after* of *before*, or of whatever there is (None). If somebody else's
    came between, the mark is not carried and the next observation reads the table.
    """
    generation = ruleset_generation(netlink)
    known = before is None or is_verified(root, before, generation)
    yield
    now = ruleset_generation(netlink)
    if known and now == (generation + 1) & 0xFFFFFFFF:
        root.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        verified(root, after, now)


def place() -> dict[str, Any]:
    """Return what a generation number is relative to: this boot, this network namespace."""
    return {"boot": boot_id(), "netns": os.stat("/proc/thread-self/ns/net").st_ino}


def _mark(root: Root, target: Wanted, generation: int) -> dict[str, Any]:
    script = full_script(build(root.nft_table, target))
    digest = hashlib.sha256(script.encode()).hexdigest()
    return {**place(), "generation": generation, "table": digest}


def _path(root: Root) -> Path:
    return root.run / "firewall.json"
