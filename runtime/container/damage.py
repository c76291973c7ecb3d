"""State files that cannot be read back, as a loss of power leaves them, and the way out.

What a file was about is made anew by the next apply, from the manifests. Data is never touched.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from runtime.container import volume
from runtime.container.containers import Containers
from runtime.container.folders import config_file
from runtime.documents import parse_state
from runtime.errors import DamagedError
from runtime.image.store import ImageStore
from runtime.network import firewall, store
from runtime.root import Root

Mend = Callable[[Root, Path], object]


def damaged_files(root: Root) -> Iterator[tuple[DamagedError, Mend]]:
    """Yield each damaged file of this world, and what gets over it, to be done in this order.

    Reads only.
    """
    for path, mend in _files(root):
        with suppress(FileNotFoundError, NotADirectoryError):
            try:
                parse_state(path, path.read_bytes())
            except DamagedError as error:
                yield error, mend


def _files(root: Root) -> Iterator[tuple[Path, Mend]]:
    # In an order in which they can be mended: a container's removal reads the networks' files.
    for path in sorted(store.records_folder(root).glob("*.json")):
        yield path, _unlink
    yield firewall.wanted_file(root), _rebuild_firewall
    for folder in sorted((root.state / "containers").glob("*")):
        yield config_file(root, folder.name), _remove_container
    for folder in volume.folders(root):
        yield volume.record_file(root, folder.name), _record_volume
    yield ImageStore(root).catalog.index_file, _unlink


def _unlink(_root: Root, path: Path) -> None:
    path.unlink(missing_ok=True)


def _remove_container(root: Root, path: Path) -> None:
    """Remove it whole: nobody could start it again."""
    Containers(root).remove(path.parent.name, force=True)


def _rebuild_firewall(root: Root, path: Path) -> None:
    """Put back what the networks need; ports are published again by the next apply."""
    path.unlink(missing_ok=True)
    with firewall.commit(root) as change:
        for record in store.load_all(root):
            change.add_network(record.network)


def _record_volume(root: Root, path: Path) -> None:
    """Keep what it holds: as populated, so that no image is ever copied over it."""
    volume.write_record(root, volume.Volume(path.parent.name, populated=True))
