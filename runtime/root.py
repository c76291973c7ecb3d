"""Where one world of bayplan lives, and what its kernel objects are called.

Several worlds can live on one machine: each has its own state and run folders, and a tag that
goes into the name of every cgroup, link and nft table it makes, so that none sees another's.
"""

import re
from pathlib import Path

from runtime.record import dataclass

DEFAULT_STATE = Path("/var/lib/bayplan")
DEFAULT_RUN = Path("/run/bayplan")


@dataclass(frozen=True, slots=True)
class Root:
    """One world. Making a Root touches nothing on disk."""

    state: Path
    """Survives a reboot: images, volumes, records, history. 0700."""
    run: Path
    """Worth nothing after a reboot: sockets, network namespaces, FIFOs, status. 0700.

    Of the default world it is on a tmpfs, and gone then; of another it is a folder like any, and
    what is in it is left over from another boot.
    """
    tag: str = ""
    """Empty for the default world, else six hexadecimal digits."""

    @classmethod
    def at(cls, folder: Path | str | None = None) -> "Root":
        """Return the default world, or the one below *folder* (``--root``)."""
        if folder is None:
            return cls(DEFAULT_STATE, DEFAULT_RUN)
        import hashlib  # 3 ms, which the default world can do without

        # One folder is one world, whatever links and dots lead to it.
        base = Path(folder).resolve()
        return cls(base / "lib", base / "run", hashlib.sha256(bytes(base)).hexdigest()[:6])

    @property
    def cgroup(self) -> str:
        """Name of the cgroup below which all of this world's cgroups live."""
        return f"bayplan-{self.tag}" if self.tag else "bayplan"

    @property
    def nft_table(self) -> str:
        """Name of the one nft table of this world."""
        return f"bayplan_{self.tag}" if self.tag else "bayplan"

    @property
    def link_prefix(self) -> str:
        """First characters (at most eight) of every network interface on the host side."""
        return f"bp{self.tag}"


def world_of(state: str, run: str, cgroup: str) -> Root:
    """Return the world of these folders and this ``Root.cgroup``."""
    return Root(Path(state), Path(run), cgroup.partition("-")[2])


def is_nft_table(name: str) -> bool:
    """Tell whether *name* is the nft table of some world, this one or another."""
    return re.fullmatch(r"bayplan(_[0-9a-f]{6})?", name) is not None
